"""What a trial costs before anything runs: floating-point work, memory and bytes on disk, by arithmetic.

Knows no model and no framework; the formulas describe the training step of ``minitron.train`` on the blocks of
transformers' models, and tests hold them to what torch really keeps. Sizes in bytes, work in operations.
"""

from dataclasses import dataclass
from typing import Literal

from minitron.architecture import Architecture
from minitron.families import family_named
from minitron.recipe import DistillationRecipe, OptimizerState, TrainingRecipe, Weights

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
    if _caps_logits(student):
        logits += student.vocab_size * FLOAT32  # what is capped is kept beside what comes of it
    block, rest = activation_bytes_per_token(
        student, precision=precision, weights=training.weights, context=sequence_length
    )
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
    logit = FORWARD_LOGIT_BYTES + (FLOAT32 if _caps_logits(shape) else 0)
    head = shape.vocab_size * logit + 2 * shape.hidden_size * FLOAT32
    return shape.weight_bytes("float32") + num_tokens * max(head, block * FLOAT32)


def activation_bytes_per_token(
    shape: Architecture, *, precision: ComputePrecision, weights: Weights = "float32", context: int = 0
) -> tuple[int, int]:
    """Return the bytes that a forward pass keeps for the backward pass, per token: of a block, and of what follows.

    The logits are left out. What of bfloat16 weights is computed has their precision. Only where attention keeps
    the scores of all pairs does it matter how many tokens, ``context``, there are.
    """
    family = family_named(shape.family)
    wide, element = FLOAT32, _bytes(precision)
    stream = _bytes(weights)  # of what runs from block to block
    scaled = wide if family.wide_norms else stream
    heads = shape.num_attention_heads
    queries = heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    # RMSNorm keeps its input in float32 and what it scales, LayerNorm its input; both a little for each token.
    if shape.traits.norm_bias:
        norm = (shape.hidden_size + 2) * stream
    else:
        norm = (shape.hidden_size + 1) * wide + shape.hidden_size * scaled
    # Autocast makes a copy for each matrix that reads the same input, others share one.
    is_fused = family.anatomy.fuses_attention
    readers = 2 if is_fused or element == stream else 2 + shape.traits.mlp_matrices
    inputs = readers * shape.hidden_size * element
    # Queries, keys, values, the output and the float32 normaliser of each head.
    attention = (2 * queries + 2 * keys) * element + heads * wide
    if is_fused and family.anatomy.positions is None:
        # Rotary positions make queries and keys anew, while values keep alive what all three came in.
        attention += (queries + keys) * element
    if family.attends_eagerly:
        # Keys and values once for each query head; the capped scores and their softmax.
        attention += 2 * queries * element + heads * context * 2 * wide
    if shape.traits.qk_norm:
        normed = heads + shape.num_key_value_heads
        attention += (queries + keys) * (wide + (wide if family.wide_norms else element)) + normed * wide
    neurons = 4 if shape.traits.mlp_matrices == 3 else family.activations_kept
    mlp = neurons * shape.intermediate_size * element
    block = shape.traits.block_norms * norm + inputs + attention + mlp
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


def _caps_logits(shape: Architecture) -> bool:
    return family_named(shape.family).anatomy.logit_cap is not None


def _bytes(precision: ComputePrecision) -> int:
    return BFLOAT16 if precision == "bfloat16" else FLOAT32
