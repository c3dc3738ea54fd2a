"""The fields of the launch form: which part of a spec each is, and how people write it there.

Pure functions of plain data. The text of the spec is what counts; a field shows a part of it and changes that part.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.dashboard import budget_fields
from nas.patch import merge
from nas.text import read_text

Problem = tuple[str, str]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_COUNT = re.compile(r"^([0-9][0-9_, ]*(?:\.[0-9]+)?(?:[eE]\+?[0-9]+)?)\s*([kKmMbBtT]?)$")
_RANGE = re.compile(r"^(\d[\d_]*) to (\d[\d_]*)(?: (?:in steps of|step|by) (\d[\d_]*))?$")
_MULTIPLES = re.compile(r"^(?P<list>[0-9., ]+?)\s*(?:x|times|of) hidden$")
_AUTO = re.compile(r"^auto(?: (?:from|down to) (?P<share>[0-9.]+)(?P<percent> ?%)?)?$")
SIZES = "sizes such as 4, 5, 6 or 80 to 128 step 8, auto, or auto from 0.5"


class NotMeant(ValueError):
    """Raised where what was typed says nothing that a field can hold; tells what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """A part of a spec that has a field in the form."""

    path: tuple[str, ...]
    label: str
    hint: str = ""
    write: Callable[[Any], str]
    """What the field shows of a value."""
    read: Callable[[str], Any]
    """The value that a text in it means; raises NotMeant."""
    is_half: bool = False
    """Whether two such fields stand side by side."""
    parts: tuple[str, ...] = ()
    """What a section that this field stands for may hold: a merge would keep what is not said of it any more."""

    @property
    def name(self) -> str:
        """The field as errors name it."""
        return ".".join(self.path)

    def value_in(self, content: Mapping[str, Any]) -> Any:
        """Return this part of a spec; None where it has none."""
        found: Any = content
        for name in self.path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def shown(self, content: Mapping[str, Any]) -> str | None:
        """Return what to show of a spec; None where it is more than this field can hold."""
        value = self.value_in(content)
        if value is None:
            return ""
        try:
            text = self.write(value)
            return text if self.read(text) == value else None
        except (NotMeant, TypeError, ValueError, AttributeError, KeyError):
            return None

    def patch(self, text: str) -> dict[str, Any]:
        """Return the merge patch that brings a spec in step with what was typed; raises NotMeant."""
        patch: Any = self.read(text) if text.strip() else None
        if isinstance(patch, Mapping):
            patch = dict.fromkeys(self.parts) | dict(patch)
        for name in reversed(self.path):
            patch = {name: patch}
        return dict(patch)

    def concerns(self, problem: str) -> bool:
        """Return whether an error that names a field is to be told beside this one."""
        return f"{problem}.".startswith(f"{self.name}.") or self.name.startswith(f"{problem}.")


def told_where(fields: Sequence[FormField], problems: Sequence[Problem]) -> dict[str, str]:
    """Return what is to be told beside each field, by its name; the rest has no field."""
    told: dict[str, str] = {}
    for problem, reason in problems:
        field = next((each for each in fields if each.concerns(problem)), None)
        if field is not None:
            told.setdefault(field.name, reason)
    return told


def emptied(content: Mapping[str, Any], patch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a patch of a spec that leaves no empty section of a promotion: such a one would mean what is so by default."""
    left = merge(content, patch).get("promotion")
    if "promotion" not in patch or not isinstance(left, Mapping) or left.get("training", left):
        return patch
    others = {name for name, each in left.items() if each != {}}
    return {**patch, "promotion": {**(patch["promotion"] or {}), "training": None} if others else None}


def read_count(text: str) -> int:
    """Return a whole number as people write it: 640_000, 640k, 4.5B."""
    found = _COUNT.match(text.strip())
    if found is None:
        raise NotMeant("allowed: a whole number such as 640_000, 640k or 4.5B")
    number = float(re.sub(r"[_, ]", "", found[1])) * _UNITS[found[2].lower()]
    if not number.is_integer() or number > 2**53:
        raise NotMeant("allowed: a whole number")
    return int(number)


def write_count(value: Any) -> str:
    """Return a whole number as people write it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise NotMeant("no whole number")
    return f"{int(value):_}"


def read_sizes(text: str) -> Any:
    """Return the choices of an axis: a list, a range, or multiples of the hidden size."""
    text = " ".join(text.split())
    if found := _AUTO.match(text):
        if found["share"] is None:
            return "auto"
        return {"auto_from": _number(found["share"], SIZES) / (100 if found["percent"] else 1)}
    if found := _RANGE.match(text):
        start, stop, step = (int(part) if part else None for part in found.groups())
        return {"start": start, "stop": stop, **({"step": step} if step else {})}
    if found := _MULTIPLES.match(text):
        return {
            "of_hidden": [_number(part, f"{SIZES}, or 2, 2.5 of hidden") for part in _parts(found["list"])]
        }
    sizes = [_number(part, SIZES) for part in _parts(text)]
    if not sizes or not all(isinstance(size, int) for size in sizes):
        raise NotMeant(f"allowed: {SIZES}")
    return sizes


def write_sizes(value: Any) -> str:
    """Return the choices of an axis as people write them."""
    if isinstance(value, list):
        return ", ".join(str(size) for size in value)
    if value == "auto":
        return "auto"
    if "auto_from" in value:
        return f"auto from {value['auto_from']:g}"
    if "of_hidden" in value:
        return f"{', '.join(f'{multiple:g}' for multiple in value['of_hidden'])} of hidden"
    step = f" step {value['step']}" if value.get("step") else ""
    return f"{value['start']} to {value['stop']}{step}"


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"[,\s]+", text.strip(" ,[]")) if part]


def _number(text: str, allowed: str) -> int | float:
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        raise NotMeant(f"allowed: {allowed}") from None
    return int(number) if number.is_integer() else number


def _read_words(text: str) -> str:
    words = text.strip()
    if "\0" in words:
        raise NotMeant("allowed: text")
    return words


def _write_words(value: Any) -> str:
    if not isinstance(value, str):
        raise NotMeant("no text")
    return value


def _words(*path: str, label: str, hint: str = "", is_half: bool = False) -> FormField:
    return FormField(path=path, label=label, hint=hint, write=_write_words, read=_read_words, is_half=is_half)


def _count(*path: str, label: str, hint: str = "") -> FormField:
    return FormField(path=path, label=label, hint=hint, write=write_count, read=read_count, is_half=True)


def _sizes(name: str, label: str, hint: str = "") -> FormField:
    return FormField(
        path=("axes", name),
        label=label,
        hint=hint,
        write=write_sizes,
        read=read_sizes,
        is_half=True,
        parts=("start", "stop", "step", "of_hidden", "auto_from"),
    )


def _budget(
    name: str,
    label: str,
    *,
    example: str,
    write: Callable[[Any], str],
    read: Callable[[str], Any],
    parts: tuple[str, ...],
) -> FormField:
    def meant(text: str) -> Any:
        try:
            return read(text)
        except budget_fields.NotABudget:
            raise NotMeant(f"allowed: such as {example}, or with a lower end, 1 to 2") from None

    return FormField(
        path=("budget", name), label=label, hint=example, write=write, read=meant, is_half=True, parts=parts
    )


def _read_cost(text: str) -> dict[str, str]:
    return {"cost": _read_words(text)}


def _write_cost(value: Any) -> str:
    return _write_words(value["cost"])


FIELDS: Mapping[str, Sequence[FormField]] = {
    "What": (
        _words("name", label="Name", is_half=True),
        _words("parent", label="Parent", hint="builtin:tiny, hub:ORG/NAME or a directory", is_half=True),
    ),
    "At what cost": (
        _count("budget", "max_parameters", label="At most, parameters", hint="640k, 4.5B"),
        _count("budget", "min_parameters", label="At least", hint="empty: no bound"),
        _budget(
            "memory",
            "At most, memory with its cache",
            example=budget_fields.MEMORY,
            write=budget_fields.write_memory,
            read=budget_fields.read_memory,
            parts=budget_fields.MEMORY_PARTS,
        ),
        _budget(
            "work",
            "At most, work of a token",
            example=budget_fields.WORK,
            write=budget_fields.write_work,
            read=budget_fields.read_work,
            parts=budget_fields.WORK_PARTS,
        ),
        _budget(
            "latency",
            "At most, time of a pass",
            example=budget_fields.LATENCY,
            write=budget_fields.write_latency,
            read=budget_fields.read_latency,
            parts=budget_fields.LATENCY_PARTS,
        ),
    ),
    "Which sizes to try": (
        _sizes("num_layers", "Layers", "auto, 4, 5, 6 or 20 to 32; empty keeps the parent's"),
        _sizes("hidden_size", "Hidden size", "auto, auto from 0.5, or 80 to 128 step 8"),
        _sizes("intermediate_size", "MLP size", "auto, a range, or 2, 2.5 of hidden"),
        _sizes("num_attention_heads", "Query heads", "auto, or 6, 9"),
        _sizes("num_key_value_heads", "KV heads", "the papers keep them"),
    ),
    "How to choose among them": (
        _words("sampler", label="Sampler", hint="tpe, nsga2, random, ...", is_half=True),
        FormField(
            path=("objective",),
            label="Weighed by nsga2 against the loss",
            hint="parameters, memory, flops, latency",
            write=_write_cost,
            read=_read_cost,
            is_half=True,
        ),
        _words("prior", label="First trials by", hint="budget, importance_kept, none", is_half=True),
        _words("order", label="Order of exhaustive", hint="space or shuffled", is_half=True),
    ),
    "On which text": (
        _words(
            "data",
            "source",
            label="Data",
            hint="builtin:python-docs, a path or hub:ORG/DATASET",
            is_half=True,
        ),
        _count("data", "sequence_length", label="Tokens of a block"),
    ),
    "How long": (
        _count("training", "num_tokens", label="Tokens of each trial"),
        _count("num_trials", label="Trials", hint="20"),
        _count("max_tokens", label="Tokens of all trials", hint="not limited"),
        _count("max_parallel", label="Trials at a time", hint="2"),
        _count(
            "promotion", "training", "num_tokens", label="Tokens of each promotion", hint="none is promoted"
        ),
        _count("promotion", "top_k", label="Promoted at the end", hint="3, where tokens are given"),
    ),
}
"""The fields under their headings."""
EVERY_FIELD = tuple(field for fields in FIELDS.values() for field in fields)


def content_of(text: str) -> Mapping[str, Any]:
    """Return what a text says as far as fields can show it; raises InvalidSpec where it cannot be read."""
    content = read_text(text) if text.strip() else {}
    return content if isinstance(content, Mapping) else {}
