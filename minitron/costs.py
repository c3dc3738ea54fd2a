"""What a trial costs before anything runs: floating-point work, memory and bytes on disk, by arithmetic.

Knows no model and no framework; the formulas describe the training step of ``minitron.train`` on the blocks of
transformers' Llama layout, and tests hold them to what torch really keeps. Sizes in bytes, work in operations.
"""

from dataclasses import dataclass
from typing import Literal

from minitron.architecture import Architecture
from minitron.recipe import DistillationRecipe, TrainingRecipe

ComputePrecision = Literal["float32", "bfloat16"]

FLOAT32, BFLOAT16 = 4, 2
LOGIT_BYTES = 12
"""Per logit at the peak of a step with top-k answers: the logits, the loss's gradient, and its product with
the upstream one, all float32."""
WHOLE_LOGIT_BYTES = 28
"""With the teacher's whole logits: both distributions and their logits are kept for the backward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Bytes on the device at the peak of an optimiser step."""

    weights: int
    """Of the student, float32; under bfloat16 autocast with the copies of its matrices."""
    gradients: int
    optimizer: int
    """Both moments of AdamW, float32."""
    activations: int
    """What the blocks keep for the backward pass of one micro-batch."""
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
) -> TrainingMemory:
    """Return what training a student takes on its device; a live teacher is the parent."""
    matrices = student.matrix_parameters if precision == "bfloat16" else 0
    tokens = min(training.micro_batch_size, training.blocks_per_step(sequence_length)) * sequence_length
    reads_whole_logits = is_live or distillation.cache_form == "hidden"
    head = parent.vocab_size * parent.hidden_size * FLOAT32 if distillation.cache_form == "hidden" else 0
    return TrainingMemory(
        weights=student.parameter_count * FLOAT32 + matrices * BFLOAT16,
        gradients=student.parameter_count * FLOAT32,
        optimizer=2 * student.parameter_count * FLOAT32,
        activations=tokens * activation_bytes_per_token(student, precision=precision),
        logits=tokens * student.vocab_size * (WHOLE_LOGIT_BYTES if reads_whole_logits else LOGIT_BYTES),
        teacher=parent.parameter_count * _bytes(precision) if is_live else head,
    )


def activation_bytes_per_token(shape: Architecture, *, precision: ComputePrecision) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, per token, the logits left out."""
    wide, element = FLOAT32, _bytes(precision)
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    # RMSNorm keeps its input and what it scales, LayerNorm its input; both a little for each token.
    norm = (shape.hidden_size + 2 if shape.traits.norm_bias else 2 * shape.hidden_size + 1) * wide
    # Autocast makes a copy for each matrix that reads the same input, float32 shares one.
    readers = 2 + shape.traits.mlp_matrices if precision == "bfloat16" else 2
    inputs = readers * shape.hidden_size * element
    # Queries, keys, values, the output and the float32 normaliser of each head.
    attention = (2 * queries + 2 * keys) * element + shape.num_attention_heads * wide
    if shape.traits.qk_norm:
        heads = shape.num_attention_heads + shape.num_key_value_heads
        attention += (queries + keys) * (wide + element) + heads * wide
    mlp = (4 if shape.traits.mlp_matrices == 3 else 2) * shape.intermediate_size * element
    block = 2 * norm + inputs + attention + mlp
    return shape.num_layers * block + norm + shape.hidden_size * element


def training_flops(
    student: Architecture, parent: Architecture, *, num_tokens: int, sequence_length: int, is_live: bool
) -> int:
    """Return the work of a training: backward passes at twice the forward ones, and a live teacher's."""
    per_token = 3 * student.flops_per_token(context=sequence_length)
    if is_live:
        per_token += parent.flops_per_token(context=sequence_length)
    return num_tokens * per_token


def state_bytes(student: Architecture) -> int:
    """Return the size of a resumable state: weights and both moments, float32."""
    return 3 * student.weight_bytes("float32")


def student_bytes(student: Architecture) -> int:
    """Return the size of a student's checkpoint: float32 weights."""
    return student.weight_bytes("float32")


def _bytes(precision: ComputePrecision) -> int:
    return BFLOAT16 if precision == "bfloat16" else FLOAT32
