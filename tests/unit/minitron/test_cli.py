"""The script, as a user runs it: the whole chain on a checkpoint directory, and mistakes in one line."""

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minitron.cli import main
from minitron.parents import parent_architecture
from minitron.train import Retraining
from tests.checkpoints import sentences, write_checkpoint, write_documents, write_learnt_checkpoint

T = 16
SCRIPT = Path(sys.executable).with_name("minitron")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with text and a parent that has learnt it."""
    place = tmp_path_factory.mktemp("place")
    write_documents(place / "text", documents=200)
    write_checkpoint(place / "untrained")
    write_learnt_checkpoint(place / "parent", place / "text", place / "artifacts")
    return place


def data_options(place):
    return ["--data", place / "text", "--sequence-length", T, "--artifacts", place / "artifacts"]


def test_the_whole_chain(place, run):
    """importance, prune, distill, evaluate; the student recovers most of what pruning cost."""
    parent, scores, pruned, distilled = (
        place / name for name in ("parent", "scores.st", "pruned", "distilled")
    )

    code, out, _ = run("importance", parent, "-o", scores, "--tokens", 32 * T, *data_options(place))
    assert code == 0, out
    assert scores.is_file()

    sizes = ["--layers", 3, "--hidden", 36, "--intermediate", 24, "--heads", 4]
    code, out, err = run("prune", parent, "--scores", scores, *sizes, "-o", pruned)
    assert code == 0, err
    student = parent_architecture(str(pruned))
    assert student.name == "L3-D36-F24-N4-K2"
    assert f"{student.parameter_count:,} of {parent_architecture(str(parent)).parameter_count:,}" in out
    assert "reloading in a fresh process" in err

    options = ["--heads", 2, "--kv-heads", 1, "--pool-kv-heads", "--head-merge", "--norm-rescaling"]
    code, _, err = run("prune", parent, "--scores", scores, *options, "-o", place / "pooled")
    assert code == 0, err
    assert parent_architecture(str(place / "pooled")).name == "L4-D48-F40-N2-K1"
    assert "| kv_heads | mean |" in (place / "pooled" / "README.md").read_text()

    code, out, err = run("distill", pruned, "--teacher", parent, "-o", distilled, "--tokens", 25_600,
        "--batch-tokens", 256, "--learning-rate", 4e-3, "--validation-tokens", 1_600, *data_options(place),
    )  # fmt: skip
    assert code == 0, err
    losses = {
        name: float(loss) for name, loss in re.findall(r"^(.+): ([\d.]+) nats", out, flags=re.MULTILINE)
    }
    cost = losses["student before retraining"] - losses["parent"]
    assert cost > 0.3
    assert losses["student"] - losses["parent"] < cost / 2
    assert "retraining: 25,600 of 25,600 tokens (100%)" in err

    code, out, _ = run("evaluate", distilled, "--validation-tokens", 1_600, *data_options(place))
    assert code == 0
    assert f"{losses['student']:.4f} nats per token" in out
    assert re.search(r"[\d.]+ bits per byte", out)
    perplexity = float(re.search(r"perplexity ([\d.]+)", out)[1])
    assert perplexity == pytest.approx(math.exp(losses["student"]), abs=2e-3)

    card = (distilled / "README.md").read_text()
    assert f"{losses['student']:.4f}" in card
    assert "`parent` pruned from" in card
    assert "| STUDENT.md | STUDENT.md, of the student before this training |" in card
    for ours, students in (("STUDENT.md", "README.md"), ("pruning_plan.json", "pruning_plan.json")):
        assert (distilled / ours).read_bytes() == (pruned / students).read_bytes()
    assert "importance scores" in (distilled / "STUDENT.md").read_text()
    assert "quantization_config" not in json.loads((distilled / "config.json").read_text())


def test_a_corrected_parent_is_a_checkpoint_and_teaches(place, run):
    """On text that the parent has not seen; what an interrupted correction left is gone on from."""
    other = place / "other-text"
    write_documents(other, documents=120)
    for path in other.iterdir():
        path.write_text(path.read_text().replace(" and ", " . ").replace("the ", "a "))
    options = [
        "--tokens", 12_800, "--batch-tokens", 256, "--learning-rate", 4e-3, "--validation-tokens", 1_600,
        "--data", other, "--sequence-length", T, "--artifacts", place / "artifacts",
    ]  # fmt: skip
    code, out, err = run(
        "correct", place / "parent", "-o", place / "corrected", "--learning-rate-ratio", 0.5, *options
    )
    assert code == 0, err
    losses = [float(loss) for loss in re.findall(r": ([\d.]+) nats", out)]
    assert losses[1] < losses[0] - 0.1
    assert not list(place.glob(".corrected*"))
    assert "`parent` corrected" in (place / "corrected" / "README.md").read_text()
    found = {}
    for teacher in ("parent", "corrected"):
        code, out, err = run(
            "distill",
            place / "untrained",
            "--teacher",
            place / teacher,
            "-o",
            place / f"taught-by-{teacher}",
            *options,
        )
        assert code == 0, err
        found[teacher] = float(re.search(r"^student: ([\d.]+)", out, flags=re.MULTILINE)[1])
    assert found["corrected"] < found["parent"] - 0.1
    code, _, err = run("correct", place / "parent", "-o", place / "corrected", *options)
    assert code == 1
    assert "--output: found" in err


@pytest.mark.parametrize(
    "options",
    [
        ["--metric", "weighted", "--sequence-aggregation", "variance", "--batch-aggregation", "mean"],
        ["--steps", 2, "--hidden", 36, "--intermediate", 24, "--heads", 4],
        ["--depth-metric", "kl", "--depth-selection", "contiguous", "--depth-tokens", 4 * T],
        ["--metric", "random", "--depth-metric", "logit_error", "--depth-selection", "iterative"],
    ],
    ids=lambda options: options[0] + options[1] if isinstance(options[1], str) else options[0],
)
def test_importance_is_told_in_every_way(place, run, tmp_path, options):
    """Each way gives other scores than the default, and scores that a student is pruned by."""
    files = [tmp_path / "default.st", tmp_path / "other.st"]
    for file, given in zip(files, ([], options), strict=True):
        tokens = ["--tokens", 16 * T, *data_options(place)]
        code, _, err = run("importance", place / "parent", "-o", file, *tokens, *given)
        assert code == 0, err
    assert files[0].read_bytes() != files[1].read_bytes()
    sizes = ["--layers", 3, "--hidden", 36, "--intermediate", 24, "--heads", 4]
    code, _, err = run("prune", place / "parent", "--scores", files[1], *sizes, "-o", tmp_path / "student")
    assert code == 0, err


def test_a_live_teacher_keeps_no_answers(place, run, tmp_path):
    code, out, err = run(
        "distill", place / "untrained", "--teacher", place / "parent", "-o", tmp_path / "student",
        "--tokens", 2_048, "--batch-tokens", 256, "--learning-rate", 4e-3, "--validation-tokens", 160,
        "--teacher-source", "live", "--data", place / "text", "--sequence-length", T, "--artifacts", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    before, after = (re.search(rf"^{name}: ([\d.]+)", out, flags=re.MULTILINE)[1] for name in
                     ("student before retraining", "student"))  # fmt: skip
    assert float(after) < float(before)
    assert not (tmp_path / "teachers").exists()


def distilling(place, student, output, *options):
    return [
        "distill", student, "--teacher", place / "parent", "-o", output, "--batch-tokens", 256,
        "--learning-rate", 4e-3, "--validation-tokens", 160, "--precision", "float32", *data_options(place), *options,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "learnt"),
    [
        (["--loss", "cosine", "--cache-form", "hidden", "--label-weight", 0.5], "cosine on logits, labels with weight 0.5"),
        (
            ["--loss", "reverse_kl", "--temperature", 2, "--teacher-source", "live"],
            "reverse_kl on logits at temperature 2",
        ),
        (
            ["--intermediate", "output", "--intermediate-loss", "mse", "--teacher-source", "live"],
            "forward_kl on logits, mse on hidden states (output)",
        ),
        (
            ["--warmup-tokens", 512, "--final-learning-rate-ratio", 0, "--betas", 0.8, 0.9, "--weight-decay", 0,
             "--max-gradient-norm", 0.5, "--optimizer-state", "bfloat16", "--activation-checkpointing"],
            "forward_kl on logits",
        ),
    ],
)  # fmt: skip
def test_every_way_to_distil_is_an_option(place, run, tmp_path, options, learnt):
    code, out, err = run(
        *distilling(place, place / "untrained", tmp_path / "new", "--tokens", 2_048, *options)
    )
    assert code == 0, err
    assert f"learnt from: {learnt}\n" in out
    before, after = (
        float(re.search(rf"^{name}: ([\d.]+)", out, flags=re.MULTILINE)[1])
        for name in ("student before retraining", "student")
    )
    assert after < before


def test_a_training_that_was_interrupted_goes_on_to_the_bit(place, run, tmp_path, monkeypatch):
    """Killed after its third state; the same command again ends with the weights of one that was left alone."""
    options = ["--tokens", 2_048, "--state-seconds", 0]
    whole = distilling(place, place / "untrained", tmp_path / "whole", *options)
    assert run(*whole)[0] == 0
    advance, save, saved = Retraining.advance, Retraining.save, []

    def one_step(self, to_tokens, *, max_seconds):
        return advance(self, to_tokens, max_seconds=0.0)

    def save_and_die(self, directory):
        save(self, directory)
        saved.append(self.num_tokens)
        if len(saved) == 3:
            raise RuntimeError("killed")

    pieces = distilling(
        place, place / "untrained", tmp_path / "pieces", *options, "--state", tmp_path / "state"
    )
    monkeypatch.setattr(Retraining, "advance", one_step)
    monkeypatch.setattr(Retraining, "save", save_and_die)
    monkeypatch.setattr(sys, "argv", ["minitron", *map(str, pieces)])
    with pytest.raises(RuntimeError, match="killed"):
        main()
    assert not (tmp_path / "pieces").exists()
    code, _, err = run(*pieces)
    assert code == 0, err
    assert saved == [256 * step for step in range(1, 9)]
    assert not list((tmp_path / "state").iterdir())
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("pieces", "whole"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_what_cannot_be_distilled_is_refused_before_any_work(place, run, tmp_path):
    """And the teacher's files stay as they are."""
    write_checkpoint(tmp_path / "other", vocab_size=512)
    write_checkpoint(tmp_path / "flat", num_hidden_layers=2)
    before = {path: path.read_bytes() for path in (place / "parent").iterdir()}
    for student, options, message in (
        (place / "untrained", ["--loss", "mse"], "distillation.loss: found mse, allowed with cache_form top_k: forw"),
        (place / "untrained", ["--temperature", 3], "distillation.temperature: found 3.0, allowed with cache_form top_k"),
        (place / "untrained", ["--intermediate", "output"], "distillation.intermediate: found output, allowed with teac"),
        (
            tmp_path / "flat", ["--intermediate", "output", "--teacher-source", "live"],
            "distillation.intermediate: found 'output', allowed: auto or none for a model of 2 layers",
        ),
        (tmp_path / "other", [], "student: found a vocabulary of 512 tokens, allowed: the teacher's"),
        (
            place / "untrained", ["--tokens", 100, "--batch-tokens", 100, "--sequence-length", 128],
            "training.num_tokens: found 100, allowed: at least one step of 128",
        ),
        (
            place / "untrained", ["--teacher-source", "cached", "--max-cache-bytes", 1],
            "distillation.max_cache_bytes: found 1, allowed for this recipe: at least",
        ),
    ):  # fmt: skip
        code, out, err = run(*distilling(place, student, tmp_path / "new", *options))
        assert (code, out) == (1, "")
        assert f"error: {message}" in err
        assert not (tmp_path / "new").exists()
    assert {path: path.read_bytes() for path in (place / "parent").iterdir()} == before


def test_a_blend_and_a_validation_source_are_options(place, run, tmp_path):
    """Sources as names or as JSON; the held-out loss is that of the validation source."""
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"body": sentences(20, seed=1_000 + n)}) + "\n" for n in range(100))
    )
    source = json.dumps({"source": str(tmp_path / "rows.jsonl"), "text_field": "body"})
    options = ["--validation-tokens", 1_600, "--sequence-length", T, "--artifacts", tmp_path]
    losses = []
    for data in (
        ["--data", place / "text", "--data", source],
        ["--data", place / "text", "--validation", source],
        ["--data", source, "--validation", source],
    ):
        code, out, err = run("evaluate", place / "parent", *data, *options)
        assert code == 0, err
        losses.append(re.search(r"([\d.]+) nats", out)[1])
    assert losses[0] != losses[1] == losses[2]


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--data", "{", "--data: cannot be read as JSON"),
        ("--validation", "{}", "--validation: source: missing, and has no default"),
        ("--data", '{"source": "x", "wait": 1}', "--data: wait: unknown, allowed: source, weight, config"),
        ("--data", '{"source": 3}', "--data: source: found 3, allowed: text"),
        ("--data", '{"source": "x", "weight": true}', "--data: weight: found true, allowed: a number"),
        ("--data", '{"source": "x", "weight": -1}', "data.source.weight: found -1, allowed"),
        ("--data", '{"source": "x.jsonl", "split": "test"}', "data.source.split: found 'test', allowed for"),
        ("--validation", "nowhere", "data.validation: nowhere: no such file"),
    ],
)
def test_a_source_that_says_something_else_is_one_line(place, run, option, text, message):
    code, out, err = run("evaluate", place / "parent", option, text, "--sequence-length", T)
    assert (code, out) == (1, "")
    assert f"error: {message}" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["importance", "missing", "-o", "{new}"], r"parent: missing/config.json: no such file"),
        (["importance", "builtin:huge", "-o", "{new}"], r"found 'builtin:huge', allowed: builtin:tiny"),
        (
            ["importance", "{parent}", "-o", "{new}", "--data", "nowhere"],
            r"data.source: nowhere: no such file",
        ),
        (
            ["importance", "{parent}", "-o", "{new}", "--tokens", "0"],
            r"calibration.num_tokens: found 0, allowed",
        ),
        (
            ["importance", "{parent}", "-o", "{new}", "--steps", "3"],
            r"calibration.steps: found 3, allowed where no width is to shrink: 1",
        ),
        (
            ["importance", "{parent}", "-o", "{new}", "--steps", "3", "--hidden", "96"],
            r"smallest.hidden_size: found 96, allowed for this parent: at most 48",
        ),
        (
            ["importance", "{parent}", "-o", "{new}", "--steps", "3", "--metric", "random"],
            r"calibration.steps: found 3, allowed: 1 with calibration.metric random",
        ),
        (
            ["importance", "{parent}", "-o", "{new}", "--depth-tokens", "0"],
            r"calibration.depth_tokens: found 0, allowed: at least 1",
        ),
        (
            ["importance", "{parent}", "-o", "{new}", "--data", "{text}"],
            r"calibration: found \d+ tokens, needed",
        ),
        (
            ["prune", "{parent}", "--scores", "{parent}/config.json", "-o", "{text}"],
            r"--output: found .*, allowed: a path",
        ),
        (
            ["distill", "{parent}", "--teacher", "{parent}", "-o", "{new}", "--tokens", "1"],
            r"training.num_tokens",
        ),
        (["evaluate", "{text}"], r"text/config.json: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_1(place, run, tmp_path, arguments, message):
    names = {"parent": place / "parent", "text": place / "text", "new": tmp_path / "new"}
    code, out, err = run(*[argument.format(**names) for argument in arguments])
    assert (code, out) == (1, "")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert err.endswith(errors[0] + "\n")
    assert re.search(message, errors[0])
    assert not (tmp_path / "new").exists()


def test_scores_of_another_parent_are_refused(place, run):
    scores = place / "others.st"
    run(
        "importance",
        place / "untrained",
        "-o",
        scores,
        "--tokens",
        4 * T,
        *data_options(place),
    )
    code, _, err = run(
        "prune",
        place / "parent",
        "--scores",
        scores,
        "--layers",
        2,
        "-o",
        place / "never",
    )
    assert code == 1
    assert re.search(r"error: .*others\.st", err)


def test_a_student_with_another_tokenizer_is_refused(place, run):
    other = write_checkpoint(place / "other")
    path = other / "tokenizer.json"
    path.write_text(path.read_text().replace('"doubts"', '"denies"'))
    code, _, err = run(
        "distill",
        other,
        "--teacher",
        place / "parent",
        "-o",
        place / "never",
        *data_options(place),
    )
    assert code == 1
    assert "its tokenizer differs" in err


@pytest.mark.parametrize(
    "command",
    [
        ["importance", "{lacking}"],
        ["prune", "{lacking}", "--scores", "{lacking}/config.json"],
        ["distill", "{lacking}", "--teacher", "{parent}"],
        ["distill", "{parent}", "--teacher", "{lacking}"],
        ["correct", "{lacking}"],
        ["compress", "{lacking}", "--to", "L3"],
        ["evaluate", "{lacking}"],
        ["align", "{lacking}", "--sft", "{chats}"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused_before_any_work(place, run, tmp_path, command, damage):
    """One line and nothing before it: no text was read, and nothing was made."""
    lacking = write_checkpoint(tmp_path / "lacking")
    path, name = lacking / "model.safetensors", "model.layers.2.mlp.up_proj.weight"
    weights = load_file(path)
    weights[name] = weights[name][1:].clone()
    if damage == "missing":
        del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    question, answer = {"role": "user", "content": "the model"}, {"role": "assistant", "content": "a ."}
    chats = tmp_path / "chats.jsonl"
    rows = [{"messages": [question | {"content": f"the {n}"}, answer]} for n in range(100)]
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = {"lacking": lacking, "parent": place / "parent", "chats": chats}
    before = {path: path.read_bytes() for path in lacking.iterdir()}
    output = [] if command[0] == "evaluate" else ["-o", tmp_path / "new"]
    if command[0] not in {"prune", "align"}:
        output += ["--data", place / "text", "--sequence-length", T, "--artifacts", tmp_path / "artifacts"]
    code, out, err = run(*(word.format(**names) for word in command), *output)
    assert (code, out) == (1, "")
    what = f"are missing: {name}" if damage == "missing" else f"have the wrong shape: {name} (found (39, 48)"
    line = err[err.index("error: ") :]  # bars that were written with the checkpoint come before
    assert line.startswith(f"error: {lacking}: tensors {what}")
    assert line.count("\n") == 1
    assert "token blocks" not in err
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "artifacts").exists()
    assert {path: path.read_bytes() for path in lacking.iterdir()} == before


@pytest.mark.parametrize("output", ["{parent}/model.safetensors", "{parent}", "{parent}/config.json/new"])
def test_importance_overwrites_nothing(place, run, output):
    """Above all no file of the parent."""
    before = {path: path.read_bytes() for path in (place / "parent").iterdir()}
    code, out, err = run(
        "importance", place / "parent", "-o", output.format(parent=place / "parent"), *data_options(place)
    )
    assert (code, out) == (1, "")
    assert err.startswith("error: --output: found ")
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in (place / "parent").iterdir()} == before


def test_usage_errors_have_exit_code_2(run):
    assert run("importance")[0] == 2
    code, _, err = run("prune", "builtin:tiny", "--scores", "nothing", "-o", "new")
    assert code == 2
    assert "nothing" in err


def test_the_script_helps_at_once_and_loads_no_framework():
    """A fresh process; five times the usual start, for busy machines."""
    start = time.monotonic()
    help_ = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 5
    assert all(command in help_.stdout for command in ("importance", "prune", "distill", "evaluate"))
    program = "import sys, minitron.cli; print(*{'torch', 'transformers', 'numpy'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["importance", "{parent}", "-o", "new", "--tokens", "0"],
        ["distill", "{parent}", "--teacher", "{parent}", "-o", "new", "--loss", "mse"],
    ],
    ids=lambda words: words[0],
)
def test_options_are_refused_before_a_framework_is_loaded(place, tmp_path, arguments):
    """Which takes seconds, and minutes on busy machines."""
    program = "import sys; from minitron.cli import main; sys.modules['torch'] = None; sys.argv[0] = 'minitron'; main()"
    words = [word.format(parent=place / "parent") for word in arguments]
    child = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert child.returncode == 1
    assert "needs torch" not in child.stderr
    assert re.fullmatch(r"error: (calibration.num_tokens|distillation.loss): found .*\n", child.stderr)


@pytest.mark.parametrize("modules", [("torch", "transformers"), ("gguf",)])
def test_a_missing_extra_is_named(modules, tmp_path):
    """As in a base install: the model framework cannot be imported."""
    program = (
        "import sys; sys.modules |= dict.fromkeys(sys.argv[1:]); sys.argv = ['minitron', 'evaluate', 'builtin:smollm2-135m'];"
        "from minitron.cli import main; main()"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, *modules], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert child.returncode == 1
    names = ", ".join(sorted(modules))
    # Libraries that are here may say something of their own before.
    assert child.stderr.splitlines()[-1] == (
        f"error: this command needs {names}, which this Python lacks: pip install 'minitron-nas[worker]'"
    )
    assert "Traceback" not in child.stderr
