"""What a trial costs before anything runs: floating-point work, memory and bytes on disk, by arithmetic.

Knows no model and no framework; the formulas describe the training step of ``minitron.train`` on the blocks of
transformers' Llama layout, and tests hold them to what torch really keeps. Sizes in bytes, work in operations.
"""

from dataclasses import dataclass
from typing import Literal

from minitron.architecture import Architecture
from minitron.recipe import CalibrationRecipe, DistillationRecipe, OptimizerState, TrainingRecipe, Weights

ComputePrecision = Literal["float32", "bfloat16"]

FLOAT32, BFLOAT16 = 4, 2
MOMENT_BYTES: dict[OptimizerState, float] = {
    "float32": FLOAT32,
    "bfloat16": BFLOAT16,
    "int8": 1 + FLOAT32 / 128,
}
"""Per element; in int8 with its share of the scale of a block, of 129 to 256 elements where a row divides well."""
LOGIT_BYTES = 12
"""Per logit at the peak of a step with top-k answers: the logits, the loss's gradient, and its product with
the upstream one, all float32."""
FORWARD_LOGIT_BYTES = 10
"""Without learning: the logits, in either precision, and their float32 distribution; no block is under way by then."""
WHOLE_LOGIT_BYTES = 28
"""With the teacher's whole logits: both distributions and their logits are kept for the backward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Bytes on the device at the peak of an optimiser step."""

    weights: int
    """Of the student, float32; under bfloat16 autocast with the copies of its matrices, with bfloat16 weights
    with those of all."""
    gradients: int
    optimizer: int
    """Both moments of AdamW."""
    activations: int
    """What the blocks keep for the backward pass of one micro-batch: with checkpointing their inputs. And what a
    block takes when its gradients are computed beyond what the logits, which are gone by then, leave room for."""
    logits: int
    teacher: int
    """Weights of a live teacher, or the output head that reads cached hidden states."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.teacher


def training_memory(
    student: Architecture,
    parent: Architecture,
    *,
    training: TrainingRecipe,
    distillation: DistillationRecipe,
    sequence_length: int,
    is_live: bool,
    precision: ComputePrecision,
    processes: int = 1,
) -> TrainingMemory:
    """Return what training a student takes on its device; a live teacher is the parent.

    Of several processes, each has its share of weights, gradients and moments, and whole the layers that are just
    computed, what is outside of layers, and all copies that autocast makes.
    """
    copied = student.parameter_count if training.weights == "bfloat16" else student.matrix_parameters
    copies = copied * BFLOAT16 if precision == "bfloat16" else 0
    tokens = training.blocks_at_once(sequence_length, processes) * sequence_length
    reads_whole_logits = is_live or distillation.cache_form == "hidden"
    head = parent.vocab_size * parent.hidden_size * FLOAT32 if distillation.cache_form == "hidden" else 0
    logits = student.vocab_size * (WHOLE_LOGIT_BYTES if reads_whole_logits else LOGIT_BYTES)
    block, rest = activation_bytes_per_token(student, precision=precision, weights=training.weights)
    kept, again = student.num_layers * block, 0
    if training.activation_checkpointing:
        kept, again = student.num_layers * student.hidden_size * _bytes(training.weights), block
    # When a block's gradients are computed, of its MLP's neurons and of its output, the logits are gone.
    gradients = (2 * student.intermediate_size + 3 * student.hidden_size) * _bytes(precision)
    activations = kept + max(rest, again + gradients - logits)
    return TrainingMemory(
        weights=_shared(student, FLOAT32, processes) + copies,
        gradients=_shared(student, _bytes(training.weights), processes),
        optimizer=moments_bytes(student, training.optimizer_state) // processes,
        activations=tokens * activations,
        logits=tokens * logits,
        teacher=_shared(parent, _bytes(precision), processes) if is_live else head,
    )


def forward_memory(shape: Architecture, *, num_tokens: int) -> int:
    """Return what a model takes on its device, float32, that answers ``num_tokens`` at once without learning.

    So much takes the preparation of a search: importance, the parent's loss and its answers.
    """
    queries = (shape.num_attention_heads + 2 * shape.num_key_value_heads) * shape.head_dim
    block = 8 * shape.hidden_size + 2 * queries + 4 * shape.intermediate_size
    head = shape.vocab_size * FORWARD_LOGIT_BYTES + 2 * shape.hidden_size * FLOAT32
    return shape.weight_bytes("float32") + num_tokens * max(head, block * FLOAT32)


def depth_memory(shape: Architecture, recipe: CalibrationRecipe, *, num_tokens: int) -> int:
    """Return what is held besides ``forward_memory`` where models without layers are asked ``num_tokens`` at once.

    The hidden states before each layer and after the last, and the whole model's logits.
    """
    if (recipe.depth_metric, recipe.depth_selection) == ("block_influence", "independent"):
        return 0
    states = (shape.num_layers + 1) * shape.hidden_size
    logits = 0 if recipe.depth_metric == "block_influence" else shape.vocab_size
    return num_tokens * (states + logits) * FLOAT32


def depth_runs(num_layers: int, recipe: CalibrationRecipe, *, fewest: int = 1) -> tuple[int, int]:
    """Return how often a token runs through a layer, and through the output head, to tell the cost of layers.

    ``fewest`` is how many students have at least. What the passes tell that tell width costs none.
    """
    if recipe.tells_depth_with_width:
        return 0, 0
    is_answered = recipe.depth_metric != "block_influence"
    fewest = fewest if recipe.is_told_to_a_depth else 1
    match recipe.depth_selection:
        case "independent":
            kept, lengths = [num_layers], [1]
        case "contiguous":
            kept, lengths = [num_layers], list(range(1, num_layers + 1 - fewest))
        case "iterative":
            kept, lengths = list(range(fewest + 1, num_layers + 1)), [1]
    if not is_answered:
        return sum(kept), 0
    # Whole answers, states before layers that are left, and what follows the dropped ones.
    layers = num_layers * len(kept) + sum(count for count in kept if count < num_layers)
    layers += sum((count - length) * (count - length + 1) // 2 for count in kept for length in lengths)
    heads = len(kept) + sum(count + 1 - length for count in kept for length in lengths)
    return layers, heads


def activation_bytes_per_token(
    shape: Architecture, *, precision: ComputePrecision, weights: Weights = "float32"
) -> tuple[int, int]:
    """Return the bytes that a forward pass keeps for the backward pass, per token: of a block, and of what follows.

    The logits are left out. What of bfloat16 weights is computed has their precision.
    """
    wide, element = FLOAT32, _bytes(precision)
    stream = _bytes(weights)  # of what runs from block to block
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    # RMSNorm keeps its input in float32 and what it scales, LayerNorm its input; both a little for each token.
    if shape.traits.norm_bias:
        norm = (shape.hidden_size + 2) * stream
    else:
        norm = (shape.hidden_size + 1) * wide + shape.hidden_size * stream
    # Autocast makes a copy for each matrix that reads the same input, others share one.
    readers = 2 + shape.traits.mlp_matrices if element != stream else 2
    inputs = readers * shape.hidden_size * element
    # Queries, keys, values, the output and the float32 normaliser of each head.
    attention = (2 * queries + 2 * keys) * element + shape.num_attention_heads * wide
    if shape.traits.qk_norm:
        heads = shape.num_attention_heads + shape.num_key_value_heads
        attention += (queries + keys) * (wide + element) + heads * wide
    mlp = (4 if shape.traits.mlp_matrices == 3 else 2) * shape.intermediate_size * element
    block = 2 * norm + inputs + attention + mlp
    return block, norm + shape.hidden_size * element


def training_flops(
    student: Architecture,
    parent: Architecture,
    *,
    num_tokens: int,
    sequence_length: int,
    is_live: bool,
    is_checkpointed: bool = False,
) -> int:
    """Return the work of a training: backward passes at twice the forward ones, and a live teacher's.

    With activation checkpointing all but the output head is computed twice.
    """
    forward = student.flops_per_token(context=sequence_length)
    per_token = 3 * forward
    if is_checkpointed:
        per_token += forward - 2 * student.vocab_size * student.hidden_size
    if is_live:
        per_token += parent.flops_per_token(context=sequence_length)
    return num_tokens * per_token


def moments_bytes(student: Architecture, kept: OptimizerState) -> int:
    """Return the size of both moments of AdamW; in int8, norms and biases are few enough to count as matrices."""
    return 2 * int(student.parameter_count * MOMENT_BYTES[kept])


def state_bytes(student: Architecture, kept: OptimizerState = "float32") -> int:
    """Return the size of a resumable state: weights in float32 and both moments."""
    return student.weight_bytes("float32") + moments_bytes(student, kept)


def student_bytes(student: Architecture) -> int:
    """Return the size of a student's checkpoint: float32 weights."""
    return student.weight_bytes("float32")


def _shared(shape: Architecture, element: int, processes: int) -> int:
    """Return the bytes of a model's weights that one of several processes has: its share, and what is gathered."""
    if processes == 1:
        return shape.parameter_count * element
    # The layer that is computed, one on its way with the copy that a collective makes, and what is in no layer.
    outside = shape.parameter_count - shape.num_layers * shape.layer_parameters
    gathered = outside + min(3, shape.num_layers) * shape.layer_parameters
    return (shape.parameter_count // processes + gathered) * element


def _bytes(precision: ComputePrecision) -> int:
    return BFLOAT16 if precision == "bfloat16" else FLOAT32
