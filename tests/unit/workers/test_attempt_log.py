"""What a process logs and prints during an attempt is kept, bounded, and nothing of the process is left changed."""

import faulthandler
import logging
import subprocess
import sys

import pytest

from workers import attempt_log
from workers.attempt_log import AttemptLog

logger = logging.getLogger("workers.trial")


@pytest.fixture
def log(tmp_path):
    made = AttemptLog(tmp_path / "attempts" / "1.log", secrets=("correct-horse",))
    yield made
    made.close()
    faulthandler.enable(sys.__stderr__)


def text_of(log):
    return log._path.read_text(encoding="utf-8")


def test_what_is_logged_and_printed_is_kept_in_order_and_only_while_it_is_open(log, capsys):
    before = sys.stdout, sys.stderr, tuple(logging.root.handlers)
    print("before")
    log.open()
    logger.info("pruned to %s", "L4")
    print("printed")
    print("complaint", file=sys.stderr)
    logging.getLogger("elsewhere").info("not heard")
    logging.getLogger("elsewhere").warning("heard")
    log.close()
    print("after")
    lines = text_of(log).splitlines()
    assert lines[0].endswith("Z INFO workers.trial: pruned to L4")
    assert lines[1:3] == ["printed", "complaint"]
    assert lines[-1].endswith("WARNING elsewhere: heard")
    assert len(lines) == 4
    assert (sys.stdout, sys.stderr, tuple(logging.root.handlers)) == before
    assert capsys.readouterr().out == "before\nprinted\nafter\n"


def test_a_log_that_is_opened_again_goes_on(log):
    for text in ("first", "second"):
        log.open()
        print(text)
        log.close()
        log.close()
    assert text_of(log) == "first\nsecond\n"


def test_secrets_do_not_appear(log):
    log.open()
    logger.info("token is correct-horse at https://ann:pass@host/")
    log.close()
    assert "correct-horse" not in text_of(log)
    assert "ann:pass" not in text_of(log)


def test_a_log_is_bounded_and_keeps_what_goes_wrong_at_its_end(log, monkeypatch):
    monkeypatch.setattr(attempt_log, "MAX_BYTES", 1000)
    monkeypatch.setattr(attempt_log, "RESERVE_BYTES", 500)
    log.open()
    for number in range(100):
        print(f"line {number} of many")
    logger.error("RuntimeError: out of luck")
    for number in range(100):
        logger.error("again %d", number)
    log.close()
    assert "this log has" in text_of(log)
    assert "line 99" not in text_of(log)
    assert "out of luck" in text_of(log)
    assert len(text_of(log)) <= 1500 + len(attempt_log.FULL)


def test_an_attempt_goes_on_without_a_log(tmp_path):
    (tmp_path / "file").touch()
    log = AttemptLog(tmp_path / "file" / "1.log")
    log.open()
    print("said")
    log.close()


def test_a_crash_in_compiled_code_leaves_where_it_was(tmp_path):
    code = (
        "import faulthandler, sys; from pathlib import Path; from workers.attempt_log import AttemptLog;"
        "AttemptLog(Path(sys.argv[1])).open(); faulthandler._sigabrt()"
    )
    subprocess.run((sys.executable, "-c", code, str(tmp_path / "1.log")), capture_output=True, check=False)
    assert "Fatal Python error: Aborted" in (tmp_path / "1.log").read_text()
