"""How much every part of a model matters, from forward passes over calibration blocks alone.

Width is told by ``minitron.width``, depth by ``minitron.depth``; where depth is told by block influence, one
pass tells all.

Knows no target: what is kept is decided in ``minitron.plan``.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from minitron.architecture import Architecture
from minitron.assemble import anatomy_of
from minitron.calibration import batches
from minitron.depth import InfluenceTaps, LayerScores, ModelCost, choose_layers
from minitron.device import inference
from minitron.errors import ArtifactMismatch, DatasetTooSmall, UnreadableCheckpoint
from minitron.families import read_architecture
from minitron.files import new_file
from minitron.norm_shares import NormShares
from minitron.progress import Progress, Report, silent
from minitron.recipe import CalibrationRecipe
from minitron.width import WidthScores, WidthTaps, random_scores, weight_scores

# L layers, D hidden channels, F neurons of an MLP, N query heads or all blocks, T tokens of a block

METRIC_VERSION = 2
"""Raised when the scores of the same model on the same blocks, by the same recipe, change meaning."""

_TENSORS = ("hidden_D", "neurons_LF", "heads_LN", "layers_L")
_OPTIONAL = ("blocks_RL", "norms_MD")


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
    blocks_RL: Tensor | None = None
    """See ``minitron.depth.LayerScores`` for both; where there are blocks, they decide."""
    norms_MD: Tensor | None = None
    """Of what each RMSNorm gets, the mean square of each hidden channel over that of all: norms of every layer in
    the order of the anatomy, then the final one. None for other norms."""

    def by_layers(self, layers: LayerScores) -> "ImportanceScores":
        """Return these scores with others of the layers."""
        return replace(self, layers_L=layers.layers_L, blocks_RL=layers.blocks_RL)

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all; raise OutOfSpace on a full disk."""
        metadata = {
            "architecture": json.dumps(asdict(self.architecture)),
            "fingerprint": self.fingerprint,
            "metric_version": str(METRIC_VERSION),
        }
        tensors = {name: getattr(self, name) for name in (*_TENSORS, *_OPTIONAL)}
        tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        with new_file(path) as scratch:
            save_file(tensors, scratch, metadata=metadata)

    @classmethod
    def load(cls, path: Path, *, expected_fingerprint: str) -> "ImportanceScores":
        """Read saved scores.

        Raises:
            ArtifactMismatch: They were made from something else, or by another version of the metric.
            UnreadableCheckpoint: The file is missing, or is no complete safetensors file, or its scores are not those
                of a model of the shape that it names.
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
            held = set(file.keys())
            tensors = {name: file.get_tensor(name) for name in (*_TENSORS, *_OPTIONAL) if name in held}
        try:
            architecture = Architecture.from_json(json.loads(metadata["architecture"]))
        except (LookupError, TypeError, ValueError) as error:
            raise UnreadableCheckpoint(f"{path}: architecture: cannot be read: {error!r}") from error
        _check_tensors(tensors, architecture, path)
        return cls(architecture=architecture, fingerprint=expected_fingerprint, **tensors)


def _check_tensors(tensors: Mapping[str, Tensor], shape: Architecture, path: Path) -> None:
    """Refuse scores that are not there, not numbers, or not one for each part of a model."""
    allowed: dict[str, tuple[int, ...]] = {
        "hidden_D": (shape.hidden_size,),
        "neurons_LF": (shape.num_layers, shape.intermediate_size),
        "heads_LN": (shape.num_layers, shape.num_attention_heads),
        "layers_L": (shape.num_layers,),
        "norms_MD": (shape.num_layers * shape.traits.block_norms + 1, shape.hidden_size),
    }
    if "blocks_RL" in tensors:  # a row for each length that was asked for
        rows = min(len(tensors["blocks_RL"]), shape.num_layers - 1)
        allowed["blocks_RL"] = (rows, shape.num_layers)
    for name in (*_TENSORS, *_OPTIONAL):
        found = tensors.get(name)
        if found is None and name in _OPTIONAL:
            continue
        if found is None or tuple(found.shape) != allowed[name]:
            what = "none" if found is None else f"the shape {tuple(found.shape)}"
            raise UnreadableCheckpoint(
                f"{path}: {name}: found {what}, allowed for {shape.name}: the shape {allowed[name]}"
            )
        if bool(found.isnan().any()):
            raise UnreadableCheckpoint(f"{path}: {name}: found nan, allowed: numbers")


def measure_importance(
    model: PreTrainedModel,
    blocks_NT: npt.NDArray[np.int32],
    recipe: CalibrationRecipe,
    *,
    fingerprint: str,
    valid_NT: npt.NDArray[np.bool_] | None = None,
    fewest_layers: int = 1,
    report: Report = silent,
) -> ImportanceScores:
    """Measure every axis over the first ``recipe.num_tokens`` tokens, in one step.

    Scores do not depend on the batch size, and the model is left as it was: weights, mode and hooks. For
    block influence and for width the output head is never run.

    Args:
        model: What is measured.
        blocks_NT: Calibration blocks.
        recipe: How; its ``steps`` are ``minitron.iterative``'s.
        fingerprint: Of all that the scores are made from.
        valid_NT: False for padding, which counts nowhere; None where there is none, as in the packer's blocks.
        fewest_layers: That anybody will ask for; see ``CalibrationRecipe.is_told_to_a_depth``.
        report: Told of progress.

    Raises:
        DatasetTooSmall: Fewer tokens than ``num_tokens`` has in whole blocks.
        UnreadableCheckpoint: The activations, or the weights, are not finite.
    """
    num_blocks = recipe.num_blocks(blocks_NT.shape[1])
    if len(blocks_NT) < num_blocks:
        raise DatasetTooSmall(
            f"calibration.num_tokens: found {recipe.num_tokens}, allowed for this data: "
            f"at most {blocks_NT.size}"
        )
    blocks_NT = blocks_NT[:num_blocks]
    valid_NT = None if valid_NT is None else valid_NT[:num_blocks]
    architecture = read_architecture(model.config.to_dict())
    width, layers, norms_MD = _one_pass(
        model, architecture, blocks_NT, recipe, valid_NT=valid_NT, report=report
    )
    if layers is None:
        num_blocks = recipe.depth_blocks(blocks_NT.shape[1])
        cost = ModelCost(
            model,
            blocks_NT[:num_blocks],
            recipe.depth_metric,
            valid_NT=None if valid_NT is None else valid_NT[:num_blocks],
            batch_size=recipe.batch_size,
            report=report,
        )
        fewest = fewest_layers if recipe.is_told_to_a_depth else 1
        layers = choose_layers(cost, architecture.num_layers, recipe.depth_selection, fewest=fewest)
    is_sound = all(bool(score.isfinite().all()) for score in width.values())
    if not is_sound or bool(layers.layers_L.isnan().any()):
        raise UnreadableCheckpoint("model: its activations are not finite; its weights are damaged")
    return ImportanceScores(
        architecture=architecture,
        fingerprint=fingerprint,
        layers_L=layers.layers_L,
        blocks_RL=layers.blocks_RL,
        norms_MD=norms_MD,
        **width,
    )


def _one_pass(
    model: PreTrainedModel,
    architecture: Architecture,
    blocks_NT: npt.NDArray[np.int32],
    recipe: CalibrationRecipe,
    *,
    valid_NT: npt.NDArray[np.bool_] | None,
    report: Report,
) -> tuple[WidthScores, LayerScores | None, Tensor | None]:
    """Return the scores of width, those of the layers where the same pass tells them, and the shares of norms."""
    width = influence = norms = None
    if recipe.metric in ("activation", "weighted"):
        width = WidthTaps(model, architecture, recipe)
    if recipe.tells_depth_with_width:
        influence = InfluenceTaps(model, architecture.num_layers, recipe.depth_selection)
    if width is not None and not architecture.traits.norm_bias:
        norms = NormShares(model, architecture.hidden_size)
    taps = [each for each in (width, influence, norms) if each is not None]
    decoder = model.get_submodule(anatomy_of(model).decoder)
    with inference(model), ExitStack() as hooks:
        for each in taps:
            hooks.enter_context(each.on())
        done = 0
        for batch in batches(blocks_NT, valid_NT, batch_size=recipe.batch_size, device=model.device):
            if not taps:
                break
            for each in taps:
                each.valid_BT = batch.valid_BT
            decoder(**batch.inputs)
            done += batch.input_ids_BT.numel()
            report(Progress(stage="importance", done=done, total=blocks_NT.size, unit="tokens"))
    if width is not None:
        scores = width.scores()
    elif recipe.metric == "weight":
        scores = weight_scores(model, architecture)
    else:
        scores = random_scores(architecture, seed=recipe.seed)
    layers = None if influence is None else influence.scores()
    return scores, layers, None if norms is None else norms.shares()
