"""What was ever measured, over all searches: of which parent, on which data, by which recipe, and what came of it.

Values and pure decisions. A measurement is what is known of a trial once it is final, and never changes after; it
has keys by which those that belong together are found. Knows no store.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from minitron.architecture import Architecture
from nas.axes import AxisName
from nas.listing import EVERY_SEARCH, SearchFilter
from nas.promotion import Promotion
from nas.search import Artifacts, Search, SearchSpec
from nas.trial import Point, Trial, TrialRole, TrialState

KEY_VERSION = 1
"""Raised when what was measured before can no longer stand for what would be measured now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What a measurement is of, besides its architecture; equal keys mean the same."""

    parent: str
    """Of the parent's weights and config; of its name until a worker has read it."""
    data: str
    """Of what was asked of the data, and of the held-out tokens once a worker has made them."""
    recipe: str
    """Of how importance is measured and students are pruned, taught and trained; the same for every parent."""
    reuse: str | None
    """Of all that decides a result besides the architecture, by content: a measurement with this key stands for a
    trial that has it too. None where content is not known, or where the trial's number decides too or
    the trial went on from another's student."""


def keys_of(
    spec: SearchSpec,
    artifacts: Artifacts | None,
    role: TrialRole = TrialRole.SEARCH,
    promotion: Promotion | None = None,
) -> Keys:
    """Return the keys of what trials of a spec measure, from ``artifacts`` as a worker found them.

    Number of trials, rungs, sampler, budget and axes decide which students there are, not what becomes of one: where
    the axes tell how far importance is measured, the scores' name tells it. Machines and numbers of threads differ by
    rounding alone.
    """
    asked = [
        spec.calibration.identity | {"num_tokens": spec.calibration.num_tokens},
        asdict(spec.pruning),
        _without(asdict(spec.distillation), "max_cache_bytes"),
        _without(asdict(spec.training), "activation_checkpointing"),
        asdict(spec.correction) if spec.correction else None,
        # Sums are rounded in another order where several processes, or another kind of device, make them.
        {"processes": spec.resources.processes, "accelerator": spec.resources.gpus > 0},
        *([_without(asdict(promotion), "top_k")] if promotion else []),
    ]
    recipe = _digest("recipe", asked)
    content = _without(asdict(artifacts), "loss_version") if artifacts else None
    # Of the first version nothing is said, as before there were any: what was measured then keeps its keys.
    version = [artifacts.loss_version] if artifacts and artifacts.loss_version > 1 else []
    is_known = artifacts is not None and role.tells_of_architecture
    return Keys(
        parent=_digest("parent", artifacts.parent if artifacts else [spec.parent]),
        data=_digest("data", asdict(spec.data), artifacts.validation if artifacts else None, *version),
        recipe=recipe,
        reuse=_digest("reuse", KEY_VERSION, recipe, content, *version) if artifacts and is_known else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one trial came to; losses in nats per held-out token."""

    search_id: str
    trial_number: int
    role: TrialRole
    state: TrialState
    """A final one."""
    is_partial: bool
    """Whether the trial ended before its last rung: this is then its last point, at fewer tokens than others have."""
    parent: str
    """As its spec names it."""
    parent_key: str
    data_key: str
    recipe_key: str
    reuse_key: str | None
    """See ``Keys``; partial ones have none."""
    architecture: Architecture
    num_parameters: int
    num_tokens: int
    rung: int
    loss_before: float | None
    """Of the pruned student, before retraining."""
    loss: float
    train_seconds: float
    """Of training, evaluation excluded."""
    at: datetime
    """When the trial became final."""

    @property
    def place(self) -> "Place":
        """Where it stands in lists."""
        return self.search_id, self.trial_number

    @property
    def is_reusable(self) -> bool:
        """Whether it can stand for a trial with the same key and architecture."""
        return self.reuse_key is not None


Place = tuple[str, int]
"""Search and trial: what a page of a list begins after."""


def measured(
    spec: SearchSpec, artifacts: Artifacts | None, trial: Trial, points: Sequence[Point]
) -> Measured | None:
    """Return what a final trial came to, from its points by tokens; None where it was never trained.

    What a reused trial came to is another's measurement, which is listed already.
    """
    assert trial.state.is_final, f"trial {trial.number}: {trial.state}"
    if trial.reused_from is not None:
        return None
    last = points[-1] if points and points[-1].num_tokens else None
    found = trial.measurement
    if found is None and last is None:
        return None
    keys = keys_of(spec, artifacts, trial.role, trial.promotion)
    before = points[0].loss if points and points[0].num_tokens == 0 else None
    if found:
        num_tokens, loss, before = found.num_tokens, found.loss, found.loss_before_retraining
    else:
        assert last is not None
        num_tokens, loss = last.num_tokens, last.loss
    return Measured(
        search_id=trial.search_id,
        trial_number=trial.number,
        role=trial.role,
        state=trial.state,
        is_partial=found is None,
        parent=spec.parent,
        parent_key=keys.parent,
        data_key=keys.data,
        recipe_key=keys.recipe,
        reuse_key=keys.reuse if found else None,
        architecture=trial.architecture,
        num_parameters=found.num_parameters if found else trial.architecture.parameter_count,
        num_tokens=num_tokens,
        rung=trial.rung,
        loss_before=before,
        loss=loss,
        train_seconds=found.train_seconds if found else sum(point.seconds for point in points),
        at=trial.finished_at or trial.created_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A measurement as lists show it, with what its search is called and whose it is by now."""

    measured: Measured
    search_name: str
    owner: str
    tags: tuple[str, ...]
    parent_loss: float | None
    """Held-out nats per token of the parent."""

    @classmethod
    def of(cls, found: Measured, search: Search) -> "Entry":
        """Return a measurement with what is told of its search."""
        return cls(
            measured=found,
            search_name=search.spec.name,
            owner=search.owner,
            tags=search.tags,
            parent_loss=search.parent_loss,
        )


class HistoryOrder(StrEnum):
    """By what measurements are listed; a minus puts the greatest first. Equal ones follow by search and trial."""

    OLDEST = "at"
    NEWEST = "-at"
    LOSS = "loss"
    LOSS_REVERSED = "-loss"
    PARAMETERS = "num_parameters"
    PARAMETERS_REVERSED = "-num_parameters"

    @property
    def is_descending(self) -> bool:
        """Whether the greatest comes first."""
        return self.value.startswith("-")

    @property
    def field(self) -> str:
        """The field of a measurement that is compared."""
        return self.value.removeprefix("-")

    def key(self, found: Measured) -> tuple[Any, str, int]:
        """Return what is compared of a measurement."""
        return getattr(found, self.field), found.search_id, found.trial_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Sizes on an axis, both ends included; None leaves an end open."""

    least: int | None = None
    most: int | None = None

    def admits(self, size: int) -> bool:
        """Return whether a size lies between."""
        return (self.least is None or self.least <= size) and (self.most is None or size <= self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFilter:
    """Which measurements are asked for; None admits every one."""

    searches: SearchFilter = EVERY_SEARCH
    """Of which searches, as these are by now."""
    search_id: str | None = None
    parent_key: str | None = None
    data_key: str | None = None
    recipe_key: str | None = None
    reuse_key: str | None = None
    architecture: str | None = None
    """The whole name, such as L24-D2048-F5632-N16-K8."""
    axes: tuple[tuple[AxisName, Between], ...] = ()
    """Sizes on axes."""
    min_parameters: int | None = None
    max_parameters: int | None = None
    max_loss: float | None = None
    after: datetime | None = None
    """Measured at this time or later."""
    before: datetime | None = None
    """Measured earlier than this time."""
    partial: bool | None = None
    """Only partial ones, or only whole ones."""

    def admits(self, found: Measured, search: Search) -> bool:
        """Return whether a measurement of a search is asked for."""
        return (
            self.searches.admits(search)
            and self.search_id in (None, found.search_id)
            and self.parent_key in (None, found.parent_key)
            and self.data_key in (None, found.data_key)
            and self.recipe_key in (None, found.recipe_key)
            and self.reuse_key in (None, found.reuse_key)
            and self.architecture in (None, found.architecture.name)
            and all(between.admits(getattr(found.architecture, name)) for name, between in self.axes)
            and Between(least=self.min_parameters, most=self.max_parameters).admits(found.num_parameters)
            and (self.max_loss is None or found.loss <= self.max_loss)
            and (self.after is None or self.after <= found.at)
            and (self.before is None or found.at < self.before)
            and self.partial in (None, found.is_partial)
        )


EVERYTHING = HistoryFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentSummary:
    """All that was measured of one parent."""

    parent_key: str
    parent: str
    """As one of its searches names it."""
    num_searches: int
    num_measurements: int
    """Partial ones too."""
    num_tokens: int
    """That these students were trained on."""
    best_loss: float | None
    """Of whole measurements, on whatever data and at whatever tokens; None without such."""
    last_at: datetime
    """Of the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSum:
    """What one search measured of one parent: what summaries are added up from, so that no list is read for them."""

    parent_key: str
    search_id: str
    parent: str
    num_measurements: int = 0
    num_tokens: int = 0
    best_loss: float | None = None
    last_at: datetime

    def plus(self, found: Measured) -> "SearchSum":
        """Return the sum with one measurement more."""
        losses = [
            loss for loss in (self.best_loss, None if found.is_partial else found.loss) if loss is not None
        ]
        return SearchSum(
            parent_key=self.parent_key,
            search_id=self.search_id,
            parent=self.parent,
            num_measurements=self.num_measurements + 1,
            num_tokens=self.num_tokens + found.num_tokens,
            best_loss=min(losses, default=None),
            last_at=max(self.last_at, found.at),
        )


def sum_of(found: Measured) -> SearchSum:
    """Return the sum of no measurement, which ``plus`` goes on from."""
    return SearchSum(
        parent_key=found.parent_key, search_id=found.search_id, parent=found.parent, last_at=found.at
    )


def summaries(sums: Sequence[SearchSum]) -> list[ParentSummary]:
    """Return what these searches measured, by parent, that of the latest measurement first."""
    by_parent: dict[str, list[SearchSum]] = {}
    for each in sums:
        by_parent.setdefault(each.parent_key, []).append(each)
    found = [
        ParentSummary(
            parent_key=parent_key,
            parent=max(each.parent for each in ours),
            num_searches=len(ours),
            num_measurements=sum(each.num_measurements for each in ours),
            num_tokens=sum(each.num_tokens for each in ours),
            best_loss=min((each.best_loss for each in ours if each.best_loss is not None), default=None),
            last_at=max(each.last_at for each in ours),
        )
        for parent_key, ours in by_parent.items()
    ]
    return sorted(found, key=lambda each: (each.last_at, each.parent_key), reverse=True)


def _without(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a recipe without what changes no result."""
    return {field: value for field, value in recipe.items() if field != name}


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
