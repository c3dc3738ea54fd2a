"""What every resource is, and what several of them hold: health, problems, failures, progress."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from nas.trial import FailureKind


class Resource(BaseModel):
    """What REST answers with, made from an object of the domain by its fields."""

    model_config = ConfigDict(from_attributes=True)


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
