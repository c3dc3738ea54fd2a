"""What can be said of a search, and what is told of what cannot."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.edits import (
    EDITABLE,
    MAX_NOTES_LENGTH,
    MAX_OWNER_LENGTH,
    MAX_TAG_LENGTH,
    MAX_TAGS,
    Edit,
    parse_edit,
    read_edit,
    said,
)
from nas.errors import InvalidEdit
from tests.searches import make_search

WORDS = "words of 1 to 40 characters without spaces and commas"


def test_a_merge_patch_says_what_it_names_and_takes_back_what_is_null():
    assert parse_edit({}) == Edit()
    assert parse_edit({"owner": "Ann", "tags": ["b", "a", "b"]}) == Edit(owner="Ann", tags=("a", "b"))
    assert parse_edit(dict.fromkeys(EDITABLE)) == Edit(owner="", tags=(), notes="", archived=False)


def test_an_edit_changes_what_it_speaks_of_only():
    search = make_search(owner="Ann", tags=("a",), notes="n", archived=True, version=3)
    assert Edit().said_of(search) == search
    assert said(Edit(tags=("b",)).said_of(search)) == said(search) | {"tags": ("b",)}


REFUSED = {
    "no mapping": ([1], [("edit", "found [1], allowed: a mapping of any of owner, tags, notes, archived")]),
    "unknown": ({"tag": "a"}, [("tag", "unknown, allowed: owner, tags, notes, archived")]),
    "types": (
        {"owner": 1, "tags": "a", "notes": [], "archived": "yes"},
        [
            ("owner", "found 1, allowed: text"),
            ("tags", 'found "a", allowed: a list of words'),
            ("notes", "found [], allowed: text"),
            ("archived", 'found "yes", allowed: true or false'),
        ],
    ),
    "numbers are no truth": ({"archived": 1}, [("archived", "found 1, allowed: true or false")]),
    "truth is no text": ({"owner": True}, [("owner", "found true, allowed: text")]),
    "tags of numbers": ({"tags": ["a", 1]}, [("tags", 'found ["a", 1], allowed: a list of words')]),
    "words": (
        {"tags": ["", "a b", "a,b", "a\n"]},
        [("tags", f"found {json.dumps(tag)}, allowed: {WORDS}") for tag in ("", "a\n", "a b", "a,b")],
    ),
    "many": ({"tags": [str(n) for n in range(21)]}, [("tags", "found 21 of them, allowed: at most 20")]),
    "lines": ({"owner": "a\nb"}, [("owner", 'found "a\\nb", allowed: one line of at most 100 characters')]),
    "length": ({"notes": "x" * 20_001}, [("notes", "found 20,001 characters, allowed: at most 20,000")]),
    "what moves a terminal": (
        {"notes": "a\x1b[2J\0"},
        [("notes", "found the character U+001B, allowed: text without control characters")],
    ),
    "half": (
        {"notes": "\ud800"},
        [("notes", "found the character U+D800, allowed: text without control characters")],
    ),
    "all at once": (
        {"x": 1, "owner": 2, "tags": [""]},
        [
            ("x", "unknown, allowed: owner, tags, notes, archived"),
            ("owner", "found 2, allowed: text"),
            ("tags", f'found "", allowed: {WORDS}'),
        ],
    ),
}


@pytest.mark.parametrize(("patch", "problems"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_said_is_told_with_what_can(patch, problems):
    with pytest.raises(InvalidEdit) as caught:
        parse_edit(patch)
    assert list(caught.value.problems) == problems
    assert str(caught.value) == "; ".join(f"{field}: {reason}" for field, reason in problems)


def test_a_text_is_read_as_json_or_yaml():
    assert read_edit('{"owner": "Ann"}') == read_edit("owner: Ann") == Edit(owner="Ann")
    with pytest.raises(InvalidEdit, match=r"^edit: cannot be read as YAML or JSON: "):
        read_edit("{[")


def test_what_is_at_the_bounds_can_be_said():
    Edit(
        owner="\u0645\u06cc\u200c\u062e",
        tags=("\u65e5\u672c", "\U0001f469\u200d\U0001f52c"),
        notes="\ta\r\nb\n",
    )
    Edit(
        owner="\u00e9" * MAX_OWNER_LENGTH,
        tags=tuple(f"{n:0{MAX_TAG_LENGTH}}" for n in range(MAX_TAGS)),
        notes="\u00e9" * MAX_NOTES_LENGTH,
    )


@given(
    owner=st.none() | st.text(),
    tags=st.none() | st.lists(st.text()).map(tuple),
    notes=st.none() | st.text(),
    archived=st.none() | st.booleans(),
)
def test_whatever_can_be_said_can_be_stored_and_said_again(owner, tags, notes, archived):
    try:
        edit = Edit(owner=owner, tags=tags, notes=notes, archived=archived)
    except InvalidEdit:
        return
    told = {name: value for name in EDITABLE if (value := getattr(edit, name)) is not None}
    json.dumps(told, ensure_ascii=False).encode()
    assert "\0" not in "".join(map(str, told.values()))
    assert list(edit.tags or ()) == sorted(set(tags or ()))
    assert parse_edit(json.loads(json.dumps(told))) == edit
