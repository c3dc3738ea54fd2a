"""What REST answers with of what was measured, as values: those of the domain, laid out as they are sent."""

from dataclasses import dataclass, fields

from nas.answers import AnsweredTrial, FoundSearch, NamedArchitecture
from nas.earlier import Prior
from nas.history import Entry, Measured, ParentSummary
from nas.side_by_side import Beside, Difference, Incomparable, SideBySide
from nas.trial import Point, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMeasurement(Measured):
    """What one trial came to, with what its search is called and whose it is by now."""

    architecture: NamedArchitecture
    search_name: str
    owner: str
    tags: tuple[str, ...]
    parent_loss: float | None

    @property
    def entry(self) -> Entry:
        """The measurement as the domain groups it."""
        own = {each.name: getattr(self, each.name) for each in fields(Measured)}
        return Entry(
            measured=Measured(**own),
            search_name=self.search_name,
            owner=self.owner,
            tags=self.tags,
            parent_loss=self.parent_loss,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """A page of measurements."""

    measurements: tuple[FoundMeasurement, ...]
    next_page_token: str | None
    """Ask with it for the next page; None on the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentList:
    """Parents, that of the latest measurement first."""

    parents: tuple[ParentSummary, ...]
    is_whole: bool
    """Whether these are all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFront:
    """The trials that no smaller or equal one beats, from small to large, all at equal tokens."""

    search_id: str
    num_tokens: int | None
    """After which they were measured; None while no trial has completed."""
    trials: tuple[AnsweredTrial, ...]

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials as the domain has them."""
        return tuple(map(_plain, self.trials))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPrior(Prior):
    """What an earlier trial told of an architecture before a search had tried any."""

    architecture: NamedArchitecture


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPriors:
    """What the proposals of a search began from."""

    search_id: str
    priors: tuple[FoundPrior, ...]

    @property
    def told(self) -> list[Prior]:
        """The priors as the domain has them."""
        return [
            Prior(**{each.name: getattr(prior, each.name) for each in fields(Prior)}) for prior in self.priors
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBeside:
    """One of the searches that are compared."""

    search: FoundSearch
    front: tuple[AnsweredTrial, ...]
    costs: tuple[int, ...]
    curve: tuple[Point, ...]
    num_tokens: int
    compute_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSideBySide:
    """Searches beside one another, in the order in which they were asked for."""

    searches: tuple[FoundBeside, ...]
    cost: str
    differences: tuple[Difference, ...]
    incomparable: tuple[Incomparable, ...]
    """Empty where their losses may be compared."""

    @property
    def side_by_side(self) -> SideBySide:
        """The comparison as the domain groups it."""
        searches = tuple(
            Beside(
                view=each.search.view,
                front=tuple(map(_plain, each.front)),
                costs=each.costs,
                curve=each.curve,
                num_tokens=each.num_tokens,
                compute_seconds=each.compute_seconds,
            )
            for each in self.searches
        )
        return SideBySide(
            searches=searches, cost=self.cost, differences=self.differences, incomparable=self.incomparable
        )


def _plain(trial: AnsweredTrial) -> Trial:
    return Trial(**{each.name: getattr(trial, each.name) for each in fields(Trial)})
