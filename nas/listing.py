"""Which searches and trials are asked for, and in which order: pure, and shared by every store.

Lists go on from the last item of the page before, not from a number of items, so that what is added
meanwhile moves nothing. Searches are therefore ordered by what never changes of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import inf

from nas.search import Search, SearchState
from nas.trial import Trial, TrialRole, TrialState


class SearchOrder(StrEnum):
    """By what searches are listed; a minus puts the greatest first. Equal ones follow by id."""

    OLDEST = "created_at"
    NEWEST = "-created_at"
    NAME = "name"
    NAME_REVERSED = "-name"

    @property
    def is_descending(self) -> bool:
        """Whether the greatest comes first."""
        return self.value.startswith("-")

    @property
    def is_by_name(self) -> bool:
        """Whether names are compared, by code point or as the database orders text; else times."""
        return self in {SearchOrder.NAME, SearchOrder.NAME_REVERSED}

    def key(self, search: Search) -> tuple[datetime | str, str]:
        """Return what is compared of a search."""
        return (search.spec.name if self.is_by_name else search.created_at, search.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFilter:
    """Which searches are asked for: those that all of these admit; None admits every search."""

    states: tuple[SearchState, ...] | None = None
    name: str | None = None
    """A part of the name; ASCII letters in either case."""
    parent: str | None = None
    """A part of the parent, likewise."""
    created_after: datetime | None = None
    """At this time or later."""
    created_before: datetime | None = None
    """Earlier than this time."""
    owner: str | None = None
    """The owner's whole name; empty: those of nobody."""
    tags: tuple[str, ...] | None = None
    """All of these."""
    archived: bool | None = None
    """Whether they are archived; None admits both."""
    text: str | None = None
    """A part of the name or of the notes; ASCII letters in either case."""
    workspaces: tuple[str, ...] | None = None
    """In any of these; an empty tuple admits none."""

    def admits(self, search: Search) -> bool:
        """Return whether a search is asked for."""
        return (
            (self.states is None or search.state in self.states)
            and _folded(self.name or "") in _folded(search.spec.name)
            and _folded(self.parent or "") in _folded(search.spec.parent)
            and (self.created_after is None or self.created_after <= search.created_at)
            and (self.created_before is None or search.created_at < self.created_before)
            and self.owner in (None, search.owner)
            and set(self.tags or ()) <= set(search.tags)
            and self.archived in (None, search.archived)
            and (self.workspaces is None or search.workspace in self.workspaces)
            and any(_folded(self.text or "") in _folded(each) for each in (search.spec.name, search.notes))
        )


EVERY_SEARCH = SearchFilter()


class TrialOrder(StrEnum):
    """By what trials are listed; a minus puts the greatest first, trials without a loss always last.

    The loss is that of the measurement, which only completed trials have: all at the same tokens.
    """

    NUMBER = "number"
    NUMBER_REVERSED = "-number"
    LOSS = "loss"
    LOSS_REVERSED = "-loss"

    def key(self, place: "TrialPlace") -> tuple[float, int]:
        """Return what is compared of a trial's place."""
        loss, number = place
        sign = -1 if self.value.startswith("-") else 1
        if self in {TrialOrder.NUMBER, TrialOrder.NUMBER_REVERSED}:
            return 0.0, sign * number
        return inf if loss is None else sign * loss, number


TrialPlace = tuple[float | None, int]
"""Where a trial stands in a list: its measured loss, in nats per token, and its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFilter:
    """Which trials of a search are asked for; None admits every trial."""

    states: tuple[TrialState, ...] | None = None
    roles: tuple[TrialRole, ...] | None = None

    def admits(self, trial: Trial) -> bool:
        """Return whether a trial is asked for."""
        return (self.states is None or trial.state in self.states) and (
            self.roles is None or trial.role in self.roles
        )


EVERY_TRIAL = TrialFilter()


def place_of(trial: Trial) -> TrialPlace:
    """Return where a trial stands."""
    return trial.measurement.loss if trial.measurement else None, trial.number


def listed_trials(
    trials: Iterable[Trial],
    which: TrialFilter = EVERY_TRIAL,
    *,
    order: TrialOrder = TrialOrder.NUMBER,
    after: TrialPlace | None = None,
) -> list[Trial]:
    """Return the trials asked for that come after a place, in order."""
    later = [
        trial
        for trial in trials
        if which.admits(trial) and (after is None or order.key(place_of(trial)) > order.key(after))
    ]
    return sorted(later, key=lambda trial: order.key(place_of(trial)))


def _folded(text: str) -> str:
    """Return a text with its ASCII letters small, which is what every database can do."""
    return text.encode(errors="surrogatepass").lower().decode(errors="surrogatepass")
