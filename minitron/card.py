"""The model card of an exported student: text from facts, nothing else.

Knows neither files nor weights. The head is what Hugging Face reads as metadata.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minitron.architecture import Architecture
from minitron.parents import SMOLLM2
from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, TrainingRecipe

Recipe = DataRecipe | CalibrationRecipe | DistillationRecipe | TrainingRecipe

HUB_NAMES = {SMOLLM2: "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""What the builtin parents are called on the Hugging Face hub."""

_ROWS = (
    "parameter_count", "non_embedding_parameters", "num_layers", "hidden_size", "intermediate_size",
    "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
)  # fmt: skip


def model_card(
    *,
    title: str,
    parent: str,
    parent_fingerprint: str,
    before: Architecture,
    after: Architecture,
    recipes: Mapping[str, Recipe],
    losses: Mapping[str, float],
) -> str:
    """Return the text of a student's ``README.md``.

    Args:
        title: What the student is called.
        parent: The parent's name or directory.
        parent_fingerprint: Of its config and weights.
        before: The parent's shape.
        after: The student's shape.
        recipes: By what they say, for example ``{"data": DataRecipe()}``; all that made the student.
        losses: Held-out nats per token by model, for example ``{"parent": 2.0, "student": 2.1}``.
    """
    kept = after.parameter_count / before.parameter_count
    sections = [
        _metadata(parent),
        f"# {title}",
        f"`{_name(parent)}` pruned from {before.parameter_count:,} to {after.parameter_count:,} parameters ({kept:.1%}).",
        f"Parent: `{parent}`, SHA-256 of its config and weights `{parent_fingerprint}`.",
        "## Architecture\n\n" + _architectures(before, after),
    ]
    if losses:
        rows = [(name, f"{loss:.4f}") for name, loss in losses.items()]
        sections.append("## Held-out loss\n\n" + _table(("model", "nats per token"), rows))
    sections += [
        f"## Recipe: {name}\n\n" + _table(("field", "value"), _fields(recipe))
        for name, recipe in recipes.items()
    ]
    sections.append(
        "## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'directory = "."  # where this file lies\n'
        "model = AutoModelForCausalLM.from_pretrained(directory)\n"
        "tokenizer = AutoTokenizer.from_pretrained(directory)\n```"
    )
    return "\n\n".join(sections) + "\n"


def _metadata(parent: str) -> str:
    # JSON strings are YAML strings, so a name cannot break out of its line.
    return "\n".join(
        [
            "---",
            f"base_model: {json.dumps(HUB_NAMES.get(parent, _name(parent)))}",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags: [minitron, pruning, distillation]",
            "---",
        ]
    )


def _name(parent: str) -> str:
    return parent.removeprefix("builtin:") if parent.startswith("builtin:") else Path(parent).name


def _architectures(before: Architecture, after: Architecture) -> str:
    rows = [(name, f"{getattr(before, name):,}", f"{getattr(after, name):,}") for name in _ROWS]
    return _table(("", "parent", "student"), rows)


def _fields(recipe: Recipe) -> list[tuple[str, str]]:
    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return "; ".join(map(text, value))
        if isinstance(value, dict):  # a source of data
            given = [
                f"{name} {each}" for name, each in value.items() if name != "source" and each is not None
            ]
            return f"{value['source']} ({', '.join(given)})"
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    return [(name, text(value)) for name, value in asdict(recipe).items()]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
