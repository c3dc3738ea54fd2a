"""Prove that a checkpoint is what it should be: reload it in a fresh process with stock transformers.

The fresh process runs none of this project's code, so what it accepts anyone can load.
"""

import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from minitron.device import inference
from minitron.errors import ArtifactMismatch

# B sequences, T tokens, V vocabulary

PROBE_TOKENS = 16
NEW_TOKENS = 8
RELATIVE_TOLERANCE = 1e-4
"""Of the largest logit: float32 sums in another order, nothing else."""

RELOAD = """
import json, sys
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
directory, logits_path, num_threads, new_tokens, token_ids = sys.argv[1:]
torch.set_num_threads(int(num_threads))
model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True).eval()
input_ids = torch.tensor([json.loads(token_ids)])
with torch.no_grad():
    logits = model(input_ids=input_ids).logits
    text = model.generate(
        input_ids, attention_mask=torch.ones_like(input_ids), do_sample=False,
        min_new_tokens=int(new_tokens), max_new_tokens=int(new_tokens),
    )
save_file({"logits": logits.contiguous()}, logits_path)
print(json.dumps({
    "parameters": sum(parameter.numel() for parameter in model.parameters()),
    "generated": text.shape[1] - input_ids.shape[1],
    "quantized": hasattr(model.config, "quantization_config"),
}))
"""


def verify_reload(directory: Path, model: PreTrainedModel, *, expected_parameters: int) -> None:
    """Reload a checkpoint in a fresh process and compare it with the model that it was saved from.

    Args:
        directory: What ``save_checkpoint`` wrote.
        model: On any device; not changed.
        expected_parameters: The count by formula; a tied table counts once.

    Raises:
        ArtifactMismatch: It does not load, its logits or its parameter count differ, it generates no
            text, or its config names a quantization.
    """
    token_ids = [(7 * position + 1) % model.config.vocab_size for position in range(PROBE_TOKENS)]
    with tempfile.TemporaryDirectory() as scratch:
        logits_path = Path(scratch) / "logits.safetensors"
        arguments = [
            str(directory), str(logits_path), str(torch.get_num_threads()), str(NEW_TOKENS),
            json.dumps(token_ids),
        ]  # fmt: skip
        # -P keeps the working directory off the import path: nothing but installed packages loads.
        child = subprocess.run(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-P", "-c", RELOAD, *arguments], capture_output=True, text=True, check=False
        )
        if child.returncode:
            reason = child.stderr.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
            raise ArtifactMismatch(f"{directory}: cannot be reloaded by transformers: {reason[0]}")
        found = json.loads(child.stdout.splitlines()[-1])
        logits_BTV = load_file(logits_path)["logits"]
    if found["parameters"] != expected_parameters:
        raise ArtifactMismatch(
            f"{directory}: found {found['parameters']} parameters when reloaded, expected {expected_parameters}"
        )
    expected_BTV = _logits(model, token_ids)
    if logits_BTV.shape != expected_BTV.shape:
        raise ArtifactMismatch(
            f"{directory}: found logits of shape {tuple(logits_BTV.shape)} when reloaded, "
            f"expected {tuple(expected_BTV.shape)}"
        )
    difference, scale = float((logits_BTV - expected_BTV).abs().max()), float(expected_BTV.abs().max())
    if not difference <= RELATIVE_TOLERANCE * scale:  # NaN must fail as well
        raise ArtifactMismatch(
            f"{directory}: logits differ by {difference:.3g} when reloaded, allowed: "
            f"{RELATIVE_TOLERANCE * scale:.3g}"
        )
    if found["generated"] != NEW_TOKENS:
        raise ArtifactMismatch(f"{directory}: generated {found['generated']} tokens, expected {NEW_TOKENS}")
    if found["quantized"]:
        raise ArtifactMismatch(f"{directory / 'config.json'}: found quantization_config, allowed: none")


def _logits(model: PreTrainedModel, token_ids: list[int]) -> Tensor:
    """Float32 logits on the CPU, where the fresh process computes them."""
    on_cpu = copy.deepcopy(model)
    torch.nn.Module.to(on_cpu, device="cpu", dtype=torch.float32)
    with inference(on_cpu):
        logits_BTV: Tensor = on_cpu(input_ids=torch.tensor([token_ids])).logits
    return logits_BTV
