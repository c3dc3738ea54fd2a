"""Changes to a spec: merge patches (RFC 7396), and assignments that say the same on a command line."""

from collections.abc import Iterable, Mapping
from typing import Any

from nas.errors import InvalidSpec
from nas.search import SearchSpec
from nas.spec import parse_spec, spec_to_json
from nas.text import read_text


def patched_spec(spec: SearchSpec, patch: Any) -> SearchSpec:
    """Return the spec that a merge patch makes of another; null takes a field's default.

    Raises:
        InvalidSpec: The patch is no mapping, or what it makes is no spec.
    """
    if not isinstance(patch, Mapping):
        raise InvalidSpec((("spec", f"found a patch that is {type(patch).__name__}, allowed: a mapping"),))
    if "parent" in patch:  # what is known of the old one says nothing of the new
        patch = {"parent_config": None, **patch}
    return parse_spec(merge(spec_to_json(spec), patch))


def patch_of(assignments: Iterable[str]) -> dict[str, Any]:
    """Return the merge patch of assignments such as ``training.num_tokens=2e6``; values in JSON or YAML.

    Raises:
        InvalidSpec: An assignment that is none.
    """
    patch: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *sections, field = path.split(".")
        if not (equals and field and all(sections)):
            raise InvalidSpec(
                (("set", f"found {assignment!r}, allowed: FIELD=VALUE or SECTION.FIELD=VALUE"),)
            )
        inner = patch
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise InvalidSpec(((path, f"found a value for {section} too, allowed: one of the two"),))
        try:
            inner[field] = read_text(text)
        except InvalidSpec as error:
            raise InvalidSpec(tuple((path, reason) for _, reason in error.problems)) from None
    return patch


def refilled(patch: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a patch of the same fields, each with what ``values`` says of it; null stays null."""

    def value_of(name: str, change: Any) -> Any:
        found = values.get(name)
        if isinstance(change, Mapping) and isinstance(found, Mapping):
            return refilled(change, found)
        return None if change is None else found

    return {name: value_of(name, change) for name, change in patch.items()}


def merge(target: Any, patch: Any) -> Any:
    """Return what a merge patch makes of a value, as RFC 7396 defines it; neither changes."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), change)
    return merged
