"""Where the work of a search computes, by how many threads, and whether there is memory for it. Knows no Ray."""

import torch

from minitron.device import SMALL_MODEL_PARAMETERS, pick_device
from nas.estimate import estimate
from nas.parent import architecture_of
from nas.resources import Resources
from nas.room import require_memory
from nas.search import SearchSpec
from nas.space import search_space


def use_threads(spec: SearchSpec) -> None:
    """Set this process's torch threads: the spec's, else as many as a trial's CPUs, else one."""
    threads = spec.resources.threads or max(1, int(spec.resources.cpus))
    is_small = architecture_of(spec).parameter_count < SMALL_MODEL_PARAMETERS
    torch.set_num_threads(1 if is_small and not spec.resources.threads else threads)


def device_of(resources: Resources) -> torch.device:
    """Return the accelerator when a trial gets one, else the CPU."""
    return pick_device() if resources.gpus > 0 else torch.device("cpu")


def require_device_memory(spec: SearchSpec) -> None:
    """Raise InvalidSpec where the accelerator has less memory than a trial takes."""
    device = device_of(spec.resources)
    if device.type == "cuda":
        share = min(1.0, spec.resources.gpus)
        available = int(share * torch.cuda.get_device_properties(device).total_memory)
        trial = estimate(spec, search_space(spec)).trial
        require_memory(trial, available, field="resources.gpus", what="device memory for a trial")
