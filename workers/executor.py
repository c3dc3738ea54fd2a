"""Ray Tune as an executor: it places trials on workers and notices dead ones; the driver decides all else.

Tune's own searchers, schedulers, checkpoints, retries and restore are not used. A Tune trial is one
dispatch of a trial of ours: from ``next_trial`` to a rung, an end, or the death of its worker, after
which the driver may hand the trial out again. Whatever of it must survive lies in the store or, written
by the worker, below the artifact root; Tune's files are dropped.

Tune's retry (``max_failures``) is left alone because it counts the death of an idle, reused worker
twice, and because the driver should know of every attempt.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from nas.driver import Driver
from nas.resources import Resources
from nas.trial import Failure, FailureKind, Trial
from nas.verdicts import Failed, Finished, Next, Verdict
from workers.cluster import PATIENCE_SECONDS
from workers.nodes import elsewhere, name_of
from workers.report import Began, Evaluate, Refused, Report
from workers.scratch import scratch_directory
from workers.trainable import REPORT, TRIAL, TrialTrainable
from workers.tune_settings import quiet_tune

logger = logging.getLogger(__name__)

ASK_SECONDS = 0.5
"""How often the driver is asked again after WAIT when nothing has happened in between."""

LOOK_SECONDS = 5.0
"""How often it is looked whether trials find no place."""

GRACE_SECONDS = 10.0
"""How long what still runs after DONE may take to report, and so learn that it must end."""


class TuneExecutor:
    """Runs a driver's trials on the connected Ray cluster.

    Args:
        make_evaluate: Picklable; called once in each worker process. What its result keeps is kept
            between trials.
        resources: What each trial gets from Ray.
        max_parallel: As many workers are started at once.
        refused: Why nodes are not used, by node id; grows when one that joins later turns out to be unfit.
        should_stop: Asked several times a second; ends the run as it stands, with trials unfinished.
        log_tail: Returns what workers printed last, which a trial's failure takes along.
        no_place: Returns why so many trials do not begin, as the stage of a progress.
        root: The artifact root, below which each attempt keeps its log; None keeps none.
    """

    def __init__(
        self,
        make_evaluate: Callable[[], Evaluate],
        *,
        resources: Resources,
        max_parallel: int,
        refused: dict[str, str] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        log_tail: Callable[[], str | None] = lambda: None,
        no_place: Callable[[int], str] | None = None,
        root: Path | None = None,
    ) -> None:
        self._no_place = no_place
        self._root = root
        self._refused = {} if refused is None else refused
        self._make_evaluate = make_evaluate
        self._resources = resources
        self._max_parallel = max_parallel
        self._should_stop = should_stop
        self._log_tail = log_tail

    def run(self, driver: Driver) -> None:
        """Dispatch until the driver is done.

        Raises:
            Exception: What the driver raised, such as LostLease.
        """
        dispatches = _Dispatches(driver, self._should_stop, self._refused, self._log_tail, self._no_place)
        quiet_tune(max_pending=self._max_parallel)
        while not dispatches.is_over:
            num_begun = dispatches.num_begun
            try:
                self._run_tune(dispatches)
            except Exception as error:
                dispatches.raise_driver_error()
                if dispatches.num_begun == num_begun:
                    raise
                # Tune gives up when Ray reports a death in another way than it expects, as the memory
                # monitor does. What is in flight is ours to know, so Tune is started anew on it.
                logger.exception("Ray Tune gave up and is started anew")
                dispatches.lose_all(FailureKind.WORKER_LOST, str(error))
            if dispatches.takes_new_nodes():
                dispatches.lose_all(FailureKind.UNFIT_NODE, "Ray Tune is started anew without a node")
            dispatches.raise_driver_error()
            dispatches.leave_hung()

    def _run_tune(self, dispatches: "_Dispatches") -> None:
        trainable = tune.with_parameters(TrialTrainable, make_evaluate=self._make_evaluate, root=self._root)
        with scratch_directory("nas-tune-") as scratch:
            # Not a Tuner: that one keeps a copy of searcher and scheduler for its restore.
            tune.run(
                trainable,
                resources_per_trial=self._placement(),
                search_alg=_DriverSearcher(dispatches),
                scheduler=_DriverScheduler(dispatches),
                stop=_Stopper(dispatches),
                num_samples=-1,
                reuse_actors=True,
                max_failures=0,
                raise_on_failed_trial=False,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                storage_path=str(scratch),
                trial_dirname_creator=_trial_directory,
                verbose=0,
            )

    def _placement(self) -> tune.PlacementGroupFactory:
        """Return what each process of a trial gets, and where: on no node that was refused."""
        wanted = {"CPU": self._resources.cpus, "GPU": self._resources.gpus}
        bundle = {kind: count for kind, count in wanted.items() if count}
        selector, processes = elsewhere(self._refused), self._resources.processes
        return tune.PlacementGroupFactory(
            [bundle] * processes, **({"bundle_label_selector": [selector] * processes} if selector else {})
        )


@dataclass(slots=True)
class _Dispatch:
    trial: Trial
    worker: str | None = None
    """None until one has begun."""
    since: float = field(default_factory=time.monotonic)
    ended_at: float | None = None
    """When it was first seen to run though its trial is to end."""


class _Dispatches:
    """What is in flight, by Tune's trial id, and the only caller of the driver.

    Tune wraps or logs what its callbacks raise; the first error of the driver is therefore kept here,
    everything is stopped, and the executor raises it.
    """

    def __init__(
        self,
        driver: Driver,
        should_stop: Callable[[], bool],
        refused: dict[str, str],
        log_tail: Callable[[], str | None],
        no_place: Callable[[int], str] | None,
    ) -> None:
        self._no_place = no_place
        self._looked_at = time.monotonic()
        self._refused = refused
        self._has_refused = False
        self._has_hung = False
        self.num_begun = 0
        """Executions that a worker has begun."""
        self._driver = driver
        self._should_stop = should_stop
        self._log_tail = log_tail
        self._in_flight: dict[str, _Dispatch] = {}
        self._logged: dict[int, int] = {}
        """Tokens of the last point in the log, by trial number."""
        self._error: Exception | None = None
        self._ask_at = 0.0
        self._done_at: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune's snapshots hold nothing of this, and are never restored from."""
        return {}

    @property
    def must_pause(self) -> bool:
        """Whether to end what still runs, to go on with or without it."""
        return self._has_refused or self._has_hung or self.must_stop

    def takes_new_nodes(self) -> bool:
        """Return whether a node was refused since this was asked last."""
        has_refused, self._has_refused = self._has_refused, False
        return has_refused

    @property
    def must_stop(self) -> bool:
        """Whether to end everything that still runs, at once."""
        is_late = self._done_at is not None and time.monotonic() > self._done_at + GRACE_SECONDS
        return self._error is not None or is_late or self._should_stop()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return self.must_stop or (self._done_at is not None and not self._in_flight)

    def raise_driver_error(self) -> None:
        """Raise what the driver raised, if it did."""
        if self._error is not None:
            raise self._error

    def next(self, tune_id: str) -> Trial | Next:
        """Return what the driver hands out, to be run under ``tune_id``, or its answer."""
        if self.must_pause or self._done_at is not None:
            return Next.DONE
        if time.monotonic() < self._ask_at:
            return Next.WAIT
        try:
            answer = self._driver.next_trial()
        except Exception as error:
            self._error = error
            return Next.DONE
        if answer is Next.DONE:
            self._done_at = time.monotonic()
        elif answer is Next.WAIT:
            self._ask_at = time.monotonic() + ASK_SECONDS
        else:
            self._in_flight[tune_id] = _Dispatch(answer)
        return answer

    def look(self) -> None:
        """Let the driver see what was ordered though nothing is reported, and say why trials do not begin."""
        if self._error is not None or self._done_at is not None:
            return
        now = time.monotonic()
        if self._no_place and now - self._looked_at > LOOK_SECONDS:
            self._looked_at = now
            late = [
                each
                for each in self._in_flight.values()
                if not each.worker and now - each.since > PATIENCE_SECONDS
            ]
            self._driver.hindrance = self._no_place(len(late)) if late else None
        try:
            self._driver.beat()
        except Exception as error:
            self._error = error
        if self._driver.is_leaving:
            self._done_at = now
        for each in self._in_flight.values():
            if not self._driver.is_handed_out(each.trial.number):
                each.ended_at = each.ended_at or now
                self._has_hung = self._has_hung or now - each.ended_at > GRACE_SECONDS

    def leave_hung(self) -> None:
        """Go on without workers that do not end though their trials did, once Tune and all workers have ended."""
        if self._has_hung:
            self._has_hung = False
            self._in_flight.clear()
            self._driver.leave()

    def reported(self, tune_id: str, report: Report) -> bool:
        """Tell the driver of a report; return whether the trial goes on."""
        dispatch = self._in_flight.get(tune_id)
        if dispatch is None or self.must_stop:
            return False
        self._ask_at = 0.0
        try:
            goes_on = self._told(dispatch, report)
        except Exception as error:
            self._error = error
            return False
        if not goes_on:
            del self._in_flight[tune_id]
        return goes_on

    def _told(self, dispatch: _Dispatch, report: Report) -> bool:
        number = dispatch.trial.number
        about = {"trial_number": number}
        if isinstance(report, Began):
            self.num_begun += 1
            dispatch.worker = report.worker
            name = dispatch.trial.architecture.name
            logger.info("trial %d: %s on worker %s", number, name, report.worker, extra=about)
            self._driver.on_attempt(number, report.worker)
            return True
        if isinstance(report, Refused):
            logger.warning("node %s is not used: %s", name_of(report.node_id), report.reason)
            self._refused[report.node_id] = report.reason
            self._has_refused = True
            failure = Failure(kind=FailureKind.UNFIT_NODE, message=report.reason)
            self._driver.on_end(number, Failed(failure=failure))
            return False
        if isinstance(report, Failure):
            told = (number, dispatch.worker or "not begun", report.message)
            logger.warning("trial %d: failed on worker %s: %s", *told, extra=about)
            self._driver.on_end(number, self._failed(report))
            return False
        if report.kept_layers is not None:
            self._driver.on_pruned(number, report.kept_layers)
        if report.point is None:
            return self._driver.on_tokens(number, report.num_tokens) is Verdict.CONTINUE
        if report.num_tokens > self._logged.get(number, -1):  # a trial that is resumed tells again
            self._logged[number] = report.num_tokens
            reached = (report.point.loss, report.num_tokens)
            logger.info("trial %d: loss %.4f at %d tokens", number, *reached, extra=about)
        # The student of a finished trial is no state to go on from.
        state = None if report.finished else report.checkpoint
        verdict = self._driver.on_point(number, report.point, state)
        if verdict is Verdict.CONTINUE and report.finished is not None:
            assert report.checkpoint is not None
            outcome = Finished(measurement=report.finished, checkpoint=report.checkpoint)
            self._driver.on_end(number, outcome)
            return False
        return verdict is Verdict.CONTINUE

    def lost(self, tune_id: str, details: str, kind: FailureKind = FailureKind.WORKER_LOST) -> None:
        """A worker died; whether its trial is handed out again is the driver's to say."""
        dispatch = self._in_flight.pop(tune_id, None)
        if dispatch is None or self.must_stop:
            return
        self._ask_at = 0.0
        failure = Failure(
            kind=kind,
            message=f"the worker process ({dispatch.worker or 'not begun'}) died: killed from outside, out of memory, "
            "or crashed",
            traceback=details,
        )
        number = dispatch.trial.number
        logger.warning("trial %d: %s", number, failure.message, extra={"trial_number": number})
        try:
            self._driver.on_end(dispatch.trial.number, self._failed(failure))
        except Exception as error:
            self._error = error

    def _failed(self, failure: Failure) -> Failed:
        return Failed(failure=replace(failure, log_tail=self._log_tail()))

    def lose_all(self, kind: FailureKind, details: str) -> None:
        """Every worker is gone."""
        for tune_id in list(self._in_flight):
            self.lost(tune_id, details, kind)


class _DriverSearcher(Searcher):  # type: ignore[misc]
    """Asks the driver what to run."""

    def __init__(self, dispatches: _Dispatches) -> None:
        super().__init__()
        self._dispatches = dispatches

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        answer = self._dispatches.next(trial_id)
        if answer is Next.WAIT:
            return None
        return str(Searcher.FINISHED) if answer is Next.DONE else {TRIAL: answer}

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """Ends, rungs and deaths are settled by the scheduler."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Tune's snapshots are never restored from."""


class _DriverScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes reports on, and tells Tune whether the trial goes on."""

    def __init__(self, dispatches: _Dispatches) -> None:
        super().__init__()
        self._dispatches = dispatches

    def on_trial_result(self, _: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        goes_on = self._dispatches.reported(trial.trial_id, result[REPORT])
        return str(self.CONTINUE if goes_on else self.STOP)

    def on_trial_error(self, _: Any, trial: TuneTrial) -> None:
        self._dispatches.lost(trial.trial_id, str(trial.get_error()))


class _Stopper(tune.Stopper):  # type: ignore[misc]
    """Ends the whole run when the runner must stop."""

    def __init__(self, dispatches: _Dispatches) -> None:
        self._dispatches = dispatches

    def __call__(self, *_: Any) -> bool:
        return False

    def stop_all(self) -> bool:
        self._dispatches.look()
        return self._dispatches.must_pause


def _trial_directory(trial: TuneTrial) -> str:
    return f"{trial.config[TRIAL].number:04d}-{trial.trial_id}"
