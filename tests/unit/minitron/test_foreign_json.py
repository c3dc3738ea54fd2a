"""JSON of strangers: all that a text can be is a value or a ValueError of one line, within bounds."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron.foreign_json import MAX_DEPTH, parsed, read_parsed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_what_is_json_is_read(value):
    assert parsed(json.dumps(value)) == parsed(json.dumps(value).encode()) == value


@given(st.text() | st.binary())
def test_what_is_none_is_told_in_one_line(text):
    assert "\n" not in _refusal(text)


def _refusal(text):
    try:
        parsed(text)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_nesting_is_bounded_whatever_python_allows(pair, depth):
    begin, end = pair
    assert parsed(begin * MAX_DEPTH + "1" + end * MAX_DEPTH)
    with pytest.raises(ValueError, match=r"^nested more than 64 levels deep$"):
        parsed(begin * depth + "1" + end * depth)


def test_a_file_without_end_is_not_read_whole(tmp_path):
    (tmp_path / "x.json").write_text("[" + " " * 20 + "]")
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        read_parsed(tmp_path / "x.json", 10)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ValueError, match="no ordinary file"):
        read_parsed(tmp_path / "pipe.json")
    with pytest.raises(FileNotFoundError):
        read_parsed(tmp_path / "none.json")
