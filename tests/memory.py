"""What work takes of memory, as torch's allocator sees it."""

import gc
from collections.abc import Callable

import torch


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most that ``work`` has allocated at once, beyond what was there."""
    gc.collect()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    )
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
