"""The library's costs as ratios within one run: teacher, utilisation, importance.

    python tests/benchmarks/bench_library.py [builtin:tiny | builtin:smollm2-135m] [--artifacts DIR]

Prints rows for RESULTS.md. One thread, float32, medians of paired runs.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from measure import paired_ratio, seconds, show
from transformers import PreTrainedModel

from minitron.architecture import Architecture
from minitron.builtin import materialize
from minitron.checkpoint import load_parent
from minitron.data import Blocks, prepare_blocks
from minitron.importance import measure_importance
from minitron.parents import TINY, parent_architecture
from minitron.plan import plan_pruning
from minitron.prune import prune
from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, TrainingRecipe
from minitron.teacher import LiveTeacher, Teacher, build_teacher_cache, open_teacher_cache
from minitron.train import Retraining

NUM_BLOCKS = 16
DISTILLATION = DistillationRecipe()
CPU = torch.device("cpu")


def recipe(blocks: Blocks) -> TrainingRecipe:
    """All blocks in optimiser steps of four."""
    tokens = blocks.training_NT.size
    return TrainingRecipe(
        num_tokens=tokens, batch_tokens=tokens // 4, micro_batch_size=4, precision="float32"
    )


def retrain(student: PreTrainedModel, blocks: Blocks, teacher: Teacher) -> None:
    """Retrain over all blocks once."""
    training = recipe(blocks)
    Retraining(
        student, blocks.training_NT, teacher, training=training, distillation=DISTILLATION, device=CPU
    ).advance(training.num_tokens)


def half_size(parent: Architecture) -> Architecture:
    """A student that keeps the parent's layers and heads and half of its neurons."""
    return replace(parent, intermediate_size=parent.intermediate_size // 2)


def matrix_product_rate(size: int = 1024) -> float:
    """Floating-point operations a second of a float32 product on the same thread."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    left @ right
    return max(2 * size**3 / seconds(lambda: left @ right) for _ in range(10))


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("parent", nargs="?", default=TINY)
    arguments.add_argument("--artifacts", type=Path, default=Path(".nas/artifacts"))
    options = arguments.parse_args()
    torch.set_num_threads(1)
    directory = materialize(options.parent, options.artifacts.absolute())
    parent = load_parent(directory)
    architecture = parent_architecture(str(directory))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        blocks = prepare_blocks(
            DataRecipe(sequence_length=128, validation_tokens=1024),
            directory, calibration_blocks=NUM_BLOCKS, training_blocks=NUM_BLOCKS, root=root,
        )  # fmt: skip
        calibration = CalibrationRecipe(num_tokens=blocks.calibration_NT.size, batch_size=4)
        scores = measure_importance(parent, blocks.calibration_NT, calibration, fingerprint="benchmark")
        student = prune(parent, plan_pruning(scores, half_size(architecture)))
        build_teacher_cache(
            parent, blocks.training_NT, DISTILLATION, root / "teacher", fingerprint="benchmark", batch_size=4
        )
        cached = open_teacher_cache(root / "teacher", expected_fingerprint="benchmark", head=None)
        live = LiveTeacher(parent, "float32")

        print(f"\n{options.parent}\n\n| what | median | range | meaning |\n| --- | --- | --- | --- |")
        show(
            "retraining, cached teacher / live teacher",
            paired_ratio(lambda: retrain(student, blocks, cached), lambda: retrain(student, blocks, live)),
            "seconds for the same tokens",
        )
        calibration_NT = torch.from_numpy(blocks.calibration_NT.astype("int64"))

        @torch.no_grad()
        def forward() -> None:
            for batch_BT in calibration_NT.split(4):
                parent.model(input_ids=batch_BT, use_cache=False)

        show(
            "importance pass / plain forward",
            paired_ratio(
                lambda: measure_importance(parent, blocks.calibration_NT, calibration, fingerprint="again"),
                forward,
            ),
            "seconds over the same blocks, output head not run",
        )
        work = 3 * half_size(architecture).flops_per_token(context=128) * blocks.training_NT.size
        rates = sorted(
            work / seconds(lambda: retrain(student, blocks, cached)) / matrix_product_rate() for _ in range(5)
        )
        show(
            "model FLOP utilisation of retraining",
            (rates[0], rates[2], rates[-1]),
            "of a 1024 x 1024 float32 product on the same thread",
        )


if __name__ == "__main__":
    main()
