"""The processes that hold one model together: each a share of its rows, and of the blocks of every step.

Knows no recipe and no data. ``ALONE`` is one process that holds all; for several, ``joined`` makes a group of
torch.distributed and FSDP2 (``fully_shard``) takes the model apart, layer by layer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]  # torch does not list it
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn import functional
from transformers import PreTrainedModel

from minitron.assemble import anatomy_of, layers_of

MEETING_TIMEOUT = timedelta(minutes=10)
"""Of a collective: how far one process may fall behind the others, as when it writes a state."""


_AS_FORWARD = "minitron_as_forward"
"""The method of a sharded model that gathers what a forward pass would."""


class Group:
    """One process that holds all of a model: what several do together is nothing, for it."""

    rank = 0
    count = 1

    def shard(self, model: PreTrainedModel) -> None:
        """Take a model apart in place, so that this process holds its share; collective."""

    def shard_beside(self, module: nn.Module) -> None:
        """Take apart, in place, what is trained beside a model; collective."""

    def like(self, parameter: Tensor, rows: Tensor) -> Tensor:  # noqa: ARG002
        """Return a tensor of a parameter's shape, of which this process holds ``rows``."""
        return rows

    def rows(self, parameter: Tensor) -> slice:
        """Return which rows of a parameter this process holds."""
        return slice(0, parameter.shape[0])

    def reshard(self, model: PreTrainedModel) -> None:
        """Let go of what a forward pass has gathered and a backward pass would have let go of."""

    def share(self, block_ids_S: Tensor) -> Tensor:
        """Return which blocks of a step this process computes: as many as every other."""
        return block_ids_S

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of a number over all processes; collective."""
        return value

    def first(self, number: int) -> int:
        """Return the number that the process of rank 0 says; collective."""
        return number

    def gathered(self, rows: Tensor, num_rows: int) -> Tensor:  # noqa: ARG002
        """Return the whole tensor of which each process holds some rows, on rank 0; collective.

        The others get an empty one.
        """
        return rows


ALONE = Group()


class ShardedGroup(Group):
    """The processes of torch.distributed's default group."""

    def __init__(self, mesh: DeviceMesh) -> None:
        self.rank = mesh.get_rank()
        self.count = mesh.size()
        self._mesh = mesh
        self._device = torch.device(mesh.device_type)

    def shard(self, model: PreTrainedModel) -> None:
        """Take a model apart in place: its layers, and what is outside of them."""
        for layer in layers_of(model, anatomy_of(model)):
            fully_shard(layer, mesh=self._mesh)
        fully_shard(model, mesh=self._mesh)
        setattr(model, _AS_FORWARD, MethodType(lambda _, work: work(), model))
        register_fsdp_forward_method(model, _AS_FORWARD)

    def shard_beside(self, module: nn.Module) -> None:
        """Take a module apart in place; it is gathered whenever it is called."""
        fully_shard(module, mesh=self._mesh)

    def like(self, parameter: Tensor, rows: Tensor) -> Tensor:
        """Return a distributed tensor."""
        assert isinstance(parameter, DTensor)
        return DTensor.from_local(
            rows, self._mesh, parameter.placements,
            run_check=False, shape=parameter.shape, stride=parameter.stride(),
        )  # fmt: skip

    def rows(self, parameter: Tensor) -> slice:
        """Return the chunk that FSDP2 gives to this process: all but the last ones are equal."""
        start = min(self.rank * self._chunk(parameter.shape[0]), parameter.shape[0])
        return slice(start, start + local(parameter).shape[0])

    def reshard(self, model: PreTrainedModel) -> None:
        """Let go of what is outside of the layers, which stays gathered after a forward pass."""
        assert isinstance(model, FSDPModule)
        model.reshard()

    def share(self, block_ids_S: Tensor) -> Tensor:
        """Return an even part of a step's blocks."""
        assert len(block_ids_S) % self.count == 0, f"{len(block_ids_S)} blocks among {self.count} processes"
        return block_ids_S.chunk(self.count)[self.rank]

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over all processes."""
        value = value.to(self._device, copy=True)
        dist.all_reduce(value)
        return value

    def first(self, number: int) -> int:
        """Return what rank 0 says."""
        return int(self.total(torch.tensor(0 if self.rank else int(number))))

    def gathered(self, rows: Tensor, num_rows: int) -> Tensor:
        """Return the whole tensor on rank 0."""
        chunk = self._chunk(num_rows)
        expected = max(0, min(chunk, num_rows - self.rank * chunk))
        assert len(rows) == expected, f"{len(rows)} rows of {num_rows} on rank {self.rank}, not {expected}"
        padding = [0, 0] * (rows.ndim - 1) + [0, chunk - rows.shape[0]]
        padded = functional.pad(rows, padding).contiguous()
        parts = [torch.empty_like(padded) for _ in range(self.count)] if self.rank == 0 else None
        dist.gather(padded, parts)
        return rows[:0] if parts is None else torch.cat(parts)[:num_rows]

    def _chunk(self, num_rows: int) -> int:
        return -(-num_rows // self.count)


@contextmanager
def joined(*, rank: int, count: int, store: Store, device: torch.device) -> Iterator[ShardedGroup]:
    """Meet ``count - 1`` other processes and stay together for as long as the context lasts.

    Args:
        rank: Of this process, from 0.
        count: Of processes.
        store: Where they find each other.
        device: Where this process computes; processes on CUDA meet over NCCL, on CPUs over gloo.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=MEETING_TIMEOUT)
    try:
        yield ShardedGroup(init_device_mesh(device.type, (count,)))
    finally:
        dist.destroy_process_group()


def within(model: PreTrainedModel, work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns, which uses parts of a model one by one as one forward pass of it.

    Where several processes hold the model, what is in no layer is gathered for it. Gradients flow through tensors,
    and tuples of tensors, that it returns.
    """
    return getattr(model, _AS_FORWARD)(work) if isinstance(model, FSDPModule) else work()


def local(tensor: Tensor) -> Tensor:
    """Return the rows of a tensor that this process holds; writing to them changes the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def everywhere(value: Tensor) -> Tensor:
    """Return the whole of a sharded tensor, or a number that was computed of some, such as their norm; collective."""
    return value.full_tensor() if isinstance(value, DTensor) else value
