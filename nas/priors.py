"""What a search's proposals begin from: which earlier measurements tell about its space, and on which scale.

Taken once, before the first trial, and stored with the search, so that proposals stay a function of what is stored.
Losses measured by another recipe or on other data do not compare with the search's own. They are told by rank among
those measured alike: what led there is told to lead here. A student outside the new budget stands for the nearest one
inside, at the loss that it would have by the trend of loss with size among those measured alike.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from minitron.architecture import Architecture
from minitron.loss_version import LOSS_VERSION
from nas.axes import AXIS_NAMES, AxisName
from nas.earlier import Prior
from nas.history import HistoryFilter, HistoryOrder, Measured, keys_of
from nas.limits import expected_trials
from nas.listing import SearchFilter
from nas.rungs import schedule
from nas.search import Search
from nas.space import SearchSpace
from nas.storage.store import SearchStore
from nas.trial import Origin

MOST_PRIORS = 50
"""Of one search, and never more than it has trials, so that what it measures itself soon outweighs them."""
WARMED = ("tpe", "nsga2")
"""Samplers that begin from earlier measurements; what others propose does not depend on them."""
MOST_READ = 1000
"""The latest measurements of a parent, or of each search that is named, that are looked at."""
LEAST_FOR_TREND = 3
"""Different sizes below which no trend of loss with size is told."""


def prior_measurements(search: Search, space: SearchSpace, store: SearchStore) -> tuple[Prior, ...]:
    """Return what a search begins from, the most alike first; nothing where its spec says so.

    Nothing too where the sampler does not begin from any. Only whole trainings of the same parent by searches of the same workspace tell anything.
    """
    use = search.spec.history
    if not use.warm_start or search.spec.sampler not in WARMED:
        return ()
    ours = keys_of(search.spec, search.made_from)
    of_parent = HistoryFilter(
        searches=SearchFilter(workspaces=(search.workspace,)), parent_key=ours.parent, partial=False
    )
    named = [replace(of_parent, search_id=each) for each in use.warm_start_from]
    entries = [
        entry.measured
        for which in named or [of_parent]
        for entry in store.history.measurements(which, order=HistoryOrder.NEWEST, limit=MOST_READ)
    ]
    choices = {name: frozenset(space.choices(name)) for name in AXIS_NAMES}
    by_ours = _measured_alike(entries, store)
    usable = [
        each
        for each in entries
        if each.search_id in by_ours
        and each.search_id != search.id
        and each.role.tells_of_architecture
        and _is_on_axes(each.architecture, space, choices)
    ]
    limit = min(MOST_PRIORS, expected_trials(search.spec, schedule(search.spec), len(space)))
    taken: dict[Architecture, Prior] = {}
    for group in sorted(
        _alike(usable), key=lambda each: (each.recipe != ours.recipe, each.data != ours.data)
    ):
        compares = (group.data, group.recipe) == (ours.data, ours.recipe)
        new = [each for each in group.priors(space) if each.architecture not in taken]
        chosen = _spread(sorted(new, key=lambda each: each.loss), limit - len(taken))
        for rank, prior in zip(standings([each.loss for each in chosen]), chosen, strict=True):
            taken[prior.architecture] = replace(prior, standing=None if compares else rank)
    return tuple(taken.values())


def _measured_alike(entries: Iterable[Measured], store: SearchStore) -> set[str]:
    """Return the searches of some measurements whose losses are of the version that is measured now."""
    made_from = {each: store.get_search(each).made_from for each in {each.search_id for each in entries}}
    return {each for each, found in made_from.items() if found is None or found.loss_version == LOSS_VERSION}


def told_losses(
    own: Mapping[int, float], priors: Sequence[Prior]
) -> tuple[dict[int, float], tuple[float, ...]]:
    """Return values by which a search's own losses and its priors can be ordered together.

    Args:
        own: Measured losses by trial number, in nats per token.
        priors: What the search began from.

    Returns:
        The values by trial number, and those of the priors: without priors the losses themselves, else ranks from 0 to 1,
        each among those that it compares with.
    """
    if not priors:
        return dict(own), ()
    comparable = [prior.loss for prior in priors if prior.standing is None]
    ranks = iter(standings([*own.values(), *comparable]))
    values = {number: next(ranks) for number in own}
    return values, tuple(next(ranks) if prior.standing is None else prior.standing for prior in priors)


def standings(losses: Sequence[float]) -> list[float]:
    """Return the rank of each loss between 0, the lowest, and 1; of one alone it is the middle."""
    order = sorted(range(len(losses)), key=lambda index: (losses[index], index))
    ranks = [0.0] * len(losses)
    for rank, index in enumerate(order):
        ranks[index] = (rank + 0.5) / len(losses)
    return ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alike:
    """Measurements whose losses compare: of one parent, on the same data, by the same recipe."""

    data: str
    recipe: str
    measured: tuple[Measured, ...]

    def priors(self, space: SearchSpace) -> Iterable[Prior]:
        """Return what is told of each architecture of a space, by the measurement that is nearest to it in size."""
        slope = _slope(self.measured)
        nearest: dict[Architecture, tuple[float, Prior]] = {}
        for each in self.measured:
            known = each.architecture
            sizes: dict[str, int] = {name: getattr(known, name) for name in AXIS_NAMES}
            projected = known if known in space else space.nearest_to(sizes)
            change = math.log(projected.parameter_count / known.parameter_count)
            prior = Prior(
                architecture=projected,
                loss=each.loss + slope * change,
                source=Origin(search_id=each.search_id, trial_number=each.trial_number),
            )
            if projected not in nearest or abs(change) < nearest[projected][0]:
                nearest[projected] = abs(change), prior
        return [prior for _, prior in nearest.values()]


def _alike(measured: Iterable[Measured]) -> list[_Alike]:
    groups: dict[tuple[str, str], list[Measured]] = {}
    for each in measured:
        groups.setdefault((each.data_key, each.recipe_key), []).append(each)
    return [_Alike(data=data, recipe=recipe, measured=tuple(ours)) for (data, recipe), ours in groups.items()]


def _slope(measured: Sequence[Measured]) -> float:
    """Return how the loss changes with the logarithm of the size; 0 where more parameters do not help."""
    sizes = [math.log(each.architecture.parameter_count) for each in measured]
    if len(set(sizes)) < LEAST_FOR_TREND:
        return 0.0
    slope, _ = np.polyfit(sizes, [each.loss for each in measured], 1)
    return min(0.0, float(slope))


def _spread(ranked: Sequence[Prior], most: int) -> list[Prior]:
    """Return at most so many, evenly over the ranks and the best among them: bad ones tell where not to look."""
    if len(ranked) <= most:
        return list(ranked)
    return [ranked[index * len(ranked) // most] for index in range(most)]


def _is_on_axes(
    architecture: Architecture, space: SearchSpace, choices: Mapping[AxisName, Collection[int]]
) -> bool:
    """Return whether each size is one that occurs in a space; together they may be outside its budget."""
    sizes = {name: getattr(architecture, name) for name in AXIS_NAMES}
    return replace(space.parent, **sizes) == architecture and all(
        size in choices[name] for name, size in sizes.items()
    )
