"""Small checkpoint directories with a tokenizer, and text that their models can learn."""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from minitron.checkpoint import load_parent
from minitron.data import prepare_blocks
from minitron.recipe import DataRecipe, DistillationRecipe, TrainingRecipe
from minitron.train import Retraining
from tests.tiny import VOCAB_SIZE, tiny_model

_NOUNS = ("model", "layer", "head", "neuron", "token", "budget", "teacher", "student", "parent", "loss")
_VERBS = ("prunes", "keeps", "reads", "doubts", "trains", "measures", "forgets", "copies")
WORDS = ("<unk>", "<end>", "the", "a", ".", "and", *_NOUNS, *_VERBS)


def sentences(number: int, *, seed: int = 0) -> str:
    """Generated sentences of a small language, one on each line; every line is likely to differ."""
    draw = random.Random(seed)
    return "".join(
        f"the {draw.choice(_NOUNS)} {draw.choice(_VERBS)} a {draw.choice(_NOUNS)} and "
        f"a {draw.choice(_NOUNS)} {draw.choice(_VERBS)} the {draw.choice(_NOUNS)} .\n"
        for _ in range(number)
    )


def write_documents(directory: Path, *, documents: int = 60, lines: int = 20) -> Path:
    """A directory of text files of the small language, no two alike."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        (directory / f"{number:03}.txt").write_text(sentences(lines, seed=number), encoding="utf-8")
    return directory


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word of the small language."""
    assert len(WORDS) <= VOCAB_SIZE
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>")


CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """The word tokenizer with a chat template, whose roles are words of their own."""
    words = (*WORDS, "<user>", "<assistant>", "<system>")
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>", chat_template=CHAT_TEMPLATE
    )


def write_task(directory: Path, *, questions: int = 40, name: str = "nouns") -> Path:
    """A task of the lm-evaluation-harness with its data: which of two words goes on with a sentence?

    The first choice is a noun, as the small language has it, the second a verb.
    """
    directory.mkdir(parents=True, exist_ok=True)
    draw = random.Random(1)
    rows = [
        {
            "text": f"the {draw.choice(_NOUNS)} {draw.choice(_VERBS)} a",
            "choices": [draw.choice(_NOUNS), draw.choice(_VERBS)],
        }
        for _ in range(questions)
    ]
    data = directory / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (directory / f"{name}.yaml").write_text(
        f"""task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {json.dumps(str(data))}}}}}
output_type: multiple_choice
test_split: test
fewshot_split: test
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
""",
        encoding="utf-8",
    )
    return directory


def write_checkpoint(directory: Path, name: str = "llama", *, seed: int = 0, **overrides: object) -> Path:
    """A random model of ``tests.tiny`` with the word tokenizer, as any Hugging Face checkpoint."""
    tiny_model(name, seed=seed, **overrides).save_pretrained(directory)
    word_tokenizer().save_pretrained(directory)
    return directory


def write_learnt_checkpoint(directory: Path, text: Path, artifacts: Path) -> Path:
    """A checkpoint as of ``write_checkpoint`` whose model has learnt a text."""
    blocks = prepare_blocks(
        DataRecipe(source=str(text), sequence_length=16, validation_tokens=1_600),
        write_checkpoint(directory),
        calibration_blocks=0,
        training_blocks=800,
        root=artifacts,
    )
    retraining = Retraining(
        load_parent(directory), blocks.training_NT, None,
        training=TrainingRecipe(num_tokens=12_800, batch_tokens=256, peak_learning_rate=5e-3),
        distillation=DistillationRecipe(), device=torch.device("cpu"),
    )  # fmt: skip
    retraining.advance(12_800)
    retraining.student.save_pretrained(directory)
    return directory
