"""What was measured, over searches and within one, as REST answers with it. Losses are nats per held-out token."""

from datetime import datetime
from typing import Any

from api.schemas.base import Resource
from api.schemas.searches import SearchResource
from api.schemas.trials import ArchitectureResource, OriginResource, PointResource, TrialResource
from nas.history import Entry
from nas.side_by_side import Reason, SideBySide
from nas.trial import Trial, TrialRole, TrialState


class MeasuredResource(Resource):
    """What one trial came to, with what its search is called and whose it is by now."""

    search_id: str
    trial_number: int
    search_name: str
    owner: str
    tags: list[str]
    role: TrialRole
    state: TrialState
    is_partial: bool
    """Whether the trial ended before its last rung: its loss is then at fewer tokens than others have."""
    is_reusable: bool
    """Whether it can stand for a trial with the same reuse_key and architecture."""
    parent: str
    parent_key: str
    """Equal where the parent is the same."""
    data_key: str
    recipe_key: str
    """Equal where importance, pruning, teacher and training are."""
    reuse_key: str | None
    """Equal where all that decides a result is, besides the architecture; null where that is not known."""
    architecture: ArchitectureResource
    num_parameters: int
    num_tokens: int
    rung: int
    loss_before: float | None
    loss: float
    parent_loss: float | None
    train_seconds: float
    at: datetime
    """When the trial ended."""

    @classmethod
    def of(cls, entry: Entry) -> "MeasuredResource":
        """Return the resource of an entry of the history."""
        own = {
            name: getattr(entry.measured, name) for name in cls.model_fields if hasattr(entry.measured, name)
        }
        told = {name: getattr(entry, name) for name in ("search_name", "owner", "tags", "parent_loss")}
        return cls.model_validate({**own, **told, "tags": list(entry.tags)})


class HistoryPage(Resource):
    """A page of measurements."""

    measurements: list[MeasuredResource]
    next_page_token: str | None
    """Ask with it for the next page; null on the last."""


class ParentResource(Resource):
    """All that was measured of one parent by the searches asked for."""

    parent_key: str
    parent: str
    num_searches: int
    num_measurements: int
    """Partial ones too."""
    num_tokens: int
    """That these students were trained on."""
    best_loss: float | None
    """Of whole measurements, on whatever data and at whatever tokens."""
    last_at: datetime


class ParentList(Resource):
    """Parents, that of the latest measurement first."""

    parents: list[ParentResource]
    is_whole: bool
    """Whether these are all; ask for a part of the name, or for fewer searches, otherwise."""


class FrontResource(Resource):
    """The trials that none of lower or equal cost beats, from low cost to high, all at equal tokens.

    The cost is the search's objective beside the loss: parameters, unless its spec says otherwise.
    """

    search_id: str
    num_tokens: int | None
    """After which they were measured; null while no trial has completed."""
    trials: list[TrialResource]

    @classmethod
    def of(cls, search_id: str, front: tuple[Trial, ...]) -> "FrontResource":
        """Return the resource of a front."""
        tokens = {trial.measurement.num_tokens for trial in front if trial.measurement}
        return cls(
            search_id=search_id,
            num_tokens=max(tokens, default=None),
            trials=[TrialResource.model_validate(trial) for trial in front],
        )


class PriorResource(Resource):
    """What an earlier trial told of an architecture before a search had tried any."""

    architecture: ArchitectureResource
    """In the search's space: the nearest to what was measured, where that is outside its budget."""
    loss: float
    """Held-out nats per token as measured there, less what the difference in size is worth there."""
    standing: float | None
    """Its rank among those measured like it, from 0, the best, to 1; null: its loss compares with the search's own."""
    source: OriginResource


class PriorList(Resource):
    """What the proposals of a search began from: never results."""

    search_id: str
    priors: list[PriorResource]


class CurveResource(Resource):
    """The learning curve of one trial: its ends and extremes, and what lies between as far as there is room."""

    trial_number: int
    architecture: str
    role: TrialRole
    state: TrialState
    num_points: int
    """That there are."""
    points: list[PointResource]


class SeriesResource(Resource):
    """Learning curves of a search."""

    search_id: str
    num_trials: int
    """Of the search; there may be fewer curves."""
    curves: list[CurveResource]
    """By the trial's number."""


class BesideResource(Resource):
    """One of the searches that are compared."""

    search: SearchResource
    front: list[TrialResource]
    """From low cost to high."""
    costs: list[int]
    """Of each of the front; see ``cost``."""
    curve: list[PointResource]
    """Of the best of the trials at equal tokens."""
    num_tokens: int
    """That a whole training takes."""
    compute_seconds: float
    """As the search tells it."""


class DifferenceResource(Resource):
    """A field of the spec that is not the same in all searches."""

    field: str
    """Dotted path."""
    values: list[Any]
    """In the order of the searches; null too where the field's section is not there."""


class IncomparableResource(Resource):
    """Why losses of these searches say nothing about each other."""

    reason: Reason
    message: str
    values: list[str]
    """What differs, in the order of the searches."""


class SideBySideResource(Resource):
    """Searches beside one another, in the order in which they were asked for."""

    searches: list[BesideResource]
    cost: str
    """What their fronts weigh against the loss, in words: what all of them do, parameters where that is not the same."""
    differences: list[DifferenceResource]
    incomparable: list[IncomparableResource]
    """Empty where their losses may be compared."""

    @classmethod
    def of(cls, found: SideBySide) -> "SideBySideResource":
        """Return the resource of a comparison."""
        searches = [
            BesideResource(
                search=SearchResource.of(each.view),
                front=[TrialResource.model_validate(trial) for trial in each.front],
                costs=list(each.costs),
                curve=[PointResource.model_validate(point) for point in each.curve],
                num_tokens=each.num_tokens,
                compute_seconds=each.compute_seconds,
            )
            for each in found.searches
        ]
        return cls(
            searches=searches,
            cost=found.cost,
            differences=[DifferenceResource.model_validate(each) for each in found.differences],
            incomparable=[IncomparableResource.model_validate(each) for each in found.incomparable],
        )
