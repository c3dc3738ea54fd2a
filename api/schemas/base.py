"""What every resource is, and what several of them hold: health, problems, failures, progress, waits."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from nas.spec import dump
from nas.trial import FailureKind
from nas.waiting import WaitingKind


class Resource(BaseModel):
    """What REST answers with, made from an object of the domain by its fields."""

    model_config = ConfigDict(from_attributes=True)


Recipe = Annotated[
    dict[str, Any], BeforeValidator(lambda value: value if isinstance(value, dict) else dump(value))
]
"""A value of the spec's, complete with its defaults."""


class Health(Resource):
    """Answered by a process that can serve."""

    status: Literal["ok"]


class FieldProblem(Resource):
    """What is wrong with one field."""

    field: str
    """Dotted path in the spec, or the name of a parameter."""
    reason: str


class Problem(Resource):
    """An error, as RFC 9457 says."""

    type: str
    title: str
    status: int
    code: str
    """Stable, for programs; the detail is for people."""
    detail: str
    instance: str
    errors: list[FieldProblem]


class FailureResource(Resource):
    """Why a trial or a search ended: one line, the worker's traceback if it raised, the end of its log."""

    kind: FailureKind
    message: str
    traceback: str | None
    log_tail: str | None


class ProgressResource(Resource):
    """One stage of work; a total of 0 is unknown."""

    stage: str
    done: int
    total: int
    unit: str
    is_cached: bool


class WaitingResource(Resource):
    """Why a search or a trial waits."""

    kind: WaitingKind
    """What has to change before it goes on; for programs."""
    text: str
    """One line for people."""
    position: int | None
    """Place in the queue, or rank among those measured at the rung; 1 is next, or best."""
