"""The papers' findings as experiments: what each is compared with what, and when it holds.

Sources: Minitron (2407.14679) and its sequel (2408.11796). An asserted finding must hold in the mean over
the seeds; a reported one is shown whatever it shows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from scipy.stats import kendalltau
from transformers import PreTrainedModel

from minitron.architecture import Architecture
from minitron.plan import plan_pruning
from minitron.prune import prune
from minitron.recipe import (
    Aggregation,
    DepthMetric,
    DepthSelection,
    DistillationRecipe,
    Loss,
    PruningRecipe,
)
from tests.fidelity.laboratory import Laboratory, Losses
from tests.fidelity.shift import foreign_text

Rows = Mapping[str, Sequence[float]]
"""Measurements by row, a number for each column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One claim and the experiment that tries it."""

    number: int
    claim: str
    columns: tuple[str, ...]
    measure: Callable[[Laboratory], Rows]
    holds: Callable[[Rows], bool] | None = None
    """Whether means over the seeds bear the claim out; None where it is only reported."""


ON_THE_WAY = ("before", "few steps", "half", "all")
"""The points of every protocol, as columns."""
KD, RANDOM, LABELS, FRESH, DEPTH = "importance", "random indices", "label loss", "random start", "depth"


def importance_beats_random(lab: Laboratory) -> Rows:
    """The same shape, kept by importance and at random; only the first steps count."""
    few = lab.protocol.points[:2]
    width = lab.protocol.width
    drawn = [
        lab.losses(f"random-{number}", lambda number=number: lab.drawn(width, number=number), points=few)
        for number in range(3)
    ]
    return {KD: distilled(lab)[:2], RANDOM: [sum(losses) / len(drawn) for losses in zip(*drawn, strict=True)]}


def distillation_beats_labels(lab: Laboratory) -> Rows:
    """The same student, blocks and steps."""
    width = lab.protocol.width
    labels = lab.losses("labels", lambda: lab.pruned(width), lambda: None)
    return {"distillation": distilled(lab), LABELS: labels}


def pruned_start_beats_random_start(lab: Laboratory) -> Rows:
    """The same shape and teacher; weights that were the parent's against new ones."""
    width = lab.protocol.width
    return {"pruned": distilled(lab), FRESH: lab.losses("fresh", lambda: lab.untrained(width))}


def width_beats_depth(lab: Laboratory) -> Rows:
    """Two shapes of equal size."""
    depth = lab.protocol.depth
    return {"width": distilled(lab), DEPTH: lab.losses("depth", lambda: lab.pruned(depth))}


def rankings_settle_late(lab: Laboratory) -> Rows:
    """How the order of students of equal size agrees with their last one, by Kendall's tau."""
    curves = [
        lab.losses(f"ranked-{shape.name}", lambda shape=shape: lab.pruned(shape))
        for shape in peers(lab.source, lab.protocol.width.parameter_count)
    ]
    columns = list(zip(*curves, strict=True))
    last = columns[-1]
    return {
        "agreement with the final ranking": [
            float(kendalltau(losses, last).statistic) for losses in columns[:-1]
        ],
    }


def correction_helps_on_shifted_text(lab: Laboratory) -> Rows:
    """Text that the parent never saw: distilled from the parent, or from the parent fine-tuned on it before or meanwhile."""
    blocks = lab.blocks_of(foreign_text(lab.protocol.data, lab.root))
    width = lab.protocol.width
    plain = lab.losses(
        "shifted",
        lambda: lab.pruned(width),
        lambda: lab.answers_of(lab.parent, blocks, "shifted"),
        blocks=blocks,
    )
    corrected = lab.losses(
        "shifted-corrected",
        lambda: lab.pruned(width),
        lambda: lab.answers_of(lab.corrected(blocks), blocks, "corrected"),
        blocks=blocks,
    )
    alongside = lab.losses(
        "shifted-alongside", lambda: lab.pruned(width), lambda: lab.learning(blocks), blocks=blocks
    )
    return {
        "parent as it is": plain,
        "corrected parent": corrected,
        "corrected alongside": alongside,
    }


def importance_in_steps(lab: Laboratory) -> Rows:
    """One measurement, or pruned a part of the way and measured again."""
    return {
        f"T = {steps}": _kept_by(lab, f"steps-{steps}", steps=steps, target=lab.protocol.width)
        for steps in (1, 2, 4)
    }


def every_width_metric(lab: Laboratory) -> Rows:
    """The nine aggregations, batch then sequence, of activations; the other metrics; all to one shape."""
    rows = {
        f"activation, {batch} of {sequence}": _kept_by(
            lab,
            f"activation-{batch}-{sequence}",
            metric="activation",
            batch_aggregation=batch,
            sequence_aggregation=sequence,
        )
        for batch in get_args(Aggregation)
        for sequence in get_args(Aggregation)
    }
    rows |= {
        f"weighted, l2 of {sequence}": _kept_by(
            lab, f"weighted-{sequence}", metric="weighted", sequence_aggregation=sequence
        )
        for sequence in get_args(Aggregation)
    }
    return rows | {
        f"{metric} alone": _kept_by(lab, f"metric-{metric}", metric=metric) for metric in ("weight", "random")
    }


def two_sizes_in_sequence(lab: Laboratory) -> Rows:
    """A quarter of the parent at once, or half of it first: the same tokens for the last size, one teacher."""
    half, quarter = lab.protocol.width, lab.protocol.quarter
    direct = lab.losses("quarter-direct", lambda: lab.pruned(quarter))

    def halved() -> PreTrainedModel:
        return lab.retrained("half", lambda: lab.pruned(half))

    def again() -> PreTrainedModel:
        between = halved()
        scores = lab.scores_by(lab.protocol.calibration, model=between)
        return prune(between, plan_pruning(scores, quarter))

    return {"one step": direct, "two steps": lab.losses("quarter-second", again)}


def every_loss(lab: Laboratory) -> Rows:
    """The same student by each loss; those on whole logits are asked of a live teacher."""

    def live(name: str, start: Callable[[], PreTrainedModel], **fields: Any) -> Losses:
        recipe = DistillationRecipe(teacher="live", **fields)
        return lab.losses(name, start, lab.live, distillation=recipe)

    def narrow() -> PreTrainedModel:
        return lab.pruned(lab.protocol.width)

    def shallow() -> PreTrainedModel:
        return lab.pruned(lab.protocol.depth)

    few = DistillationRecipe(top_k=5)
    rows = {loss: live(f"loss-{loss}", narrow, loss=loss) for loss in get_args(Loss)}
    rows["forward_kl, temperature 3"] = live("loss-warm", narrow, temperature=3.0)
    rows["forward_kl of the 128 likeliest"] = distilled(lab)
    rows["forward_kl of the 5 likeliest"] = lab.losses(
        "loss-top-5", narrow, lambda: lab.answers_of(lab.parent, lab.blocks, "top-5", few), distillation=few
    )
    rows["fewer layers: logits only"] = live("loss-depth-logits", shallow, intermediate="none")
    rows["fewer layers: and hidden states"] = live("loss-depth-states", shallow)
    return rows


def what_cutting_may_mend(lab: Laboratory) -> Rows:
    """The papers' residual merge of query heads, and norms that keep their size; KV heads dropped or pooled."""
    few_heads = replace(lab.source, num_attention_heads=lab.source.num_key_value_heads)
    few_kv = replace(few_heads, num_key_value_heads=max(1, lab.source.num_key_value_heads // 2))
    width = lab.protocol.width

    def cut(name: str, target: Architecture, **fields: Any) -> Losses:
        recipe = PruningRecipe(**fields)
        return lab.losses(
            f"mend-{name}",
            lambda: lab.cut(plan_pruning(lab.scores, target, recipe)),
            points=lab.protocol.points[:3],
        )

    return {
        "narrow": distilled(lab)[:3],
        "narrow, norms rescaled": cut("rescaled", width, norm_rescaling=True),
        "one query head a KV head": cut("heads", few_heads),
        "the same, heads merged": cut("merged", few_heads, head_merge=True),
        "half of the KV heads, dropped": cut("kv-dropped", few_kv),
        "half of the KV heads, pooled": cut("kv-pooled", few_kv, kv_heads="mean"),
    }


def every_depth_metric(lab: Laboratory) -> Rows:
    """Which layers go, by each metric and way to choose."""
    ways = [(metric, way) for metric in get_args(DepthMetric) for way in get_args(DepthSelection)]
    return {
        f"{metric}, {way}": _kept_by(
            lab, f"depth-{metric}-{way}", target=lab.protocol.depth, depth_metric=metric, depth_selection=way
        )
        for metric, way in ways
    }


def _kept_by(lab: Laboratory, name: str, *, target: Architecture | None = None, **changes: Any) -> Losses:
    """Return what comes of a shape, by default the narrow one, whose parts are chosen by another calibration."""
    target = target or lab.protocol.width

    def start() -> PreTrainedModel:
        scores = lab.scores_by(replace(lab.protocol.calibration, **changes), smallest=target)
        return lab.cut(plan_pruning(scores, target))

    return lab.losses(name, start, points=lab.protocol.points[:3])


def distilled(lab: Laboratory) -> Losses:
    """Return the losses of the student that most findings compare with."""
    return lab.losses("width", lambda: lab.pruned(lab.protocol.width))


def peers(source: Architecture, size: int) -> list[Architecture]:
    """Return shapes near a size that give up depth, width or both, from few layers to all."""
    found = []
    for layers in range(max(1, source.num_layers // 2), source.num_layers + 1):
        for hidden in range(source.hidden_size // 2, source.hidden_size + 1, source.num_attention_heads):
            for neurons in range(source.intermediate_size // 4, source.intermediate_size + 1, 16):
                shape = replace(source, num_layers=layers, hidden_size=hidden, intermediate_size=neurons)
                if abs(shape.parameter_count / size - 1) < 0.015:
                    found.append(shape)
    step = max(1, len(found) // NUM_PEERS)
    return found[step // 2 :: step][:NUM_PEERS]


NUM_PEERS = 10


FINDINGS = (
    Finding(
        number=1,
        claim="Importance beats random indices, before retraining and after a few steps",
        columns=ON_THE_WAY[:2],
        measure=importance_beats_random,
        holds=lambda rows: all(map(_below, rows[KD], rows[RANDOM])),
    ),
    Finding(
        number=2,
        claim="Distillation beats the label loss at equal tokens",
        columns=ON_THE_WAY,
        measure=distillation_beats_labels,
        holds=lambda rows: rows["distillation"][-1] < rows[LABELS][-1],
    ),
    Finding(
        number=3,
        claim="A pruned start beats a random start",
        columns=ON_THE_WAY,
        measure=pruned_start_beats_random_start,
        holds=lambda rows: rows["pruned"][-1] < rows[FRESH][-1],
    ),
    Finding(
        number=4,
        claim="Width beats depth at equal size after retraining",
        columns=ON_THE_WAY,
        measure=width_beats_depth,
        holds=lambda rows: rows["width"][-1] < rows[DEPTH][-1],
    ),
    Finding(
        number=5,
        claim=f"Among {NUM_PEERS} students of equal size, the ranking half-way agrees more with the final one "
        "than the ranking before retraining does",
        columns=ON_THE_WAY[:-1],
        measure=rankings_settle_late,
        holds=lambda rows: all(taus[0] < taus[2] for taus in rows.values()),
    ),
    Finding(
        number=6,
        claim="Teacher correction helps on text of another kind",
        columns=ON_THE_WAY,
        measure=correction_helps_on_shifted_text,
        holds=lambda rows: rows["corrected parent"][-1] < rows["parent as it is"][-1],
    ),
    Finding(
        number=7,
        claim="Importance measured at once and in T steps",
        columns=ON_THE_WAY[:3],
        measure=importance_in_steps,
    ),
    Finding(
        number=8,
        claim="What is learnt from the teacher",
        columns=ON_THE_WAY,
        measure=every_loss,
    ),
    Finding(
        number=9,
        claim="The nine aggregations, weight-aware scores, and baselines",
        columns=ON_THE_WAY[:3],
        measure=every_width_metric,
    ),
    Finding(
        number=10,
        claim="A quarter of the parent in one step and in two",
        columns=ON_THE_WAY,
        measure=two_sizes_in_sequence,
    ),
    Finding(
        number=11,
        claim="Which layers go",
        columns=ON_THE_WAY[:3],
        measure=every_depth_metric,
    ),
    Finding(
        number=12,
        claim="What cutting may mend: merged heads, rescaled norms, pooled KV heads",
        columns=ON_THE_WAY[:3],
        measure=what_cutting_may_mend,
    ),
)


def _below(left: float, right: float) -> bool:
    return left < right
