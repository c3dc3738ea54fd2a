"""Events become runs: one for each search, one below it for each attempt at a trial; and a winner a version of a model.

What is told follows from events in their order and from what never changes after them, so that it is the
same whenever, and however often, they are sent. Knows no cursor and no time.
"""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from mlflow.entities import Metric, Param, Run
from pydantic import ValidationError

from nas.errors import NotFound
from nas.outbox import RegisteredVersion, TrackedRun
from nas.search import Event, Search, SearchState
from nas.spec import load
from nas.storage.store import SearchStore
from nas.trial import Attempt, Point, Trial, TrialRole, TrialState
from workers.tracking import values
from workers.tracking.registry import Registry
from workers.tracking.target import Refused, Target

logger = logging.getLogger(__name__)

MOST_SEARCHES = 256
"""Whose runs are remembered; those of others are asked for when they are next told of."""
EVENT = "nas.event"
"""Tag of an attempt's run: the event that it began with. Points belong to the attempt that began last before them."""
REUSED = 0
"""The number, among those of attempts, of what stands for a trial that was never attempted."""
WINNER = "nas.winner"
"""Tag of a search's run once MLflow has the files of this winner."""
FILES = "winner"
"""Where they lie among the artifacts of the run that the winner is shown by."""


class Projection:
    """Tells a target of events; raises what the target raises, and Refused never.

    Args:
        target: What is told.
        store: Where what events are about is read.
        root: The artifact root, where winners lie.
    """

    def __init__(self, target: Target, store: SearchStore, root: Path) -> None:
        self._target = target
        self._store = store
        self._root = root
        self._searches: OrderedDict[str, _Runs] = OrderedDict()
        self._refused: set[str] = set()

    def send(self, events: Sequence[Event]) -> "Sent":
        """Tell of the next events, and return the runs and versions that were made or found for them."""
        batch = _Batch()
        for event in events:
            self._guarded(event.search_id, partial(self._read, event, batch))
        for (search_id, run_id), metrics in batch.metrics.items():
            self._guarded(search_id, partial(self._target.log, run_id, metrics))
        for search_id, tell in batch.ends:
            self._guarded(search_id, tell)
        return Sent(runs=batch.shown, versions=batch.versions)

    def _guarded(self, search_id: str, tell: Callable[[], None]) -> None:
        """Tell something; what MLflow refuses is left out, so that it holds nothing else up."""
        try:
            tell()
        except (Refused, ValidationError) as error:  # what an earlier version wrote may be none any more
            self._target.require()
            if search_id not in self._refused:
                about = {"search_id": search_id}
                logger.warning("MLflow never gets all of search %s: %s", search_id, error, extra=about)
            self._refused.add(search_id)

    def _read(self, event: Event, batch: "_Batch") -> None:
        is_told = event.kind != "edit" and event.data.get("state") != SearchState.QUEUED
        runs = self._runs(event.search_id, batch) if is_told else None
        if runs is None:
            return
        if event.kind == "search":
            runs.read_search(event, batch)
        elif event.kind == "trial":
            runs.read_trial(event, batch)
        elif event.kind == "attempt":
            runs.read_attempt(event, batch)
        elif event.kind == "point":
            assert event.trial_number is not None
            run_id = runs.at(event.trial_number, event.sequence)
            if run_id is not None:
                batch.metrics[event.search_id, run_id] += values.point_metrics(load(Point, event.data))

    def _runs(self, search_id: str, batch: "_Batch") -> "_Runs | None":
        """Return what is known of a search's runs; None where the store knows no such search any more."""
        known = self._searches.pop(search_id, None)
        if known is None:
            try:
                known = _Runs(self._target, self._store, self._store.get_search(search_id), self._root)
            except NotFound:
                return None
            batch.shown.append(TrackedRun(search_id=search_id, run_id=known.run_id))
        self._searches[search_id] = known
        if len(self._searches) > MOST_SEARCHES:
            self._searches.popitem(last=False)
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What shows some events."""

    runs: Sequence[TrackedRun]
    versions: Sequence[RegisteredVersion]


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is to be told of some events, beside the runs that are made for them."""

    metrics: defaultdict[tuple[str, str], list[Metric]] = field(default_factory=lambda: defaultdict(list))
    """By search and run."""
    ends: list[tuple[str, Callable[[], None]]] = field(default_factory=list)
    """What is told after the metrics, with the search that it is of."""
    shown: list[TrackedRun] = field(default_factory=list)
    """Runs that were made or found."""
    versions: list[RegisteredVersion] = field(default_factory=list)
    """Of registered models, in the same way."""


class _Runs:
    """The runs of one search."""

    def __init__(self, target: Target, store: SearchStore, search: Search, root: Path) -> None:
        self._target = target
        self._store = store
        self._search = search
        self._root = root
        self._registry = Registry(target)
        self._trials = {trial.number: trial for trial in store.trials(search.id)}
        self._children: defaultdict[int, dict[int, tuple[int | None, str]]] = defaultdict(dict)
        """The event that it began with, and the run, of each attempt at each trial by their numbers."""
        self._told: set[str] = set()
        self._with_files: str | None = None
        """The winner whose files MLflow has."""
        parent: Run | None = None
        for run in target.runs(search.id):
            tags = run.data.tags
            if tags["nas.kind"] == "search":
                parent = run
            else:
                began = int(tags[EVENT]) if EVENT in tags else None
                number = int(tags["nas.trial"])
                run_id = self._completed(run, values.trial_params(search, self._trials[number]))
                self._children[number][int(tags["nas.attempt"])] = began, run_id
        if parent is not None:
            self._with_files = parent.data.tags.get(WINNER)
        self.run_id = self._parent(parent)

    def at(self, trial_number: int, sequence: int) -> str | None:
        """Return the run of the attempt at a trial that began last before an event; None where MLflow took none."""
        begun = [
            (began, run_id)
            for began, run_id in self._children[trial_number].values()
            if began is not None and began <= sequence
        ]
        return max(begun)[1] if begun else None

    def read_search(self, event: Event, batch: _Batch) -> None:
        """Tell what a search has come to by an event, once each."""
        data, search_id = event.data, event.search_id
        is_final = SearchState(data["state"]).is_final
        # A search that promotes a student when it is over ends again: told where that came to something else.
        end = f"end {data.get('winner')} {data.get('failure')}"
        found = {
            "parent_loss": data.get("parent_loss") is not None,
            "evaluated": bool(data.get("evaluated")),
            "made_from": data.get("made_from") is not None,
            end: is_final,
        }
        new = {name for name, is_there in found.items() if is_there} - self._told
        if not new:
            return
        self._told |= new
        self._search = self._store.get_search(search_id)
        if "made_from" in new:
            batch.ends.append((search_id, partial(self._target.tag, self.run_id, self._fingerprints())))
        if "parent_loss" in new:
            batch.metrics[search_id, self.run_id] += values.parent_loss(self._search)
        if "evaluated" in new:
            for each in self._search.evaluated:
                is_teacher = each.trial_number is None
                run_id = self.run_id if is_teacher else self.at(each.trial_number or 0, event.sequence)
                if run_id is not None:
                    batch.metrics[search_id, run_id] += values.score_metrics(self._search, each)
        if end in new:
            batch.ends.append((search_id, partial(self._end, event)))
            batch.ends.append((search_id, partial(self._register, event, batch)))

    def read_trial(self, event: Event, batch: _Batch) -> None:
        """Tell of a trial's end."""
        trial = load(Trial, event.data)
        known = self._trials.get(trial.number)
        if (
            known is None or not known.state.is_final
        ):  # a final one never changes, and may be ahead of its events
            self._trials[trial.number] = trial
        if trial.state is TrialState.COMPLETED and trial.role is TrialRole.SEARCH:
            batch.metrics[self._search.id, self.run_id] += values.best_loss(trial, self._trials.values())
        if trial.reused_from is not None:
            self._read_reused(trial, event, batch)
        run_id = self.at(trial.number, event.sequence)
        if trial.state is TrialState.CANCELLED and run_id is not None:
            batch.ends.append(
                (self._search.id, partial(self._terminate, run_id, "KILLED", trial.finished_at))
            )

    def _read_reused(self, trial: Trial, event: Event, batch: _Batch) -> None:
        """Give a trial that nobody attempted a run of its own, for the points that come with it."""
        assert trial.finished_at is not None
        _, run_id = self._children[trial.number].get(REUSED, (None, None))
        if run_id is None:
            run_id = self._target.create(
                f"trial {trial.number}, reused",
                start_time=values.milliseconds(trial.finished_at),
                tags={**self._tags(trial, REUSED, event.sequence), "nas.reused_from": str(trial.reused_from)},
                params=values.trial_params(self._search, trial),
            )
        self._children[trial.number][REUSED] = event.sequence, run_id
        end = partial(self._terminate, run_id, "FINISHED", trial.finished_at)
        batch.ends.append((self._search.id, end))

    def read_attempt(self, event: Event, batch: _Batch) -> None:
        """Tell that an attempt begins or has ended."""
        attempt = load(Attempt, event.data)
        children = self._children[attempt.trial_number]
        began, run_id = children.get(attempt.number, (None, None))
        if began is None:
            began = event.sequence
            run_id = run_id or self._child(attempt, began)
            children[attempt.number] = began, run_id
        assert run_id is not None
        if began == event.sequence:
            batch.shown.append(
                TrackedRun(
                    search_id=self._search.id,
                    trial_number=attempt.trial_number,
                    attempt_number=attempt.number,
                    run_id=run_id,
                )
            )
        if attempt.ended_at is not None:
            batch.ends.append((self._search.id, partial(self._end_attempt, run_id, attempt)))

    def _end_attempt(self, run_id: str, attempt: Attempt) -> None:
        status = "FAILED" if attempt.failure else "FINISHED"
        if attempt.failure:
            self._target.tag(run_id, {"nas.failure": attempt.failure.message[: values.MAX_LENGTH]})
        self._terminate(run_id, status, attempt.ended_at)

    def _end(self, event: Event) -> None:
        winner = self._winner_of(event)
        if winner is not None and self._with_files != str(winner.number):
            directory = self._root / event.data["winner"]["path"]
            if directory.is_dir():
                self._target.copy(self.at(winner.number, event.sequence) or self.run_id, directory, FILES)
                self._with_files = str(winner.number)
            else:
                logger.warning(
                    "search %s: MLflow does without its winner's files: %s is gone",
                    event.search_id,
                    directory,
                )
            # Last, so that a copy that was cut short is made again.
            self._target.tag(self.run_id, {WINNER: str(winner.number)})
        if event.data.get("failure"):
            message = event.data["failure"]["message"]
            self._target.tag(self.run_id, {"nas.failure": message[: values.MAX_LENGTH]})
        status = {SearchState.SUCCEEDED: "FINISHED", SearchState.CANCELLED: "KILLED"}
        ended = SearchState(event.data["state"])
        at = datetime.fromisoformat(event.data["finished_at"])
        self._terminate(self.run_id, status.get(ended, "FAILED"), at)

    def _register(self, event: Event, batch: _Batch) -> None:
        """Make the winner a version of a registered model, of the files that MLflow has of it."""
        winner = self._winner_of(event)
        if winner is None or self._with_files != str(winner.number):
            return
        for run_id in (self.at(winner.number, event.sequence), self.run_id):
            if run_id is not None and self._target.holds(run_id, FILES):
                tags = {"nas.path": event.data["winner"]["path"]}
                version = self._registry.register(self._search, winner, run_id, FILES, tags)
                batch.versions.append(version)
                return

    def _winner_of(self, event: Event) -> Trial | None:
        """Return the winner by an event, which another may have succeeded since; None where it has none."""
        told = event.data.get("winner")
        return self._trials[told["trial_number"]] if told else None

    def _terminate(self, run_id: str, status: str, at: datetime | None) -> None:
        self._target.terminate(run_id, status, values.milliseconds(at) if at else None)

    def _parent(self, found: Run | None) -> str:
        search, params = self._search, values.search_params(self._search)
        if found is not None:
            return self._completed(found, params)
        return self._target.create(
            search.spec.name or search.id,
            start_time=values.milliseconds(search.created_at),
            tags={"nas.search_id": search.id, "nas.kind": "search"},
            params=params,
        )

    def _child(self, attempt: Attempt, began: int) -> str:
        trial = self._trials[attempt.trial_number]
        return self._target.create(
            f"trial {trial.number}, attempt {attempt.number}",
            start_time=values.milliseconds(attempt.started_at),
            tags={**self._tags(trial, attempt.number, began), "nas.worker": attempt.worker},
            params=values.trial_params(self._search, trial),
        )

    def _tags(self, trial: Trial, attempt: int, began: int) -> dict[str, str]:
        return {
            "mlflow.parentRunId": self.run_id,
            "nas.search_id": trial.search_id,
            "nas.kind": "attempt",
            "nas.trial": str(trial.number),
            "nas.attempt": str(attempt),
            "nas.role": trial.role.value,
            EVENT: str(began),
            **self._fingerprints(),
        }

    def _completed(self, run: Run, params: Sequence[Param]) -> str:
        """Return the id of a run, whose maker may have been killed before it had all its params."""
        missing = [param for param in params if param.key not in run.data.params]
        if missing:
            self._target.describe(run.info.run_id, missing)
        run_id: str = run.info.run_id
        return run_id

    def _fingerprints(self) -> dict[str, str]:
        if self._search.made_from is None:
            return {}
        digests = asdict(self._search.made_from)
        version = {"nas.loss_version": str(digests.pop("loss_version"))}
        return {f"nas.{name}_fingerprint": digest for name, digest in digests.items()} | version
