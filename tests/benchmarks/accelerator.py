"""A whole small search of a Llama with random weights on an accelerator: memory against the plan, tokens a second,
utilisation.

    python tests/benchmarks/accelerator.py                    about 1.1 B parameters, one accelerator
    python tests/benchmarks/accelerator.py --cpu --scale 32   the same way, small, where there is none

Prints rows for RESULTS.md. What the weights are does not matter to any of these figures.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from minitron.builtin import materialize
from minitron.checkpoint import save_checkpoint
from minitron.parents import TINY, parent_architecture
from nas.estimate import Estimate, estimate
from nas.search import SearchSpec
from nas.service import SearchService
from nas.space import search_space
from nas.spec import parse_spec
from nas.storage.sql import open_store
from nas.trial import TrialState

HIDDEN, NEURONS, LAYERS, HEADS, KV_HEADS = 2048, 8192, 16, 32, 8
VOCABULARY = 32_768


def write_parent(directory: Path, scale: int, companions: Path) -> None:
    """Write the random parent, with widths divided by ``scale``."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=HIDDEN // scale, intermediate_size=NEURONS // scale, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS // min(scale, 4), num_key_value_heads=KV_HEADS // min(scale, 4),
        head_dim=max(8, 64 // scale), vocab_size=VOCABULARY // min(scale, 16), max_position_embeddings=4096,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    save_checkpoint(LlamaForCausalLM(config), directory, companions=companions)


def make_spec(parent: Path, scale: int, gpus: int) -> SearchSpec:
    """Return a search of three students of about 70 % of the parent."""
    size = parent_architecture(str(parent)).parameter_count
    return parse_spec(
        {
            "name": "accelerator benchmark",
            "parent": str(parent),
            "budget": {"max_parameters": int(0.75 * size), "min_parameters": int(0.55 * size)},
            "axes": {
                "num_layers": [12, 14, 16],
                "hidden_size": [HIDDEN * part // 4 // scale for part in (3, 4)],
                "intermediate_size": [NEURONS * part // 4 // scale for part in (2, 3, 4)],
            },
            "data": {"sequence_length": 1024 // min(scale, 8), "validation_tokens": 65_536 // scale},
            "calibration": {"num_tokens": 262_144 // scale, "batch_size": 4},
            "distillation": {"teacher": "auto"},
            "training": {
                "num_tokens": 1_048_576 // scale, "batch_tokens": 65_536 // scale, "micro_batch_size": 8,
                "peak_learning_rate": 1e-4,
            },
            "num_points": 1,
            "num_trials": 3,
            "max_parallel": 1,
            "resources": {"cpus": 2, "gpus": gpus},
        }
    )  # fmt: skip


def matrix_product_rate(device: torch.device, size: int) -> float:
    """Return the operations a second of a bfloat16 product, the best of ten."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        product = left @ right
        float(product[0, 0])  # waits for the device
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def show(service: SearchService, expected: Estimate, peak_rate: float) -> None:
    """Print a row for each completed trial."""
    (view,) = service.list_views()
    print(
        "| student | parameters | memory, measured | memory, planned at most | tokens a second | utilisation |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for record in service.trials(view.search.id):
        trial, measured = record.trial, record.trial.measurement
        if trial.state is not TrialState.COMPLETED or measured is None:
            print(f"| {trial.architecture.name} | {trial.state} | {trial.failure} | | | |")
            continue
        work = 3 * trial.architecture.flops_per_token(context=view.search.spec.data.sequence_length)
        rate = measured.num_tokens / measured.train_seconds
        peak = f"{measured.peak_memory_bytes / 1e9:.2f} GB" if measured.peak_memory_bytes else "none"
        print(
            f"| {trial.architecture.name} | {measured.num_parameters / 1e6:,.0f} M | {peak} "
            f"| {expected.trial.memory.total / 1e9:.2f} GB | {rate:,.0f} | {work * rate / peak_rate:.2f} |"
        )


def main() -> None:
    """Run and print."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--cpu", action="store_true", help="use no accelerator")
    arguments.add_argument("--scale", type=int, default=1, help="divides widths and tokens")
    options = arguments.parse_args()
    assert options.cpu or torch.cuda.is_available(), (
        "there is no accelerator here: --cpu --scale 32 tries the way"
    )
    device = torch.device("cpu" if options.cpu else "cuda")
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        # Its tokenizer: the text is real, though the parent has never read any.
        companions = materialize(TINY, Path(".nas/artifacts").absolute(), lambda told: print(told.stage))
        write_parent(home / "parent", options.scale, companions)
        spec = make_spec(home / "parent", options.scale, gpus=0 if options.cpu else 1)
        service = SearchService(open_store(f"sqlite:///{home}/nas.db"), artifact_root=home / "artifacts")
        search = service.create(spec)
        subprocess.run(
            [Path(sys.executable).with_name("nas"), "run", "--resume", search.id],
            env=os.environ | {"NAS_HOME": scratch}, check=True,
        )  # fmt: skip
        print(torch.cuda.get_device_name() if not options.cpu else "CPU", f"at scale {options.scale}")
        show(
            service,
            estimate(spec, search_space(spec)),
            matrix_product_rate(device, 8192 if not options.cpu else 1024),
        )


if __name__ == "__main__":
    main()
