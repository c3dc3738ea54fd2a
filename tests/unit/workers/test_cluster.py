"""Work runs in worker processes, and what cannot run is refused at once."""

import ctypes
import inspect
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import ray

from minitron.errors import DatasetTooSmall
from minitron.progress import Progress
from nas.errors import InvalidSpec
from nas.resources import Resources
from nas.trial import FailureKind
from workers import cluster
from workers.cluster import STARTED_LATE, NotNow, WorkFailed, _require_room, connected, run_task

ONE = Resources(cpus=1)

JOIN = """
import sys
from functools import partial
from nas.errors import InvalidSpec
from nas.resources import Resources
from tests.unit.workers.test_cluster import _run, _squared
from workers.cluster import connected

try:
    with connected(sys.argv[1], Resources(cpus=1, gpus=64), max_parallel=1):
        raise SystemExit("64 GPUs were found")
except InvalidSpec:
    print("refused")
with connected(sys.argv[1], Resources(cpus=1), max_parallel=1):
    print(_run(partial(_squared, 7))[0])
"""


CRASH = """
import sys
from nas.resources import Resources
from tests.unit.workers.test_cluster import _crash, _run
from workers.cluster import WorkFailed, connected

with connected(sys.argv[1], Resources(cpus=1), max_parallel=1):
    try:
        _run(_crash, max_attempts=1)
    except WorkFailed as error:
        print(error)
"""


def _crash(_report):
    print("last words", flush=True)
    ctypes.string_at(0)


def _squared(number, report):
    for done in range(3):
        report(Progress(stage="squaring", done=done, total=3))
    return number * number, os.getpid()


def _refuse(_report):
    raise DatasetTooSmall("data.source: found 3 tokens, needed 4")


def _die_once(path, _report):
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def _die(_report):
    os.kill(os.getpid(), signal.SIGKILL)


def _sleep(report):
    report(Progress(stage=f"{os.getpid()}"))
    time.sleep(10**6)


def _run(work, **options):
    arguments = {"resources": ONE, "max_attempts": 2, "report": lambda _: None} | options
    return run_task(work, **arguments)


def test_more_cpus_than_the_machine_has_are_refused_before_anything_starts():
    with (
        pytest.raises(InvalidSpec, match=r"resources\.cpus: found 100000, allowed: at most"),
        connected(None, Resources(cpus=100_000), max_parallel=1),
    ):
        pytest.fail("a cluster was started")


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(cpus=1, gpus=1), r"resources\.gpus: found 1, allowed: at most 0"),
        (Resources(cpus=5), r"resources\.cpus: found 5, allowed: at most 4"),
    ],
)
def test_room_must_be_on_one_node(resources, message):
    with pytest.raises(InvalidSpec, match=message):
        _require_room(resources, [{"CPU": 4}, {"CPU": 4, "memory": 1.0}])


def test_memory_must_be_on_a_node_that_has_the_rest():
    nodes = [{"CPU": 4, "memory": 8e9}, {"CPU": 1, "memory": 64e9}]
    _require_room(Resources(cpus=4), nodes, host_bytes=8_000_000_000)
    _require_room(Resources(cpus=1), nodes, host_bytes=50_000_000_000)
    with pytest.raises(
        InvalidSpec, match=r"found nodes with at most 8 GB of memory, needed by a trial: 9 GB"
    ):
        _require_room(Resources(cpus=4), nodes, host_bytes=9_000_000_000)


def test_memory_that_is_only_not_free_now_is_waited_for(monkeypatch):
    monkeypatch.setattr(cluster, "_machine_bytes", lambda: 16_000_000_000)
    nodes = [{"CPU": 4, "memory": 8e9}]
    with pytest.raises(NotNow, match="a trial takes 9 GB of memory, of which 8 GB are free now"):
        _require_room(Resources(), nodes, host_bytes=9_000_000_000, is_local=True)
    with pytest.raises(InvalidSpec, match="needed by a trial: 17 GB"):
        _require_room(Resources(), nodes, host_bytes=17_000_000_000, is_local=True)


def test_the_processes_of_a_trial_may_lie_on_several_nodes():
    nodes = [{"CPU": 4, "memory": 8e9}, {"CPU": 2}, {"CPU": 0.5, "memory": 64e9}]
    _require_room(Resources(cpus=2, processes=3), nodes, host_bytes=4_000_000_000)
    for resources, host_bytes, most in (
        (Resources(cpus=2, processes=4), 0, 3),
        (Resources(cpus=2, processes=3), 5_000_000_000, 2),
        (Resources(cpus=3, processes=2), 0, 1),
    ):
        with pytest.raises(
            InvalidSpec,
            match=rf"resources\.processes: found {resources.processes}, allowed: at most {most}, for which",
        ):
            _require_room(resources, nodes, host_bytes=host_bytes)


def test_cpus_and_gpus_must_be_on_the_same_node():
    with pytest.raises(InvalidSpec, match="both"):
        _require_room(Resources(cpus=4, gpus=1), [{"CPU": 4}, {"CPU": 2, "GPU": 1}])


@pytest.mark.usefixtures("ray_cluster")
def test_work_reports_on_the_way_and_returns():
    told = []
    result, pid = _run(partial(_squared, 7), report=told.append)
    assert result == 49
    assert pid != os.getpid()
    assert [progress.done for progress in told] == [0, 1, 2]


@pytest.mark.usefixtures("ray_cluster")
def test_a_running_cluster_is_joined_and_left_running():
    address = ray.get_runtime_context().gcs_address
    joined = subprocess.run(
        [sys.executable, "-c", JOIN, address], capture_output=True, text=True, check=False
    )
    assert joined.stdout.split() == ["refused", "49"], joined.stderr
    assert _run(partial(_squared, 3))[0] == 9


@pytest.mark.usefixtures("ray_cluster")
def test_what_work_raises_comes_back_with_its_traceback():
    with pytest.raises(WorkFailed, match="DatasetTooSmall: data") as caught:
        _run(_refuse)
    assert caught.value.failure.kind is FailureKind.ERROR
    assert "_refuse" in caught.value.failure.traceback


@pytest.mark.usefixtures("ray_cluster")
def test_a_lost_worker_is_replaced_a_few_times(tmp_path):
    assert _run(partial(_die_once, tmp_path / "died")) == "done"
    with pytest.raises(WorkFailed) as caught:
        _run(_die)
    assert caught.value.failure.kind is FailureKind.WORKER_LOST
    assert caught.value.failure.message.startswith("the worker process died 2 times; killed from outside")


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_worker_printed_before_it_died_is_in_the_log_of_its_runner():
    """A crash in compiled code leaves nothing else behind."""
    address = ray.get_runtime_context().gcs_address
    ended = subprocess.run(
        [sys.executable, "-c", CRASH, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    assert "last words" in ended.stdout
    assert "Fatal Python error: Segmentation fault" in ended.stdout
    assert "in _crash" in ended.stdout
    assert "\x1b" not in ended.stdout


@pytest.mark.usefixtures("ray_cluster")
def test_stopped_work_is_killed():
    pids = []
    assert (
        _run(_sleep, report=lambda progress: pids.append(progress.stage), should_stop=lambda: bool(pids))
        is None
    )
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pids[0]}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_shares_of_a_core_and_unlimited_devices_are_counted():
    _require_room(Resources(cpus=0.1, processes=10), [{"CPU": 1}])
    _require_room(Resources(cpus=0, gpus=1, processes=2), [{"CPU": 1, "GPU": math.inf}])
    with pytest.raises(InvalidSpec, match="allowed: at most 10,"):
        _require_room(Resources(cpus=0.1, processes=11), [{"CPU": 1}])


def test_a_machine_that_is_too_busy_to_start_ray_is_waited_for(monkeypatch):
    def late(**options):
        raise Exception(f"The current node {STARTED_LATE}.")  # noqa: TRY002 - as Ray does

    assert STARTED_LATE in inspect.getsource(ray._private.node), "Ray says it in other words by now"
    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(NotNow, match="busy"), connected(None, ONE, max_parallel=1):
        pytest.fail("nothing was started")


def test_what_else_keeps_ray_from_starting_is_no_reason_to_wait(monkeypatch):
    def broken(**options):
        raise RuntimeError("no such file")

    monkeypatch.setattr(ray, "init", broken)
    with pytest.raises(RuntimeError, match="no such file"), connected(None, ONE, max_parallel=1):
        pytest.fail("nothing was started")
