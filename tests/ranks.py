"""Work of several processes together over gloo, on this machine, as it is with one device each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing
from torch.distributed import FileStore

from minitron.sharding import Group, joined


def in_ranks(work: Callable[[Group, Path], Any], directory: Path, *, count: int = 2) -> list[Any]:
    """Call ``work`` in ``count`` new processes that share ``directory``; return what each returned, by rank.

    Results are saved by torch, so they are tensors and plain values.
    """
    multiprocessing.spawn(_work, args=(count, work, directory), nprocs=count)
    return [torch.load(directory / f"result-{rank}.pt") for rank in range(count)]


def _work(rank: int, count: int, work: Callable[[Group, Path], Any], directory: Path) -> None:
    torch.set_num_threads(1)
    store = FileStore(str(directory / "meeting"), count)
    with joined(rank=rank, count=count, store=store, device=torch.device("cpu")) as group:
        torch.save(work(group, directory), directory / f"result-{rank}.pt")
