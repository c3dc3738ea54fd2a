"""Which indices of a model are kept, decided purely: from scores, or at random for comparison.

Knows no weights; ``minitron.prune`` applies a plan. Indices are ascending, so that a plan has one form
and the plan that keeps everything changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from minitron.architecture import Architecture
from minitron.errors import ArtifactMismatch
from minitron.families import family_named
from minitron.heads import Indices, KeptHeads, best_heads, check_heads, heads_of, heads_per_group
from minitron.importance import ImportanceScores
from minitron.keeping import best, best_layers
from minitron.recipe import PruningRecipe

_SEARCHED = (
    "num_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningPlan:
    """The kept indices of every axis, ascending, into the source.

    Raises:
        ArtifactMismatch: The target is no smaller shape of the source, or the indices do not make it.
        InvalidArchitecture: Stock transformers would refuse the target.
    """

    source: Architecture
    target: Architecture
    layers: Indices
    hidden: Indices
    neurons: tuple[Indices, ...]
    """Of each kept layer."""
    heads: tuple[Indices, ...]
    """Query heads of each kept layer, equally many for every KV head."""
    kv_heads: tuple[tuple[Indices, ...], ...]
    """Of each kept layer, for each KV head of the student the source's that it is the mean of."""
    merged_heads: tuple[tuple[tuple[int, int], ...], ...] = ()
    """Of each kept layer, kept query heads and the dropped one whose difference each takes up; or none at all."""
    norm_gains: tuple[float, ...] = ()
    """Of the norms of each kept layer, in the order of the anatomy, then of the final one; or none at all."""

    def __post_init__(self) -> None:
        _check_target(self.source, self.target)
        source, target = self.source, self.target
        _check_indices("layers", self.layers, target.num_layers, source.num_layers)
        _check_indices("hidden", self.hidden, target.hidden_size, source.hidden_size)
        norms = target.num_layers * source.traits.block_norms + 1
        self._check_length("norm_gains", "norms", norms, may_be_none=True)
        self._check_length("merged_heads", "layers", target.num_layers, may_be_none=True)
        for name in ("neurons", "heads", "kv_heads"):
            self._check_length(name, "layers", target.num_layers)
        for neurons, heads, kv_heads in zip(self.neurons, self.heads, self.kv_heads, strict=True):
            _check_indices("neurons", neurons, target.intermediate_size, source.intermediate_size)
            _check_indices("heads", heads, target.num_attention_heads, source.num_attention_heads)
            _check_groups(heads, kv_heads, source, target)
        for heads, merged in zip(self.heads, self.merged_heads, strict=False):
            _check_merged(heads, merged, source)

    def _check_length(self, name: str, what: str, allowed: int, *, may_be_none: bool = False) -> None:
        found = len(getattr(self, name))
        if found != allowed and (found or not may_be_none):
            raise ArtifactMismatch(f"plan: {name}: found {found} {what}, allowed: {allowed}")

    def as_json(self) -> dict[str, Any]:
        """Return a JSON value from which ``from_json`` makes an equal plan."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PruningPlan":
        """Return the plan of a JSON value, checked like any other."""
        return cls(
            source=Architecture.from_json(value["source"]),
            target=Architecture.from_json(value["target"]),
            **{
                name: _tuples(value[name])
                for name in (
                    "layers", "hidden", "neurons", "heads", "kv_heads", "merged_heads", "norm_gains",
                )
            },
        )  # fmt: skip


def plan_pruning(
    scores: ImportanceScores, target: Architecture, recipe: PruningRecipe | None = None
) -> PruningPlan:
    """Keep the most important of everything; between equals, the lower index.

    Raises:
        ArtifactMismatch: The scores are of a model that the target cannot be pruned from.
        InvalidArchitecture: Stock transformers would refuse the target, or its heads cannot be had.
        InvalidRecipe: The recipe asks for what the family does not allow.
    """
    source, recipe = scores.architecture, recipe or PruningRecipe()
    _check_target(source, target)
    family_named(source.family).check_recipe(recipe)
    check_heads(source, target, recipe)
    layers = kept_layers(scores, target.num_layers)
    hidden = best(scores.hidden_D.numpy(), target.hidden_size)
    heads = [best_heads(scores.heads_LN[layer].numpy(), source, target, recipe) for layer in layers]
    return PruningPlan(
        source=source,
        target=target,
        layers=layers,
        hidden=hidden,
        neurons=tuple(best(scores.neurons_LF[layer].numpy(), target.intermediate_size) for layer in layers),
        **_by_layer(heads),
        norm_gains=_norm_gains(scores, layers, hidden) if recipe.norm_rescaling else (),
    )


def kept_layers(scores: ImportanceScores, num_layers: int) -> Indices:
    """See ``minitron.keeping.best_layers``."""
    blocks_RL = None if scores.blocks_RL is None else scores.blocks_RL.numpy()
    return best_layers(scores.layers_L.numpy(), blocks_RL, num_layers)


def random_plan(
    source: Architecture, target: Architecture, *, seed: int, recipe: PruningRecipe | None = None
) -> PruningPlan:
    """Keep indices drawn evenly: the baseline that importance must beat.

    Of a recipe only what it says of KV heads counts: the rest leans on importance.

    Raises:
        ArtifactMismatch, InvalidArchitecture: As ``plan_pruning``.
    """
    recipe = PruningRecipe(kv_heads=recipe.kv_heads if recipe else "drop")
    _check_target(source, target)
    check_heads(source, target, recipe)
    generator = np.random.default_rng(seed)

    def draw(size: int, kept: int) -> Indices:
        return tuple(np.sort(generator.choice(size, kept, replace=False)).tolist())

    def draw_heads() -> KeptHeads:
        ranks_N = generator.permutation(source.num_attention_heads)
        return best_heads(ranks_N.astype(np.float32), source, target, recipe)

    layers = range(target.num_layers)
    return PruningPlan(
        source=source,
        target=target,
        layers=draw(source.num_layers, target.num_layers),
        hidden=draw(source.hidden_size, target.hidden_size),
        neurons=tuple(draw(source.intermediate_size, target.intermediate_size) for _ in layers),
        **_by_layer([draw_heads() for _ in layers]),
    )


def whole_plan(source: Architecture) -> PruningPlan:
    """Keep everything, as a teacher does that is loaded like a student."""
    return depth_plan(source, range(source.num_layers))


def depth_plan(source: Architecture, layers: Sequence[int]) -> PruningPlan:
    """Keep some layers, whole; raise ArtifactMismatch unless they are ascending indices of the source's."""
    return PruningPlan(
        source=source,
        target=replace(source, num_layers=len(layers)),
        layers=tuple(layers),
        hidden=tuple(range(source.hidden_size)),
        neurons=tuple(tuple(range(source.intermediate_size)) for _ in layers),
        heads=tuple(tuple(range(source.num_attention_heads)) for _ in layers),
        kv_heads=tuple(tuple((head,) for head in range(source.num_key_value_heads)) for _ in layers),
    )


def _by_layer(heads: Sequence[KeptHeads]) -> dict[str, Any]:
    merged = tuple(kept.merged for kept in heads)
    return {
        "heads": tuple(kept.queries for kept in heads),
        "kv_heads": tuple(kept.kv for kept in heads),
        "merged_heads": merged if any(merged) else (),
    }


def _norm_gains(scores: ImportanceScores, layers: Indices, hidden: Indices) -> tuple[float, ...]:
    """Return the root of the share of its mean square that each norm keeps."""
    if scores.norms_MD is None:
        raise ArtifactMismatch("scores: found none of the norms, allowed with pruning.norm_rescaling: such")
    source = scores.architecture
    if len(hidden) == source.hidden_size:
        return ()
    norms = source.traits.block_norms
    rows = [layer * norms + norm for layer in layers for norm in range(norms)]
    kept_MK = scores.norms_MD.double().numpy()[[*rows, source.num_layers * norms]][:, list(hidden)]
    gains: list[float] = np.sqrt(kept_MK.mean(axis=1)).tolist()
    return tuple(gains)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _check_target(source: Architecture, target: Architecture) -> None:
    fixed = [name for name in asdict(source) if name not in _SEARCHED]
    for name in fixed:
        found, allowed = getattr(target, name), getattr(source, name)
        if found != allowed:
            raise ArtifactMismatch(f"target.{name}: found {found}, allowed for this parent: {allowed}")
    for name in _SEARCHED:
        found, allowed = getattr(target, name), getattr(source, name)
        if found > allowed:
            raise ArtifactMismatch(
                f"target.{name}: found {found}, allowed for this parent: at most {allowed}"
            )
    family_named(target.family).check(target)


def _check_indices(name: str, indices: Indices, kept: int, size: int) -> None:
    allowed = f"allowed: {kept} ascending indices below {size}"
    if len(indices) != kept:
        raise ArtifactMismatch(f"plan: {name}: found {len(indices)} indices, {allowed}")
    before = -1
    for index in indices:
        if type(index) is not int or not before < index < size:
            after = f" after {before}" if before >= 0 else ""
            raise ArtifactMismatch(f"plan: {name}: found {index!r}{after}, {allowed}")
        before = index


def _check_groups(
    heads: Indices, kv_heads: tuple[Indices, ...], source: Architecture, target: Architecture
) -> None:
    pooled = tuple(head for group in kv_heads for head in group)
    _check_indices("kv_heads", pooled, len(pooled), source.num_key_value_heads)
    is_even = len({len(group) for group in kv_heads}) == 1
    if len(kv_heads) != target.num_key_value_heads or not is_even or not pooled:
        raise ArtifactMismatch(
            f"plan: kv_heads: found {kv_heads}, allowed: {target.num_key_value_heads} of equally many each"
        )
    kept = heads_per_group(target)
    for number, group in enumerate(kv_heads):
        if not set(heads[number * kept : (number + 1) * kept]) <= set(heads_of(group, source)):
            raise ArtifactMismatch(
                f"plan: heads: found {heads}, allowed: {kept} of each group of "
                f"{len(group) * heads_per_group(source)}"
            )


def _check_merged(heads: Indices, merged: tuple[tuple[int, int], ...], source: Architecture) -> None:
    dropped = set(range(source.num_attention_heads)) - set(heads)
    if not all(kept in heads and other in dropped for kept, other in merged):
        raise ArtifactMismatch(
            f"plan: merged_heads: found {merged}, allowed: pairs of a kept and a dropped head"
        )
