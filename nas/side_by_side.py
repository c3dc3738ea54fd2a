"""Searches beside one another: what was asked otherwise, what each found, and whether their losses may be compared.

Pure functions of what is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nas.frontier import pareto_front
from nas.rungs import schedule
from nas.sampling import Objective, weighed_words
from nas.search import SearchSpec
from nas.spec import dump
from nas.standing import SearchView, TrialRecord
from nas.trial import Point, Trial

MOST_SEARCHES = 8
SHOWN_ELSEWHERE = ("name", "parent_config")
"""Fields of a spec that are no difference: what a search is called, and what follows from its parent."""

Reason = Literal["parent", "loss", "data", "tokens", "promotion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field of the spec that is not the same in all searches."""

    field: str
    """Dotted path."""
    values: tuple[Any, ...]
    """As JSON, in the order of the searches; None too where the section of the field is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """One of the searches."""

    view: SearchView
    front: tuple[Trial, ...]
    """Completed trials that none of lower or equal cost beats, from low cost to high."""
    costs: tuple[int, ...]
    """Of each of the front: what all searches weigh against the loss, parameters where they do not weigh the same."""
    curve: tuple[Point, ...]
    """Of the best of the trials at equal tokens, by tokens."""
    num_tokens: int
    """That a whole training takes: what its losses are measured after."""
    compute_seconds: float
    """As in ``view``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomparable:
    """Why losses of these searches say nothing about each other."""

    reason: Reason
    message: str
    """One line for people."""
    values: tuple[str, ...]
    """What differs, in the order of the searches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Searches in the order in which they were asked for."""

    searches: tuple[Beside, ...]
    cost: str
    """What their fronts weigh against the loss, in words."""
    differences: tuple[Difference, ...]
    """In the order of the spec's fields."""
    incomparable: tuple[Incomparable, ...]
    """Empty where the losses may be compared."""


def beside(view: SearchView, records: Sequence[TrialRecord], objective: Objective | None = None) -> Beside:
    """Return what is shown of one search; ``objective`` is what it weighs as all beside it do."""
    best = view.compared.number if view.compared else None
    front = pareto_front([record.trial for record in records], objective)
    return Beside(
        view=view,
        front=front,
        costs=tuple(
            objective.of(trial.architecture) if objective else trial.measurement.num_parameters
            for trial in front
            if trial.measurement
        ),
        curve=next((record.points for record in records if record.trial.number == best), ()),
        num_tokens=schedule(view.search.spec).num_tokens,
        compute_seconds=view.compute_seconds,
    )


def side_by_side(searches: Sequence[Beside], objective: Objective | None = None) -> SideBySide:
    """Return searches beside one another; ``objective`` is what all of them weigh."""
    return SideBySide(
        searches=tuple(searches),
        cost=weighed_words(objective),
        differences=differences([each.view.search.spec for each in searches]),
        incomparable=tuple(_incomparable(searches)),
    )


def differences(specs: Sequence[SearchSpec]) -> tuple[Difference, ...]:
    """Return the fields that are not the same in all specs; a section that only some have is told field by field."""
    told = [dict(_leaves(dump(spec), "")) for spec in specs]
    fields = dict.fromkeys(field for each in told for field in each)
    found = [
        Difference(field=field, values=tuple(each.get(field) for each in told))
        for field in fields
        if field.partition(".")[0] not in SHOWN_ELSEWHERE
    ]
    return tuple(each for each in found if _differ(each.values))


def _leaves(value: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, Mapping) and each:
            yield from _leaves(each, f"{path}{name}.")
        else:
            yield f"{path}{name}", each


def _incomparable(searches: Sequence[Beside]) -> Iterator[Incomparable]:
    """Yield what differs by content, or by name while some of the searches are not prepared."""
    found = [each.view.search for each in searches]
    made_from = [search.made_from for search in found if search.made_from]
    is_known = len(made_from) == len(found)
    names = [search.spec.parent for search in found]
    if _differ([each.parent for each in made_from] if is_known else names):
        yield Incomparable(
            reason="parent",
            message="The parents differ: losses tell how good each student is, not which search did better.",
            values=tuple(names),
        )
    if is_known and _differ([each.loss_version for each in made_from]):
        yield Incomparable(
            reason="loss",
            message="Their losses were measured by different versions of this service, which tell different numbers.",
            values=tuple(f"version {each.loss_version}" for each in made_from),
        )
    if _differ([each.validation for each in made_from] if is_known else [each.spec.data for each in found]):
        yield Incomparable(
            reason="data",
            message="The held-out data differ: a loss on other tokens is another number.",
            values=tuple(
                ", ".join(source.source for source in each.spec.data.all_sources.values()) for each in found
            ),
        )
    tokens = [each.num_tokens for each in searches]
    if _differ(tokens):
        yield Incomparable(
            reason="tokens",
            message="Students are trained on different numbers of tokens: more training alone lowers a loss.",
            values=tuple(f"{number:,}" for number in tokens),
        )
    retrained = [each.view.best_tokens for each in searches if each.view.best]
    if _differ(retrained) and any(each.view.before_promotion for each in searches):
        yield Incomparable(
            reason="promotion",
            message="Best students were promoted, and more training alone lowers a loss: compare those before promotion.",
            values=tuple(
                "none" if each.view.best_tokens is None else f"{each.view.best_tokens:,}" for each in searches
            ),
        )


def _differ(values: Sequence[object]) -> bool:
    return any(value != values[0] for value in values[1:])
