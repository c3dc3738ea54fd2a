"""``builtin:tiny``: a small Llama that is trained once, on the spot, from the running Python's documentation.

Knows only how to make it; ``minitron.builtin`` knows where it is kept. Its training documents are those of
the training side, so that a search with the same source holds out text that this parent has never seen.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from minitron.checkpoint import save_checkpoint
from minitron.data import PACKING_VERSION, prepare_blocks
from minitron.parents import BUILTIN_CONFIGS, TINY
from minitron.progress import Progress, Report, silent
from minitron.reading import read_documents
from minitron.recipe import DataRecipe, DistillationRecipe, TrainingRecipe
from minitron.sources import content_digest
from minitron.split import side_of
from minitron.train import Retraining

VERSION = 1
"""Raised when the same recipes would give another model than before."""

END_OF_TEXT = "<|endoftext|>"
TOKENIZER_DOCUMENTS = 128
"""Documents that the byte-pair merges are learnt from."""

DATA = DataRecipe(sequence_length=128)
(_SOURCE,) = DATA.sources.items()
TRAINING = TrainingRecipe(
    num_tokens=512_000,
    batch_tokens=512,
    micro_batch_size=4,
    peak_learning_rate=6e-3,
    final_learning_rate_ratio=0.02,
    warmup_tokens=25_600,
    precision="float32",
)
"""Measured at 84 to 103 seconds of one core; small steps learn most from so few tokens."""

EMBEDDING_STD = 0.2
MATRIX_STD = 0.09
"""Near one over the root of the width. transformers' own 0.02, made for wide models, and residual branches
that do not start at zero end 0.4 nats higher after 300 000 tokens."""

NUM_THREADS = 1
REPORTS = 100
"""Reports of progress during training."""


def tiny_name(training: TrainingRecipe = TRAINING) -> str:
    """Return the name of the directory that holds what ``train_tiny`` makes, by content."""
    parts = {
        "version": VERSION,
        "packing": PACKING_VERSION,
        "config": BUILTIN_CONFIGS[TINY],
        "data": asdict(DATA) | {"source": content_digest(*_SOURCE)},
        "training": asdict(training),
        "tokenizer_documents": TOKENIZER_DOCUMENTS,
    }
    return f"tiny-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"


def train_tiny(directory: Path, *, training: TrainingRecipe = TRAINING, report: Report = silent) -> None:
    """Train the tokenizer and the model, and write them as an ordinary checkpoint, all or nothing.

    Raises:
        OutOfSpace: The disk is full.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch:
        companions = Path(scratch) / "companions"
        report(Progress(stage="tokenizer of builtin:tiny"))
        _train_tokenizer().save_pretrained(companions)
        blocks = prepare_blocks(
            DATA,
            companions,
            calibration_blocks=1,
            training_blocks=training.num_steps(DATA.sequence_length)
            * training.blocks_per_step(DATA.sequence_length),
            root=Path(scratch),
            report=report,
        )
        with _threads(NUM_THREADS), torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            model = _initial_model()
            retraining = Retraining(
                model,
                blocks.training_NT,
                None,
                training=training,
                distillation=DistillationRecipe(),
                device=torch.device("cpu"),
            )
            total = blocks.training_NT.size
            while retraining.num_tokens < total:
                part = max(total // REPORTS, retraining.step_tokens)
                retraining.advance(min(retraining.num_tokens + part, total))
                report(
                    Progress(
                        stage="training builtin:tiny", done=retraining.num_tokens, total=total, unit="tokens"
                    )
                )
        save_checkpoint(model, directory, companions=companions)


def _initial_model() -> LlamaForCausalLM:
    """Return the model that training starts from, whose blocks add nothing yet."""
    model = LlamaForCausalLM(LlamaConfig(**BUILTIN_CONFIGS[TINY], initializer_range=MATRIX_STD))
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(std=EMBEDDING_STD)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


def _train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of the config's vocabulary size, learnt from training documents."""
    documents = (
        document.text
        for document in read_documents(*_SOURCE, seed=DATA.seed)
        if side_of(document.digest) == "training"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BUILTIN_CONFIGS[TINY]["vocab_size"],
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(documents, TOKENIZER_DOCUMENTS), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with so many threads, so that the result does not depend on the caller's setting."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
