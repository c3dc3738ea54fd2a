"""What a trial costs before anything runs: floating-point work, memory and bytes on disk, by arithmetic.

Knows no model and no framework; the formulas describe the training step of ``minitron.train`` on the blocks of
transformers' models, and tests hold them to what torch really keeps. Sizes in bytes, work in operations.
"""

from dataclasses import dataclass
from typing import Literal

from minitron.architecture import Architecture
from minitron.families import family_named
from minitron.recipe import (
    CalibrationRecipe,
    DistillationRecipe,
    Loss,
    OptimizerState,
    TrainingRecipe,
    Weights,
)

ComputePrecision = Literal["float32", "bfloat16"]

FLOAT32, BFLOAT16 = 4, 2
MOMENT_BYTES: dict[OptimizerState, float] = {
    "float32": FLOAT32,
    "bfloat16": BFLOAT16,
    "int8": 1 + FLOAT32 / 128,
}
"""Per element; in int8 with its share of the scale of a block, of 129 to 256 elements where a row divides well."""
LOGIT_BYTES: dict[Loss, int] = {"forward_kl": 20, "reverse_kl": 24, "mse": 16, "cosine": 20}
"""Per logit that exists at once, with the teacher's logits: these, the student's, and what the loss makes of them."""
TOP_K_LOGIT_BYTES = 8
"""With top-k answers or labels: the logits and the gradient by them, float32."""
TOP_K_BYTES = 32
"""Per token that a top-k answer keeps: its number and log-probability, and what the loss makes of them."""
STATE_BUFFERS = 5
"""Float32 copies of the teacher's width, for each hidden state that is compared."""
FORWARD_LOGIT_BYTES = 10
"""Without learning: the logits, in either precision, and their float32 distribution; no block is under way by then."""
LOGITS_AT_ONCE, LEAST_TOKENS = 2**24, 512
"""Logits that exist at once: few enough to stay small beside a model, of enough tokens that adding up the gradient by
the head costs little beside the matrix products."""


WIDENED_ROWS = 8192
"""Of the gradient by the head, that are made in bfloat16 before they are added in float32."""


def tokens_at_once(vocab_size: int) -> int:
    """Return of how many tokens the logits exist at once, whatever the batch."""
    return max(LEAST_TOKENS, LOGITS_AT_ONCE // vocab_size)


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
    block takes when its gradients are computed beyond what the loss, which is done by then, leaves room for."""
    logits: int
    """What the loss takes: the teacher's answers, logits of some tokens at a time, and the gradient by the head."""
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
    states = distillation.states(
        student_layers=student.num_layers, parent_layers=parent.num_layers, is_live=is_live
    )
    beside = _projection(student, parent) if states else 0
    copied = student.parameter_count + beside if training.weights == "bfloat16" else student.matrix_parameters
    copies = copied * BFLOAT16 if precision == "bfloat16" else 0
    tokens = training.blocks_at_once(sequence_length, processes) * sequence_length
    head = parent.vocab_size * parent.hidden_size * FLOAT32 if distillation.cache_form == "hidden" else 0
    loss = _loss_bytes(
        student, parent, tokens=tokens, distillation=distillation, is_live=is_live,
        precision=precision, weights=training.weights, num_states=len(states),
    )  # fmt: skip
    block, rest = activation_bytes_per_token(
        student, precision=precision, weights=training.weights, context=sequence_length
    )
    kept, again = student.num_layers * block, 0
    if training.activation_checkpointing:
        kept, again = student.num_layers * student.hidden_size * _bytes(training.weights), block
    # When a block's gradients are computed, of its MLP's neurons and of its output, the loss is done.
    gradients = (2 * student.intermediate_size + 3 * student.hidden_size) * _bytes(precision)
    # The gradient of a tied head waits for that of the embedding.
    waits = student.tie_word_embeddings * student.vocab_size * student.hidden_size * _bytes(training.weights)
    activations = tokens * kept + max(tokens * rest, tokens * (again + gradients) + waits - loss)
    return TrainingMemory(
        weights=_shared(student, FLOAT32, processes) + beside * FLOAT32 + copies,
        gradients=_shared(student, _bytes(training.weights), processes) + beside * _bytes(training.weights),
        optimizer=moments_bytes(student, training.optimizer_state, beside=beside) // processes,
        activations=activations,
        logits=loss,
        teacher=_shared(parent, _bytes(precision), processes) if is_live else head,
    )


def _loss_bytes(
    student: Architecture,
    parent: Architecture,
    *,
    tokens: int,
    distillation: DistillationRecipe,
    is_live: bool,
    precision: ComputePrecision,
    weights: Weights,
    num_states: int,
) -> int:
    """Return what the loss on a micro-batch takes, beyond the student's hidden states."""
    element, stored = _bytes(precision), _bytes(weights)
    if is_live or distillation.cache_form == "hidden":
        answer = parent.hidden_size * (element if is_live else FLOAT32)
        logit = LOGIT_BYTES[distillation.loss]
    else:
        answer = min(distillation.top_k, parent.vocab_size) * TOP_K_BYTES
        logit = TOP_K_LOGIT_BYTES + (element if element == BFLOAT16 else 0)
        # Less than other losses take on the way; here the way back through the cap takes more.
        logit += 2 * FLOAT32 if _caps_logits(student) else 0
    at_once = min(tokens, tokens_at_once(student.vocab_size))
    # The gradient by the head is there from the beginning, autocast adds to it in bfloat16, part by part.
    widened = (
        min(student.vocab_size, WIDENED_ROWS)
        * student.hidden_size
        * (element + FLOAT32)
        * (element != stored)
    )
    logits = at_once * student.vocab_size
    by_head = student.vocab_size * student.hidden_size * stored
    # Of the states: the teacher's, meanwhile; then of each what autograd keeps, and what it makes of the last.
    answer += num_states * parent.hidden_size * element
    compared = STATE_BUFFERS * parent.hidden_size + 2 * student.hidden_size
    after = tokens * num_states * compared * FLOAT32
    before = max(logits * logit, logits * element + widened)
    return tokens * (answer + student.hidden_size * stored) + by_head + max(before, after)


def _projection(student: Architecture, parent: Architecture) -> int:
    """Return how many elements take a student's hidden states to its parent's width."""
    return student.hidden_size * parent.hidden_size * (student.hidden_size != parent.hidden_size)


def forward_memory(shape: Architecture, *, num_tokens: int) -> int:
    """Return what a model takes on its device, float32, that answers ``num_tokens`` at once without learning.

    So much takes the preparation of a search: importance, the parent's loss and its answers.
    """
    queries = (shape.num_attention_heads + 2 * shape.num_key_value_heads) * shape.head_dim
    block = 8 * shape.hidden_size + 2 * queries + 4 * shape.intermediate_size
    at_once = min(num_tokens, tokens_at_once(shape.vocab_size))
    logit = FORWARD_LOGIT_BYTES + (FLOAT32 if _caps_logits(shape) else 0)
    head = at_once * shape.vocab_size * logit + num_tokens * 2 * shape.hidden_size * FLOAT32
    return shape.weight_bytes("float32") + max(head, num_tokens * block * FLOAT32)


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


def moments_bytes(student: Architecture, kept: OptimizerState, *, beside: int = 0) -> int:
    """Return the size of both moments of AdamW, also of what learns beside the student.

    In int8, norms and biases are few enough to count as matrices.
    """
    return 2 * int((student.parameter_count + beside) * MOMENT_BYTES[kept])


def state_bytes(
    student: Architecture, kept: OptimizerState = "float32", *, teacher: Architecture | None = None
) -> int:
    """Return the size of a resumable state: weights in float32 and both moments.

    With a ``teacher`` whose hidden states it learns from, also of what takes it to the teacher's width.
    """
    beside = 0 if teacher is None else _projection(student, teacher)
    return student.weight_bytes("float32") + beside * FLOAT32 + moments_bytes(student, kept, beside=beside)


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
