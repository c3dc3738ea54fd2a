"""Several processes that evaluate trials together: this one, and Ray actors in the rest of its placement group.

Knows nothing of what a trial does. The others are started with the first trial and kept for those after it; when one
of them fails, or dies, all are ended, and the next trial starts others.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch does not list it

from minitron.device import pick_device
from minitron.errors import MinitronError
from minitron.sharding import Group, joined
from nas.resources import Resources
from nas.trial import Trial
from workers.cluster import PLACES
from workers.report import Evaluate, LostProcess, TrialReport

logger = logging.getLogger(__name__)

MEETING = timedelta(minutes=2)
"""How long a process waits for the others when they meet first."""
LEAVE_SECONDS = 1.0
"""After which a process that failed ends: when Ray has told what it raised."""
LAST_WORDS_SECONDS = 10.0
"""How long the others may take to tell what went wrong; Ray learns late of a death."""

MakeMember = Callable[[Group], Evaluate]


class EvaluateTogether:
    """An ``Evaluate`` of several processes, of which this one has rank 0.

    Args:
        make_member: Picklable; called once in each process.
        resources: What each process gets, and how many there are.
        require_fit: Picklable; called first in each other process, raises where it may not run.
    """

    def __init__(
        self, make_member: MakeMember, resources: Resources, require_fit: Callable[[], None]
    ) -> None:
        self._make_member = make_member
        self._resources = resources
        self._require_fit = require_fit
        self._crew: _Crew | None = None

    def __call__(self, trial: Trial) -> Iterator[TrialReport]:
        """Evaluate ``trial`` and report on the way; see ``workers.report.Evaluate``.

        Raises:
            LostProcess: One of the others died.
        """
        crew = self._crew or _Crew(self._resources)
        self._crew = None
        try:
            crew.meet(self._make_member, self._require_fit)
            yield from crew.evaluate(trial)
        except GeneratorExit:
            self._crew = crew  # the others were told, and wait for the next trial
            raise
        except Exception as error:
            raise crew.ended(error) from error
        self._crew = crew


class _Crew:
    """The other processes, and this one's place among them."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._stack = ExitStack()
        self._evaluate: Evaluate | None = None
        self._others: list[Any] = []
        self._work: list[Any] = []

    def meet(self, make_member: MakeMember, require_fit: Callable[[], None]) -> None:
        """Start the others and meet them, unless that has been done."""
        if self._evaluate is not None:
            return
        count = self._resources.processes
        host = ray.util.get_node_ip_address()
        store = _listening(host, count)
        self._others = [self._started(rank) for rank in range(1, count)]
        self._work = [other.check.remote(require_fit) for other in self._others]
        ray.get(self._work)
        self._work = [
            other.join.remote(make_member, rank, host, store.port, self._resources)
            for rank, other in enumerate(self._others, start=1)
        ]
        group = joined(rank=0, count=count, store=store, device=_device(self._resources))
        self._evaluate = make_member(self._stack.enter_context(group))

    def _started(self, rank: int) -> Any:
        """Return a new process in the bundle of a rank."""
        places = get_current_placement_group() or PLACES.get()
        place = PlacementGroupSchedulingStrategy(places, placement_group_bundle_index=rank)
        options = {"num_cpus": self._resources.cpus, "num_gpus": self._resources.gpus, "max_restarts": 0}
        return ray.remote(_Member).options(**options, scheduling_strategy=place).remote()

    def evaluate(self, trial: Trial) -> Iterator[TrialReport]:
        """Evaluate a trial, here and there."""
        assert self._evaluate is not None
        self._work = [other.evaluate.remote(trial) for other in self._others]
        yield from self._evaluate(trial)

    def ended(self, error: Exception) -> Exception:
        """End the others, and return what went wrong: ``error``, or what was behind it."""
        reason = error if isinstance(error, MinitronError) else self._behind(error)
        for other in self._others:
            ray.kill(other)
        try:
            self._stack.close()
        except RuntimeError:
            logger.exception("left a group of processes that had failed")
        return reason

    def _behind(self, error: Exception) -> Exception:
        """Return why the others failed, where they did: a process that lost another sees a broken connection."""
        if isinstance(error, RayTaskError):
            return _cause(error)
        done, _ = ray.wait(self._work, num_returns=len(self._work), timeout=LAST_WORDS_SECONDS)
        raised: list[Exception] = []
        for work in done:
            try:
                ray.get(work)
            except RayActorError as lost:
                return LostProcess(f"one of {self._resources.processes} processes of the trial died: {lost}")
            except RayTaskError as told:
                raised.append(_cause(told))
        # Whoever lost the connection to another raises RuntimeError.
        return next((reason for reason in raised if not isinstance(reason, RuntimeError)), error)


class _Member:
    """One of the other processes."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def check(self, require_fit: Callable[[], None]) -> None:
        """Raise where this process may run no trial."""
        require_fit()

    def join(self, make_member: MakeMember, rank: int, host: str, port: int, resources: Resources) -> None:
        """Meet the process of rank 0 and the others."""
        count = resources.processes
        store = TCPStore(host, port, count, is_master=False, timeout=MEETING)
        group = joined(rank=rank, count=count, store=store, device=_device(resources))
        self._evaluate = make_member(self._stack.enter_context(group))

    def evaluate(self, trial: Trial) -> None:
        """Do this process's part of a trial, to its end or until rank 0 ends it."""
        try:
            for _ in self._evaluate(trial):
                pass
        except BaseException:
            # The others wait for this process and would for long; its end is what breaks their connections.
            threading.Timer(LEAVE_SECONDS, os._exit, args=(1,)).start()
            raise


def _listening(host: str, count: int) -> TCPStore:
    """Return a store at a free port of this node."""
    return TCPStore(host, 0, count, is_master=True, timeout=MEETING, wait_for_workers=False)


def _device(resources: Resources) -> torch.device:
    return pick_device() if resources.gpus else torch.device("cpu")


def _cause(error: RayTaskError) -> Exception:
    cause = error.cause
    assert isinstance(cause, Exception)
    return cause
