"""How to read data, calibrate, distil and train: complete, so that a recipe reproduces a result.

Lengths are in tokens, never in steps. Everything is checked when it is made.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal, Self

from minitron.errors import InvalidRecipe, UnservedLoss

TeacherSource = Literal["auto", "cached", "live"]
CacheForm = Literal["top_k", "hidden"]
Loss = Literal["forward_kl"]
Precision = Literal["auto", "float32", "bfloat16"]
Weights = Literal["float32", "bfloat16"]
OptimizerState = Literal["float32", "bfloat16", "int8"]
Aggregation = Literal["mean", "l2", "variance"]
SequenceAggregation = Literal["auto", "mean", "l2", "variance"]
WidthMetric = Literal["activation", "weighted", "weight", "random"]
DepthMetric = Literal["block_influence", "lm_loss", "kl", "logit_error"]
DepthSelection = Literal["independent", "iterative", "contiguous"]

SERVED_AT: dict[str, str] = {"live": "any temperature", "hidden": "any temperature", "top_k": "1"}
"""The temperatures at which each teacher source serves the forward KL on logits: the top-k form
keeps log-probabilities and the mass of the rest, from which no other temperature can be had."""


def _require(holds: bool, field: str, found: object, allowed: str) -> None:
    if not holds:
        raise InvalidRecipe(field, f"found {found!r}, allowed: {allowed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A place that documents come from; the recipe that names it checks it."""

    source: str
    """``builtin:python-docs``, ``hub:ORG/NAME`` or ``hub:ORG/NAME@REVISION``, or a local file, directory or
    pattern of .txt, .md, .py, .json, .jsonl, .csv or .parquet, where .gz or .zst may follow."""
    weight: float = 1.0
    """Share of the tokens of a blend, relative to the other weights."""
    config: str | None = None
    """Of a hub dataset that has several."""
    split: str = "train"
    """Of a hub dataset."""
    text_field: str | None = None
    """The column that holds the text of a row, or its chat; None: that of the recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    """Where text comes from and how it is cut into blocks of equal length.

    Documents are deduplicated and assigned to calibration, training or validation before they are
    tokenized and packed, so that no document is on two sides.
    """

    source: str | DataSource | tuple[DataSource, ...] = "builtin:python-docs"
    """The name or path of a source, a source, or a blend of several."""
    text_field: str = "text"
    """The column that holds the text of a row. Where it holds a list of messages, each with a role and a
    content, the tokenizer's chat template makes text of them."""
    validation: str | DataSource | None = None
    """A source of its own for the held-out tokens; None: the held-out side of ``source``."""
    sequence_length: int = 256
    """Tokens of one block."""
    validation_tokens: int = 32_768
    seed: int = 0
    """Shuffles files and documents."""

    def __post_init__(self) -> None:
        for field, source in self.sources.items():
            _require(bool(source.source), field, source.source, "a name or a path")
            _require(
                math.isfinite(source.weight) and source.weight >= 0,
                f"{field}.weight", source.weight, "a finite number, at least 0",
            )  # fmt: skip
        weights = [source.weight for source in self.sources.values()]
        _require(any(weights), "data.source", weights, "weights of which one is above 0")
        held_out = self.validation_source
        if held_out is not None:
            _require(bool(held_out.source), "data.validation", held_out.source, "a name or a path")
            _require(held_out.weight == 1, "data.validation.weight", held_out.weight, "1: it stands alone")
        _require(self.sequence_length >= 8, "data.sequence_length", self.sequence_length, "at least 8")
        _require(
            self.validation_tokens >= self.sequence_length,
            "data.validation_tokens", self.validation_tokens, "at least one block of sequence_length",
        )  # fmt: skip

    @property
    def sources(self) -> dict[str, DataSource]:
        """What is calibrated and trained on, complete, by the field that names it."""
        if isinstance(self.source, tuple):
            return {
                f"data.source.{number}": self._complete(source) for number, source in enumerate(self.source)
            }
        return {"data.source": self._complete(self.source)}

    @property
    def validation_source(self) -> DataSource | None:
        """The source of ``data.validation``, complete, where there is one."""
        return None if self.validation is None else self._complete(self.validation)

    @property
    def all_sources(self) -> dict[str, DataSource]:
        """All that is read, complete, by the field that names it."""
        held_out = self.validation_source
        return self.sources if held_out is None else {"data.validation": held_out} | self.sources

    @property
    def validation_blocks(self) -> int:
        """Whole blocks of held-out tokens."""
        return self.validation_tokens // self.sequence_length

    def renamed(self, rename: Callable[[str, str], str]) -> Self:
        """Return the recipe with other names of its sources; ``rename`` gets the field and the name of each."""

        def changed(field: str, source: DataSource) -> DataSource:
            return replace(source, source=rename(field, source.source))

        source, held_out = self.source, self.validation
        if isinstance(source, tuple):
            source = tuple(changed(f"data.source.{number}", each) for number, each in enumerate(source))
        elif isinstance(source, DataSource):
            source = changed("data.source", source)
        else:
            source = rename("data.source", source)
        if isinstance(held_out, DataSource):
            held_out = changed("data.validation", held_out)
        elif held_out is not None:
            held_out = rename("data.validation", held_out)
        return replace(self, source=source, validation=held_out)

    def _complete(self, source: str | DataSource) -> DataSource:
        if isinstance(source, str):
            source = DataSource(source=source)
        return source if source.text_field is not None else replace(source, text_field=self.text_field)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRecipe:
    """How importance is measured: forward passes over ``num_tokens`` tokens, in whole blocks."""

    num_tokens: int = 262_144
    batch_size: int = 8
    """Blocks per forward pass; changes speed and memory, never the scores."""
    metric: WidthMetric = "weighted"
    """Of neurons, heads and hidden channels. ``activation``: their activations, as in the papers. ``weighted``: what
    they add to the residual stream, so activations times the weights that read them. ``weight``, the norm of all
    weights of a unit, and ``random`` are baselines."""
    sequence_aggregation: SequenceAggregation = "auto"
    """Of activations over the tokens of a block; ``mean`` is that of absolute values. ``auto``: the mean, but the L2
    norm for weighted neurons and heads."""
    batch_aggregation: Aggregation = "l2"
    """Of what that gives, over the blocks."""
    steps: int = 1
    """Measure, prune a part of the way to the smallest width wanted, measure again, so many times."""
    depth_metric: DepthMetric = "block_influence"
    """What it costs to do without layers. ``block_influence``: how far they turn the residual stream, told by
    the same forward passes. The others run the rest of the model without them: ``lm_loss`` in nats,
    ``kl`` from the whole model's distribution, ``logit_error`` the normalised squared error of its logits."""
    depth_selection: DepthSelection = "contiguous"
    """Which layers go. ``independent``: those that cost least, each on its own. ``iterative``: one at a time,
    measured again without those that went before. ``contiguous``: the block of neighbours that costs least."""
    depth_tokens: int = 16_384
    """Of the calibration tokens, at most so many are run without layers: that takes many passes. Block influence
    takes none of its own, unless it is iterative."""
    seed: int = 0
    """Of random scores."""

    def __post_init__(self) -> None:
        for name in ("num_tokens", "batch_size", "steps", "depth_tokens"):
            _require(getattr(self, name) >= 1, f"calibration.{name}", getattr(self, name), "at least 1")
        _require(self.seed >= 0, "calibration.seed", self.seed, "at least 0")
        _require(
            self.steps == 1 or self.metric in ("activation", "weighted"),
            "calibration.steps", self.steps, f"1 with calibration.metric {self.metric}, which changes with no step",
        )  # fmt: skip

    @property
    def identity(self) -> dict[str, object]:
        """What scores depend on, besides the model and its blocks."""
        return {
            name: value for name, value in asdict(self).items() if name not in ("num_tokens", "batch_size")
        }

    def depth_blocks(self, sequence_length: int) -> int:
        """Whole blocks that are run without layers, at least one."""
        return max(1, min(self.num_tokens, self.depth_tokens) // sequence_length)

    @property
    def tells_depth_with_width(self) -> bool:
        """Whether the passes that tell width tell depth too, over all calibration tokens."""
        return self.depth_metric == "block_influence" and self.depth_selection != "iterative"

    @property
    def is_told_to_a_depth(self) -> bool:
        """Whether the choice of layers is only told down to the fewest that are wanted, because each depth costs passes."""
        return self.depth_selection != "independent" and self.depth_metric != "block_influence"

    def over_sequence(self, *, is_hidden: bool) -> Aggregation:
        """Return how hidden channels, or neurons and heads, are aggregated over the tokens of a block."""
        if self.sequence_aggregation != "auto":
            return self.sequence_aggregation
        return "l2" if self.metric == "weighted" and not is_hidden else "mean"

    def num_blocks(self, sequence_length: int) -> int:
        """Whole blocks that are measured, at least one."""
        return max(1, self.num_tokens // sequence_length)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationRecipe:
    """What the student learns from, and where the teacher's answers come from."""

    loss: Loss = "forward_kl"
    temperature: float = 1.0
    label_weight: float = 0.0
    """Weight of the next-token loss beside the distillation loss; 0 trains on the teacher alone."""
    teacher: TeacherSource = "auto"
    cache_form: CacheForm = "top_k"
    """``top_k``: log-probabilities of the k likeliest tokens and the mass of the rest.
    ``hidden``: final hidden states, exact, through the teacher's head."""
    top_k: int = 128
    max_cache_bytes: int = 20_000_000_000
    """Above this ``auto`` asks the teacher live and ``cached`` is refused."""

    def __post_init__(self) -> None:
        _require(self.temperature > 0, "distillation.temperature", self.temperature, "above 0")
        _require(self.label_weight >= 0, "distillation.label_weight", self.label_weight, "at least 0")
        _require(self.top_k >= 1, "distillation.top_k", self.top_k, "at least 1")
        if self.teacher != "live" and self.cache_form == "top_k" and self.temperature != 1.0:
            raise UnservedLoss(
                f"distillation.temperature: found {self.temperature}, allowed with cache_form top_k: 1; "
                "set cache_form to hidden or teacher to live"
            )

    def cache_bytes(self, *, num_tokens: int, hidden_size: int) -> int:
        """Bytes that the teacher's answers take on disk."""
        return num_tokens * (self.top_k * 6 + 4 if self.cache_form == "top_k" else hidden_size * 4)

    def asks_live(self, *, num_tokens: int, hidden_size: int) -> bool:
        """Return whether the teacher runs beside the student instead of being cached.

        Raises:
            InvalidRecipe: ``cached`` was asked for and does not fit ``max_cache_bytes``.
        """
        needed = self.cache_bytes(num_tokens=num_tokens, hidden_size=hidden_size)
        fits = needed <= self.max_cache_bytes
        if self.teacher == "cached" and not fits:
            raise InvalidRecipe(
                "distillation.max_cache_bytes",
                f"found {self.max_cache_bytes}, allowed for this recipe: at least {needed}; or teacher live",
            )
        return self.teacher == "live" or not fits


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecipe:
    """A light retraining, complete: the same recipe, seed and data give the same student."""

    num_tokens: int = 1_000_000
    batch_tokens: int = 2_048
    """Tokens per optimiser step."""
    micro_batch_size: int = 8
    """Blocks per forward and backward pass; gradients of a step are accumulated over them."""
    peak_learning_rate: float = 1e-3
    final_learning_rate_ratio: float = 0.1
    """The cosine ends at this fraction of the peak, at ``num_tokens``."""
    warmup_tokens: int = 0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    max_gradient_norm: float = 1.0
    precision: Precision = "auto"
    """``auto``: bfloat16 autocast where the device gains from it, else float32."""
    weights: Weights = "float32"
    """``bfloat16``: each step runs on bfloat16 copies of the weights, in bfloat16 throughout, and sums the
    gradients of its micro-batches in bfloat16; the weights that are stepped, measured and saved are float32."""
    optimizer_state: OptimizerState = "float32"
    """How the moments of AdamW are kept. ``int8`` needs the extra ``[int8]``; it and ``bfloat16`` round the
    second moment, which stands still where ``beta2`` is above 0.99."""
    activation_checkpointing: bool = False
    """Keep one input for each layer and compute the rest again for the backward pass: less memory, a third
    more work, the same result."""
    seed: int = 0
    """Shuffles the training blocks."""

    def __post_init__(self) -> None:
        _require(
            not (self.weights == "bfloat16" and self.precision == "float32"),
            "training.weights", self.weights, "float32, as training.precision is",
        )  # fmt: skip
        _require(self.batch_tokens >= 1, "training.batch_tokens", self.batch_tokens, "at least 1")
        _require(
            self.num_tokens >= self.batch_tokens,
            "training.num_tokens", self.num_tokens, "at least one step of batch_tokens",
        )  # fmt: skip
        _require(self.micro_batch_size >= 1, "training.micro_batch_size", self.micro_batch_size, "at least 1")
        _require(
            self.peak_learning_rate > 0, "training.peak_learning_rate", self.peak_learning_rate, "above 0"
        )
        _require(
            0 <= self.final_learning_rate_ratio <= 1,
            "training.final_learning_rate_ratio", self.final_learning_rate_ratio, "0 to 1",
        )  # fmt: skip
        _require(
            0 <= self.warmup_tokens < self.num_tokens,
            "training.warmup_tokens", self.warmup_tokens, "0 to below num_tokens",
        )  # fmt: skip
        _require(self.weight_decay >= 0, "training.weight_decay", self.weight_decay, "at least 0")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"training.{name}", value, "0 to below 1")
        _require(self.max_gradient_norm > 0, "training.max_gradient_norm", self.max_gradient_norm, "above 0")

    def blocks_per_step(self, sequence_length: int) -> int:
        """Whole blocks of one optimiser step, at least one."""
        return max(1, self.batch_tokens // sequence_length)

    def blocks_at_once(self, sequence_length: int, processes: int = 1) -> int:
        """Blocks of one forward pass, in training and in evaluation: a micro-batch, at most a process's part of a step."""
        return min(self.micro_batch_size, self.blocks_per_step(sequence_length) // processes)

    def num_steps(self, sequence_length: int) -> int:
        """Optimiser steps of the whole training, at least one."""
        return max(1, self.num_tokens // (self.blocks_per_step(sequence_length) * sequence_length))
