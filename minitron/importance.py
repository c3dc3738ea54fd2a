"""How much every part of a model matters, from forward passes over calibration blocks alone.

One pass measures all axes: neurons at the input of the down projection, heads at the input of the
output projection, hidden channels at the output of every block norm, layers by block influence.
Activations are aggregated by the absolute mean over the sequence and the L2 norm over all samples
(Minitron, 2.2: the combination that keeps the most). Blocks are packed, so nothing is padding.

Knows no target: what is kept is decided in ``minitron.plan``.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from minitron.anatomy import Anatomy
from minitron.architecture import Architecture
from minitron.assemble import anatomy_of, layers_of
from minitron.depth import influence
from minitron.device import inference
from minitron.errors import ArtifactMismatch, DatasetTooSmall, UnreadableCheckpoint
from minitron.families import read_architecture
from minitron.files import new_file
from minitron.progress import Progress, Report, silent
from minitron.recipe import CalibrationRecipe

# L layers, D hidden channels, F neurons of an MLP, N query heads, B blocks of a batch, T tokens of a
# block, C channels of any kind

METRIC_VERSION = 2
"""Raised when the scores of the same model on the same blocks change meaning."""

_TENSORS = ("hidden_D", "neurons_LF", "heads_LN", "layers_L")
_NORMS = "norms_MD"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportanceScores:
    """Measured importance, float32 on the CPU; larger means keep. Comparable along the last axis only."""

    architecture: Architecture
    """Of the model that was measured."""
    fingerprint: str
    """Of what they were made from: weights, calibration blocks, recipe."""
    hidden_D: Tensor
    neurons_LF: Tensor
    heads_LN: Tensor
    """Query heads, in the model's order; heads of one KV group are neighbours."""
    layers_L: Tensor
    """Block influence."""
    norms_MD: Tensor | None = None
    """Of what each RMSNorm gets, the mean square of each hidden channel over that of all: norms of every layer in
    the order of the anatomy, then the final one. None for other norms."""

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all; raise OutOfSpace on a full disk."""
        metadata = {
            "architecture": json.dumps(asdict(self.architecture)),
            "fingerprint": self.fingerprint,
            "metric_version": str(METRIC_VERSION),
        }
        with new_file(path) as scratch:
            tensors = {name: getattr(self, name) for name in (*_TENSORS, _NORMS)}
            save_file(
                {name: each for name, each in tensors.items() if each is not None}, scratch, metadata=metadata
            )

    @classmethod
    def load(cls, path: Path, *, expected_fingerprint: str) -> "ImportanceScores":
        """Read saved scores.

        Raises:
            ArtifactMismatch: They were made from something else, or by another version of the metric.
            UnreadableCheckpoint: The file is missing, or is no complete safetensors file.
        """
        try:
            opened = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise UnreadableCheckpoint(f"{path}: cannot be read as scores: {error}") from error
        with opened as file:
            metadata: dict[str, str] = file.metadata() or {}
            found = (metadata.get("fingerprint"), metadata.get("metric_version"))
            if found != (expected_fingerprint, str(METRIC_VERSION)):
                raise ArtifactMismatch(
                    f"{path}: found scores {found[0]} of metric {found[1]}, "
                    f"allowed: {expected_fingerprint} of metric {METRIC_VERSION}"
                )
            names = {*_TENSORS, *({_NORMS} & set(file.keys()))}
            tensors = {name: file.get_tensor(name) for name in names}
        architecture = Architecture.from_json(json.loads(metadata["architecture"]))
        return cls(architecture=architecture, fingerprint=expected_fingerprint, **tensors)


class _SquareSum:
    """Per channel, the sum over samples of (mean over the sequence of |activation|) squared."""

    def __init__(self, num_channels: int, device: torch.device) -> None:
        self.total_C = torch.zeros(num_channels, dtype=torch.float64, device=device)

    def add(self, activation_BTC: Tensor) -> None:
        num_tokens = activation_BTC.shape[1]
        mean_BC = activation_BTC.abs().sum(dim=1, dtype=torch.float32) / num_tokens
        self.total_C += mean_BC.double().square().sum(dim=0)

    def root(self) -> Tensor:
        return self.total_C.sqrt()


class _SquareShare:
    """Per channel, the sum over tokens of its square over the mean square of all channels."""

    def __init__(self, num_channels: int, device: torch.device) -> None:
        self.total_C = torch.zeros(num_channels, dtype=torch.float64, device=device)

    def add(self, activation_BTC: Tensor) -> None:
        square_BTC = activation_BTC.float().square()
        share_BTC = square_BTC / square_BTC.mean(dim=-1, keepdim=True).clamp_min(torch.finfo().tiny)
        self.total_C += share_BTC.sum(dim=(0, 1), dtype=torch.float64)


class _Taps:
    """The accumulators of one calibration pass and the hooks that feed them."""

    def __init__(self, shape: Architecture, num_norms: int, device: torch.device) -> None:
        num_layers, channels = shape.num_layers, shape.num_attention_heads * shape.head_dim
        self.head_dim = shape.head_dim
        self.norms = [
            [_SquareSum(shape.hidden_size, device) for _ in range(num_norms)] for _ in range(num_layers)
        ]
        self.neurons = [_SquareSum(shape.intermediate_size, device) for _ in range(num_layers)]
        self.attention = [_SquareSum(channels, device) for _ in range(num_layers)]
        self.influence_L = torch.zeros(num_layers, dtype=torch.float64, device=device)
        num_shares = 0 if shape.traits.norm_bias else num_layers * shape.traits.block_norms + 1
        self.shares = [_SquareShare(shape.hidden_size, device) for _ in range(num_shares)]

    @contextmanager
    def on(self, model: PreTrainedModel, anatomy: Anatomy) -> Iterator[None]:
        """Hook every tap; every hook is gone at the end, also after an exception."""
        handles = []
        try:
            for index, layer in enumerate(layers_of(model, anatomy)):
                handles += [
                    _tap_input(layer.get_submodule(anatomy.mlp_output), self.neurons[index]),
                    _tap_input(layer.get_submodule(anatomy.attention_output), self.attention[index]),
                    *(
                        _tap_output(layer.get_submodule(name), tap)
                        for name, tap in zip(anatomy.block_norms, self.norms[index], strict=True)
                    ),
                    self._tap_block(layer, index),
                ]
            if self.shares:
                norms = [
                    layer.get_submodule(name)
                    for layer in layers_of(model, anatomy)
                    for name in anatomy.hidden_norms
                ]
                norms.append(model.get_submodule(anatomy.final_norm))
                handles += [_tap_input(norm, share) for norm, share in zip(norms, self.shares, strict=True)]
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _tap_block(self, layer: nn.Module, index: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], output_BTD: Tensor) -> None:
            self.influence_L[index] += influence(args[0], output_BTD)

        return layer.register_forward_hook(hook)

    def scores(self, num_tokens: int) -> dict[str, Tensor]:
        attention_LNH = torch.stack([tap.total_C.view(-1, self.head_dim) for tap in self.attention])
        scores = {
            "hidden_D": torch.stack([tap.root() for taps in self.norms for tap in taps]).sum(dim=0),
            "neurons_LF": torch.stack([tap.root() for tap in self.neurons]),
            "heads_LN": attention_LNH.sum(dim=-1).sqrt(),
            "layers_L": self.influence_L / num_tokens,
        }
        if self.shares:
            scores[_NORMS] = torch.stack([share.total_C for share in self.shares]) / num_tokens
        return {name: score.float().cpu() for name, score in scores.items()}


def _tap_input(module: nn.Module, total: _SquareSum | _SquareShare) -> Any:
    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        total.add(args[0])

    return module.register_forward_pre_hook(hook)


def _tap_output(module: nn.Module, total: _SquareSum) -> Any:
    def hook(_module: nn.Module, _args: tuple[Tensor, ...], output_BTC: Tensor) -> None:
        total.add(output_BTC)

    return module.register_forward_hook(hook)


def measure_importance(
    model: PreTrainedModel,
    blocks_NT: npt.NDArray[np.int32],
    recipe: CalibrationRecipe,
    *,
    fingerprint: str,
    report: Report = silent,
) -> ImportanceScores:
    """Measure every axis in one pass over the first ``recipe.num_tokens`` tokens.

    The output head is never run. Scores do not depend on the batch size, and the model is left as it
    was: weights, mode and hooks.

    Raises:
        DatasetTooSmall: Fewer tokens than ``num_tokens`` has in whole blocks.
        UnreadableCheckpoint: The activations are not finite.
    """
    num_blocks = recipe.num_blocks(blocks_NT.shape[1])
    if len(blocks_NT) < num_blocks:
        raise DatasetTooSmall(
            f"calibration.num_tokens: found {recipe.num_tokens}, allowed for this data: "
            f"at most {blocks_NT.size}"
        )
    blocks_NT = blocks_NT[:num_blocks]
    architecture = read_architecture(model.config.to_dict())
    anatomy = anatomy_of(model)
    taps = _Taps(architecture, len(anatomy.block_norms), model.device)
    decoder = model.get_submodule(anatomy.decoder)
    with inference(model), taps.on(model, anatomy):
        for start in range(0, num_blocks, recipe.batch_size):
            batch_BT = torch.from_numpy(blocks_NT[start : start + recipe.batch_size].astype(np.int64))
            decoder(input_ids=batch_BT.to(model.device), use_cache=False)
            done = min(start + recipe.batch_size, num_blocks) * blocks_NT.shape[1]
            report(Progress(stage="importance", done=done, total=blocks_NT.size, unit="tokens"))
    scores = taps.scores(blocks_NT.size)
    if not all(bool(score.isfinite().all()) for score in scores.values()):
        raise UnreadableCheckpoint("model: its activations are not finite; its weights are damaged")
    return ImportanceScores(architecture=architecture, fingerprint=fingerprint, **scores)
