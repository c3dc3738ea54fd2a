"""The Ray cluster to run on: a local one of this process's own, or the one whose address is given.

Knows no trial and no search.
"""

import logging
import math
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    placement_group,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from minitron.progress import Progress, Report
from nas.errors import InvalidSettings, InvalidSpec
from nas.resources import Resources
from nas.trial import Failure, FailureKind
from nas.waiting import WaitingKind, stage_of
from nas.wording import in_bytes
from workers.report import failure_of
from workers.scratch import scratch_directory

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 100 * 2**20
"""Models and data go through files; only reports go through Ray."""
ROUNDING = 1e-6
POLL_SECONDS = 0.5
LAST_WORDS_SECONDS = 1.0
"""Ray hands on what a worker printed about so late."""
CONNECT_SECONDS = 10.0
PATIENCE_SECONDS = 15.0
"""After which it is said what keeps work from beginning; a process that starts takes some seconds."""

T = TypeVar("T")

PLACES: ContextVar[PlacementGroup | None] = ContextVar("PLACES", default=None)
"""Where a task may start processes beside its own; Ray tells it to the thread alone that the task began in."""


class NotNow(Exception):
    """Raised when what a search needs is not to be had at the moment, but may be later."""

    def __init__(self, kind: WaitingKind, text: str) -> None:
        super().__init__(kind, text)
        self.stage = stage_of(kind, text)
        """Of the progress of the search that waits."""
        self._text = text

    def __str__(self) -> str:
        return self._text


class WorkFailed(Exception):
    """Raised when work on the cluster failed for good."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return self.failure.message


@contextmanager
def connected(
    address: str | None, resources: Resources, *, max_parallel: int, host_bytes: int = 0, cpus: float = 0
) -> Iterator[None]:
    """Start a local cluster, or connect to the one at ``address``, for as long as the context lasts.

    A local cluster offers as many logical CPUs as ``max_parallel`` trials ask for, even where the
    machine has fewer cores, because the spec's word on parallelism counts; but a single trial that
    asks for more CPUs than there are cores is refused.

    Call it from the main thread: the cluster's processes end with the thread that started them.

    Args:
        address: Of a running cluster.
        resources: What each trial gets.
        max_parallel: Trials at once.
        host_bytes: What each process of a trial takes of its node's memory.
        cpus: Logical CPUs that a local cluster offers at least, for what comes after the trials.

    Raises:
        InvalidSettings: No cluster answers at ``address``.
        NotNow: The machine is too busy to start one.
        InvalidSpec: No node can ever give a trial what it asks for; Ray would wait for ever.
    """
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_COLOR_PREFIX="0"
    )
    options: dict[str, Any] = {
        # What a worker printed before it died is the only trace of a crash in compiled code.
        "log_to_driver": True, "logging_level": logging.ERROR, "runtime_env": _RUNTIME,
    }  # fmt: skip
    with ExitStack() as stack:
        if address is not None:
            _join(address, options)
        else:
            cores = os.cpu_count() or 1
            _require_room(resources, [{"CPU": cores, "GPU": math.inf}])
            most = math.ceil(max(cpus, max_parallel * resources.processes * resources.cpus))
            _start(max(cores, most), stack.enter_context(scratch_directory("nas-ray-")), options)
        stack.callback(ray.shutdown)
        require_room(resources, host_bytes=host_bytes, is_local=address is None)
        yield


_RUNTIME = {"env_vars": {"RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
"""Workers stay in the directory that the paths of the spec are relative to."""


STARTED_LATE = "timed out during startup"
"""What Ray says where its own processes took more than half a minute, in an error of no class that others have not."""


def _start(num_cpus: int, scratch: Path, options: Mapping[str, Any]) -> None:
    """Start a cluster on this machine.

    Raises:
        NotNow: As ``connected``.
    """
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=str(scratch),
            **options,
        )
    except Exception as error:
        if STARTED_LATE not in str(error):
            raise
        reason = "Ray did not start within half a minute: others keep the machine busy"
        raise NotNow(WaitingKind.RESOURCES, reason) from error


def _join(address: str, options: Mapping[str, Any]) -> None:
    """Connect to a running cluster from one of its nodes.

    Raises:
        InvalidSettings: As ``connected``.
    """
    if address.startswith("ray://"):
        raise InvalidSettings(
            f"NAS_RAY_ADDRESS: found {address}, a Ray Client address, allowed: auto or HOST:PORT of the head, "
            "from a node of the cluster"
        )
    try:
        if address != "auto":
            # Ray itself would ask for minutes.
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(address=address, **options)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        cause = error.__cause__ or error
        reason = " ".join((str(cause).splitlines() or [type(cause).__name__])[0].split())
        raise InvalidSettings(
            f"NAS_RAY_ADDRESS: no cluster answers at {address}: {reason}; start one with `ray start --head`, and "
            "set RAY_AUTH_MODE=token where it wants a token"
        ) from error


def require_room(
    resources: Resources,
    *,
    host_bytes: int = 0,
    refused: Collection[str] = (),
    why: str = "",
    is_local: bool = False,
) -> None:
    """Raise InvalidSpec unless the nodes of the connected cluster have room for one trial.

    Args:
        resources: What a trial gets.
        host_bytes: What each process of it takes of its node's memory.
        refused: Ids of nodes that are not used.
        why: Said where all are refused.
        is_local: Whether the cluster is this machine, whose memory others may leave again.

    Raises:
        NotNow: The machine has the memory, but not free.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = [node["Resources"] for node in alive if node["NodeID"] not in refused]
    if alive and not nodes:
        raise InvalidSpec((("resources", f"found no node that may run trials: {why}"),))
    _require_room(resources, nodes, host_bytes=host_bytes, is_local=is_local)


def _require_room(
    resources: Resources, nodes: list[dict[str, float]], *, host_bytes: int = 0, is_local: bool = False
) -> None:
    """Raise InvalidSpec unless the nodes together have room for all processes of a trial, each on one node."""
    wanted = {"resources.cpus": ("CPU", resources.cpus), "resources.gpus": ("GPU", resources.gpus)}
    devices, processes = dict(wanted.values()), resources.processes
    room = _room(nodes, devices | {"memory": host_bytes})
    if room >= processes:
        return
    # What a node has left for tasks when Ray starts on it.
    most_bytes = max((node.get("memory", math.inf) for node in nodes if _room([node], devices)), default=0)
    trial_bytes = processes * host_bytes
    if is_local and _room(nodes, devices) >= processes and trial_bytes <= _machine_bytes():
        raise NotNow(
            WaitingKind.RESOURCES,
            f"a trial takes {in_bytes(trial_bytes)} of memory, of which {in_bytes(most_bytes)} are free now",
        )
    if room:
        found = f"found {processes}, allowed: at most {room:g}, for which the nodes have room"
        raise InvalidSpec((("resources.processes", found),))
    if _room(nodes, devices):
        found = f"found nodes with at most {in_bytes(most_bytes)} of memory"
        needed = f"needed by a trial: {in_bytes(host_bytes)}; `nas plan` shows its parts"
        raise InvalidSpec((("resources", f"{found}, {needed}"),))
    problems = []
    for field, (kind, count) in wanted.items():
        most = max((node.get(kind, 0) for node in nodes), default=0)
        if count > most:
            problems.append((field, f"found {count:g}, allowed: at most {most:g}, the {kind}s of a node"))
    raise InvalidSpec(
        tuple(problems) or (("resources", "found no node that has both the CPUs and the GPUs of one trial"),)
    )


def _room(nodes: Iterable[dict[str, float]], needs: Mapping[str, float]) -> float:
    """Return how many processes the nodes have room for; one that states no memory has enough."""
    room = 0.0
    for node in nodes:
        found = {"memory": math.inf} | node
        most = min((found.get(kind, 0) / count for kind, count in needs.items() if count), default=math.inf)
        # Tenths are not exact: ten times 0.1 are to fit into 1.
        room += most if math.isinf(most) else math.floor(most + ROUNDING)
    return room


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def no_place(resources: Resources, *, count: int = 1, refused: Collection[str] = ()) -> str:
    """Return why ``count`` trials or tasks that were asked for do not begin, as the stage of a progress."""
    asked = {"CPU": resources.cpus * resources.processes, "GPU": resources.gpus * resources.processes}
    words = " and ".join(f"{number:g} {kind}" for kind, number in asked.items() if number) or "no resources"
    try:
        require_room(resources, refused=refused)
    except InvalidSpec as error:
        return stage_of(WaitingKind.IMPOSSIBLE, f"{words} asked: {error}")
    total, free = ray.cluster_resources(), ray.available_resources()
    left = ", ".join(
        f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}" for kind in asked if asked[kind]
    )
    whom = f"{count} wait, each" if count > 1 else "1 waits and"
    return stage_of(WaitingKind.RESOURCES, f"{whom} asks Ray for {words}; free now: {left}")


@dataclass(frozen=True, slots=True)
class _Begun:
    """Said by a task as soon as it has its place."""


@dataclass(frozen=True, slots=True)
class _Result(Generic[T]):
    value: T


def run_task(
    work: Callable[[Report], T],
    *,
    resources: Resources,
    max_attempts: int,
    report: Report,
    should_stop: Callable[[], bool] = lambda: False,
    where: Mapping[str, str] | None = None,
    processes: int = 1,
) -> T | None:
    """Run ``work`` in a worker process and pass on what it reports.

    Args:
        work: Picklable; given a ``Report`` to call.
        resources: What the task gets from Ray.
        max_attempts: Executions before the loss of the worker process is final.
        report: Called here for each report of the work.
        should_stop: Asked about twice a second; kills the work.
        where: A label selector for nodes; None takes any.
        processes: So many times the resources are held, for processes that ``work`` starts beside its own.

    Returns:
        The result of ``work``, or None when it was stopped.

    Raises:
        WorkFailed: ``work`` raised, or its process died ``max_attempts`` times.
    """
    needs = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    with _places(resources, processes, dict(where or {})) as place:
        task = ray.remote(**needs, max_retries=0, num_returns="streaming", **place)(_stream)
        for attempt in range(1, max_attempts + 1):
            items = task.remote(work)
            try:
                result: T | None = _drain(items, report, should_stop, lambda: no_place(resources))
                return result
            except RayError as error:
                logger.warning("lost a worker process (%d of %d): %s", attempt, max_attempts, error)
                lost = Failure(
                    kind=FailureKind.WORKER_LOST,
                    message=f"the worker process died{f' {attempt} times' if attempt > 1 else ''}; killed from "
                    "outside, out of memory, or crashed",
                    traceback=str(error),
                )
        time.sleep(LAST_WORDS_SECONDS)
        raise WorkFailed(lost)


@contextmanager
def _places(resources: Resources, processes: int, where: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Give the options by which a task has its place, the first of as many as there are processes."""
    if processes == 1:
        yield {"label_selector": where}
        return
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus}
    bundle = {kind: count for kind, count in wanted.items() if count}
    selectors = {"bundle_label_selector": [where] * processes} if where else {}
    group = placement_group([bundle] * processes, **selectors)
    try:
        place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
        yield {"scheduling_strategy": place}
    finally:
        remove_placement_group(group)


def _drain(
    items: "ray.ObjectRefGenerator", report: Report, should_stop: Callable[[], bool], why: Callable[[], str]
) -> Any:
    has_begun, told_at = False, time.monotonic()
    while not should_stop():
        ready, _ = ray.wait([items], timeout=POLL_SECONDS)
        if not ready:
            if not has_begun and time.monotonic() - told_at > PATIENCE_SECONDS:
                told_at = time.monotonic()
                report(Progress(stage=why()))
            continue
        item = ray.get(next(items))
        has_begun = True
        if isinstance(item, _Begun):
            continue
        if isinstance(item, Progress):
            report(item)
        elif isinstance(item, Failure):
            raise WorkFailed(item)
        else:
            for _ in items:
                pass  # to its end: what Ray hears of a task once it is shut down ends this process
            return item.value
    ray.cancel(items, force=True)
    return None


def _stream(work: Callable[[Report], T]) -> Iterator[_Begun | Progress | Failure | _Result[T]]:
    """Run ``work`` in a thread and yield what it reports as it comes, then its result or failure."""
    items: queue.SimpleQueue[Progress | Failure | _Result[T]] = queue.SimpleQueue()

    def run() -> None:
        try:
            items.put(_Result(work(items.put)))
        except Exception as error:
            items.put(failure_of(error))

    PLACES.set(get_current_placement_group())
    threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    yield _Begun()
    while isinstance(item := items.get(), Progress):
        yield item
    yield item
