"""Which attention heads are kept: query heads inside their KV groups, and KV heads, which are dropped or pooled.

Knows no weights. A student's KV head is the mean of one or several of its parent's; its query heads come from
the groups of these, as many for each. Free of torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from minitron.architecture import Architecture
from minitron.errors import InvalidArchitecture
from minitron.recipe import PruningRecipe

Indices = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHeads:
    """Of one layer, in the order of the student's heads."""

    queries: Indices
    """Ascending, equally many for each KV head."""
    kv: tuple[Indices, ...]
    """For each KV head of the student, the parent's that it is the mean of."""
    merged: tuple[tuple[int, int], ...]
    """Kept query heads, and the dropped one that each takes up what it differs by from."""


def check_heads(source: Architecture, target: Architecture, recipe: PruningRecipe) -> None:
    """Raise InvalidArchitecture where a target's heads cannot be had from its source's."""
    kept, groups = target.num_key_value_heads, source.num_key_value_heads
    if kept == groups:
        return
    if recipe.kv_heads == "mean":
        if groups % kept:
            raise InvalidArchitecture(
                "num_key_value_heads", f"found {kept}, allowed where they are pooled: what divides {groups}"
            )
    elif heads_per_group(target) > heads_per_group(source):
        raise InvalidArchitecture(
            "num_attention_heads",
            f"found {target.num_attention_heads}, allowed where KV heads are dropped: at most "
            f"{heads_per_group(source)} for each of the {kept} KV heads",
        )


def best_heads(
    scores_N: npt.NDArray[np.float32], source: Architecture, target: Architecture, recipe: PruningRecipe
) -> KeptHeads:
    """Keep the most important heads of a layer; between equals, the lower index."""
    size, kept = heads_per_group(source), heads_per_group(target)
    scores_KG = scores_N.reshape(source.num_key_value_heads, size).astype(np.float64)
    # Squares with their sign: what went in an earlier step of importance scores below zero.
    kv = _kv_heads((scores_KG * np.abs(scores_KG)).sum(axis=1), target.num_key_value_heads, recipe)
    queries: list[int] = []
    merged: list[tuple[int, int]] = []
    for group in kv:
        candidates = np.array(heads_of(group, source))
        ranked = candidates[np.argsort(-scores_N[candidates], kind="stable")].tolist()
        queries += sorted(ranked[:kept])
        if recipe.head_merge:
            merged += residual_pairs(ranked, kept)
    return KeptHeads(queries=tuple(queries), kv=kv, merged=tuple(sorted(merged)))


def residual_pairs(ranked: Sequence[int], kept: int) -> list[tuple[int, int]]:
    """Return which kept heads take up which dropped ones, of heads from the most to the least important.

    The best dropped one goes to the least kept one, and so on outwards: of L heads of which K stay, counted
    from 1, head i takes up head 2K - i + 1 for i from 2K - L + 1 to K (Minitron, 2.3, whose lower bound is one
    too low: it would take up a head L + 1).
    """
    first = max(0, 2 * kept - len(ranked))
    return [(ranked[index], ranked[2 * kept - 1 - index]) for index in range(first, kept)]


def heads_per_group(shape: Architecture) -> int:
    """Return how many query heads share a KV head."""
    return shape.num_attention_heads // shape.num_key_value_heads


def heads_of(kv_heads: Indices, shape: Architecture) -> Indices:
    """Return the query heads that share one of several KV heads."""
    size = heads_per_group(shape)
    return tuple(head * size + index for head in kv_heads for index in range(size))


def _kv_heads(scores_K: npt.NDArray[np.float64], kept: int, recipe: PruningRecipe) -> tuple[Indices, ...]:
    groups = len(scores_K)
    if kept < groups and recipe.kv_heads == "mean":
        return tuple(
            tuple(range(first, first + groups // kept)) for first in range(0, groups, groups // kept)
        )
    ranked = np.argsort(-scores_K, kind="stable")[:kept]
    return tuple((head,) for head in np.sort(ranked).tolist())
