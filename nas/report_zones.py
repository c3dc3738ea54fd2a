"""Parts of a space where nothing works: sizes of an axis, and pairs of sizes, whose trials all fell behind early.

Where the first rung stands, all trials are compared, those too that are stopped there. A zone is judged by them:

1. The sizes of each searched axis that trials have are its choices; of more than MOST_CHOICES, neighbours are put
   together, so that each holds about equally many trials.
2. A trial is *behind* where its loss at the first rung is above the median of all trials there by more than MARGIN of
   the way from the best loss to the median. One whose loss became NaN or infinite is behind too.
3. A zone *never works* where at least LEAST_TRIALS trials are in it, all of them are behind, none ends better than the
   median of those trained to the last rung, and chance is no explanation: drawing as many of all trials blindly would
   seldom find only ones that are behind (hypergeometric), so seldom that in one report of twenty, SIGNIFICANCE, chance
   makes some zone. Zones too small to be told ever are no part of that count (Tarone, 1990, for tests that are discrete).
4. Pairs of choices on two axes are judged likewise, among themselves; those are left out that one of the two explains.

TPE draws few trials where it expects nothing, so a zone that never works may go untold; one that is told was tried often
enough. Baselines from random indices repeat an architecture and are no evidence. Pure functions of what is stored.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count, pairwise
from math import comb, inf, isfinite
from statistics import median

from nas.axes import AXIS_NAMES, AxisName
from nas.rungs import schedule
from nas.search import Search
from nas.standing import TrialRecord
from nas.trial import FailureKind

MOST_CHOICES = 6
LEAST_TRIALS = 3
MARGIN = 0.1
SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Neighbouring sizes on an axis, both ends included."""

    axis: AxisName
    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """The architectures with such sizes, on one axis or on two; losses are those at the first rung."""

    sizes: tuple[Sizes, ...]
    num_trials: int
    """Measured at the first rung, or without a finite loss before it."""
    num_behind: int
    best_loss: float | None
    """None where no trial has a finite loss."""
    median_loss: float | None
    chance: float | None
    """That as many trials, drawn blindly, were all behind; None where some are not."""
    never_works: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Zones:
    """What the trials of a search tell of the parts of its space."""

    num_tokens: int
    """Of the first rung, where all trials are compared."""
    num_trials: int
    """Compared there."""
    median_loss: float | None
    """Of them; None without any, or where most have none that is finite."""
    behind_above: float | None
    """The loss above which a trial is behind."""
    choices: tuple[Zone, ...]
    """By axis and size."""
    pairs: tuple[Zone, ...]
    """Those that never work though neither of their choices is such a zone by itself."""

    @property
    def dead(self) -> tuple[Zone, ...]:
        """Those that never work."""
        return tuple(zone for zone in (*self.choices, *self.pairs) if zone.never_works)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    sizes: Mapping[AxisName, int]
    loss: float
    is_redeemed: bool
    """Better than the median of those trained to the last rung."""


_Groups = dict[tuple[Sizes, ...], list[_Tried]]


def zones(search: Search, records: Sequence[TrialRecord]) -> Zones:
    """Return the zones of a search, as the head of this module says."""
    plan = schedule(search.spec)
    tried = _tried(records, plan.rungs[0], plan.num_tokens)
    losses = [each.loss for each in tried]
    middle = median(losses) if losses else inf
    if not isfinite(middle):
        return Zones(
            num_tokens=plan.rungs[0],
            num_trials=len(tried),
            median_loss=None,
            behind_above=None,
            choices=(),
            pairs=(),
        )
    behind_above = middle + MARGIN * (middle - min(losses))
    axes = [name for name in AXIS_NAMES if getattr(search.spec.axes, name) is not None]
    axes = [name for name in axes if len({each.sizes[name] for each in tried}) > 1]
    placed = _placed(tried, axes)
    choices = _judged(_grouped(tried, placed, [(name,) for name in axes]), tried, behind_above)
    explained = {sizes for zone in choices if zone.never_works for sizes in zone.sizes}
    crossed = _grouped(tried, placed, list(combinations(axes, 2)))
    pairs = _judged(
        {sizes: own for sizes, own in crossed.items() if not explained & set(sizes)}, tried, behind_above
    )
    return Zones(
        num_tokens=plan.rungs[0],
        num_trials=len(tried),
        median_loss=middle,
        behind_above=behind_above,
        choices=tuple(choices),
        pairs=tuple(zone for zone in pairs if zone.never_works),
    )


def chance_of_all_behind(num_trials: int, num_behind: int, drawn: int) -> float:
    """Return how likely it is that ``drawn`` of so many trials, drawn blindly, are all among those behind."""
    return comb(num_behind, drawn) / comb(num_trials, drawn)


def _tried(records: Sequence[TrialRecord], first_rung: int, last_rung: int) -> list[_Tried]:
    compared = []
    for record in records:
        trial = record.trial
        losses = {point.num_tokens: point.loss for point in record.points}
        diverged = trial.failure is not None and trial.failure.kind is FailureKind.NON_FINITE
        loss = losses.get(first_rung, inf if diverged else None)
        if trial.role.tells_of_architecture and loss is not None:
            compared.append((trial.architecture, loss, losses.get(last_rung, inf)))
    ends = [end for _, _, end in compared if isfinite(end)]
    good_end = median(ends) if ends else -inf
    return [
        _Tried(
            sizes={name: getattr(architecture, name) for name in AXIS_NAMES},
            loss=loss,
            is_redeemed=end < good_end,
        )
        for architecture, loss, end in compared
    ]


def _placed(tried: Sequence[_Tried], axes: Sequence[AxisName]) -> list[Mapping[AxisName, Sizes]]:
    """Return, for each trial, the choice that it is on each axis."""
    choices = {name: _choices(name, [each.sizes[name] for each in tried]) for name in axes}
    starts = {name: [choice.least for choice in found] for name, found in choices.items()}
    return [
        {name: choices[name][bisect_right(starts[name], each.sizes[name]) - 1] for name in axes}
        for each in tried
    ]


def _choices(axis: AxisName, found: Sequence[int]) -> list[Sizes]:
    """Return the sizes that trials have, neighbours together where there are too many."""
    distinct = sorted(set(found))
    if len(distinct) <= MOST_CHOICES:
        return [Sizes(axis=axis, least=size, most=size) for size in distinct]
    ordered = sorted(found)
    starts = sorted({ordered[len(ordered) * number // MOST_CHOICES] for number in range(MOST_CHOICES)})
    begins = [distinct.index(start) for start in starts]
    return [
        Sizes(axis=axis, least=distinct[begin], most=distinct[end - 1])
        for begin, end in pairwise((*begins, len(distinct)))
    ]


def _grouped(
    tried: Sequence[_Tried],
    placed: Sequence[Mapping[AxisName, Sizes]],
    crossings: Iterable[tuple[AxisName, ...]],
) -> _Groups:
    """Return the trials of each choice, or of each crossing of two, by axis and size."""
    groups: _Groups = {}
    for axes in crossings:
        found: _Groups = {}
        for each, places in zip(tried, placed, strict=True):
            found.setdefault(tuple(places[name] for name in axes), []).append(each)
        groups |= dict(sorted(found.items(), key=lambda item: [sizes.least for sizes in item[0]]))
    return groups


def _judged(groups: _Groups, tried: Sequence[_Tried], behind_above: float) -> list[Zone]:
    """Return groups as zones; how many of them could be told decides how sure one must be."""
    all_behind = sum(each.loss > behind_above for each in tried)
    attainable = [
        chance_of_all_behind(len(tried), all_behind, len(own))
        for own in groups.values()
        if LEAST_TRIALS <= len(own) <= all_behind
    ]
    at_most = next(
        SIGNIFICANCE / number
        for number in count(1)
        if sum(each <= SIGNIFICANCE / number for each in attainable) <= number
    )
    return [
        _zone(
            sizes,
            own,
            num_trials=len(tried),
            all_behind=all_behind,
            behind_above=behind_above,
            at_most=at_most,
        )
        for sizes, own in groups.items()
    ]


def _zone(
    sizes: tuple[Sizes, ...],
    own: Sequence[_Tried],
    *,
    num_trials: int,
    all_behind: int,
    behind_above: float,
    at_most: float,
) -> Zone:
    losses = [each.loss for each in own]
    num_behind = sum(loss > behind_above for loss in losses)
    chance = chance_of_all_behind(num_trials, all_behind, len(own)) if num_behind == len(own) else None
    best, middle = min(losses), median(losses)
    return Zone(
        sizes=sizes,
        num_trials=len(own),
        num_behind=num_behind,
        best_loss=best if isfinite(best) else None,
        median_loss=middle if isfinite(middle) else None,
        chance=chance,
        never_works=chance is not None
        and len(own) >= LEAST_TRIALS
        and chance <= at_most
        and not any(each.is_redeemed for each in own),
    )
