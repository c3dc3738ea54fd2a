"""A student of SmolLM2 is aligned: it learns answers and preferences that it never saw, and stays a chat model."""

import json
import re
import sys

import pytest

from minitron.checkpoint import load_tokenizer
from minitron.cli import main
from minitron.parents import SMOLLM2
from tests.checkpoints import sentences

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]


@pytest.fixture
def script(monkeypatch, capsys):
    """Run the script in this process and return its standard output."""

    def script(*arguments):
        monkeypatch.setattr(sys, "argv", ["minitron", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        assert exit_.value.code == 0, captured.err
        return captured.out

    return script


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_smollm2_student_is_aligned(tmp_path, script):
    """Chats: the first sentence's subject, in capitals. Preferences: polite rather than curt."""
    artifacts, scores, student = tmp_path / "artifacts", tmp_path / "scores", tmp_path / "student"
    data = ["--sequence-length", 256, "--artifacts", artifacts]
    script("importance", SMOLLM2, "-o", scores, "--tokens", 16_384, *data)
    script(
        "prune", SMOLLM2, "--scores", scores, "--intermediate", 1_280, "-o", student, "--artifacts", artifacts
    )
    lines = sentences(100).splitlines()
    chats = write_rows(
        tmp_path / "chats.jsonl",
        [
            {
                "messages": [
                    {"role": "user", "content": f"Who acts first? {line}"},
                    {"role": "assistant", "content": f"THE {line.split()[1].upper()} acts first."},
                ]
            }
            for line in lines
        ],
    )
    pairs = write_rows(
        tmp_path / "pairs.jsonl",
        [
            {
                "prompt": f"What does this say? {line}",
                "chosen": f"Thank you for asking. It says that {line}",
                "rejected": f"It says that {line}",
            }
            for line in lines
        ],
    )
    out = script(
        "align", student, "-o", tmp_path / "aligned", "--sft", chats, "--dpo", pairs, "--sft-learning-rate", 1e-4,
        "--dpo-learning-rate", 5e-6, "--batch-size", 4, "--validation-share", 0.2,
    )  # fmt: skip
    print(out)
    (before, after), (worse, better) = (
        map(float, pair) for pair in re.findall(r": ([\d.]+) -> ([\d.]+)", out)
    )
    assert after < before / 2
    assert better > worse + 0.2
    aligned, original = load_tokenizer(tmp_path / "aligned"), load_tokenizer(student)
    assert aligned.chat_template == original.chat_template
    chat = [{"role": "user", "content": "Hello"}]
    assert aligned.apply_chat_template(chat, tokenize=False) == original.apply_chat_template(
        chat, tokenize=False
    )
