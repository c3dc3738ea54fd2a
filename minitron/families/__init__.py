"""Which models can be pruned, and what a legal shape of each is: data, free of torch.

A family is named by the Hugging Face ``model_type``. To add one, see "Adding a family" in ARCHITECTURE.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from minitron.architecture import Architecture, BlockTraits
from minitron.errors import InvalidArchitecture, UnsupportedModel
from minitron.families.family import Config, Family
from minitron.families.gemma import GEMMA_2, GEMMA_3
from minitron.families.gpt2 import GPT_2
from minitron.families.gpt_neox import GPT_NEOX
from minitron.families.llama_layout import LLAMA_LAYOUT
from minitron.families.olmo2 import OLMO_2
from minitron.families.phi3 import PHI_3

FAMILIES = {
    family.name: family for family in (*LLAMA_LAYOUT, GEMMA_2, GEMMA_3, PHI_3, OLMO_2, GPT_NEOX, GPT_2)
}

PER_LAYER_LISTS: Mapping[str, tuple[str, ...]] = {
    "layer_types": ("sliding_window_pattern", "_sliding_window_pattern"),
    "mlp_layer_types": (),
    "no_rope_layers": ("no_rope_layer_interval",),
}
"""Config entries with one item per layer, of which depth pruning keeps those of the kept layers, and the entries
that such a list would follow from: they describe the parent's and no longer hold."""

SIZES = {
    "num_hidden_layers": "num_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_attention_heads": "num_attention_heads",
    "vocab_size": "vocab_size",
}
"""Config entries, by the name most families use, and the fields of an architecture that they give."""
OPTIONAL_SIZES = {"num_key_value_heads": "num_key_value_heads", "head_dim": "head_dim"}
"""Follow from the others where a config leaves them out or has null."""

POSITIONS = "max_position_embeddings"
LARGEST_SIZE = 2**31 - 1
"""No tensor has more rows: what is larger comes from a damaged file."""

DROPOUTS = ("dropout", "pdrop")
"""Endings of config entries that are shares of activations left out in training."""
TRAITS = ("tie_word_embeddings", "attention_bias", "mlp_bias")
"""Config entries that an architecture has in common with every student."""
ROPE = ("rope_parameters", "rope_scaling")
"""Where a config's RoPE settings stand, of this and of earlier versions of transformers."""


def dropouts_of(config: Config) -> list[str]:
    """Return the entries of a config that leave activations out at random: no training here is repeatable with these."""
    return [name for name, share in config.items() if name.endswith(DROPOUTS) and share]


def family_named(model_type: Any) -> Family:
    """Return the family of a ``model_type``; raise UnsupportedModel when there is none."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnsupportedModel(
            f"config.json: model_type: found {model_type!r}, allowed: {', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]


def read_architecture(config: Config) -> Architecture:
    """Return the shape that a ``config.json`` describes.

    Raises:
        UnsupportedModel: A family, or a feature of the config, that cannot be pruned here.
        InvalidArchitecture: Sizes that contradict each other.
    """
    family = family_named(config.get("model_type"))
    _check_entries(family, config)
    sizes = {field: family.entry(config, name) for name, field in (SIZES | OPTIONAL_SIZES).items()}
    if sizes["intermediate_size"] is None:
        assert family.neurons_per_channel is not None  # else the size would be missing
        sizes["intermediate_size"] = family.neurons_per_channel * sizes["hidden_size"]
    heads = sizes["num_attention_heads"]
    if sizes["num_key_value_heads"] is None or "num_key_value_heads" in family.lacks:
        sizes["num_key_value_heads"] = heads
    if sizes["head_dim"] is None or "head_dim" in family.lacks:
        sizes["head_dim"] = sizes["hidden_size"] // heads
    attention_bias = family.reads_attention_bias and bool(family.entry(config, "attention_bias"))
    return Architecture(
        **sizes,
        tie_word_embeddings=bool(family.entry(config, "tie_word_embeddings")),
        family=family.name,
        traits=BlockTraits(
            mlp_matrices=family.mlp_matrices,
            qkv_bias=family.qkv_bias or attention_bias,
            output_bias=family.output_bias or attention_bias,
            mlp_bias=family.mlp_bias or (family.reads_mlp_bias and bool(family.entry(config, "mlp_bias"))),
            qk_norm=family.qk_norm,
            qk_norm_spans_heads=family.qk_norm_spans_heads,
            norm_bias=family.norm_bias,
            block_norms=len(family.anatomy.hidden_norms),
            learned_positions=family.entry(config, POSITIONS) if family.anatomy.positions else 0,
            heads_span_hidden="head_dim" in family.lacks or _couples(family, config),
        ),
    )


def _couples(family: Family, config: Config) -> bool:
    """Return whether the config's RoPE settings tie its hidden size to its heads."""
    settings = [config.get(name) for name in ROPE]
    return any(
        isinstance(each, Mapping) and not each.keys().isdisjoint(family.couples_where) for each in settings
    )


def resized(shape: Architecture, wanted: Mapping[str, int]) -> Architecture:
    """Return a shape with other sizes, and with those that its family derives from them.

    Raises:
        InvalidArchitecture: No such shape; whether the family allows it, ``Family.check`` says.
    """
    sizes: dict[str, Any] = dict(wanted)
    is_paired = family_named(shape.family).pairs_heads
    if is_paired and "num_key_value_heads" in sizes:
        sizes.setdefault("num_attention_heads", sizes["num_key_value_heads"])
    if shape.traits.heads_span_hidden and "hidden_size" in sizes:
        sizes.setdefault("num_attention_heads", sizes["hidden_size"] // shape.head_dim)
    if shape.traits.heads_span_hidden and "num_attention_heads" in sizes:
        sizes.setdefault("hidden_size", sizes["num_attention_heads"] * shape.head_dim)
    if is_paired and "num_attention_heads" in sizes:
        sizes.setdefault("num_key_value_heads", sizes["num_attention_heads"])
    return replace(shape, **sizes)


def num_positions(config: Config) -> int | None:
    """Return the positions that a model was trained on, None where its config does not say."""
    family = FAMILIES.get(config.get("model_type", ""))
    found = config.get(POSITIONS) if family is None else family.entry(config, POSITIONS)
    return found if isinstance(found, int) else None


def checked_architecture(config: Config, where: str) -> Architecture:
    """Return the shape that a config describes, once stock transformers would take it.

    Args:
        config: The content of a ``config.json``.
        where: It stands, for people.

    Raises:
        UnsupportedModel, InvalidArchitecture: As ``read_architecture``; name the place.
    """
    try:
        architecture = read_architecture(config)
        family_named(architecture.family).check(architecture)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{where}: {str(error).removeprefix('config.json: ')}") from None
    except InvalidArchitecture as error:
        raise InvalidArchitecture(f"{where}: {error.field}", error.reason) from None
    return architecture


def planning_config(config: Config) -> dict[str, Any]:
    """Return the entries of a config from which a search is planned; without the rest it is small."""
    family = family_named(config.get("model_type"))
    entries = (*SIZES, *OPTIONAL_SIZES, *TRAITS, POSITIONS, *family.refuses)
    names = ["model_type", *(family.names.get(name, name) for name in entries)]
    planned = {name: config[name] for name in names if name in config}
    return planned | {name: config[name] for name in ROPE if _couples(family, {name: config.get(name)})}


def _check_entries(family: Family, config: Config) -> None:
    """Raise UnsupportedModel unless every size is there, and each entry that is read is what it should be."""
    implied = () if family.neurons_per_channel is None else ("intermediate_size",)
    missing = [
        family.names.get(name, name)
        for name in SIZES
        if family.entry(config, name) is None and name not in implied
    ]
    if missing:
        raise UnsupportedModel(f"config.json: {', '.join(missing)}: missing")
    for name in (*SIZES, *OPTIONAL_SIZES, POSITIONS):
        size = family.entry(config, name)
        if size is not None and (type(size) is not int or not 1 <= size <= LARGEST_SIZE):
            raise UnsupportedModel(
                f"config.json: {family.names.get(name, name)}: found {size!r}, "
                f"allowed: a whole number from 1 to {LARGEST_SIZE}"
            )
    for name in (*TRAITS, *family.refuses):
        if not isinstance(config.get(name), bool | None):
            raise UnsupportedModel(f"config.json: {name}: found {config[name]!r}, allowed: true or false")
    for name in family.refuses:
        if config.get(name):
            raise UnsupportedModel(f"config.json: {name}: found true, allowed for {family.name}: false")


def student_config(parent: Config, student: Architecture, kept_layers: Sequence[int]) -> dict[str, Any]:
    """Return the parent's config with the student's shape; every other entry stands.

    ``head_dim`` is written out where the family has it, since it no longer follows from hidden size over heads,
    and ``quantization_config`` is dropped: a student holds plain weights, whatever its parent came in. Dropout is
    turned off: a student is to answer as its teacher does, and to train the same however often it is interrupted.
    """
    family = family_named(student.family)
    config = dict(parent)
    config.pop("quantization_config", None)
    config |= dict.fromkeys(dropouts_of(parent), 0.0)
    for name, size in (SIZES | OPTIONAL_SIZES).items():
        if name not in family.lacks:
            config[family.names.get(name, name)] = getattr(student, size)
    for name, origins in PER_LAYER_LISTS.items():
        if isinstance(config.get(name), list):
            config[name] = [config[name][layer] for layer in kept_layers]
            for origin in origins:
                config.pop(origin, None)
    return config
