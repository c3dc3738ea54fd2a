"""How much of a search was measured before, told before it is submitted.

What its trials are made from is not known until a worker has read parent and data, so it is taken from the latest search
that asks for the same of both, and holds as long as these are as they were then.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from minitron.architecture import Architecture
from minitron.loss_version import LOSS_VERSION
from nas.history import HistoryFilter, HistoryOrder, keys_of
from nas.limits import expected_trials
from nas.listing import SearchFilter
from nas.rungs import losses_by_trial, schedule
from nas.search import Search, SearchSpec
from nas.space import SearchSpace
from nas.storage.store import SearchStore

MOST_SEARCHES = 100
"""Latest searches of a parent that are looked at for one that asks for the same."""
MOST_MEASUREMENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reusable:
    """What of a search need not be trained, if it is proposed."""

    num_known: int
    """Architectures of its space whose training was measured, in the workspace that knows the most of them."""
    most_tokens: int
    """That this saves at most: where as many trials as can be are of these. Which are proposed is not known before."""


def reusable(
    spec: SearchSpec, space: SearchSpace, store: SearchStore, workspaces: Collection[str] | None
) -> Reusable | None:
    """Return what a search could take over; None where its spec has it train everything.

    Args:
        spec: As it would be stored.
        space: Of the spec.
        store: Where measurements are.
        workspaces: Those that it may be submitted in; None: all.
    """
    if not spec.history.reuse:
        return None
    known = max(
        (len(set(_measured(spec, space, store, search))) for search in _alike(spec, store, workspaces)),
        default=0,
    )
    plan = schedule(spec)
    num_trials = min(known, expected_trials(spec, plan, len(space)))
    return Reusable(num_known=known, most_tokens=num_trials * plan.num_tokens)


def _alike(spec: SearchSpec, store: SearchStore, workspaces: Collection[str] | None) -> Iterator[Search]:
    """Yield the latest prepared search of each workspace whose trials are made from what those of ``spec`` would be."""
    seen = None if workspaces is None else tuple(sorted(workspaces))
    told: set[str] = set()
    for search in store.list_searches(SearchFilter(parent=spec.parent, workspaces=seen), limit=MOST_SEARCHES):
        if search.made_from and search.workspace not in told and _asks_the_same(spec, search.spec):
            told.add(search.workspace)
            yield search


def _asks_the_same(spec: SearchSpec, other: SearchSpec) -> bool:
    # In several steps importance is measured on narrower and narrower students, as far as the axes go.
    is_measured_alike = spec.calibration.steps == 1 or spec.axes == other.axes
    return is_measured_alike and keys_of(spec, None) == keys_of(other, None)


def _measured(
    spec: SearchSpec, space: SearchSpace, store: SearchStore, like: Search
) -> Iterator[Architecture]:
    """Yield the architectures of a space whose measurements would stand for trials; see ``nas.reuse``."""
    assert like.made_from is not None
    which = HistoryFilter(
        searches=SearchFilter(workspaces=(like.workspace,)),
        reuse_key=keys_of(spec, replace(like.made_from, loss_version=LOSS_VERSION)).reuse,
        partial=False,
    )
    needed = set(schedule(spec).points)
    by_search: dict[str, dict[int, Architecture]] = defaultdict(dict)
    for entry in store.history.measurements(which, order=HistoryOrder.OLDEST, limit=MOST_MEASUREMENTS):
        found = entry.measured
        if found.architecture in space:
            by_search[found.search_id][found.trial_number] = found.architecture
    for search_id, architectures in by_search.items():
        losses = losses_by_trial(store.points(search_id, architectures.keys()))
        yield from (shape for number, shape in architectures.items() if needed <= losses[number].keys())
