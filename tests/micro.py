"""The smallest real search: a random two-layer parent with a tokenizer of its own, on generated text.

Everything is what a user has, only small: a checkpoint directory, a text file, a spec.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from minitron.checkpoint import save_checkpoint
from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, TrainingRecipe
from nas.axes import Axes
from nas.budget import Budget
from nas.earlier import HistoryUse
from nas.search import Rungs, SearchSpec
from tests.tiny import tiny_model

VOCAB_SIZE = 257
SEQUENCE_LENGTH = 16
STEP_TOKENS = 4 * SEQUENCE_LENGTH
ON_ITS_OWN = HistoryUse(reuse=False, warm_start=False)
"""Searches of one home are often to do the same again."""
LONGER = TrainingRecipe(
    num_tokens=16 * STEP_TOKENS, batch_tokens=STEP_TOKENS, precision="float32", peak_learning_rate=1e-2
)
"""For promotions: twice the trials' own, and at ten times their rate."""
LABELS = DistillationRecipe(top_k=16, label_weight=10.0)
"""The micro parent knows nothing, so that only labels teach."""


def micro_parent(directory: Path, family: str = "llama", **sizes: Any) -> Path:
    """Write a random model of 257 bytes-as-tokens with its tokenizer, and return the directory."""
    vocab = {"<end>": 0} | {byte: 1 + n for n, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    companions = directory.with_name(f"{directory.name}-tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(companions)
    model = tiny_model(family, **({"vocab_size": VOCAB_SIZE, "num_hidden_layers": 2} | sizes))
    save_checkpoint(model, directory, companions=companions)
    return directory


def micro_text(path: Path) -> Path:
    """Write distinct generated sentences, one document a line, and return the file."""
    generator = np.random.default_rng(0)
    nouns, verbs = ("model", "layer", "head", "token", "budget"), ("prunes", "keeps", "reads", "doubts")
    lines = [
        '{"text": "' + f"{n}: the {generator.choice(nouns)} {generator.choice(verbs)} it" + '"}'
        for n in range(1_500)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def micro_spec(directory: Path, **changes: Any) -> SearchSpec:
    """Return a search of four trials on a parent and a text that it writes into ``directory``.

    Eight optimiser steps: points at 0, 2, 4, 6 and 8 steps, rungs at 4 and 8.
    """
    spec = SearchSpec(
        name="micro",
        parent=str(micro_parent(directory / "parent")),
        budget=Budget(max_parameters=40_000),
        axes=Axes(num_layers=(1, 2), hidden_size=(24, 36, 48), intermediate_size=(16, 24, 32, 40)),
        data=DataRecipe(
            source=str(micro_text(directory / "text.jsonl")),
            sequence_length=SEQUENCE_LENGTH,
            validation_tokens=8 * SEQUENCE_LENGTH,
        ),
        calibration=CalibrationRecipe(num_tokens=8 * SEQUENCE_LENGTH),
        distillation=DistillationRecipe(top_k=16),
        training=TrainingRecipe(num_tokens=8 * STEP_TOKENS, batch_tokens=STEP_TOKENS, precision="float32"),
        num_points=4,
        num_trials=4,
        rungs=Rungs(fractions=()),
        history=ON_ITS_OWN,
    )
    return replace(spec, **changes)
