"""Where and how a forward pass runs: device, precision, evaluation mode.

Knows no model in particular. Sets nothing global; threads are the caller's to choose.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import nn

from minitron.recipe import Precision

SMALL_MODEL_PARAMETERS = 10_000_000
"""Below this, threads cost more than they bring."""


def pick_device() -> torch.device:
    """Return the accelerator when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def effective_precision(device: torch.device, precision: Precision) -> Literal["float32", "bfloat16"]:
    """Return what ``auto`` means on a device: bfloat16 where the hardware multiplies it, else float32.

    That is on CUDA, and on CPUs with AVX512-BF16 or AMX, where training steps were measured at 0.5 to
    0.8 of float32's time for hidden sizes from 576 down to 128. Other CPUs emulate it, slowly.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        gains = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        gains = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if gains else "float32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which forward passes run at ``precision``; see ``effective_precision``."""
    if effective_precision(device, precision) == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def forget_peak_memory(device: torch.device) -> None:
    """Begin to look for the peak anew; see ``peak_memory_bytes``."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int | None:
    """Return the most that this process had allocated on an accelerator; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the model's own mode is restored at the end."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
