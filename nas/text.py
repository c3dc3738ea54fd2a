"""YAML and JSON as people write them, as plain data.

Knows nothing of specs but the error that tells what is wrong with one.
"""

import json
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.representer import BaseRepresenter

from nas.errors import InvalidSpec

MAX_LENGTH = 256 << 10
"""Characters of a text; ten times what a spec with the config of a large model has."""
MAX_VALUES = 10_000
"""Of a text in YAML, which is read slowly."""
MAX_DIGITS = 20
"""Of whole numbers; the largest that a field takes has 19."""
MAX_FRACTION_LENGTH = 64
"""Characters of a number that is not whole."""
_BOOL = "tag:yaml.org,2002:bool"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_BREAKS = frozenset("\x85\u2028\u2029")
"""Ends of lines that Unicode has beside those of ASCII."""
MAX_DEPTH = 32
"""Levels of nesting; a spec has four."""
_DECIMAL = {
    _INT: re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"),
    _FLOAT: re.compile(
        r"^([-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
}
"""Numbers as people write them. YAML 1.1 knows others, to base 60 too, which take long to read when they are long."""
_NO_FINITE = re.compile(r"\.(inf|nan)", re.IGNORECASE)
_EXPONENT = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")


def read_text(text: str) -> Any:
    """Return what a text in JSON or YAML says.

    Raises:
        InvalidSpec: The text is neither, or too long, repeats a key, uses an alias, is nested too deeply, or
            holds numbers that are too long or characters that neither a database nor UTF-8 can.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidSpec((("spec", f"found {len(text):,} characters, allowed: at most {MAX_LENGTH:,}"),))
    try:
        content = json.loads(text, object_pairs_hook=_mapping, parse_int=_whole, parse_float=_fraction)
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError:
        content = _read_yaml(text)
    except ValueError as error:
        raise _unreadable(str(error)) from None
    for path, each in _texts(content, ()):
        if "\0" in each or _is_broken(each):
            raise InvalidSpec(
                ((".".join(path) or "spec", "found NUL or half a character, allowed: text in UTF-8"),)
            )
    return content


def _read_yaml(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _unreadable(f"{where}{error.problem}") from None
    except RecursionError:
        raise _too_deep() from None
    except (yaml.YAMLError, ValueError) as error:
        raise _unreadable(" ".join(str(error).split())) from None


def _unreadable(reason: str) -> InvalidSpec:
    return InvalidSpec((("spec", f"cannot be read as YAML or JSON: {reason}"),))


def _too_deep() -> InvalidSpec:
    return _unreadable(f"nested more than {MAX_DEPTH} levels deep")


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the texts in a value, each with the path of what it is the name or the value of."""
    if len(path) > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, (*path, str(index)))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield path, str(key)
            yield from _texts(each, (*path, str(key)))


def _is_broken(text: str) -> bool:
    """Return whether a text holds half of a surrogate pair, which JSON can say and UTF-8 cannot."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _mapping(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    repeated = _repeated(key for key, _ in pairs)
    if repeated is not None:
        raise ValueError(f"{repeated!r} is given twice")
    return dict(pairs)


def _repeated(keys: Iterable[Hashable]) -> Hashable | None:
    """Return the first key that occurs again; JSON and YAML would keep its last value in silence."""
    seen: set[Hashable] = set()
    for key in keys:
        if key in seen:
            return key
        seen.add(key)
    return None


def _scalar(construct: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    """Return what makes a value of a scalar that is one without its tag too."""

    def constructed(loader: Any, node: Any) -> Any:
        text = loader.construct_scalar(node)
        meant = loader.resolve(yaml.ScalarNode, text, (True, False))
        if meant != node.tag:
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"found text that is no {kind}, allowed: no tags", problem_mark=node.start_mark
            )
        try:
            return construct(text)
        except ValueError as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None

    return constructed


def _whole(text: str) -> int:
    digits = text.replace("_", "")
    if len(digits.lstrip("+-")) > MAX_DIGITS:
        raise ValueError(f"found a whole number of {len(digits)} digits, allowed: at most {MAX_DIGITS}")
    return int(digits)


def _fraction(text: str) -> float:
    digits = text.replace("_", "")
    if len(digits) > MAX_FRACTION_LENGTH:
        reason = f"found a number of {len(digits)} characters, allowed: at most {MAX_FRACTION_LENGTH}"
        raise ValueError(reason)
    return float(_NO_FINITE.sub(r"\1", digits))


class _Loader(yaml.SafeLoader):
    """YAML where 1e-3 is a number and a date is text, with decimal numbers only, no aliases and no repeated keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (how PyYAML is told)
        first: [
            *(
                (tag, _DECIMAL.get(tag, pattern))
                for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(first, ())
                if tag != _TIMESTAMP
            ),
            *([(_FLOAT, _EXPONENT)] if first in "-+0123456789" else []),
        ]
        for first in {*yaml.SafeLoader.yaml_implicit_resolvers, *"-+0123456789"}
        if first is not None
    }
    yaml_constructors = {  # noqa: RUF012  (how PyYAML is told)
        **{
            tag: construct
            for tag, construct in yaml.SafeLoader.yaml_constructors.items()
            if tag is None or tag.rpartition(":")[2] in {"null", "str", "seq", "map"}
        },
        _BOOL: _scalar(lambda text: yaml.SafeLoader.bool_values[text.lower()]),
        _INT: _scalar(_whole),
        _FLOAT: _scalar(_fraction),
    }

    num_values = 0
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, with which a short text can unfold without bound, and more than any spec holds."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="found an alias, allowed: the value itself", problem_mark=mark)
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            raise yaml.YAMLError(f"found more than {MAX_VALUES:,} values, allowed: as many, or JSON")
        self.depth += 1
        if self.depth > 2 * MAX_DEPTH:  # what is not as deep is told with all else, as in JSON
            raise RecursionError
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse repeated keys."""
        repeated = _repeated(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if repeated is not None:
            raise yaml.MarkedYAMLError(problem=f"{repeated!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _written(dumper: BaseRepresenter, text: Any) -> yaml.Node:
    style = '"' if _BREAKS.intersection(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


class _Dumper(yaml.SafeDumper):
    """YAML that quotes text which the loader here would take for a number, and escapes breaks that it would fold."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (how PyYAML is told)
        **yaml.SafeDumper.yaml_implicit_resolvers,
        **{
            first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()), (_FLOAT, _EXPONENT)]
            for first in "-+0123456789"
        },
    }
    yaml_representers = yaml.SafeDumper.yaml_representers | {str: _written}


def yaml_of(content: Any) -> str:
    """Return plain data as YAML from which ``read_text`` makes the same."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def text_in(path: Path) -> str:
    """Return what a file says; raises InvalidSpec where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidSpec(((str(path), f"cannot be read: {error.strerror}"),)) from None
    except UnicodeDecodeError:
        raise InvalidSpec(((str(path), "found bytes that are not UTF-8, allowed: YAML or JSON"),)) from None
