"""``minitron evaluate`` with tasks: a table, JSON, and mistakes in one line."""

import json
import math
import subprocess
import sys

import pytest

from tests.checkpoints import write_checkpoint, write_documents, write_task

T = 16


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a random parent, text and a task."""
    place = tmp_path_factory.mktemp("place")
    write_documents(place / "text")
    write_checkpoint(place / "parent")
    write_task(place / "tasks")
    return place


def test_all_that_was_measured_is_json(place, run):
    code, out, err = run(
        "evaluate", place / "parent", "--tasks", "nouns", "--task-path", place / "tasks", "--limit", 10, "--json",
        "--data", place / "text", "--sequence-length", T, "--validation-tokens", 160, "--artifacts", place / "artifacts",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    held_out = found["held_out"]
    assert held_out["num_tokens"] == 160
    assert held_out["perplexity"] == pytest.approx(math.exp(held_out["nats_per_token"]))
    bits = held_out["nats_per_token"] * 160 / math.log(2)
    assert held_out["bits_per_byte"] == pytest.approx(bits / held_out["num_bytes"])
    (score,) = found["scores"]
    assert (score["task"], score["metric"], score["num_samples"]) == ("nouns", "acc", 10)
    assert "tasks: 20 of 20 requests (100%)" in err


def test_scores_are_a_table(place, run):
    code, out, err = run(
        "evaluate", place / "parent", "--no-loss", "--tasks", "nouns", "--task-path", place / "tasks",
        "--num-fewshot", 1,
    )  # fmt: skip
    assert code == 0, err
    head, row = out.splitlines()
    assert head.split()[:3] == ["task", "metric", "score"]
    assert row.split()[:2] == ["nouns", "acc"]
    assert row.split()[-2:] == ["40", "1"]
    assert "nats per token" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-loss"], "--tasks: found none, allowed"),
        (["--limit", "5"], "--tasks: found none, allowed"),
        (["--tasks", "nouns", "--limit", "0"], "evaluation.limit: found 0, allowed: at least 1"),
        (["--tasks", "nouns", "--chat"], "--chat: found a tokenizer without chat template"),
        (["--tasks", "nouns", "--num-fewshot", "400"], "num_fewshot: found 400, allowed for nouns: at most "),
        (["--tasks", "noun"], "tasks: found 'noun', allowed: near: nouns"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(place, run, arguments, message):
    code, out, err = run("evaluate", place / "parent", "--task-path", place / "tasks", *arguments)
    assert (code, out) == (1, "")
    assert f"error: {message}" in err.splitlines()[-1]
    assert "held-out loss" not in err


def test_a_missing_extra_is_named(place):
    program = (
        "import sys; sys.modules['lm_eval'] = None; sys.argv = ['minitron', 'evaluate', *sys.argv[1:]];"
        "from minitron.cli import main; main()"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, place / "parent", "--tasks", "nouns"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 1
    assert child.stderr == (
        "error: --tasks: needs lm_eval, which this Python lacks: pip install 'minitron-nas[worker,eval]'\n"
    )
