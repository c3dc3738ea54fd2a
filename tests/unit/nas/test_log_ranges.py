"""Logs are read by ranges that join to the whole, whatever is in them and while they grow."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.errors import LogUnavailable, NotFound
from nas.layout import attempt_log
from nas.log_ranges import LogRanges, read_range
from nas.logs import log_path
from nas.storage.memory import InMemoryStore
from tests.searches import after, make_attempt, make_search, make_trial


def read_all(path, limit):
    offset, parts = 0, []
    while True:
        part = read_range(path, offset, limit)
        parts.append(part)
        if part.next_offset in {offset, part.total_bytes}:
            return parts
        assert part.offset == offset
        offset = part.next_offset


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8"), max_size=60), limit=st.integers(4, 40))
def test_the_ranges_of_any_text_join_to_it(tmp_path, text, limit):
    path = tmp_path / "log"
    path.write_bytes(text.encode())
    parts = read_all(path, limit)
    assert "".join(part.text for part in parts) == text
    assert all(len(part.text.encode()) <= limit for part in parts)
    assert parts[-1].next_offset == parts[-1].total_bytes == len(text.encode())


def test_ranges_end_with_a_line_where_there_is_one(tmp_path):
    path = tmp_path / "log"
    path.write_text("one\ntwo\nthree")
    assert read_range(path, 0, 6).text == "one\n"
    assert read_range(path, 4, 100).text == "two\nthree"
    path.write_text("one\ntwo\nthree\nfour\n")
    assert read_range(path, 13, 100).text == "\nfour\n"
    beyond = read_range(path, 1000, 10)
    assert (beyond.text, beyond.offset, beyond.next_offset) == ("", 19, 19)


def test_what_is_no_text_is_shown_as_far_as_it_is(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"a\xff\xfe\x80b\n\xf0\x9f")
    assert "".join(part.text for part in read_all(path, 5)).startswith("a\ufffd")


@pytest.fixture
def ranges(tmp_path):
    store = InMemoryStore()
    store.add_search(make_search())
    lease = store.claim("search-1", "runner", at=after(0), until=after(60))
    store.save_trial(make_trial(), lease)
    store.save_attempt(make_attempt(), lease)
    store.save_attempt(replace(make_attempt(), number=2), lease)
    path = attempt_log(tmp_path, "search-1", 0, 1)
    path.parent.mkdir(parents=True)
    path.write_text("begun\nended\n")
    return LogRanges(store, artifact_root=tmp_path, logs=tmp_path / "logs")


def test_attempts_have_logs_of_their_own(ranges):
    found = ranges.of_attempt("search-1", 0, 1, offset=6, limit=10)
    assert (found.text, found.next_offset, found.total_bytes) == ("ended\n", 12, 12)
    with pytest.raises(LogUnavailable, match=r"attempt 2: .*No such file"):
        ranges.of_attempt("search-1", 0, 2)
    for number, attempt in ((0, 3), (1, 1)):
        with pytest.raises(NotFound, match=f"trial {number}: attempt {attempt}: not found"):
            ranges.of_attempt("search-1", number, attempt)
    with pytest.raises(NotFound, match="search nope"):
        ranges.of_attempt("nope", 0, 1)


def test_a_searchs_log_is_read_where_it_lies(ranges, tmp_path):
    with pytest.raises(LogUnavailable, match="search-1"):
        ranges.of_search("search-1")
    log_path(tmp_path / "logs", "search-1").parent.mkdir()
    log_path(tmp_path / "logs", "search-1").write_text("claimed\n")
    assert ranges.of_search("search-1").text == "claimed\n"
    elsewhere = LogRanges(ranges._store, artifact_root=tmp_path, logs=None)
    with pytest.raises(LogUnavailable, match="below NAS_HOME/logs where its worker runs"):
        elsewhere.of_search("search-1")
