"""What people do with searches: the use cases of REST, page and command line.

Knows a store and where artifacts lie; no HTTP, no database, no worker. A search that is created waits in
the store until a runner takes it.
"""

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

from minitron.errors import InvalidRecipe, MinitronError
from minitron.hub import PREFIX
from minitron.sources import pinned, with_absolute_paths
from nas.clock import Clock, utc_now
from nas.errors import Conflict, InvalidSpec, NotFound
from nas.estimate import Estimate, Rate, estimate, measured_rate, require_memory
from nas.frontier import best_trial, gap_closed
from nas.parent import architecture_of, described
from nas.rungs import Schedule, schedule
from nas.search import Event, Search, SearchSpec, SearchState
from nas.space import SearchSpace, search_space
from nas.storage.store import SearchStore
from nas.trial import Attempt, Point, Trial, TrialRole, TrialState

BUILTIN = "builtin:"
RATED_SEARCHES = 20
"""The latest ones, that a rate is measured on."""
_ID_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
"""Digits and letters that are not mistaken for one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """A trial with all that is known of its way."""

    trial: Trial
    points: tuple[Point, ...]
    """By tokens."""
    attempts: tuple[Attempt, ...]
    """By number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchView:
    """A search and where it stands."""

    search: Search
    counts: Mapping[TrialState, int]
    """Trials of every role in each state; states without any are left out."""
    best: Trial | None
    best_loss: float | None
    """Held-out nats per token of ``best``."""
    gap_closed: float | None
    """Share of the loss added by pruning that the retraining of ``best`` removed."""
    tokens_done: int
    """Tokens trained on so far, as of each trial's last evaluation."""
    tokens_total: int
    """``tokens_done`` and about how many are still to come."""
    eta_seconds: float | None
    """Until the last trial is trained, at the pace so far; None when there is no pace yet, or no end."""


class SearchService:
    """The use cases. Unknown ids raise NotFound."""

    def __init__(
        self,
        store: SearchStore,
        *,
        artifact_root: Path,
        device_flops: float | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._device_flops = device_flops
        self._artifact_root = artifact_root
        self._clock = clock

    def create(self, spec: SearchSpec) -> Search:
        """Check a spec as far as can be without loading a model, and queue a search of it.

        Local paths in the spec are made absolute first: relative ones count from the directory of this
        process, and a worker may run in another. A parent on the hub is asked for its commit and config.

        Raises:
            InvalidSpec: A field that cannot be run; EmptySpace when nothing fits the budget.
        """
        spec, space = _checked(resolved(spec), self._artifact_root)
        now = self._clock()
        search = Search(
            id=_new_id(now),
            spec=spec,
            num_feasible=len(space),
            parent_parameters=space.parent.parameter_count,
            created_at=now,
        )
        self._store.add_search(search)
        return search

    def plan(self, spec: SearchSpec, *, flops_per_second: float | None = None) -> Estimate:
        """Check a spec as ``create`` does, store nothing, and return what the search would cost.

        Args:
            spec: What is asked.
            flops_per_second: What the resources of a trial compute; None takes what was stated for this
                service, else what earlier trials with the same resources did, if there are any.

        Raises:
            InvalidSpec: As ``create``.
        """
        spec, space = _checked(resolved(spec), self._artifact_root)
        stated = flops_per_second or self._device_flops
        rate = Rate(flops_per_second=stated, source="as stated") if stated else None
        return estimate(spec, space, rate=rate or self._measured_rate(spec))

    def _measured_rate(self, spec: SearchSpec) -> Rate | None:
        """Return what trials with these resources computed a second: of the same parent, else of any."""

        def are_alike(other: SearchSpec) -> bool:
            ours, theirs = spec.resources, other.resources
            return (ours.cpus, ours.gpus) == (theirs.cpus, theirs.gpus)

        latest = self._store.list_searches(states=[SearchState.SUCCEEDED], limit=RATED_SEARCHES)
        alike = [search for search in latest if are_alike(search.spec)]
        same = [search for search in alike if search.spec.parent == spec.parent]
        finished = []
        for search in same or alike:
            try:
                parent = architecture_of(search.spec)
            except MinitronError:
                continue  # gone since
            finished.append((search.spec, parent, self._store.trials(search.id)))
        return measured_rate(finished)

    def get(self, search_id: str) -> SearchView:
        """Return a search and where it stands."""
        return self._view(self._store.get_search(search_id))

    def list_views(
        self, *, states: Sequence[SearchState] | None = None, limit: int = 100, offset: int = 0
    ) -> list[SearchView]:
        """Return a page of searches, newest first."""
        searches = self._store.list_searches(states=states, limit=limit, offset=offset)
        return [self._view(search) for search in searches]

    def trials(self, search_id: str) -> list[TrialRecord]:
        """Return the trials of a search by number."""
        trials = self._store.trials(search_id)
        points: dict[int, list[Point]] = defaultdict(list)
        for each in self._store.points(search_id):
            points[each.trial_number].append(each.point)
        attempts: dict[int, list[Attempt]] = defaultdict(list)
        for attempt in self._store.attempts(search_id):
            attempts[attempt.trial_number].append(attempt)
        return [
            TrialRecord(
                trial=trial, points=tuple(points[trial.number]), attempts=tuple(attempts[trial.number])
            )
            for trial in trials
        ]

    def cancel(self, search_id: str) -> Search:
        """Ask for the end of a search; see ``SearchStore.request_cancel``."""
        return self._store.request_cancel(search_id, self._clock())

    def events(self, *, after: int = 0, search_id: str | None = None, limit: int = 1000) -> list[Event]:
        """Return what happened since, in order."""
        return self._store.events(after=after, search_id=search_id, limit=limit)

    def winner_directory(self, search_id: str) -> Path:
        """Return the checkpoint directory of a search's winner.

        Raises:
            Conflict: There is no winner, or not yet.
            NotFound: The directory is gone.
        """
        search = self._store.get_search(search_id)
        if search.winner is None:
            when = "has none" if search.state.is_final else "has none yet"
            raise Conflict(f"winner: search {search_id} {when}; it is {search.state}")
        directory = self._artifact_root / search.winner.path
        if not directory.is_dir():
            raise NotFound(f"winner: {directory}: no such directory")
        return directory

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers and has the present schema."""
        self._store.ping()

    def _view(self, search: Search) -> SearchView:
        records = self.trials(search.id)
        trials = [record.trial for record in records]
        best = best_trial(trials)
        measured = best.measurement if best else None
        done = sum(_tokens(record) for record in records)
        ahead = _ahead(search, records)
        return SearchView(
            search=search,
            counts=Counter(trial.state for trial in trials),
            best=best,
            best_loss=measured.loss if measured else None,
            gap_closed=(
                gap_closed(measured, search.parent_loss)
                if measured and search.parent_loss is not None
                else None
            ),
            tokens_done=done,
            tokens_total=done + round(sum(ahead)),
            eta_seconds=_eta_seconds(search, records, ahead),
        )


def resolved(spec: SearchSpec) -> SearchSpec:
    """Return a spec whose local paths, counted from the directory of this process, are absolute."""
    return replace(
        spec,
        parent=_absolute(spec.parent),
        data=with_absolute_paths(spec.data),
    )


def _absolute(source: str) -> str:
    return source if source.startswith((BUILTIN, PREFIX)) else str(Path(source).expanduser().absolute())


def _checked(spec: SearchSpec, artifact_root: Path) -> tuple[SearchSpec, SearchSpace]:
    """Return the spec with all that is known of its parent, and its space.

    Raises:
        InvalidSpec: The parent, the hub, the data or the sizes rule the search out.
    """
    try:
        spec = described(spec, artifact_root)
        space = search_space(spec)
        trial = estimate(spec, space).trial
    except InvalidRecipe as error:
        raise InvalidSpec(((error.field, error.reason),)) from error
    except MinitronError as error:
        raise InvalidSpec((("parent", str(error).removeprefix("parent: ")),)) from error
    try:
        spec = replace(spec, data=pinned(spec.data))
    except MinitronError as error:
        field, _, reason = str(error).partition(": ")
        raise InvalidSpec(((field, reason),)) from error
    if spec.resources.memory_bytes is not None:
        require_memory(
            trial, spec.resources.memory_bytes, field="resources.memory_bytes", what="memory stated"
        )
    return spec, space


def _new_id(at: datetime) -> str:
    """Return an id that sorts by time, is short enough to type and needs no quoting in an address."""
    return f"{at:%y%m%d-%H%M%S}-{''.join(secrets.choice(_ID_ALPHABET) for _ in range(5))}"


def _tokens(record: TrialRecord) -> int:
    return record.points[-1].num_tokens if record.points else 0


def _ahead(search: Search, records: Iterable[TrialRecord]) -> list[float]:
    """Return about how many tokens each trial that is not final is still to train on, baselines included."""
    if search.state.is_final:
        return []
    spec, plan = search.spec, schedule(search.spec)
    ahead = []
    for record in records:
        if not record.trial.state.is_final:
            keep = spec.rungs.keep if record.trial.role is TrialRole.SEARCH else 1.0
            ahead.append(_to_the_end(plan, _tokens(record), keep))
    roles = Counter(record.trial.role for record in records)
    num_searched = roles.pop(TrialRole.SEARCH, 0)
    to_come = min(spec.num_trials, search.num_feasible) - num_searched
    baselines_to_come = (
        spec.comparisons.random_architectures + spec.comparisons.random_indices - roles.total()
    )
    ahead += [_to_the_end(plan, 0, spec.rungs.keep)] * to_come
    return ahead + [float(plan.num_tokens)] * baselines_to_come


def _to_the_end(plan: Schedule, done: int, keep: float) -> float:
    """Return how many tokens a trial that has ``done`` some is expected to train on yet."""
    ahead, chance, before = 0.0, 1.0, done
    for rung in plan.rungs:
        if rung > done:
            ahead += chance * (rung - before)
            before = rung
        if rung >= done:
            chance *= keep
    return ahead


def _eta_seconds(search: Search, records: Sequence[TrialRecord], ahead: Sequence[float]) -> float | None:
    """Return how long the tokens ahead take at the pace of the attempts so far, as many at once as allowed.

    The pace counts each attempt from its start to its last evaluation, so that neither a time when
    nothing ran nor training that is not yet evaluated distorts it.
    """
    done = sum(_tokens(record) for record in records)
    busy = sum(_busy_seconds(record) for record in records)
    if not (ahead and done and busy):
        return None
    return sum(ahead) * busy / done / min(search.spec.max_parallel, len(ahead))


def _busy_seconds(record: TrialRecord) -> float:
    starts = [attempt.started_at for attempt in record.attempts]
    busy = 0.0
    for start, end in zip_longest(starts, starts[1:]):
        evaluated = [point.at for point in record.points if point.at >= start and (not end or point.at < end)]
        if evaluated:
            busy += (evaluated[-1] - start).total_seconds()
    return busy
