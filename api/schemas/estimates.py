"""What a search would cost, as REST answers it."""

from api.schemas.base import Resource
from nas.axes import AxisName
from nas.budget import CostName


class SpanResource(Resource):
    """The least and the most over the space."""

    least: int
    most: int


class SizesResource(SpanResource):
    """What occurs on an axis: the least size, the largest, and how many there are."""

    number: int


class RateResource(Resource):
    """What the resources of one trial compute, and where that is known from."""

    flops_per_second: float
    source: str


class TrainingMemoryResource(Resource):
    """Bytes on the device at the peak of an optimiser step, for the architecture that takes the most."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    teacher: int
    total: int


class TrialEstimateResource(Resource):
    """One trial that is trained to the last rung."""

    num_tokens: int
    flops: SpanResource
    memory: TrainingMemoryResource
    processes: int
    """That share its work; what follows is of each."""
    parent_bytes: int
    """Of the parent in host memory, in each worker."""
    preparation_bytes: int
    """Of the parent that is calibrated, corrected and asked before all trials, on the device."""
    correction_bytes: int
    """Of its correction alone; 0 without."""
    memory_bytes: int
    """What must fit where the trial trains and is prepared for."""
    host_bytes: int
    """What a worker takes of its node's memory."""
    state_bytes: SpanResource
    student_bytes: SpanResource
    seconds: float | None


class PromotionEstimateResource(Resource):
    """The students that a search retrains for longer at its end."""

    num_students: int
    trial: TrialEstimateResource
    """One of them."""
    num_tokens: int
    """That they are trained on in all."""
    is_teacher_live: bool
    teacher_cache_bytes: int
    flops: int
    """Of their training, and of the teacher's answers to more blocks."""
    disk_bytes: int
    hours: float | None


class ReusableResource(Resource):
    """What of a search need not be trained, if it is proposed, while parent and data are as they were."""

    num_known: int
    """Architectures of its space that were measured before, with all that decides the result the same."""
    most_tokens: int
    """That this saves at most: which of them are proposed is not known before."""


class EstimateResource(Resource):
    """What a search would cost: bytes, floating-point operations and, where a rate is known, hours."""

    num_feasible: int
    parameters: SpanResource
    sizes: dict[AxisName, SizesResource]
    """What architectures choose from on each axis that is searched."""
    costs: dict[CostName, SpanResource]
    """What architectures cost beside parameters, as far as the budget bounds it."""
    num_trials: int
    num_baselines: int
    num_finalists: int
    """Students that are put to tasks, whose work is not counted."""
    learnt_from: str
    """What students learn from, for people; some may learn from less."""
    is_teacher_live: bool
    teacher_cache_bytes: int
    trial: TrialEstimateResource
    num_tokens: int
    preparation_flops: int
    correction_flops: int
    """Of them; 0 without correction."""
    flops: int
    disk_bytes: int
    rate: RateResource | None
    hours: float | None
    promotion: PromotionEstimateResource | None
    """Of the best students, after all of the above and counted in none of it; null where none are promoted."""
    reusable: ReusableResource | None
    """What was measured before; null where the spec has everything trained."""
    unchecked: list[str]
    """What could not be looked at, and why."""
