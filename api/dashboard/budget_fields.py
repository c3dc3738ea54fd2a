"""Budgets of memory, work and time as people write them in one field: ``2.5 GB, 8 x 4096 tokens, bfloat16``.

Pure functions of plain data.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MEMORY = "2.5 GB, 8 x 4096 tokens, bfloat16"
WORK = "3 GFLOP, 4096 tokens"
LATENCY = "40 ms to decode, 8 x 1024 tokens, bfloat16"
MEMORY_PARTS = ("max_bytes", "min_bytes", "batch", "context", "dtype")
WORK_PARTS = ("max_flops", "min_flops", "context")
LATENCY_PARTS = ("max_ms", "min_ms", "min_tokens_per_second", "phase", "batch", "context", "dtype")
"""What a budget may say, all of which such a text stands for."""

_PREFIXES = {"T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3, "": 1}
_AMOUNT = re.compile(
    r"^([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?)\s*([TGMk]?)(?:B|bytes|FLOPs?)?$", re.IGNORECASE
)
_MS = r"[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]{1,2})?"
_TIME = re.compile(rf"^(?:(?:({_MS})\s+to\s+)?({_MS})\s*ms(?:\s+to\s+|$))?(decode|prefill)?$")
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
    """Return the budget that a text means: milliseconds, of which phase; the phase alone is timed without a limit."""
    time, tokens, *dtype = _split(text, at_most=3)
    batch, context = _tokens(tokens)
    found = _TIME.match(time)
    if found is None:
        raise NotABudget
    least, most, phase = found.groups()
    said = {"max_ms": most and float(most), "min_ms": least and float(least), "phase": phase}
    return _known({**said, "batch": batch, "context": context}) | ({"dtype": dtype[0]} if dtype else {})


def write_latency(value: Mapping[str, Any]) -> str:
    """Return the text of a budget, as far as it has one."""
    least = f"{value['min_ms']:.12g} to " if "min_ms" in value else ""
    parts = [f"{least}{value['max_ms']:.12g} ms"] if "max_ms" in value else []
    parts += [value["phase"]] if "phase" in value else []
    return f"{' to '.join(parts)}, {_written_tokens(value)}"


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


def _known(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}
