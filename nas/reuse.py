"""Whether what a trial would come to was measured before, so that it need not be run.

A measurement stands for a trial where all that decides the result is known to be the same (``Keys.reuse``), the
architecture is, and the losses at all the tokens where the trial would be compared are stored.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from minitron.architecture import Architecture
from nas.history import HistoryFilter, HistoryOrder, keys_of
from nas.listing import SearchFilter
from nas.rungs import schedule
from nas.search import Search
from nas.storage.store import SearchStore
from nas.trial import Point, Trial, TrialRole

MOST_ASKED = 20
"""Measurements of the same that are looked at for one with all points: nearly always the first is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A completed trial of an earlier search, and its points where the later one has points."""

    trial: Trial
    points: tuple[Point, ...]


def measured_before(
    search: Search, store: SearchStore, architecture: Architecture, role: TrialRole = TrialRole.SEARCH
) -> Earlier | None:
    """Return what stands for a trial of a search, the oldest measurement first; None where it is to be run.

    Only searches of the same workspace are asked, whether or not they have ended, and none where the spec says so.
    """
    key = keys_of(search.spec, search.made_from, role).reuse
    if key is None or not search.spec.history.reuse:
        return None
    which = HistoryFilter(
        searches=SearchFilter(workspaces=(search.workspace,)),
        reuse_key=key,
        architecture=architecture.name,
        partial=False,
    )
    needed = schedule(search.spec).points
    for entry in store.history.measurements(which, order=HistoryOrder.OLDEST, limit=MOST_ASKED):
        found = entry.measured
        if found.architecture != architecture:  # its name leaves out what the parent settles
            continue
        of_trial = store.points(found.search_id, [found.trial_number])
        points = tuple(_at([each.point for each in of_trial], needed))
        if tuple(point.num_tokens for point in points) == needed:
            (trial,) = store.list_trials(found.search_id, after=(None, found.trial_number - 1), limit=1)
            return Earlier(trial=trial, points=points)
    return None


def _at(points: Sequence[Point], needed: Collection[int]) -> Iterator[Point]:
    """Yield the points by tokens at these counts; what was told of those between goes into the next."""
    since: list[Point] = []
    before = 0
    for point in points:
        since.append(point)
        if point.num_tokens in needed:
            yield _merged(since, before)
            since, before = [], point.num_tokens


def _merged(points: Sequence[Point], before: int) -> Point:
    """Return the last of some points with the seconds, and the mean training loss, of all since ``before`` tokens."""
    last = points[-1]
    if len(points) == 1:
        return last
    starts = (before, *(point.num_tokens for point in points))
    total = sum(
        (point.train_loss or 0.0) * (point.num_tokens - start)
        for start, point in zip(starts, points, strict=False)
    )
    seconds = sum(point.seconds for point in points)
    return replace(last, seconds=seconds, train_loss=total / (last.num_tokens - before))
