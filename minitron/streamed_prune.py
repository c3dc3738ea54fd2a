"""Cut a plan's indices out of a checkpoint, straight into what each process holds of the student.

The parent's files are mapped, never loaded: a process reads the rows and columns that it keeps, one weight at a
time. The same to the bit as ``minitron.prune`` on a loaded parent.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from minitron.assemble import anatomy_of, empty_model, put, put_buffers
from minitron.checkpoint_files import check_weights, weight_files
from minitron.errors import ArtifactMismatch, UnreadableCheckpoint
from minitron.families import read_architecture
from minitron.parents import parent_architecture, read_config
from minitron.plan import PruningPlan
from minitron.prune import in_parent, kept_of, student_of
from minitron.sharding import Group, local


def prune_checkpoint(
    directory: Path,
    plan: PruningPlan,
    group: Group,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Return this process's share of a checkpoint's student, on its device, in evaluation mode; collective.

    Args:
        directory: Of the parent.
        plan: What is kept; ``minitron.plan.whole_plan`` keeps all, as a teacher wants it.
        group: The processes that hold the student together.
        device: Of this process.
        dtype: Of the student's weights.

    Raises:
        ArtifactMismatch: The plan was made for another shape than the parent's.
        UnsupportedModel: The model holds a weight whose axes are not known, or quantized weights.
        PickledCheckpoint: Weights only as pickles.
        UnreadableCheckpoint: Files or tensors that are missing or corrupt.
    """
    found = parent_architecture(str(directory))
    if found != plan.source:
        raise ArtifactMismatch(f"{directory}: found {found}, allowed for this plan: {plan.source}")
    check_weights(directory, read_config(str(directory)))
    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    student = student_of(config, plan, dtype=dtype)
    weights: dict[str, Tensor] = {}
    with _mapped(directory) as parent, torch.no_grad():
        sources = _found(student, plan, parent, directory)
        group.shard(student)
        for name, parameter in student.named_parameters():
            source = sources[name]
            kept = kept_of(parent[source].get_tensor(source), name, plan, group.rows(parameter))
            weights[name] = nn.Parameter(group.like(parameter, kept.to(device, dtype)))
    student.load_state_dict(weights, strict=False, assign=True)
    student.tie_weights()
    put_buffers(student, device)
    student.eval()  # type: ignore[no-untyped-call]
    return student


def gathered(model: PreTrainedModel, group: Group) -> PreTrainedModel | None:
    """Return an ordinary model on the CPU with the weights that several processes hold; collective.

    Only the process of rank 0 gets it, the others None. A process that is alone gets its own.
    """
    if group.count == 1:
        return model
    group.reshard(model)
    whole = empty_model(model.config, dtype=model.dtype)
    for name, parameter in model.named_parameters():
        tensor = group.gathered(local(parameter.detach()), parameter.shape[0])
        put(whole, name, nn.Parameter(tensor.cpu()))
    if group.rank:
        return None
    whole.tie_weights()
    put_buffers(whole, torch.device("cpu"))
    assert read_architecture(whole.config.to_dict()).parameter_count == sum(
        parameter.numel() for parameter in whole.parameters()
    )
    whole.eval()  # type: ignore[no-untyped-call]
    return whole


def _found(
    student: PreTrainedModel, plan: PruningPlan, parent: Mapping[str, Any], directory: Path
) -> dict[str, str]:
    """Return what the files call the source of each of a student's weights."""
    found, anatomy = {}, anatomy_of(student)
    for name, _ in student.named_parameters():
        names = anatomy.names_in_files(in_parent(name, plan))
        source = next((each for each in names if each in parent), None)
        if source is None:
            raise UnreadableCheckpoint(f"{directory}: tensors are missing: {names[0]}")
        found[name] = source
    return found


@contextmanager
def _mapped(directory: Path) -> Iterator[Mapping[str, Any]]:
    """Give the open file that holds each tensor of a checkpoint; its tensors are views of mapped memory."""
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, framework="pt")) for path in weight_files(directory)]
        yield {name: file for file in files for name in file.keys()}  # noqa: SIM118  # no mapping
