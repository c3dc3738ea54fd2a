"""The model card of an exported student: text from facts, nothing else.

Knows neither files nor weights. The head is what Hugging Face reads as metadata.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minitron.architecture import Architecture
from minitron.parents import BUILTIN_PREFIX, SMOLLM2, hub_name, is_local
from minitron.recipe import (
    CalibrationRecipe,
    DataRecipe,
    DistillationRecipe,
    PruningRecipe,
    TrainingRecipe,
)
from minitron.stage_recipes import AlignmentRecipe, CorrectionRecipe, TaskScore

if TYPE_CHECKING:
    from minitron.plan import PruningPlan

Recipe = (
    DataRecipe
    | CalibrationRecipe
    | PruningRecipe
    | DistillationRecipe
    | TrainingRecipe
    | CorrectionRecipe
    | AlignmentRecipe
)

HUB_NAMES = {SMOLLM2: "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""What the builtin parents are called on the Hugging Face hub."""

PLAN_FILE = "pruning_plan.json"
"""The kept indices of a student, beside its card: into the parent, ascending."""

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
    origin: Mapping[str, str] | None = None,
    scores: Mapping[str, Sequence[TaskScore]] | None = None,
    summary: str | None = None,
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
        origin: What else the student follows from, in words: ``pruning_facts``, or the sizes between.
        summary: What was done with the parent where it was not pruned.
        scores: What models scored at tasks, the same tasks for each, by model as ``losses``.
    """
    kept = after.parameter_count / before.parameter_count
    sections = [
        _metadata(parent),
        f"# {title}",
        f"`{_name(parent)}` {summary}"
        if summary
        else f"`{_name(parent)}` pruned from {before.parameter_count:,} to {after.parameter_count:,} parameters ({kept:.1%}).",
        f"Parent: `{_public(parent)}`, SHA-256 of its config and weights `{parent_fingerprint}`.",
        "## Architecture\n\n" + _architectures(before, after),
    ]
    if origin:
        sections.append("## Lineage\n\n" + _table(("", ""), list(origin.items())))
    if losses:
        rows = [(name, f"{loss:.4f}") for name, loss in losses.items()]
        sections.append("## Held-out loss\n\n" + _table(("model", "nats per token"), rows))
    if scores:
        sections.append("## Scores at tasks\n\n" + _scores(scores))
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


def pruning_facts(plan: "PruningPlan", *, scores: str) -> dict[str, str]:
    """Return what a card tells of how a student was cut from its parent.

    Args:
        plan: The kept indices, which lie beside the card in ``PLAN_FILE``.
        scores: What the importance scores are known by.
    """
    text = json.dumps(plan.as_json(), sort_keys=True)
    return {
        "importance scores": scores,
        "plan": f"{PLAN_FILE}, SHA-256 of its content {hashlib.sha256(text.encode()).hexdigest()}",
        "layers kept": ", ".join(map(str, plan.layers)),
    }


def _scores(scores: Mapping[str, Sequence[TaskScore]]) -> str:
    rows = [
        (each[0].name, *(f"{score.value:.4f}" for score in each))
        for each in zip(*scores.values(), strict=True)
    ]
    return _table(("task", *scores), rows)


def _metadata(parent: str) -> str:
    # JSON strings are YAML strings, so a name cannot break out of its line.
    base = HUB_NAMES.get(parent) or _repository(parent)
    lines = [
        "---",
        # Names a model of the hub or nothing: the hub refuses a card with the name of a directory here.
        *([f"base_model: {json.dumps(base)}"] if base else []),
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [minitron, pruning, distillation]",
        "---",
    ]
    return "\n".join(lines)


def _public(text: str) -> str:
    """Return the last part of a path: a card may be shown to all the world, and folders tell of people."""
    return Path(text).name if Path(text).is_absolute() else text


def _repository(parent: str) -> str | None:
    name = hub_name(parent)
    return name.repository if name else None


def _name(parent: str) -> str:
    if is_local(parent):
        return Path(parent).name
    return _repository(parent) or parent.removeprefix(BUILTIN_PREFIX)


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
            return f"{_public(value['source'])} ({', '.join(given)})"
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return f"{value:,}" if is_number else _public(str(value))

    return [(name, text(value)) for name, value in asdict(recipe).items()]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
