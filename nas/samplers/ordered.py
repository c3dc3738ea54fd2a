"""Samplers that learn nothing: they go through the feasible architectures in an order that was fixed before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from minitron.architecture import Architecture
from nas.confidence import Losses
from nas.samplers.sampler import Past, Sampler
from nas.sampling import Order
from nas.space import SearchSpace
from nas.trial import Trial, TrialRole


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhaustive:
    """Every feasible architecture, one after the other."""

    order: Order
    """That of the space, from small sizes to large ones, or a shuffle of it."""
    seed: int
    """Of the shuffle."""

    def propose(self, space: SearchSpace, past: Past, random: Random) -> Architecture | None:
        """See ``Sampler``; nothing here is left to chance but the shuffle, which is the search's."""
        del random
        rows = range(len(space)) if self.order == "space" else shuffled(len(space), self.seed)
        return _first((space.at(row) for row in rows), past)


@dataclass(frozen=True, slots=True)
class NearestBudget:
    """The architectures nearest to the upper end of the budget, the largest first: how NVIDIA ModelOpt chooses.

    A re-implementation of the rule that its documentation tells: candidates are sorted by the first cost that the
    budget limits, parameters where it limits those, and the first few are looked at. Equals come in the order of the space.
    """

    def propose(self, space: SearchSpace, past: Past, random: Random) -> Architecture | None:
        """See ``Sampler``; nothing is left to chance."""
        del random
        return _first(space.largest_first(), past)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternating:
    """One of the nearest to the budget, then one of others, and so on: most often the best students are as large as allowed."""

    others: Sampler

    def propose(self, space: SearchSpace, past: Past, random: Random) -> Architecture | None:
        """See ``Sampler``."""
        sampler = self.others if len(past.trials) % 2 else NearestBudget()
        return sampler.propose(space, past, random)


def zero_shot_choice(trials: Sequence[Trial], losses: Losses) -> Trial | None:
    """Return the trial that ModelOpt's rule takes of those it looked at: the best before any retraining.

    None while no SEARCH trial has been measured at 0 tokens.
    """
    measured = [
        trial for trial in trials if trial.role is TrialRole.SEARCH and 0 in losses.get(trial.number, {})
    ]
    return min(measured, key=lambda trial: (losses[trial.number][0], trial.number), default=None)


def shuffled(num: int, seed: int) -> Iterator[int]:
    """Yield the numbers below ``num`` in an order that the seed fixes, each only when it is asked for."""
    random = Random(f"order {seed}")  # noqa: S311 - repeatable, no secret
    moved: dict[int, int] = {}
    for index in range(num):
        # Fisher and Yates, of which only the places that were touched are held.
        other = random.randrange(index, num)
        here = moved.pop(index, index)
        yield here if other == index else moved.get(other, other)
        moved[other] = here


def _first(architectures: Iterator[Architecture], past: Past) -> Architecture | None:
    return next((each for each in architectures if each not in past.tried), None)
