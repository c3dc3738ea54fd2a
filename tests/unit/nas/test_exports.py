"""Tables for other programs: the same columns in both forms, and nothing that a spreadsheet would run."""

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.exports import (
    HISTORY_COLUMNS,
    POINT_COLUMNS,
    TRIAL_COLUMNS,
    Format,
    history_row,
    point_row,
    trial_row,
    written,
)
from nas.history import Entry, measured
from nas.standing import TrialRecord
from nas.trial import Failure, FailureKind
from tests.searches import MEASUREMENT, after, make_point, make_search, make_spec, make_trial

COLUMNS = {"text": "a", "number": "b", "flag": "c", "time": "d"}
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
rows = st.fixed_dictionaries(
    {
        "text": st.none() | texts,
        "number": st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "flag": st.booleans(),
        "time": st.none() | st.integers(0, 10**6).map(after),
    }
)


def read_csv(pieces):
    return list(csv.DictReader(io.StringIO("".join(pieces), newline="")))


@given(st.lists(rows, max_size=5))
def test_both_forms_hold_every_value_of_every_row(table):
    lines = [json.loads(line) for line in "".join(written(table, COLUMNS, Format.JSONL)).split("\n")[:-1]]
    cells = read_csv(written(table, COLUMNS, Format.CSV))
    assert len(lines) == len(cells) == len(table)
    for row, line, cell in zip(table, lines, cells, strict=True):
        time = row["time"].isoformat() if row["time"] else None
        assert line == {**row, "time": time}
        assert list(cell) == list(line) == list(COLUMNS)
        assert cell["text"].removeprefix("'") == (row["text"] or "").removeprefix("'")
        assert cell["number"] == ("" if row["number"] is None else str(row["number"]))
        assert cell["flag"] == str(row["flag"]).lower()
        assert cell["time"] == (time or "")


@given(texts)
def test_no_text_is_a_formula_in_a_spreadsheet(text):
    (cell,) = read_csv(written([{"text": text}], {"text": "a"}, Format.CSV))
    assert not re.match(
        r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\x00-\x1f\x7f-\x9f\u200b-\u200f\ufeff]", cell["text"]
    )


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "@SUM(A1)",
        "+1",
        "-1",
        "\t=1",
        "  =cmd|' /C calc'!A0",
        "\r=1",
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20A1",
        "\ufe661",
        " \uff1d1",
        "\u200b=1+1",
        "\ufeff=1",
        "\u00ad=1",
        "\x1b=1",
        " \u200b =1",
    ],
)
def test_what_would_be_a_formula_begins_with_an_apostrophe(text):
    (cell,) = read_csv(written([{"text": text}], {"text": "a"}, Format.CSV))
    assert cell["text"] == f"'{text}"


def test_texts_are_in_quotes_so_that_no_list_separator_makes_cells_of_them():
    """Some spreadsheets split at semicolons, behind which a formula would begin again."""
    row = {"text": 'a;=1+1,"b"\n', "empty": "", "none": None, "flag": True, "at": after(0)}
    line = f'"a;=1+1,""b""\n","",,true,{after(0).isoformat()}\r\n'
    assert "".join(written([row], dict.fromkeys(row, ""), Format.CSV)) == (
        '"text","empty","none","flag","at"\r\n' + line
    )


def test_negative_numbers_stay_numbers():
    assert "".join(written([{"n": -1.5}], {"n": "a"}, Format.CSV)) == '"n"\r\n-1.5\r\n'


def test_a_table_without_rows_has_its_heading():
    assert "".join(written([], {"a": "", "b": ""}, Format.CSV)) == '"a","b"\r\n'
    assert "".join(written([], {"a": "", "b": ""}, Format.JSONL)) == ""


def test_rows_have_exactly_their_columns():
    done = make_trial().started(after(1)).completed(MEASUREMENT, "x", after(2))
    entry = Entry.of(measured(make_spec(), None, done, []), make_search(owner="Ann", tags=("a", "b")))
    record = TrialRecord(trial=done, points=(), attempts=())
    for row, columns in (
        (trial_row(record), TRIAL_COLUMNS),
        (history_row(entry), HISTORY_COLUMNS),
        (point_row("s", make_point()), POINT_COLUMNS),
    ):
        assert row.keys() == columns.keys()
        assert all(columns.values())
    row = history_row(entry)
    assert (row["tags"], row["owner"], row["loss"], row["is_reusable"]) == ("a b", "Ann", 2.25, False)


def test_a_trial_without_a_measurement_has_the_losses_of_its_points():
    failure = Failure(kind=FailureKind.ERROR, message="it broke")
    trial = make_trial().started(after(1)).failed(failure, after(2))
    points = tuple(make_point(0, tokens, loss, seconds=2.0).point for tokens, loss in ((0, 5.0), (10, 3.0)))
    row = trial_row(TrialRecord(trial=trial, points=points, attempts=()))
    assert (row["num_tokens"], row["loss_before"], row["loss"], row["train_seconds"]) == (10, 5.0, 3.0, 4.0)
    assert (row["is_whole"], row["failure"]) == (False, "it broke")
    empty = trial_row(TrialRecord(trial=make_trial(), points=(), attempts=()))
    assert (empty["num_tokens"], empty["loss"], empty["loss_before"]) == (None, None, None)
