"""Which models can be pruned, and what a legal shape of each is: data, free of torch.

A family is named by the Hugging Face ``model_type``. To add one, add a row to ``FAMILIES`` and a
tiny config of it to the parity tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minitron.anatomy import Anatomy
from minitron.architecture import Architecture, BlockTraits
from minitron.errors import InvalidArchitecture, UnsupportedModel

Config = Mapping[str, Any]
"""The content of a ``config.json``."""

PER_LAYER_LISTS = ("layer_types", "mlp_layer_types")
"""Config entries with one item per layer; depth pruning keeps the items of the kept layers."""


SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size")
OPTIONAL_SIZES = ("num_key_value_heads", "head_dim")
"""Follow from the others where a config leaves them out or has null."""


POSITIONS = "max_position_embeddings"
LARGEST_SIZE = 2**31 - 1
"""No tensor has more rows: what is larger comes from a damaged file."""

TRAITS = ("tie_word_embeddings", "attention_bias", "mlp_bias")
"""Config entries that an architecture has in common with every student."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What differs between families that share the Llama block layout."""

    name: str
    anatomy: Anatomy = field(default_factory=Anatomy)
    mlp_matrices: int = 3
    qkv_bias: bool = False
    """Biases on query, key and value that the family always has."""
    reads_attention_bias: bool = False
    """The config's ``attention_bias`` gives all four projections a bias; other families ignore it."""
    reads_mlp_bias: bool = False
    """The config's ``mlp_bias`` gives the MLP biases; other families ignore it."""
    qk_norm: bool = False
    norm_bias: bool = False
    heads_divide_hidden: bool = False
    """transformers refuses ``hidden_size % num_attention_heads != 0`` (huggingface/transformers#46082)."""

    def check(self, architecture: Architecture) -> None:
        """Raise InvalidArchitecture when stock transformers would refuse the shape."""
        heads = architecture.num_attention_heads
        if self.heads_divide_hidden and architecture.hidden_size % heads:
            raise InvalidArchitecture(
                "hidden_size",
                f"found {architecture.hidden_size}, allowed for {self.name}: a multiple of the "
                f"{heads} attention heads",
            )


FAMILIES = {
    family.name: family
    for family in (
        Family(name="llama", reads_attention_bias=True, reads_mlp_bias=True, heads_divide_hidden=True),
        Family(name="mistral"),
        Family(name="qwen2", qkv_bias=True),
        Family(name="qwen3", reads_attention_bias=True, qk_norm=True),
        Family(
            name="nemotron", mlp_matrices=2, norm_bias=True, reads_attention_bias=True, reads_mlp_bias=True
        ),
    )
}


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
    _check_entries(config)
    heads = config["num_attention_heads"]
    attention_bias = family.reads_attention_bias and bool(config.get("attention_bias", False))
    return Architecture(
        num_layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_attention_heads=heads,
        num_key_value_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocab_size=config["vocab_size"],
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        family=family.name,
        traits=BlockTraits(
            mlp_matrices=family.mlp_matrices,
            qkv_bias=family.qkv_bias or attention_bias,
            output_bias=attention_bias,
            mlp_bias=family.reads_mlp_bias and bool(config.get("mlp_bias", False)),
            qk_norm=family.qk_norm,
            norm_bias=family.norm_bias,
        ),
    )


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
    planned = ("model_type", *SIZES, *OPTIONAL_SIZES, *TRAITS, POSITIONS)
    return {name: config[name] for name in planned if name in config}


def _check_entries(config: Config) -> None:
    """Raise UnsupportedModel unless every size is there, and each entry that is read is what it should be."""
    missing = [name for name in SIZES if name not in config]
    if missing:
        raise UnsupportedModel(f"config.json: {', '.join(missing)}: missing")
    for name in (*SIZES, *OPTIONAL_SIZES, POSITIONS):
        size = config.get(name)
        if size is None and name not in SIZES:
            continue
        if type(size) is not int or not 1 <= size <= LARGEST_SIZE:
            raise UnsupportedModel(
                f"config.json: {name}: found {size!r}, allowed: a whole number from 1 to {LARGEST_SIZE}"
            )
    for name in TRAITS:
        if not isinstance(config.get(name), bool | None):
            raise UnsupportedModel(f"config.json: {name}: found {config[name]!r}, allowed: true or false")


def student_config(parent: Config, student: Architecture, kept_layers: Sequence[int]) -> dict[str, Any]:
    """Return the parent's config with the student's shape; every other entry stands.

    ``head_dim`` is written out, since it no longer follows from hidden size over heads, and
    ``quantization_config`` is dropped: a student holds plain weights, whatever its parent came in.
    """
    config = dict(parent)
    config.pop("quantization_config", None)
    config |= {
        "num_hidden_layers": student.num_layers,
        "hidden_size": student.hidden_size,
        "intermediate_size": student.intermediate_size,
        "num_attention_heads": student.num_attention_heads,
        "num_key_value_heads": student.num_key_value_heads,
        "head_dim": student.head_dim,
    }
    for name in PER_LAYER_LISTS:
        if isinstance(config.get(name), list):
            config[name] = [config[name][layer] for layer in kept_layers]
    return config
