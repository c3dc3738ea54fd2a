"""The ends of logs: so many lines of whatever bytes a worker printed."""

import sys
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.logs import FAILURE_BYTES, FAILURE_LINES, log_path, read_tail, stored_tail, tail_for_failure
from tests.searches import START


@pytest.fixture
def log(tmp_path):
    return log_path(tmp_path, "search-1")


def write(log, *lines):
    log.write_text("".join(f"{line}\n" for line in lines))


def test_the_last_lines_and_whether_that_is_all(log):
    write(log, "one", "two", "three")
    tail = read_tail(log, 2)
    assert (tail.source, tail.lines, tail.is_whole) == ("file", ("two", "three"), False)
    assert abs((datetime.now(UTC) - tail.updated_at).total_seconds()) < 60
    for count in (3, 4):
        assert (read_tail(log, count).lines, read_tail(log, count).is_whole) == (
            ("one", "two", "three"),
            True,
        )


def test_a_line_under_way_counts_and_an_empty_log_has_none(log):
    log.write_text("done\nunder w")
    assert read_tail(log, 1).lines == ("under w",)
    log.write_text("")
    assert (read_tail(log, 1).lines, read_tail(log, 1).is_whole) == ((), True)


def test_long_lines_are_bounded_and_none_begins_in_its_middle(log):
    write(log, "x" * 100, "y" * 30, "z" * 30)
    tail = read_tail(log, 10, max_bytes=70)
    assert (tail.lines, tail.is_whole) == (("y" * 30, "z" * 30), False)
    assert read_tail(log, 10, max_bytes=20).lines == ("z" * 19,)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), num_lines=st.integers(1, 9), max_bytes=st.integers(1, 400))
def test_any_bytes_are_read_as_text(log, content, num_lines, max_bytes):
    log.write_bytes(content)
    tail = read_tail(log, num_lines, max_bytes=max_bytes)
    assert len(tail.lines) <= num_lines
    "".join(tail.lines).encode()
    if tail.is_whole:
        assert list(tail.lines) == content.decode(errors="replace").splitlines()


def test_what_a_failure_took_along_is_never_said_to_be_all():
    tail = stored_tail("one\ntwo", 1, START)
    assert (tail.source, tail.lines, tail.is_whole, tail.updated_at) == ("failure", ("two",), False, START)


def test_a_failure_takes_a_bounded_end_along(log):
    write(log, *(f"line {number}" for number in range(1000)))
    lines = tail_for_failure(log).splitlines()
    assert lines == [f"line {number}" for number in range(1000 - FAILURE_LINES, 1000)]
    write(log, *("x" * 10_000 for _ in range(100)))
    assert len(tail_for_failure(log)) <= FAILURE_BYTES


def test_no_log_and_the_log_of_another_process_are_none_of_ours(log):
    """A worker that is run by hand prints elsewhere; an earlier one's log says nothing of it."""
    assert tail_for_failure(log) is None
    write(log, "of another")
    assert tail_for_failure(log, printed_to=sys.stderr) is None
    with log.open("a") as ours:
        assert tail_for_failure(log, printed_to=ours) == "of another"
