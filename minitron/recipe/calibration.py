"""How importance is measured, and what is made of a parent's weights beyond leaving some out."""

from dataclasses import asdict, dataclass
from typing import Literal

from minitron.recipe.checks import require

Aggregation = Literal["mean", "l2", "variance"]
SequenceAggregation = Literal["auto", "mean", "l2", "variance"]
WidthMetric = Literal["activation", "weighted", "weight", "random"]
DepthMetric = Literal["block_influence", "lm_loss", "kl", "logit_error"]
DepthSelection = Literal["independent", "iterative", "contiguous"]
KvHeads = Literal["drop", "mean"]


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
            require(getattr(self, name) >= 1, f"calibration.{name}", getattr(self, name), "at least 1")
        require(self.seed >= 0, "calibration.seed", self.seed, "at least 0")
        require(
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
class PruningRecipe:
    """What is made of a parent's weights beyond leaving some out; the defaults only leave out."""

    head_merge: bool = False
    """Query heads that are dropped leave their difference to the least important kept ones of their KV group."""
    norm_rescaling: bool = False
    """RMSNorms are scaled by what the kept channels' share of the mean square was, so that what they give keeps
    its size."""
    kv_heads: KvHeads = "drop"
    """Where there are fewer KV heads: the least important go, or neighbours are pooled to their mean."""
