"""A GGUF file becomes an ordinary checkpoint directory: plain weights, config, tokenizer.

Knows neither the hub nor where parents are kept. The work is transformers'; what is added is what it
leaves out: the rule by which text is cut before it is tokenized, and errors in one line.
"""

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import gguf  # noqa: F401  # transformers needs it, which is better known before a download
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerBase
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from minitron.checkpoint import check_complete, one_line, quiet_transformers, save_checkpoint
from minitron.checkpoint_files import TOKENIZER
from minitron.errors import UnreadableCheckpoint, UnsupportedModel
from minitron.files import naming_full_disk
from minitron.gguf_header import GgufHeader, read_header_of
from minitron.progress import Progress, Report, silent

BYTE_LEVEL = "gpt2"
"""What GGUF calls tokenizers of bytes, whose cutting rule it names; others have none."""

SMOLLM = "smollm"
"""Each digit alone: the one rule that families here use and transformers does not know."""
GPT2_RULES = ("default", "gpt-2")
_LOADING = ("is_local", "local_files_only")
"""Entries of a tokenizer's config that say how it was loaded, not what it is."""


def dequantize(file: Path, directory: Path, *, report: Report = silent) -> None:
    """Write what a GGUF file holds as a checkpoint in float32, all or nothing.

    Raises:
        UnreadableCheckpoint: No whole GGUF file, or one that transformers cannot read.
        UnsupportedModel: A family, a feature or a tokenizer that is not read from GGUF here.
        OutOfSpace: The disk is full.
    """
    header = read_header_of(file)
    try:
        vocab_size = header.config.get("vocab_size")
        rule = _cutting_rule(header)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{file}: {error}") from None
    report(Progress(stage=f"unpacking {file.name} to float32"))
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (
        naming_full_disk(directory),
        tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch,
    ):
        # The unpacking draws a progress bar that transformers' own switch does not reach.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            try:
                tokenizer = _tokenizer(file, rule)
                loaded: Any = AutoModelForCausalLM.from_pretrained(
                    file.parent,
                    gguf_file=file.name,
                    dtype=torch.float32,
                    # Otherwise the weights stay in GGUF blocks, and students would keep quantization_config.
                    quantization_config=GgufConfig(dequantize=True),
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
            except Exception as error:  # whatever a damaged file makes gguf and transformers raise
                raise UnreadableCheckpoint(f"{file}: cannot be read as GGUF: {one_line(error)}") from error
        model, loading = loaded
        check_complete(file, loading)
        assert model.config.vocab_size == vocab_size
        _save_tokenizer(tokenizer, Path(scratch), model.config.vocab_size)
        save_checkpoint(model, directory, companions=Path(scratch))


def _cutting_rule(header: GgufHeader) -> str | None:
    """Return what GGUF calls the rule by which text is cut before it is tokenized; None without one.

    transformers takes the rule of GPT-2 for every one that it does not know.
    """
    if header.fields.get("tokenizer.ggml.model") != BYTE_LEVEL:
        return None
    name: str = header.fields.get("tokenizer.ggml.pre", GPT2_RULES[0])
    known = (*GPT2_RULES, SMOLLM, *GGUF_PRE_TOKENIZER_SPLITS)
    if name not in known:
        raise UnsupportedModel(f"tokenizer.ggml.pre: found {name!r}, allowed: {', '.join(known)}")
    return name


def _tokenizer(file: Path, rule: str | None) -> PreTrainedTokenizerBase:
    tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if rule == SMOLLM:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path, vocab_size: int) -> None:
    """Write a tokenizer without the tokens that transformers adds and the model has no embedding for."""
    tokenizer.save_pretrained(directory)
    path = directory / TOKENIZER
    content = json.loads(path.read_text(encoding="utf-8"))
    beyond = {each["content"] for each in content["added_tokens"] if each["id"] >= vocab_size}
    content["added_tokens"] = [each for each in content["added_tokens"] if each["content"] not in beyond]
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = {
        name: value
        for name, value in config.items()
        if name not in _LOADING and not (isinstance(value, str) and value in beyond)
    }
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
