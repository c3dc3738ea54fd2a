"""The parents of tables that do not come with the package, and the text that they learn: made once, under a root."""

from dataclasses import replace
from pathlib import Path

import sympy
import torch
from transformers import NemotronConfig, NemotronForCausalLM

from minitron.builtin import materialize
from minitron.checkpoint import save_checkpoint
from minitron.correct import correction_of
from minitron.data import prepare_blocks
from minitron.parents import TINY
from minitron.progress import Progress, Report
from minitron.recipe import TrainingRecipe
from nas.search import SearchSpec
from tests.search_bench.specs import NEMOTRON, SYMPY

TRAINING = TrainingRecipe(
    num_tokens=768_000,
    batch_tokens=512,
    micro_batch_size=4,
    peak_learning_rate=3e-3,
    final_learning_rate_ratio=0.02,
    warmup_tokens=38_400,
    precision="float32",
)


def located(spec: SearchSpec, root: Path, report: Report) -> SearchSpec:
    """Return a spec with places on this machine instead of the names that tables call parents and texts by."""
    if spec.data.source == SYMPY:
        spec = replace(spec, data=replace(spec.data, source=f"{Path(sympy.__file__).parent}/*/*.py"))
    if spec.parent == NEMOTRON:
        spec = replace(spec, parent=str(_nemotron(spec, root, report)))
    return spec


def _nemotron(spec: SearchSpec, root: Path, report: Report) -> Path:
    """Return the checkpoint of a small Nemotron, trained on the text of ``spec`` with the tokenizer of builtin:tiny."""
    directory = root / "parents" / NEMOTRON
    if directory.exists():
        return directory
    companions = materialize(TINY, root, report)
    blocks = prepare_blocks(
        spec.data,
        companions,
        calibration_blocks=1,
        training_blocks=TRAINING.num_steps(spec.data.sequence_length)
        * TRAINING.blocks_per_step(spec.data.sequence_length),
        root=root,
        report=report,
    )
    torch.set_num_threads(1)
    torch.manual_seed(TRAINING.seed)
    model = NemotronForCausalLM(NemotronConfig(**spec.parent_config or {}))
    training = correction_of(model, blocks.training_NT, TRAINING, device=torch.device("cpu"))
    total = blocks.training_NT.size
    while training.num_tokens < total:
        training.advance(min(training.num_tokens + total // 100, total))
        report(Progress(stage=f"training {NEMOTRON}", done=training.num_tokens, total=total, unit="tokens"))
    save_checkpoint(model, directory, companions=companions)
    return directory
