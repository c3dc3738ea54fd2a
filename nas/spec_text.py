"""The text of a spec as people keep it: changed where they say so, and left as it was written elsewhere.

The text is what counts, so a change is read back: where it would say anything else than was meant, the text is
written anew, without its comments.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarint import ScalarInt

from nas.errors import InvalidSpec
from nas.patch import merge
from nas.search import SearchSpec
from nas.spec import spec_to_json
from nas.text import read_text, yaml_of

GROUPED_FROM = 10_000
"""Whole numbers from here on are written in groups of three digits."""
_WIDTH = 110
_SHORT = 3
"""Fields of a section that stand in one line."""


def patched_text(text: str, patch: Mapping[str, Any]) -> str:
    """Return the YAML that a merge patch (RFC 7396) makes of another; null removes a field.

    Raises:
        InvalidSpec: The text cannot be read, or is no mapping.
    """
    content = read_text(text) if text.strip() else {}
    if not isinstance(content, Mapping):
        raise InvalidSpec((("spec", "found no mapping of fields, allowed: one"),))
    return _checked(merge(content, patch), lambda: _patched(text, patch))


def _checked(meant: Any, write: Callable[[], str]) -> str:
    """Return what ``write`` writes where it says what was meant."""
    try:
        written = write()
        if read_text(written) == meant:
            return written
    except (YAMLError, InvalidSpec, ValueError, TypeError, AttributeError):
        return yaml_of(meant)
    return yaml_of(meant)


def _patched(text: str, patch: Mapping[str, Any]) -> str:
    document = _yaml().load(text) if text.strip() else None
    document = CommentedMap() if document is None else document
    _apply(document, patch)
    return _dumped(document)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    return yaml


def _dumped(document: CommentedMap) -> str:
    written = io.StringIO()
    _yaml().dump(document, written)
    return written.getvalue()


def _apply(target: CommentedMap, patch: Mapping[str, Any]) -> None:
    for name, change in patch.items():
        if change is None:
            target.pop(name, None)
        elif isinstance(change, Mapping) and isinstance(target.get(name), CommentedMap):
            _apply(target[name], change)
        elif isinstance(change, Mapping):
            target[name] = _written(merge({}, change))
        else:
            target[name] = _written(change)


def _written(value: Any) -> Any:
    """Return a value in the notation of our examples: short things in one line, long numbers in groups."""
    if isinstance(value, Mapping):
        mapping = CommentedMap({name: _written(each) for name, each in value.items()})
        if len(value) <= _SHORT and not any(isinstance(each, Mapping | list) for each in value.values()):
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq([_written(each) for each in value])
        sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, int) and not isinstance(value, bool) and value >= GROUPED_FROM:
        return ScalarInt(value, underscore=[3, False, False])
    return value


def brief_text(spec: SearchSpec) -> str:
    """Return a spec as YAML without what is as by default, so that what was chosen can be seen."""
    content = spec_to_json(spec)
    brief = _brief(spec, content)
    if spec.promotion is not None:
        shared = {**content["training"], "num_tokens": None}
        longer = content["promotion"]["training"].items()
        brief["promotion"]["training"] = {name: each for name, each in longer if each != shared[name]}
    ordered = {**({"name": spec.name} if spec.name else {}), **brief}
    return _checked(
        ordered, lambda: _dumped(CommentedMap({name: _written(each) for name, each in ordered.items()}))
    )


def _brief(value: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {}
    for field in fields(value):
        found = getattr(value, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if found != default:
            told = content[field.name]
            chosen[field.name] = _brief(found, told) if is_dataclass(found) else told
    return chosen
