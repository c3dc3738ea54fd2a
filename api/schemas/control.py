"""What is ordered of searches under way, why they wait, and logs by ranges, as REST speaks of them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.base import Recipe, Resource
from api.schemas.trials import ArchitectureResource
from nas.search import MOST, MOST_TOKENS


class EnqueuedResource(Resource):
    """An architecture that a person wants tried before the next proposal."""

    architecture: ArchitectureResource
    by: str
    """Who wants that; empty: not known."""


class PromotedResource(Resource):
    """A trial that a person wants promoted, and how."""

    trial_number: int
    promotion: Recipe
    by: str
    """Who wants that; empty: not known."""
    repeats: int | None
    """The number of a promotion that came to nothing, in place of which this one is."""


class OrdersResource(Resource):
    """What people have ordered of a search since it was submitted. Its spec stays as it was asked."""

    is_paused: bool
    is_killed: bool
    killed_by: str
    """Who ended it so; empty: not known."""
    num_trials: int | None
    """In place of the spec's, if not null; likewise the next two."""
    max_tokens: int | None
    max_parallel: int | None
    enqueued: list[EnqueuedResource]
    stopped: list[int]
    """Numbers of trials to be ended."""
    promoted: list[PromotedResource]
    """Trials to be promoted beside those that the spec promotes."""


class Limits(BaseModel):
    """Other limits than the spec's. Only described here, read by the domain."""

    model_config = ConfigDict(extra="forbid")

    num_trials: Annotated[int, Field(ge=1, le=MOST["num_trials"])] | None = None
    """Not below what has been proposed or enqueued; refused once the winner is settled."""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    """Of training, all trials together. Not below what was trained, or what one trial needs; else as ``num_trials``."""
    max_parallel: Annotated[int, Field(ge=1, le=MOST["max_parallel"])] | None = None


class Sizes(BaseModel):
    """Sizes of the searched axes, or of all, of one architecture. Only described here, read by the domain."""

    model_config = ConfigDict(extra="forbid")

    num_layers: Annotated[int, Field(ge=1)] | None = None
    hidden_size: Annotated[int, Field(ge=1)] | None = None
    intermediate_size: Annotated[int, Field(ge=1)] | None = None
    num_attention_heads: Annotated[int, Field(ge=1)] | None = None
    num_key_value_heads: Annotated[int, Field(ge=1)] | None = None


class LogRangeResource(Resource):
    """A part of a log."""

    text: str
    """Whole lines, unless one is longer than the limit, or the last is still being written."""
    offset: int
    """In bytes: the first of the text; not beyond the log's end."""
    next_offset: int
    """The first byte after the text: ask for the next range from there, also of a log that grows."""
    total_bytes: int
    """Of the log by now."""
