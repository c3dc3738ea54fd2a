"""Which indices of a model are kept, decided purely: from scores, or at random for comparison.

Knows no weights; ``minitron.prune`` applies a plan. Indices are ascending, so that a plan has one form
and the plan that keeps everything changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from minitron.architecture import Architecture
from minitron.errors import ArtifactMismatch
from minitron.families import family_named
from minitron.importance import ImportanceScores

Indices = tuple[int, ...]

_SEARCHED = ("num_layers", "hidden_size", "intermediate_size", "num_attention_heads")


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
    """Query heads of each kept layer, equally many from every KV group."""

    def __post_init__(self) -> None:
        _check_target(self.source, self.target)
        source, target = self.source, self.target
        _check_indices("layers", self.layers, target.num_layers, source.num_layers)
        _check_indices("hidden", self.hidden, target.hidden_size, source.hidden_size)
        for name in ("neurons", "heads"):
            if len(getattr(self, name)) != target.num_layers:
                raise ArtifactMismatch(
                    f"plan: {name}: found {len(getattr(self, name))} layers, allowed: {target.num_layers}"
                )
        for neurons, heads in zip(self.neurons, self.heads, strict=True):
            _check_indices("neurons", neurons, target.intermediate_size, source.intermediate_size)
            _check_indices("heads", heads, target.num_attention_heads, source.num_attention_heads)
            _check_groups(heads, source, target)

    def as_json(self) -> dict[str, Any]:
        """Return a JSON value from which ``from_json`` makes an equal plan."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PruningPlan":
        """Return the plan of a JSON value, checked like any other."""
        return cls(
            source=Architecture.from_json(value["source"]),
            target=Architecture.from_json(value["target"]),
            layers=tuple(value["layers"]),
            hidden=tuple(value["hidden"]),
            neurons=tuple(tuple(kept) for kept in value["neurons"]),
            heads=tuple(tuple(kept) for kept in value["heads"]),
        )


def plan_pruning(scores: ImportanceScores, target: Architecture) -> PruningPlan:
    """Keep the most important of everything; between equals, the lower index.

    Raises:
        ArtifactMismatch: The scores are of a model that the target cannot be pruned from.
        InvalidArchitecture: Stock transformers would refuse the target.
    """
    source = scores.architecture
    _check_target(source, target)
    layers = kept_layers(scores, target.num_layers)
    heads_LKG = scores.heads_LN.numpy().reshape(source.num_layers, source.num_key_value_heads, -1)
    return PruningPlan(
        source=source,
        target=target,
        layers=layers,
        hidden=_best(scores.hidden_D.numpy(), target.hidden_size),
        neurons=tuple(_best(scores.neurons_LF[layer].numpy(), target.intermediate_size) for layer in layers),
        heads=tuple(
            _in_groups([_best(group_G, _heads_per_group(target)) for group_G in heads_LKG[layer]], source)
            for layer in layers
        ),
    )


def kept_layers(scores: ImportanceScores, num_layers: int) -> Indices:
    """Keep the layers that cost most to do without: all but the cheapest block where blocks were measured.

    Raises:
        ArtifactMismatch: Fewer layers than the scores tell.
    """
    every, blocks_RL = scores.architecture.num_layers, scores.blocks_RL
    dropped = every - num_layers
    # Infinity says that a layer never went, or that nothing works without it.
    fewest = int(scores.layers_L.isposinf().sum()) if blocks_RL is None else every - len(blocks_RL)
    if num_layers < fewest:
        raise ArtifactMismatch(
            f"target.num_layers: found {num_layers}, allowed for these scores: at least {fewest}"
        )
    if blocks_RL is None or dropped == 0:
        return _best(scores.layers_L.numpy(), num_layers)
    first = int(blocks_RL[dropped - 1].argmin())
    return tuple(index for index in range(every) if not first <= index < first + dropped)


def random_plan(source: Architecture, target: Architecture, *, seed: int) -> PruningPlan:
    """Keep indices drawn evenly: the baseline that importance must beat.

    Raises:
        ArtifactMismatch, InvalidArchitecture: As ``plan_pruning``.
    """
    _check_target(source, target)
    generator = np.random.default_rng(seed)

    def draw(size: int, kept: int) -> Indices:
        return tuple(np.sort(generator.choice(size, kept, replace=False)).tolist())

    def draw_heads() -> Indices:
        kept = _heads_per_group(target)
        groups = [draw(_heads_per_group(source), kept) for _ in range(source.num_key_value_heads)]
        return _in_groups(groups, source)

    layers = range(target.num_layers)
    return PruningPlan(
        source=source,
        target=target,
        layers=draw(source.num_layers, target.num_layers),
        hidden=draw(source.hidden_size, target.hidden_size),
        neurons=tuple(draw(source.intermediate_size, target.intermediate_size) for _ in layers),
        heads=tuple(draw_heads() for _ in layers),
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
    )


def _best(scores: npt.NDArray[np.float32], kept: int) -> Indices:
    return tuple(np.sort(np.argsort(-scores, kind="stable")[:kept]).tolist())


def _heads_per_group(shape: Architecture) -> int:
    return shape.num_attention_heads // shape.num_key_value_heads


def _in_groups(groups: Sequence[Iterable[int]], source: Architecture) -> Indices:
    """Turn indices within each KV group into head indices."""
    size = _heads_per_group(source)
    return tuple(number * size + index for number, group in enumerate(groups) for index in group)


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
    ascending = all(left < right for left, right in pairwise(indices))
    if len(indices) != kept or not ascending or indices[0] < 0 or indices[-1] >= size:
        raise ArtifactMismatch(
            f"plan: {name}: found {indices}, allowed: {kept} ascending indices below {size}"
        )


def _check_groups(heads: Indices, source: Architecture, target: Architecture) -> None:
    size, kept = _heads_per_group(source), _heads_per_group(target)
    groups = [head // size for head in heads]
    if groups != [number for number in range(source.num_key_value_heads) for _ in range(kept)]:
        raise ArtifactMismatch(f"plan: heads: found {heads}, allowed: {kept} of each group of {size}")
