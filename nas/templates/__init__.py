"""Specs to begin with, shipped with the package: each a text whose first line says what it is for."""

from dataclasses import dataclass
from importlib.resources import files

ORDER = ("tiny", "depth", "smollm2-135m", "llama-3.1-8b")
"""From what takes minutes on a laptop to what takes a machine of accelerators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A spec to begin with."""

    name: str
    title: str
    text: str
    """YAML, with comments."""


def templates() -> tuple[Template, ...]:
    """Return the templates, the smallest first."""
    return tuple(_template(name) for name in ORDER)


def _template(name: str) -> Template:
    text = (files("nas.templates") / f"{name}.yaml").read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    return Template(name=name, title=first.removeprefix("# ").rstrip("."), text=rest)
