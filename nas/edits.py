"""What people say of a search: whose it is, its tags, notes, whether it is archived. Knows no store and no HTTP.

They may edit that at any time, also of a search that has ended; what a runner writes never touches it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unicodedata import category

from nas.errors import InvalidEdit, InvalidSpec
from nas.search import Search
from nas.spec import shown
from nas.text import read_text

MAX_OWNER_LENGTH = 100
MAX_TAG_LENGTH = 40
MAX_TAGS = 20
MAX_NOTES_LENGTH = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What is to be said of a search from now on; None leaves what is said.

    Raises:
        InvalidEdit: With every problem that was found.
    """

    owner: str | None = None
    """A name in one line, as people know each other; empty: nobody's."""
    tags: tuple[str, ...] | None = None
    """Words, each once; kept sorted."""
    notes: str | None = None
    """Markdown."""
    archived: bool | None = None
    """Whether it is left out of lists that do not ask for it."""

    def __post_init__(self) -> None:
        if self.owner is not None:
            object.__setattr__(self, "owner", self.owner.strip())
        if self.tags is not None:
            object.__setattr__(self, "tags", tuple(sorted(set(self.tags))))
        problems = (*_owner_problems(self.owner or ""), *_tag_problems(self.tags or ()))
        if problems := (*problems, *_notes_problems(self.notes or "")):
            raise InvalidEdit(problems)

    def said_of(self, search: Search) -> Search:
        """Return the search with this said of it."""
        return replace(search, **told(self))


_UNSAID: Mapping[str, Any] = {"owner": "", "tags": (), "notes": "", "archived": False}
"""As a search is of which nobody has said anything."""
_TYPES = {"owner": "text", "tags": "a list of words", "notes": "text", "archived": "true or false"}
EDITABLE = tuple(_UNSAID)


def parse_edit(patch: Any) -> Edit:
    """Return the edit that a merge patch (RFC 7396) describes; null takes back what is said.

    Raises:
        InvalidEdit: With every problem that was found.
    """
    if not isinstance(patch, Mapping):
        reason = f"found {shown(patch)}, allowed: a mapping of any of {', '.join(EDITABLE)}"
        raise InvalidEdit((("edit", reason),))
    problems = [
        (str(name), f"unknown, allowed: {', '.join(EDITABLE)}") for name in patch if name not in _UNSAID
    ]
    values: dict[str, Any] = {}
    for name, unsaid in _UNSAID.items():
        value = patch.get(name)
        if name in patch and _is_like(value, unsaid):
            values[name] = unsaid if value is None else tuple(value) if name == "tags" else value
        elif name in patch:
            problems.append((name, f"found {shown(value)}, allowed: {_TYPES[name]}"))
    try:
        edit = Edit(**values)
    except InvalidEdit as error:
        problems += error.problems
    if problems:
        raise InvalidEdit(tuple(problems))
    return edit


def read_edit(text: str) -> Edit:
    """Return the edit that a merge patch describes, as a text in JSON or YAML.

    Raises:
        InvalidEdit: With every problem that was found.
    """
    try:
        patch = read_text(text)
    except InvalidSpec as error:
        raise InvalidEdit(
            tuple(("edit" if field == "spec" else field, reason) for field, reason in error.problems)
        ) from None
    return parse_edit(patch)


def told(edit: Edit) -> dict[str, Any]:
    """Return what an edit says, as a merge patch has it."""
    values = {name: getattr(edit, name) for name in EDITABLE}
    return {name: value for name, value in values.items() if value is not None}


def said(search: Search) -> dict[str, Any]:
    """Return all that is said of a search, with its version."""
    return {name: getattr(search, name) for name in (*EDITABLE, "version")}


def _is_like(value: Any, unsaid: Any) -> bool:
    """Return whether a value can be said in place of ``unsaid``, or takes back what is."""
    if isinstance(unsaid, tuple):
        return value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))
    return value is None or isinstance(value, type(unsaid))


def _is_line(text: str) -> bool:
    """Return whether a text has neither ends of lines nor what moves a terminal, nor halves of characters."""
    return not any(category(each) in {"Cc", "Cs", "Zl", "Zp"} for each in text)


def _owner_problems(owner: str) -> Iterator[tuple[str, str]]:
    if len(owner) > MAX_OWNER_LENGTH or not _is_line(owner):
        yield "owner", f"found {shown(owner)}, allowed: one line of at most {MAX_OWNER_LENGTH} characters"


def _tag_problems(tags: Collection[str]) -> Iterator[tuple[str, str]]:
    for tag in tags:
        is_word = _is_line(tag) and not any(each.isspace() or each == "," for each in tag)
        if not is_word or not 1 <= len(tag) <= MAX_TAG_LENGTH:
            allowed = f"words of 1 to {MAX_TAG_LENGTH} characters without spaces and commas"
            yield "tags", f"found {shown(tag)}, allowed: {allowed}"
    if len(tags) > MAX_TAGS:
        yield "tags", f"found {len(tags)} of them, allowed: at most {MAX_TAGS}"


def _notes_problems(notes: str) -> Iterator[tuple[str, str]]:
    if len(notes) > MAX_NOTES_LENGTH:
        yield "notes", f"found {len(notes):,} characters, allowed: at most {MAX_NOTES_LENGTH:,}"
    for each in notes:
        if category(each) in {"Cc", "Cs"} and each not in "\t\n\r":
            yield "notes", f"found the character U+{ord(each):04X}, allowed: text without control characters"
            return
