"""Who answers a search's trials: the parent or what was kept of it, all along or one stage of its correction after another.

Knows no trial. The processes of a group each have one of these and ask the same.
"""

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedModel

from minitron.architecture import Architecture
from minitron.checkpoint import load_parent
from minitron.device import effective_precision
from minitron.head import head_of
from minitron.plan import whole_plan
from minitron.sharding import Group
from minitron.streamed_prune import prune_checkpoint
from minitron.teacher import LiveTeacher, PartTeacher, Teacher, open_teacher_cache
from minitron.train import Retraining
from nas.search import SearchSpec
from workers.device import device_of
from workers.report import Prepared, Stage
from workers.stages import blocks_of, is_made

PATIENCE_SECONDS = 60.0
"""How long a node may see a file later than another."""
POLL_SECONDS = 0.2


class Teachers:
    """The teachers of the trials that one process evaluates one after another.

    Args:
        spec: Of the search.
        prepared: Where the answers, and the models that answer, lie.
        parent: Returns the parent in float32, as it is pruned from; shared, where it can answer too.
        architecture: The parent's.
        num_blocks: Training blocks in all.
        group: The processes that evaluate each trial together.
    """

    def __init__(
        self,
        spec: SearchSpec,
        prepared: Prepared,
        parent: Callable[[], PreTrainedModel],
        architecture: Architecture,
        *,
        num_blocks: int,
        group: Group,
    ) -> None:
        self._spec = spec
        self._prepared = prepared
        self._parent = parent
        self._architecture = architecture
        self._num_blocks = num_blocks
        self._group = group
        self._asked: Stage | None = None

    def is_ready(self, num_tokens: int) -> bool:
        """Return whether a student with so many tokens can be taught yet."""
        return not self._prepared.stages or is_made(self._stage(num_tokens), self._spec)

    def end(self, num_tokens: int) -> int:
        """Return to how many tokens such a student learns from the same teacher."""
        if not self._prepared.stages:
            return self._spec.training.num_tokens
        return self._stage(num_tokens).end_block * self._spec.data.sequence_length

    def first(self) -> Teacher:
        """Return the teacher of a student that has learnt nothing yet; ``renew`` names it another later."""
        if not self._prepared.stages:
            return self._teacher
        self._asked = self._stage(0)
        return self._of(self._asked)

    def renew(self, retraining: Retraining) -> None:
        """Let a student whose first teacher was ``first`` learn on from whom it is to learn from by now."""
        if not self._prepared.stages:
            return
        stage = self._stage(retraining.num_tokens)
        if stage is not self._asked:
            self._asked = stage
            retraining.ask(lambda: self._of(stage))

    def _stage(self, num_tokens: int) -> Stage:
        block = num_tokens // self._spec.data.sequence_length
        stages = [stage for stage in self._prepared.stages if stage.first_block <= block]
        return stages[-1]

    def _of(self, stage: Stage) -> Teacher:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_made(stage, self._spec) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)  # rank 0 has seen it
        if stage.teacher_dir is None:
            return self._live(stage.model_dir)
        kept = self._kept(stage.teacher_dir, stage.fingerprint, stage.model_dir)
        block_ids_M = blocks_of(stage, self._spec, num_blocks=self._num_blocks)
        return PartTeacher(kept, block_ids_M, num_blocks=self._num_blocks)

    @cached_property
    def _teacher(self) -> Teacher:
        prepared = self._prepared
        if prepared.teacher_dir is None:
            return self._live(prepared.answering_dir)
        return self._kept(prepared.teacher_dir, prepared.teacher_fingerprint, prepared.answering_dir)

    def _kept(self, directory: Path, fingerprint: str, answering: Path) -> Teacher:
        """Return the answers that were kept of the model in ``answering``."""
        head = None
        if self._spec.distillation.cache_form == "hidden":
            is_parent = answering == self._prepared.parent_dir
            model = self._parent() if is_parent else load_parent(answering)
            head = head_of(model).to(self._device)
        return open_teacher_cache(directory, expected_fingerprint=fingerprint, head=head)

    def _live(self, directory: Path) -> LiveTeacher:
        """Return a model where and as it answers: where trials train, in the precision they train in.

        Half the size of the one that is pruned from, where that precision is bfloat16.
        """
        precision = self._spec.training.precision
        is_wide = effective_precision(self._device, precision) == "float32"
        dtype = torch.float32 if is_wide else torch.bfloat16
        if self._group.count > 1:
            everything = whole_plan(self._architecture)
            model = prune_checkpoint(directory, everything, self._group, device=self._device, dtype=dtype)
            return LiveTeacher(model, precision)
        if is_wide and self._device.type == "cpu" and directory == self._prepared.parent_dir:
            return LiveTeacher(self._parent(), precision)
        return LiveTeacher(load_parent(directory, dtype=dtype, device=self._device), precision)

    @property
    def _device(self) -> torch.device:
        return device_of(self._spec.resources)
