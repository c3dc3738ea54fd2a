"""A family of sizes in sequence: who is cut from whom, resumed to the bit, and never over something else."""

import json
import re

import pytest

from minitron import resumable
from minitron.errors import InvalidRecipe
from minitron.families import read_architecture
from minitron.parents import parent_architecture
from minitron.sizes import nearest, read_sizes
from tests.checkpoints import write_documents, write_learnt_checkpoint
from tests.tiny import tiny_config

T = 16


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A parent that has learnt a text."""
    place = tmp_path_factory.mktemp("place")
    write_documents(place / "text", documents=200)
    write_learnt_checkpoint(place / "parent", place / "text", place / "artifacts")
    return place


def family(place, output, *, tokens=2_048):
    """The arguments of a family of two sizes."""
    return [
        "compress", place / "parent", "--to", "L3-D36", "--to", "F24-L2", "-o", output, "--tokens", tokens,
        "--batch-tokens", 256, "--learning-rate", 4e-3, "--calibration-tokens", 32 * T, "--validation-tokens", 320,
        "--data", place / "text", "--sequence-length", T, "--artifacts", place / "artifacts",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(place):
    return place / "whole"


def test_each_size_is_cut_from_the_one_before_and_taught_by_the_parent(place, run, whole):
    code, out, err = run(*family(place, whole))
    assert code == 0, err
    first, second = whole / "L3-D36-F40-N6-K2", whole / "L2-D36-F24-N6-K2"
    assert sorted(path.name for path in whole.iterdir()) == sorted((first.name, second.name))
    lines = out.splitlines()
    assert f"{first}: " in lines[0]
    assert f", from {place / 'parent'}: " in lines[0]
    assert f", from {first.name}: " in lines[1]
    for line in lines:
        before, after = map(float, re.search(r": ([\d.]+) -> ([\d.]+) nats", line).groups())
        assert after < before
    plan = json.loads((second / "pruning_plan.json").read_text())
    assert plan["source"]["num_layers"] == 3
    card = (second / "README.md").read_text()
    assert "`parent` pruned from" in card
    assert card.index("step 1: from") < card.index(f"step 2: from {first.name}")
    # The larger sizes' answers serve the smaller ones: there is one teacher.
    assert len(list((place / "artifacts" / "teachers").iterdir())) == 1


def test_a_complete_family_is_taken_from_the_disk(place, run, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    code, _, err = run(*family(place, whole))
    assert code == 0, err
    assert "L2-D36-F24-N6-K2 from L3-D36-F40-N6-K2: made: found from earlier work" in err
    assert "retraining" not in err
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_family_that_is_interrupted_again_and_again_is_the_same_to_the_bit(place, run, whole, monkeypatch):
    monkeypatch.setattr(resumable, "SLICE_SECONDS", 0.0)
    train_through, save = resumable.train_through, resumable.Retraining.save
    saved = []

    def interrupted(retraining, directory):
        save(retraining, directory)
        saved.append(retraining.num_tokens)
        if len(saved) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(resumable.Retraining, "save", interrupted)
    monkeypatch.setattr(
        "minitron.compress.train_through",
        lambda retraining, **options: train_through(retraining, **options | {"save_seconds": 1e-9}),
    )
    for _ in range(10):
        code, _, _ = run(*family(place, place / "pieces"))
        if code == 0:
            break
    assert code == 0
    assert len(saved) > 6
    assert sorted(saved) != saved, "both sizes were interrupted"
    for size in whole.iterdir():
        again = place / "pieces" / size.name
        assert (again / "model.safetensors").read_bytes() == (size / "model.safetensors").read_bytes()
    assert not list((place / "pieces").glob(".*"))


def test_sizes_of_another_recipe_are_not_taken_for_ours(place, run, whole):
    code, _, err = run(*family(place, whole, tokens=1_024))
    assert code == 1
    assert re.search(r"error: .*L3-D36-F40-N6-K2: found what was made from something else", err)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (["L3-X5"], "--to: found 'L3-X5', allowed: as L24-D512"),
        (["L3-L2"], "--to: found 'L3-L2', allowed: as L24-D512"),
        (["L9"], "--to: found L9, that is L9-D48-F40-N6-K2, allowed: smaller than"),
        (["L4-D48"], "--to: found L4-D48, that is L4-D48-F40-N6-K2, allowed: smaller than"),
        (
            ["L3", "D40"],
            "--to: L3-D40-F40-N6-K2: hidden_size: found 40, allowed for llama: a multiple of the 6",
        ),
        (
            ["L3", "K1"],
            "--to: L3-D48-F40-N6-K1: num_attention_heads: found 6, allowed where KV heads are dropped",
        ),
        (
            ["N5"],
            "--to: found N5: num_attention_heads: found 5, allowed: a multiple of the 2 key-value heads",
        ),
        (["L0"], "--to: found L0: num_layers: found 0, allowed: at least 1"),
        (["L3", "D48"], "--to: found D48, that is L3-D48-F40-N6-K2, allowed: smaller than .*, once"),
    ],
)
def test_a_size_that_cannot_be_is_told_before_any_work(place, run, sizes, message):
    options = [word for size in sizes for word in ("--to", size)]
    code, out, err = run("compress", place / "parent", *options, "-o", place / "never", "--data", place / "text",
                         "--sequence-length", T, "--validation-tokens", 320)  # fmt: skip
    assert (code, out) == (1, "")
    assert re.search(f"error: {message}", err)
    assert not (place / "never").exists()


@pytest.mark.parametrize("command", ["compress", "correct"])
def test_fewer_tokens_than_a_step_are_told_before_any_work(place, run, command):
    """A step is one block at least, however few tokens were asked for."""
    sizes = ["--to", "L3"] if command == "compress" else []
    code, out, err = run(
        command, place / "parent", *sizes, "-o", place / "never", "--tokens", 10, "--batch-tokens", 4,
        "--data", place / "text", "--sequence-length", T, "--validation-tokens", 320,
    )  # fmt: skip
    assert (code, out) == (1, "")
    assert err == (
        "error: training.num_tokens: found 10, allowed: at least one step of 16, with such a sequence_length\n"
    )
    assert not (place / "never").exists()


def test_an_output_that_cannot_be_is_told_before_any_work(place, run):
    below = place / "parent" / "config.json" / "family"
    code, out, err = run("compress", place / "parent", "--to", "L3", "-o", below, "--data", place / "text")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: --output: found {below} below {below.parent}, allowed: below a directory")


@pytest.mark.parametrize(("text", "name"), [("N4", "L4-D32-F40-N4-K4"), ("D32-L3", "L3-D32-F40-N4-K4")])
def test_what_a_family_couples_is_derived(text, name):
    """GPT-2 has no head size of its own: its heads span the hidden size."""
    parent = read_architecture(tiny_config("gpt2"))
    assert [size.name for size in read_sizes(parent, [text])] == [name]
    with pytest.raises(
        InvalidRecipe, match=r"--to: L4-D36-F40-N4-K4: hidden_size: found 36, allowed for gpt2"
    ):
        read_sizes(parent, ["D36"])


def test_the_nearest_larger_size_is_the_smallest_that_contains_it(place):
    parent = parent_architecture(str(place / "parent"))
    narrow, shallow, tiny = read_sizes(parent, ["D24", "L2-D48", "L1-D24"])
    made = [parent, narrow, shallow]
    assert nearest(narrow, [parent]) == parent
    assert nearest(tiny, made) == min(narrow, shallow, key=lambda size: size.parameter_count)
