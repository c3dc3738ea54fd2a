"""What a sampler is, what it is told, and how the samplers that learn begin."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Protocol

from minitron.architecture import Architecture
from nas.confidence import Losses
from nas.earlier import Prior
from nas.rungs import losses_by_trial
from nas.space import SearchSpace
from nas.storage.store import TrialPoint
from nas.trial import Trial, TrialRole, TrialState

HINTED_DRAWS = 8
"""Even draws of which a hint picks one: the first trials lean to what it likes, and still lie apart."""

Hint = Callable[[Architecture], float]
"""How promising an architecture looks before anything of the search is known; larger is better. A pure function."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """What is known when an architecture is asked for."""

    trials: Sequence[Trial]
    """Those that are proposed from, by number."""
    losses: Losses
    priors: Sequence[Prior] = ()
    """What earlier searches measured, of architectures that were not tried here."""

    @classmethod
    def of(
        cls, trials: Iterable[Trial], points: Iterable[TrialPoint], priors: Iterable[Prior] = ()
    ) -> "Past":
        """Return what stored trials and points say; baselines say nothing."""
        searched = [trial for trial in trials if trial.role is TrialRole.SEARCH]
        tried = {trial.architecture for trial in searched}
        return cls(
            trials=sorted(searched, key=lambda trial: trial.number),
            losses=losses_by_trial(points),
            priors=[prior for prior in priors if prior.architecture not in tried],
        )

    @cached_property
    def tried(self) -> frozenset[Architecture]:
        """The architectures of all trials, whatever became of them."""
        return frozenset(trial.architecture for trial in self.trials)

    def count(self, *states: TrialState) -> int:
        """Return how many trials are in one of these states."""
        return sum(trial.state in states for trial in self.trials)


class Sampler(Protocol):
    """Chooses what to try next. Holds nothing between two proposals, so that whoever asks gets the same answer."""

    def propose(self, space: SearchSpace, past: Past, random: Random) -> Architecture | None:
        """Return an architecture of ``space`` that was not tried, or None when all were.

        Args:
            space: What may be proposed.
            past: The trials so far, also those that run or failed.
            random: Seeded by the search and the number of the trial; the only chance there is.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Every architecture that was not tried is as likely, or with a hint the likelier the better it looks."""

    hint: Hint | None = None

    def propose(self, space: SearchSpace, past: Past, random: Random) -> Architecture | None:
        """See ``Sampler``."""
        if self.hint is None:
            return space.draw(random, past.tried)
        draws: list[Architecture] = []
        excluded = set(past.tried)
        while len(draws) < HINTED_DRAWS and (drawn := space.draw(random, excluded)) is not None:
            draws.append(drawn)
            excluded.add(drawn)
        return max(draws, key=self.hint, default=None)
