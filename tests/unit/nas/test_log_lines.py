"""Lines of JSON: whatever is said, one object each."""

import json
import logging
import os
import subprocess
import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from nas import log_lines
from nas.settings import Settings


def line_of(message="it is %s", *arguments, about=(), **fields):
    """Return the parsed line of a record."""
    record = logging.LogRecord(
        "nas.x", logging.WARNING, __file__, 1, message, arguments, fields.pop("exc_info", None)
    )
    vars(record).update(fields)
    text = log_lines.JsonLines(**dict(about)).format(record)
    assert "\n" not in text
    return json.loads(text)


def test_a_line_says_when_who_and_what():
    found = line_of("it is %s", "so")
    assert found.keys() == {"time", "level", "logger", "message"}
    assert (found["level"], found["logger"], found["message"]) == ("WARNING", "nas.x", "it is so")
    assert found["time"].endswith("+00:00")


@given(st.text() | st.just("\udcff\n\u2028"))
def test_any_text_is_one_line(text):
    assert line_of("%s", text, path=text)["message"] == text


def test_what_a_line_is_about():
    """What is given with a line wins over what is bound to what runs, and that over the process."""

    def said():
        log_lines.bind(request_id="r", search_id="bound", trial_number=None)
        found.append(line_of(search_id="given", trial_number=3, seconds=0.5, other="x"))
        log_lines.bind(trial_number=4)
        found.append(line_of(about=[("search_id", "process"), ("path", "/")]))

    found = []
    thread = threading.Thread(target=said)  # what is bound there is not bound here
    thread.start()
    thread.join()
    first, second = found
    assert (first["request_id"], first["search_id"], first["trial_number"]) == ("r", "given", 3)
    assert first["seconds"] == 0.5
    assert "other" not in first
    assert (second["search_id"], second["trial_number"], second["path"]) == ("bound", 4, "/")
    assert "request_id" not in line_of()


def test_a_traceback_is_a_field():
    try:
        int("nothing\nat all")
    except ValueError:
        found = line_of("broke", exc_info=sys.exc_info())
    assert found["exception"].startswith("Traceback")
    assert "ValueError: invalid literal" in found["exception"]


def test_a_worker_logs_as_it_is_told(tmp_path):
    """Also its last word, over an error."""
    for log_format in ("json", "text"):
        environment = os.environ | Settings(home=tmp_path, log_format=log_format).environment()
        command = (sys.executable, "-m", "workers", "--search", "nope")
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        if log_format == "text":
            assert ended.stderr.splitlines()[-1] == "error: search nope: not found"
        else:
            last = json.loads(ended.stderr.splitlines()[-1])
            assert (last["level"], last["message"]) == ("ERROR", "search nope: not found")
            assert last["search_id"] == "nope"
