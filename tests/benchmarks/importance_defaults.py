"""Which importance to prune by when nothing is said: held-out loss before and after a light retraining.

    python tests/benchmarks/importance_defaults.py [builtin:tiny | builtin:smollm2-135m] [--artifacts DIR]
        [--part width | depth] [--calibration-blocks N] [--held-out-blocks N] [--retraining-tokens N]

Prints tables for RESULTS.md. Width is cut one axis at a time and all at once, depth alone; the retraining is of
what is cut most. Losses in nats per token of builtin:python-docs.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from minitron.architecture import Architecture
from minitron.builtin import materialize
from minitron.checkpoint import load_parent
from minitron.data import Blocks, prepare_blocks
from minitron.evaluate import held_out_loss
from minitron.importance import ImportanceScores, measure_importance
from minitron.parents import SMOLLM2, TINY, parent_architecture
from minitron.plan import kept_layers, plan_pruning
from minitron.prune import prune
from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, TrainingRecipe
from minitron.teacher import build_teacher_cache, open_teacher_cache
from minitron.train import Retraining

CPU = torch.device("cpu")
DISTILLATION = DistillationRecipe()

PAPERS = ("activation", "mean", "l2")
"""Metric, aggregation over the sequence and over the batch."""
BEST = ("weighted", "auto", "l2")
WIDTH = (
    PAPERS, BEST, ("random", "mean", "l2"), ("weight", "mean", "l2"), ("activation", "l2", "l2"),
    ("weighted", "mean", "l2"), ("weighted", "l2", "l2"),
)  # fmt: skip
NINE = tuple(
    (metric, sequence, batch)
    for metric in ("activation", "weighted")
    for sequence in ("mean", "l2", "variance")
    for batch in ("mean", "l2", "variance")
)
WIDTH_RETRAINED = (PAPERS, BEST, ("random", "mean", "l2"))

DEPTH = (
    ("block_influence", "independent"), ("block_influence", "contiguous"), ("block_influence", "iterative"),
    ("lm_loss", "independent"), ("kl", "independent"), ("logit_error", "independent"),
    ("kl", "iterative"), ("lm_loss", "iterative"), ("logit_error", "iterative"),
    ("kl", "contiguous"), ("lm_loss", "contiguous"),
)  # fmt: skip
DEPTH_RETRAINED = (DEPTH[0], DEPTH[1], ("kl", "iterative"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is measured of a parent."""

    ways: tuple[tuple[str, str, str], ...]
    sequence_length: int
    width_cuts: dict[str, dict[str, int]]
    """Sizes to cut to, by the column's name; the last is retrained."""
    fewest_layers: int
    peak_learning_rate: float
    batch_tokens: int
    calibration_blocks: int
    held_out_blocks: int
    depth_tokens: int
    retraining_tokens: int


SETTINGS = {
    TINY: Setting(
        ways=tuple(dict.fromkeys((*WIDTH, *NINE))),
        sequence_length=128,
        width_cuts={
            "neurons 160": {"intermediate_size": 160},
            "neurons 96": {"intermediate_size": 96},
            "heads 4": {"num_attention_heads": 4},
            "hidden 112": {"hidden_size": 112},
            "hidden 96": {"hidden_size": 96},
            "all": {"intermediate_size": 128, "num_attention_heads": 4, "hidden_size": 112},
        },
        fewest_layers=3,
        peak_learning_rate=2e-3,
        batch_tokens=2_048,
        calibration_blocks=256,
        held_out_blocks=128,
        depth_tokens=16_384,
        retraining_tokens=65_536,
    ),
    SMOLLM2: Setting(
        ways=WIDTH,
        sequence_length=256,
        width_cuts={
            "neurons 1024": {"intermediate_size": 1024},
            "neurons 768": {"intermediate_size": 768},
            "heads 6": {"num_attention_heads": 6},
            "hidden 504": {"hidden_size": 504},
            "all": {"intermediate_size": 1152, "num_attention_heads": 6, "hidden_size": 540},
        },
        fewest_layers=24,
        peak_learning_rate=6e-4,
        batch_tokens=512,
        calibration_blocks=32,
        held_out_blocks=12,
        depth_tokens=512,
        retraining_tokens=6_144,
    ),
}


class Bench:
    """One parent, its blocks and its teacher."""

    def __init__(self, name: str, setting: Setting, artifacts: Path) -> None:
        self.setting = setting
        directory = materialize(name, artifacts)
        self.parent = load_parent(directory)
        self.shape = parent_architecture(str(directory))
        length = setting.sequence_length
        self.training = TrainingRecipe(
            num_tokens=setting.retraining_tokens,
            batch_tokens=setting.batch_tokens,
            micro_batch_size=max(1, setting.batch_tokens // length),
            peak_learning_rate=setting.peak_learning_rate,
            warmup_tokens=setting.retraining_tokens // 12,
            precision="float32",
        )
        self.blocks: Blocks = prepare_blocks(
            DataRecipe(sequence_length=length, validation_tokens=setting.held_out_blocks * length),
            directory,
            calibration_blocks=setting.calibration_blocks,
            training_blocks=self.training.num_steps(length) * self.training.blocks_per_step(length),
            root=artifacts,
        )
        answers = artifacts / "teachers" / f"importance-defaults-{self.blocks.fingerprint}"
        build_teacher_cache(
            self.parent, self.blocks.training_NT, DISTILLATION, answers, fingerprint="benchmark", batch_size=4
        )
        self.teacher = open_teacher_cache(answers, expected_fingerprint="benchmark", head=None)

    def loss(self, model: PreTrainedModel) -> float:
        """Held-out nats per token."""
        return held_out_loss(model, self.blocks.validation_NT, batch_size=4)

    def scores(self, recipe: CalibrationRecipe) -> ImportanceScores:
        """Measure by a recipe."""
        recipe = replace(
            recipe, num_tokens=self.blocks.calibration_NT.size, depth_tokens=self.setting.depth_tokens
        )
        return measure_importance(
            self.parent,
            self.blocks.calibration_NT,
            recipe,
            fingerprint="benchmark",
            fewest_layers=self.setting.fewest_layers,
        )

    def student(self, scores: ImportanceScores, **sizes: int) -> PreTrainedModel:
        """Prune to some sizes, the others the parent's."""
        target: Architecture = replace(self.shape, **sizes)
        return prune(self.parent, plan_pruning(scores, target))

    def retrained(self, student: PreTrainedModel) -> float:
        """Retrain lightly, and return the held-out loss."""
        Retraining(
            student, self.blocks.training_NT, self.teacher,
            training=self.training, distillation=DISTILLATION, device=CPU,
        ).advance(self.training.num_tokens)  # fmt: skip
        return self.loss(student)


def row(*cells: object) -> None:
    """Print one line of a table at once, since the next takes minutes."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def heading(*cells: str) -> None:
    """Print the first two lines of a table."""
    print()
    row(*cells)
    row(*["---"] * len(cells))


def width(bench: Bench, ways: Sequence[tuple[str, str, str]]) -> None:
    """Compare the scores of width."""
    cuts = bench.setting.width_cuts
    tokens = f"{bench.setting.retraining_tokens:,}"
    heading("metric", "over the sequence", "over the batch", *cuts, f"all, after {tokens} tokens")
    for way in ways:
        metric, sequence, batch = way
        scores = bench.scores(
            CalibrationRecipe(metric=metric, sequence_aggregation=sequence, batch_aggregation=batch)
        )
        students = [bench.student(scores, **sizes) for sizes in cuts.values()]
        before = [f"{bench.loss(student):.4f}" for student in students]
        after = f"{bench.retrained(students[-1]):.4f}" if way in WIDTH_RETRAINED else ""
        row(*way, *before, after)


def depth(bench: Bench, ways: Sequence[tuple[str, str]]) -> None:
    """Compare the choices of layers."""
    fewest = bench.setting.fewest_layers
    tokens = f"{bench.setting.retraining_tokens:,}"
    heading("metric", "selection", "layers that go", f"{fewest} layers", f"after {tokens} tokens")
    for way in ways:
        metric, selection = way
        scores = bench.scores(
            CalibrationRecipe(metric="random", depth_metric=metric, depth_selection=selection)
        )
        kept = kept_layers(scores, fewest)
        gone = ", ".join(str(layer) for layer in range(bench.shape.num_layers) if layer not in kept)
        student = bench.student(scores, num_layers=fewest)
        before = f"{bench.loss(student):.4f}"
        row(*way, gone, before, f"{bench.retrained(student):.4f}" if way in DEPTH_RETRAINED else "")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("parent", nargs="?", default=TINY, choices=SETTINGS)
    arguments.add_argument("--artifacts", type=Path, default=Path(".nas/artifacts"))
    arguments.add_argument("--part", choices=("width", "depth"))
    for name in ("calibration-blocks", "held-out-blocks", "retraining-tokens"):
        arguments.add_argument(f"--{name}", type=int)
    options = vars(arguments.parse_args())
    torch.set_num_threads(1)
    changes = {name: value for name, value in options.items() if value and hasattr(SETTINGS[TINY], name)}
    bench = Bench(
        options["parent"], replace(SETTINGS[options["parent"]], **changes), options["artifacts"].absolute()
    )
    print(f"\n{options['parent']}: parent {bench.loss(bench.parent):.4f}", flush=True)
    if options["part"] != "depth":
        width(bench, bench.setting.ways)
    if options["part"] != "width":
        depth(bench, DEPTH)


if __name__ == "__main__":
    main()
