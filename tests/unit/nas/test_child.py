"""A process that is kept running: again when it ends, ever more rarely, and never longer than us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from nas.child import Child

STAYS = "import sys; print('up', flush=True); sys.stdin.read()"
PATIENCE_SECONDS = 60


def child(tmp_path, program, **options):
    return Child(
        "the helper", (sys.executable, "-c", program), log=tmp_path / "logs" / "log",
        environment={"SAYS": "so"}, **({"back_off_seconds": 0.01} | options),
    )  # fmt: skip


def once(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def printed(tmp_path):
    log = tmp_path / "logs" / "log"
    return log.read_text() if log.exists() else ""


def test_it_is_told_to_end_and_ends_well(tmp_path):
    kept = child(tmp_path, "import os, sys; print(os.environ['SAYS'], flush=True); sys.stdin.read()")
    kept.start()
    once(lambda: "so" in printed(tmp_path))
    assert kept.pid is not None
    assert kept.stop(PATIENCE_SECONDS)
    assert kept.pid is None


def test_one_that_does_not_listen_is_killed(tmp_path):
    kept = child(tmp_path, "import time; print('up', flush=True); time.sleep(600)")
    kept.start()
    once(lambda: "up" in printed(tmp_path))
    assert not kept.stop(0.1)
    assert kept.pid is None


def test_one_that_dies_is_started_again_which_is_said_once(tmp_path, caplog):
    kept = child(tmp_path, STAYS)
    kept.start()
    for number in range(1, 4):
        once(lambda number=number: printed(tmp_path).count("up") == number)
        once(lambda: kept.pid is not None)
        os.kill(kept.pid, signal.SIGKILL)
    once(lambda: printed(tmp_path).count("up") == 4)
    assert kept.stop(PATIENCE_SECONDS)
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert "signal SIGKILL" in said[0]


def test_one_that_never_begins_well_is_tried_more_and_more_rarely(tmp_path, monkeypatch):
    pauses = []
    kept = child(tmp_path, "raise SystemExit(3)", back_off_seconds=1.0)

    def wait(seconds):
        pauses.append(seconds)
        if len(pauses) == 9:
            kept._stopping.set()

    monkeypatch.setattr(kept._stopping, "wait", wait)
    kept.start()
    kept._thread.join(PATIENCE_SECONDS)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_a_command_that_is_not_there_hinders_nothing(tmp_path, caplog):
    kept = Child("the helper", ("/no/such/program",), log=tmp_path / "log", environment={})
    kept.start()
    once(lambda: any("cannot be started" in record.message for record in caplog.records))
    assert not kept.stop(1)


def test_it_ends_with_us_however_we_end(tmp_path):
    program = f"""
import sys, time
from pathlib import Path
from nas.child import Child
kept = Child("the helper", (sys.executable, "-c", {STAYS!r}), log=Path({str(tmp_path / "log")!r}), environment={{}})
kept.start()
while kept.pid is None:
    time.sleep(0.01)
print(kept.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    once(lambda: not _runs(pid))


def _runs(pid):
    """Whether a process is there and not merely waited for by nobody."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"
