"""Which tensors a checkpoint's files must hold, and of which shape, told from their headers; free of torch.

So that a checkpoint that lacks one is refused before anything is read, packed or measured.
"""

from collections.abc import Iterator, Mapping

from minitron.anatomy import Along, Anatomy
from minitron.architecture import Architecture
from minitron.errors import UnreadableCheckpoint
from minitron.families import family_named

Shape = tuple[int, ...]

_KEYS_AND_QUERIES = {"queries", "kv_heads", "whole_heads"}
_MOST_NAMED = 4


def check_tensors(found: Mapping[str, Shape], architecture: Architecture, where: str) -> None:
    """Refuse files that lack a tensor of a model, or hold one of another shape.

    Files whose names are all unknown are left to the library that loads them: it may know more names.

    Args:
        found: The shapes of all tensors, by what the files call them.
        architecture: What the config says.
        where: The checkpoint lies, for people.

    Raises:
        UnreadableCheckpoint: Tensors are missing or of the wrong shape.
    """
    anatomy = family_named(architecture.family).anatomy
    missing: list[str] = []
    mismatched: list[str] = []
    num_known = 0
    for name, allowed in expected_tensors(architecture):
        shape = next((found[each] for each in _names(name, anatomy, architecture) if each in found), None)
        num_known += shape is not None
        if shape is None:
            missing.append(name)
        elif shape != allowed:
            mismatched.append(f"{name} (found {shape}, allowed by config.json: {allowed})")
    if not num_known:
        return
    if missing:
        raise UnreadableCheckpoint(f"{where}: tensors are missing: {some(missing)}")
    if mismatched:
        raise UnreadableCheckpoint(f"{where}: tensors have the wrong shape: {some(mismatched)}")


def expected_tensors(shape: Architecture) -> Iterator[tuple[str, Shape]]:
    """Yield the names and shapes of all weights and biases of a model; of a tied table only the embedding."""
    anatomy, traits = family_named(shape.family).anatomy, shape.traits
    yield f"{anatomy.embedding}.weight", (shape.vocab_size, shape.hidden_size)
    if anatomy.positions:
        yield f"{anatomy.positions}.weight", (traits.learned_positions, shape.hidden_size)
    yield f"{anatomy.final_norm}.weight", (shape.hidden_size,)
    if traits.norm_bias:
        yield f"{anatomy.final_norm}.bias", (shape.hidden_size,)
    if not shape.tie_word_embeddings:
        yield f"{anatomy.head}.weight", (shape.vocab_size, shape.hidden_size)
    for layer in range(shape.num_layers):
        for module, along in anatomy.block.items():
            if not _has(module, shape):
                continue
            sizes = tuple(_size(each, shape) for each in along)
            yield f"{anatomy.layers}.{layer}.{module}.weight", sizes
            if _has_bias(module, along, anatomy, shape):
                yield f"{anatomy.layers}.{layer}.{module}.bias", (sizes[anatomy.bias_along],)


def some(names: list[str]) -> str:
    """Return the first of many names, and how many more there are."""
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + rest


def _names(name: str, anatomy: Anatomy, shape: Architecture) -> tuple[str, ...]:
    """Return what files may call a tensor; of a tied table they may hold either end."""
    names = anatomy.names_in_files(name)
    if shape.tie_word_embeddings and name == f"{anatomy.embedding}.weight":
        names += anatomy.names_in_files(f"{anatomy.head}.weight")
    return names


def _has(module: str, shape: Architecture) -> bool:
    """Return whether a model has a module that only some of its family's layout have."""
    if module.endswith((".q_norm", ".k_norm")):
        return shape.traits.qk_norm
    return shape.traits.mlp_matrices > 2 or not module.endswith(".gate_proj")


def _has_bias(module: str, along: tuple[Along, ...], anatomy: Anatomy, shape: Architecture) -> bool:
    traits = shape.traits
    if len(along) == 1:  # a norm; those of queries and keys have none
        return traits.norm_bias and along == ("hidden",)
    if module == anatomy.attention_output:
        return traits.output_bias
    axes = {axis for each in along for axis in (each if isinstance(each, tuple) else (each,))}
    return traits.mlp_bias if axes.isdisjoint(_KEYS_AND_QUERIES) else traits.qkv_bias


def _size(along: Along, shape: Architecture) -> int:
    if isinstance(along, tuple):
        return sum(_size(each, shape) for each in along)
    queries, keys = (
        number * shape.head_dim for number in (shape.num_attention_heads, shape.num_key_value_heads)
    )
    sizes: dict[Along, int] = {
        "hidden": shape.hidden_size,
        "neurons": shape.intermediate_size,
        "queries": queries,
        "heads": queries,
        "kv_heads": keys,
        "whole_heads": queries + 2 * keys,
        None: shape.head_dim,  # the norms of queries and keys run over one head
    }
    return sizes[along]
