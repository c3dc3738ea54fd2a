"""What blocks were measured to take, as REST answers with it."""

from api.schemas.base import Resource
from nas.latency_table import LatencyDtype, Phase


class LatencySettingResource(Resource):
    """What was timed."""

    phase: Phase
    context: int
    batch: int
    dtype: LatencyDtype


class MachineResource(Resource):
    """On what it was timed."""

    device: str
    threads: int
    software: str


class BlockRowResource(Resource):
    """One block but for its MLP: a time for each of the table's MLP sizes."""

    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    nanoseconds: list[int]


class EndsLatencyResource(Resource):
    """All of a model but its blocks."""

    hidden_size: int
    nanoseconds: int


class LatencyTableResource(Resource):
    """Medians of what was timed; sizes between are read on the line between those that were."""

    setting: LatencySettingResource
    machine: MachineResource
    neurons: list[int]
    """MLP sizes, ascending."""
    rows: list[BlockRowResource]
    ends: list[EndsLatencyResource]
