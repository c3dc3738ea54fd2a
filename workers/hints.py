"""What looks promising before any trial: how much of the parent's measured importance a student keeps.

Read from the cached scores, which are named by their content, so that a runner that takes a search over reads the
same. Free of torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from minitron.architecture import Architecture
from minitron.errors import ArtifactMismatch
from minitron.heads import Indices, best_heads
from minitron.keeping import Scores, best, best_layers
from minitron.recipe import PruningRecipe
from nas.parent import architecture_of
from nas.samplers.sampler import Hint
from nas.search import SearchSpec
from workers.report import Prepared

DIGITS = 6
"""Of a share: what another machine rounds otherwise does not decide between two architectures."""


def hint_of(spec: SearchSpec, prepared: Prepared) -> Hint | None:
    """Return what picks the first trials of a search; None where nothing but chance does.

    Raises:
        ArtifactMismatch: The scores are not those that were prepared.
    """
    if spec.prior != "importance_kept":
        return None
    return ImportanceKept.read(
        prepared.scores_path,
        expected_fingerprint=prepared.scores_fingerprint,
        parent=architecture_of(spec),
        recipe=spec.pruning,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportanceKept:
    """Tells the share of the parent's importance, from 0 to 1, that the pruning plan of an architecture keeps.

    Scores compare along one axis only, hence shares: of the hidden channels, and in each kept layer of the neurons and
    of the query heads. Embeddings, MLPs and attention count by their parameters in the parent, layers by what the
    parent loses without each, and all of it by the hidden channels, which every weight reads or writes.
    """

    parent: Architecture
    recipe: PruningRecipe
    hidden_D: Scores
    neurons_LF: Scores
    heads_LN: Scores
    layers_L: Scores
    blocks_RL: Scores | None

    @classmethod
    def read(
        cls, path: Path, *, expected_fingerprint: str, parent: Architecture, recipe: PruningRecipe
    ) -> "ImportanceKept":
        """Return what saved scores tell; see ``minitron.importance.ImportanceScores``."""
        with safe_open(path, framework="numpy") as file:
            found = (file.metadata() or {}).get("fingerprint")
            if found != expected_fingerprint:
                raise ArtifactMismatch(f"{path}: found scores {found}, allowed: {expected_fingerprint}")
            names = set(file.keys())
            tensors: dict[str, Any] = {
                name: file.get_tensor(name) if name in names else None
                for name in ("hidden_D", "neurons_LF", "heads_LN", "layers_L", "blocks_RL")
            }
        return cls(parent=parent, recipe=recipe, **tensors)

    def __call__(self, architecture: Architecture) -> float:
        """Return the share that an architecture keeps."""
        parent, weights, kept_blocks = self.parent, self._weights, 0.0
        of_mlp = parent.traits.mlp_matrices * parent.hidden_size * parent.intermediate_size
        mlp = of_mlp / parent.layer_parameters
        for layer in best_layers(self.layers_L, self.blocks_RL, architecture.num_layers):
            neurons_F, heads_N = self.neurons_LF[layer], self.heads_LN[layer]
            neurons = _share(neurons_F, best(neurons_F, architecture.intermediate_size))
            heads = _share(heads_N, best_heads(heads_N, parent, architecture, self.recipe).queries)
            kept_blocks += weights[layer] * (mlp * neurons + (1 - mlp) * heads)
        embedded = parent.embedding_parameters / parent.parameter_count
        hidden = _share(self.hidden_D, best(self.hidden_D, architecture.hidden_size))
        return round(hidden * (embedded + (1 - embedded) * kept_blocks), DIGITS)

    @property
    def _weights(self) -> list[float]:
        """What each layer counts; all alike where only their order is known, or whether they may go at all."""
        costs_L = np.maximum(self.layers_L.astype(np.float64), 0.0)
        if not np.isfinite(costs_L).all() or not costs_L.any():
            costs_L = np.ones_like(costs_L)
        weights: list[float] = (costs_L / costs_L.sum()).tolist()
        return weights


def _share(scores: Scores, kept: Indices | Sequence[int]) -> float:
    """Return how much of all importance is kept; what went in an earlier step of importance scores below zero."""
    positive = np.maximum(scores.astype(np.float64), 0.0)
    whole = float(positive.sum())
    return float(positive[list(kept)].sum()) / whole if whole else len(kept) / len(scores)
