"""Which of the trials measured at a rung are ahead there: by loss alone, or by loss and cost together. Pure functions.

Where a search weighs a cost against the loss, the best of a rung are those that NSGA-II would let survive (Deb et al.,
2002): none of whom another beats in both come first, the lonely ones of a front before the crowded. So what costs little is
not stopped for its loss, and the lowest loss of all, which wins in any case, is always among the first.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

from nas.sampling import Objective
from nas.trial import Trial

Ranking = Callable[[Mapping[int, float]], list[int]]
"""From losses at a rung by trial number to these numbers, the best first. Equals are ordered by number."""


def ranking_of(objective: Objective | None, trials: Iterable[Trial]) -> Ranking:
    """Return how the trials of a search rank: by loss, or where it has an objective also by that."""
    if objective is None:
        return by_loss
    costs = {trial.number: objective.of(trial.architecture) for trial in trials}
    return lambda losses: by_loss_and_cost(losses, costs)


def by_loss(losses: Mapping[int, float]) -> list[int]:
    """Return trials from low loss to high."""
    return sorted(losses, key=lambda number: (losses[number], number))


def by_loss_and_cost(losses: Mapping[int, float], costs: Mapping[int, int]) -> list[int]:
    """Return trials front by front, and those of one front from lonely to crowded; ``costs`` may know of more trials."""
    ranked: list[int] = []
    for front in fronts(losses, costs):
        space = _crowding(front, losses, costs)
        ranked += sorted(front, key=lambda number: (-space[number], losses[number], number))
    return ranked


def fronts(losses: Mapping[int, float], costs: Mapping[int, int]) -> list[list[int]]:
    """Return the trials by how many layers of others beat them, those of each front from low cost to high.

    One beats another that it equals or betters in loss and cost, unless both are equal.
    """
    found: list[list[int]] = []
    lowest: list[float] = []  # loss of each front so far, ascending
    for number in sorted(losses, key=lambda number: (costs[number], losses[number], number)):
        place = bisect_right(lowest, losses[number])
        if place and _are_equal(found[place - 1][-1], number, losses, costs):
            place -= 1
        if place == len(found):
            found.append([])
            lowest.append(inf)
        found[place].append(number)
        lowest[place] = losses[number]
    return found


def _are_equal(one: int, other: int, losses: Mapping[int, float], costs: Mapping[int, int]) -> bool:
    return (losses[one], costs[one]) == (losses[other], costs[other])


def _crowding(
    front: Sequence[int], losses: Mapping[int, float], costs: Mapping[int, int]
) -> dict[int, float]:
    """Return how far the neighbours of each trial of a front lie apart, in shares of the front; its ends are alone."""
    cheapest, best = front[0], front[-1]
    cost_range = costs[best] - costs[cheapest] or 1
    loss_range = losses[cheapest] - losses[best] or 1.0
    space = {
        number: (costs[after] - costs[before]) / cost_range + (losses[before] - losses[after]) / loss_range
        for before, number, after in zip(front, front[1:], front[2:], strict=False)
    }
    # Equals of an end are no less alone than it is: numbers decide among them.
    ends = {(losses[each], costs[each]) for each in (cheapest, best)}
    return {number: inf if (losses[number], costs[number]) in ends else space[number] for number in front}
