"""Hugging Face checkpoint directories: load, fingerprint, save.

Loads safetensors only, in float32 unless told otherwise, and never runs code that a checkpoint brings. Refuses what transformers
would load with a warning: a tensor that is missing there starts from random numbers. Knows neither
pruning nor training.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from minitron.checkpoint_files import (
    check_tokenizer,
    check_vocabulary,
    check_weights,
    companion_files,
    tokenizer_files,
    weight_files,
)
from minitron.errors import InvalidRecipe, UnreadableCheckpoint
from minitron.families import dropouts_of
from minitron.files import file_digest, new_directory
from minitron.parents import parent_architecture, read_config
from minitron.tensor_headers import some

CPU = torch.device("cpu")
VOLATILE_KEYS = ("transformers_version", "_name_or_path")
"""Config entries that say who wrote the file, not what it describes."""


def load_parent(
    directory: Path, *, dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> PreTrainedModel:
    """Return the model of a checkpoint directory in evaluation mode, on a device; without dropout, where it has any.

    Raises:
        UnsupportedModel: A family that cannot be pruned here, or quantized weights.
        InvalidArchitecture: Sizes that contradict each other.
        PickledCheckpoint: Weights only as pickles.
        UnreadableCheckpoint: Files or tensors that are missing, corrupt or of the wrong shape.
    """
    parent_architecture(str(directory))
    check_weights(directory, read_config(str(directory)))
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            for name in dropouts_of(config.to_dict()):
                setattr(config, name, 0.0)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise UnreadableCheckpoint(f"{directory}: cannot be loaded: {one_line(error)}") from error
    model, loading = loaded
    assert isinstance(model, PreTrainedModel)
    assert not model.training
    check_complete(directory, loading)
    model.to(device)  # type: ignore[arg-type]  # the stub loses self
    return model


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a checkpoint directory.

    Raises:
        UnreadableCheckpoint: No tokenizer, one that cannot be read, or one of more tokens than the model's.
    """
    # A tokenizer that was just made has no model beside it yet.
    has_model = (directory / "config.json").is_file()
    vocab_size = read_config(str(directory)).get("vocab_size", sys.maxsize) if has_model else sys.maxsize
    check_tokenizer(directory, vocab_size=vocab_size)
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the tokenizers library raises bare Exception
            raise UnreadableCheckpoint(f"{directory}: tokenizer: cannot be read: {error!r}") from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    check_vocabulary(directory, tokenizer.vocab_size, vocab_size)
    return tokenizer


def require_chat_template(tokenizer: PreTrainedTokenizerBase, *, field: str) -> None:
    """Raise InvalidRecipe, naming the field that asks for chats, where a tokenizer has no template for them."""
    if not tokenizer.chat_template:
        raise InvalidRecipe(field, "found a tokenizer without chat template, allowed: one with")


def fingerprint(directory: Path) -> str:
    """Return the SHA-256 over the config and the weights of a checkpoint; names and times do not count.

    Raises:
        PickledCheckpoint, UnreadableCheckpoint: No weights to fingerprint.
    """
    config = {key: value for key, value in read_config(str(directory)).items() if key not in VOLATILE_KEYS}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in weight_files(directory):
        digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()


def tokenizer_fingerprint(directory: Path) -> str:
    """Return the SHA-256 over the tokenizer files of a checkpoint."""
    digest = hashlib.sha256()
    for path in tokenizer_files(directory):
        digest.update(path.name.encode() + bytes.fromhex(file_digest(path)))
    return digest.hexdigest()


def save_checkpoint(
    model: PreTrainedModel,
    directory: Path,
    *,
    companions: Path,
    card: str | None = None,
    others: Mapping[str, str] | None = None,
) -> None:
    """Write a model, with the tokenizer and generation settings found in ``companions``, all or nothing.

    A directory that is there already stands. The config says nothing of quantization, whatever the
    parent came in.

    Args:
        model: On any device; not changed.
        directory: Where to write.
        companions: The checkpoint directory of the parent.
        card: The text of ``README.md``.
        others: Texts of further files, by name.

    Raises:
        OutOfSpace: The disk is full.
    """
    with new_directory(directory) as scratch:
        with quiet_transformers():
            model.save_pretrained(scratch)
        path = scratch / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("quantization_config", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for companion in companion_files(companions):
            shutil.copyfile(companion, scratch / companion.name)
        texts = {**(others or {}), **({} if card is None else {"README.md": card})}
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the progress bars and warnings of transformers; what matters is raised here."""
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def check_complete(path: Path, loading: Mapping[str, Any]) -> None:
    """Refuse tensors that transformers would have filled with random numbers.

    Args:
        path: What was loaded.
        loading: What ``from_pretrained`` tells with ``output_loading_info``.

    Raises:
        UnreadableCheckpoint: Tensors are missing or of the wrong shape.
    """
    missing = sorted(loading["missing_keys"])
    if missing:
        raise UnreadableCheckpoint(f"{path}: tensors are missing: {some(missing)}")
    mismatched = [
        f"{name} (found {tuple(found)}, allowed by config.json: {tuple(allowed)})"
        for name, found, allowed in sorted(loading["mismatched_keys"])
    ]
    if mismatched:
        raise UnreadableCheckpoint(f"{path}: tensors have the wrong shape: {some(mismatched)}")


def one_line(error: Exception) -> str:
    """Return what an error says, without its line breaks."""
    return " ".join(str(error).split())
