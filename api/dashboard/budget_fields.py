"""Budgets of memory, work and time as people write them in one field: ``2.5 GB, 8 x 4096 tokens, bfloat16``.

Pure functions of plain data.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MEMORY = "2.5 GB, 8 x 4096 tokens, bfloat16"
WORK = "3 GFLOP, 4096 tokens"
MEMORY_PARTS = ("max_bytes", "min_bytes", "batch", "context", "dtype")
WORK_PARTS = ("max_flops", "min_flops", "context")
LATENCY = "40 ms, 8 x 1024 tokens, decode"
LATENCY_PARTS = (
    "max_ms", "min_ms", "min_tokens_per_second", "phase", "batch", "context", "dtype", "table",
)  # fmt: skip
"""What a budget may say, all of which such a text stands for."""

_PREFIXES = {"T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3, "": 1}
_AMOUNT = re.compile(
    r"^([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?)\s*([TGMk]?)(?:B|bytes|FLOPs?)?$", re.IGNORECASE
)
_PACE = re.compile(
    r"^(?:(?:(?P<least>[0-9.]+)\s+to\s+)?(?P<most>[0-9.]+)\s*ms|(?P<rate>[0-9.]+)\s*tokens/s)$", re.IGNORECASE
)
_PHASES = ("decode", "prefill")
_TOKENS = re.compile(r"^(?:([0-9][0-9_]*)\s*[x*]\s*)?([0-9][0-9_]*)(?:\s*tokens)?$", re.IGNORECASE)


class NotABudget(ValueError):
    """Raised where a text says no such budget."""


def read_memory(text: str) -> dict[str, Any]:
    """Return the budget that a text means: bytes, sequences of so many tokens, and the type of numbers if it is said."""
    amounts, tokens, *dtype = _split(text, at_most=3)
    batch, context = _tokens(tokens)
    least, most = _amounts(amounts)
    found = {"max_bytes": most, "min_bytes": least, "batch": batch, "context": context}
    return _known(found) | ({"dtype": dtype[0]} if dtype else {})


def write_memory(value: Mapping[str, Any]) -> str:
    """Return the text of a budget, as far as it has one."""
    return f"{_written(value, 'bytes', 'B')}, {_written_tokens(value)}"


def read_work(text: str) -> dict[str, Any]:
    """Return the budget that a text means: operations of a token, and the tokens that attention looks at."""
    amounts, tokens = _split(text, at_most=2)
    batch, context = _tokens(tokens)
    if batch is not None:
        raise NotABudget
    least, most = _amounts(amounts)
    return _known({"max_flops": most, "min_flops": least, "context": context})


def write_work(value: Mapping[str, Any]) -> str:
    """Return the text of a budget, as far as it has one."""
    return f"{_written(value, 'flops', 'FLOP')}, {value['context']} tokens"


def read_latency(text: str) -> dict[str, Any]:
    """Return the budget that a text means: milliseconds of a pass or tokens a second, sequences of so many tokens, and
    the phase and the type of numbers if they are said. The phase in the place of the first is timed without a limit.
    """
    pace, tokens, *others = _split(text, at_most=4)
    batch, context = _tokens(tokens)
    if pace in _PHASES and not set(others) & set(_PHASES):
        others.insert(0, pace)
        bounds = {}
    elif found := _PACE.match(pace):
        bounds = {"max_ms": found["most"], "min_ms": found["least"], "min_tokens_per_second": found["rate"]}
    else:
        raise NotABudget
    said = _known(
        {name: _decimal(bound) for name, bound in bounds.items()} | {"batch": batch, "context": context}
    )
    for name in ("phase", "dtype"):
        if others and (name == "dtype" or others[0] in _PHASES):
            said[name] = others.pop(0)
    if others:
        raise NotABudget
    return said


def write_latency(value: Mapping[str, Any]) -> str:
    """Return the text of a budget, as far as it has one."""
    least = f"{value['min_ms']} to " if value.get("min_ms") else ""
    batch = f"{value['batch']} x " if "batch" in value else ""
    parts = [
        f"{batch}{value['context']} tokens",
        *(value[each] for each in ("phase", "dtype") if each in value),
    ]
    if "max_ms" in value:
        parts.insert(0, f"{least}{value['max_ms']} ms")
    elif "min_tokens_per_second" in value:
        parts.insert(0, f"{value['min_tokens_per_second']} tokens/s")
    elif "phase" in value:
        parts = [value["phase"], parts[0], *parts[2:]]
    return ", ".join(parts)


def _decimal(text: str | None) -> float | None:
    try:
        number = None if text is None else float(text)
    except ValueError:
        raise NotABudget from None
    return int(number) if number is not None and number.is_integer() else number


def _split(text: str, *, at_most: int) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not 2 <= len(parts) <= at_most or not all(parts):
        raise NotABudget
    return parts


def _amounts(text: str) -> tuple[int | None, int]:
    """Return the lower end, where there is one, and the upper."""
    *least, most = re.split(r"\s+to\s+", text)
    if len(least) > 1:
        raise NotABudget
    return (_amount(least[0]) if least else None), _amount(most)


def _amount(text: str) -> int:
    found = _AMOUNT.match(text)
    if found is None:
        raise NotABudget
    prefix = "k" if found[2] in "kK" and found[2] else found[2].upper()
    number = Decimal(found[1].replace("_", "")) * _PREFIXES[prefix]
    if number != number.to_integral_value() or number > 2**53:
        raise NotABudget
    return int(number)


def _tokens(text: str) -> tuple[int | None, int]:
    """Return how many sequences, where that is said, and the tokens of each."""
    found = _TOKENS.match(text)
    if found is None:
        raise NotABudget
    return (int(found[1]) if found[1] else None), int(found[2])


def _written(value: Mapping[str, Any], what: str, unit: str) -> str:
    least = f"{_short(value[f'min_{what}'], unit)} to " if f"min_{what}" in value else ""
    return least + _short(value[f"max_{what}"], unit)


def _written_tokens(value: Mapping[str, Any]) -> str:
    batch = f"{value['batch']} x " if "batch" in value else ""
    dtype = f", {value['dtype']}" if "dtype" in value else ""
    return f"{batch}{value['context']} tokens{dtype}"


def _short(value: float, unit: str) -> str:
    """Return a whole number with the largest prefix that leaves three decimals at most."""
    number = int(value)
    for prefix, size in _PREFIXES.items():
        if size > 1 and number >= size and number % (size // 1000) == 0:
            whole, thousandths = divmod(number * 1000 // size, 1000)
            return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".") + f" {prefix}{unit}"
    return f"{number} {unit}"


def _known(found: Mapping[str, float | None]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}
