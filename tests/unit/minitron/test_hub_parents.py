"""Parents from the hub: found, fetched once, refused by name before anything large moves."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minitron.builtin import materialize
from minitron.checkpoint import fingerprint, load_parent, load_tokenizer, save_checkpoint
from minitron.errors import (
    PickledCheckpoint,
    RefusedByHub,
    UnreachableHub,
    UnreadableCheckpoint,
    UnsupportedModel,
)
from minitron.parents import check_parent, hub_name, parent_architecture, pinned
from minitron.plan import random_plan
from minitron.prune import prune
from tests.checkpoints import write_checkpoint
from tests.hub import FakeHub, asked_here, serving
from tests.tiny import tiny_config

QUANTIZED = json.dumps(tiny_config("llama") | {"quantization_config": {"quant_method": "awq"}}).encode()
TOKEN = "hf_canaryCANARYcanary"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("parent"))


@pytest.fixture(scope="module")
def sharded(checkpoint, tmp_path_factory):
    """The same model in two shards."""
    directory = tmp_path_factory.mktemp("sharded")
    model = load_parent(checkpoint)
    model.save_pretrained(directory, max_shard_size=model.num_parameters() * 4 // 2)
    load_tokenizer(checkpoint).save_pretrained(directory)
    assert len(list(directory.glob("*.safetensors"))) > 1
    return directory


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path / "home"):
        yield hub


def _without(directory, *names):
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    return {name: content for name, content in files.items() if name not in names}


def test_a_parent_is_fetched_once_and_loaded_by_path(hub, checkpoint, tmp_path):
    extras = {"pytorch_model.bin": b"pickle", "modeling_llama.py": b"raise SystemExit", "README.md": b"# hi"}
    commit = hub.add("org/llama", _without(checkpoint) | extras)
    told = []
    directory = materialize("hub:org/llama", tmp_path, told.append)
    assert directory.name == f"org--llama--{commit}"
    assert {path.name for path in directory.iterdir()} == {path.name for path in checkpoint.iterdir()}
    assert fingerprint(directory) == fingerprint(checkpoint)
    assert told[-1].done == told[-1].total > 0
    hub.is_down = True
    assert materialize(f"hub:org/llama@{commit}", tmp_path, told.append) == directory
    assert told[-1].is_cached
    load_parent(directory)


def test_a_branch_that_moved_is_another_parent(hub, checkpoint, tmp_path):
    hub.add("org/llama", checkpoint)
    first = materialize("hub:org/llama", tmp_path)
    hub.add("org/llama", write_checkpoint(tmp_path / "other", seed=1))
    second = materialize("hub:org/llama@main", tmp_path)
    assert fingerprint(first) != fingerprint(second)
    assert pinned("hub:org/llama").endswith(second.name.removeprefix("org--llama--"))
    assert pinned(pinned("hub:org/llama")) == pinned("hub:org/llama")
    assert pinned(str(checkpoint)) == str(checkpoint)


def test_shards_load_as_one_file_does(hub, checkpoint, sharded, tmp_path):
    hub.add("org/llama", sharded)
    directory = materialize("hub:org/llama", tmp_path)
    one, many = load_parent(checkpoint).state_dict(), load_parent(directory).state_dict()
    assert all(torch.equal(one[name], many[name]) for name in one)
    assert check_parent(str(directory)) == check_parent("hub:org/llama") == check_parent(str(checkpoint))


@pytest.mark.parametrize(
    ("lacking", "extra", "refusal"),
    [
        (["config.json"], {}, (UnreadableCheckpoint, "holds no config.json")),
        (
            ["model.safetensors"], {"pytorch_model.bin": b""},
            (PickledCheckpoint, "pytorch_model.bin: found pickled"),
        ),
        (["model.safetensors"], {}, (UnreadableCheckpoint, "holds neither model.safetensors nor")),
        (
            ["model.safetensors"], {"x.Q4_0.gguf": b""},
            (UnreadableCheckpoint, r"allowed: one of its GGUF files, for example hub:org/llama@\w{40}#x.Q4_0.gguf"),
        ),
        (["tokenizer.json", "tokenizer_config.json"], {}, (UnreadableCheckpoint, "holds no tokenizer")),
        ([], {"config.json": b"{"}, (UnreadableCheckpoint, "config.json: cannot be read as JSON")),
        ([], {"config.json": b"[" * 10**5}, (UnreadableCheckpoint, "config.json: cannot be read as JSON: nes")),
        ([], {"config.json": b"\xff"}, (UnreadableCheckpoint, "config.json: cannot be read as JSON: 'utf-8'")),
        ([], {"config.json": b"[]"}, (UnreadableCheckpoint, "config.json: holds no JSON object")),
        (
            [], {"config.json": b'{"model_type": "bert"}'},
            (UnsupportedModel, "config.json: model_type: found 'bert'"),
        ),
        (
            [], {"config.json": QUANTIZED},
            (UnsupportedModel, "quantization_config: found 'awq', allowed: plain weights"),
        ),
    ],
    ids=["config", "pickles", "weights", "GGUF", "tokenizer", "cut", "deep", "binary", "list", "family", "quantized"],
)  # fmt: skip
def test_what_cannot_be_a_parent_is_refused_before_it_is_fetched(hub, checkpoint, lacking, extra, refusal):
    error, message = refusal
    hub.add("org/llama", _without(checkpoint, *lacking) | extra)
    with pytest.raises(error, match=rf"^hub:org/llama.*{message}"):
        check_parent("hub:org/llama")
    assert not [path for path in hub.sent if path.endswith((".safetensors", ".bin", ".gguf"))]


def test_a_shard_that_is_missing_is_named(hub, sharded, tmp_path):
    shard = sorted(path.name for path in sharded.glob("*.safetensors"))[1]
    hub.add("org/llama", _without(sharded, shard))
    with pytest.raises(UnreadableCheckpoint, match=rf"names shards that are missing: {shard}"):
        check_parent("hub:org/llama")


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("hub:org/nothing", "no such repository, or one that needs a token in HF_TOKEN"),
        ("hub:org/llama@v9", "no such revision of org/llama: 'v9'"),
        ("hub:org/llama#x.gguf", "holds no such file, allowed: none"),
    ],
)
def test_what_the_hub_has_not_is_named(hub, checkpoint, parent, message):
    hub.add("org/llama", checkpoint)
    with pytest.raises(RefusedByHub, match=message):
        check_parent(parent)


def test_a_gated_parent_needs_a_token_with_access(hub, checkpoint, tmp_path, monkeypatch):
    hub.add("org/llama", checkpoint)
    hub.models["org/llama"].admitted = {TOKEN}
    with pytest.raises(RefusedByHub, match=r"is gated: set HF_TOKEN .* asked for at http.*/org/llama"):
        check_parent("hub:org/llama")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(RefusedByHub, match="is gated: the token has no access"):
        materialize("hub:org/llama", tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    told = []
    directory = materialize("hub:org/llama", tmp_path, told.append)
    assert check_parent("hub:org/llama").name == parent_architecture(str(directory)).name
    assert TOKEN not in repr(told)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert TOKEN.encode() not in path.read_bytes()


def test_without_network_the_way_out_is_told(hub, tmp_path):
    hub.is_down = True
    with pytest.raises(UnreachableHub, match="answered 503; allowed: try again, or take a local directory"):
        materialize("hub:org/llama", tmp_path)


@pytest.mark.parametrize("path", ["org/llama", f"{Path.cwd()}/org/llama"])
def test_a_path_that_is_none_may_be_a_name_on_the_hub(path):
    """It is never looked up there unasked: a typo is no download."""
    with pytest.raises(UnreadableCheckpoint, match=r"no such file; .* is written hub:org/llama$"):
        check_parent(path)
    assert hub_name("org/llama") is None


def test_a_child_process_asks_the_hub_that_its_environment_names(checkpoint, tmp_path):
    """As a worker does: nothing is set but variables."""
    with serving(FakeHub()) as hub:
        hub.add("org/llama", checkpoint)
        hub.models["org/llama"].admitted = {TOKEN}
        program = "import sys; from pathlib import Path; from minitron.builtin import materialize; print(materialize(sys.argv[1], Path(sys.argv[2])))"
        child = subprocess.run(
            [sys.executable, "-c", program, "hub:org/llama", tmp_path],
            env={"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": sys.path[0], **hub.environment(TOKEN)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert (
            tmp_path / "parents" / child.stdout.strip().rpartition("/")[2] / "model.safetensors"
        ).is_file()
        assert {each.token for each in hub.requests if each.path.startswith("/storage")} == {None}
        assert child.stderr == ""


def test_a_fetch_that_was_killed_goes_on_and_leaves_nothing_else(hub, sharded, tmp_path):
    hub.add("org/llama", sharded)
    hub.held = min(path.name for path in sharded.glob("*.safetensors"))
    others = len(list(sharded.iterdir())) - 1
    program = "import sys; from pathlib import Path; from minitron.builtin import materialize; materialize(sys.argv[1], Path(sys.argv[2]))"
    command = [sys.executable, "-c", program, "hub:org/llama", tmp_path]
    environment = {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": sys.path[0], **hub.environment()}
    with subprocess.Popen(command, env=environment) as child:
        deadline = time.monotonic() + 60
        partial = f"parents/.org--llama--{hub.models['org/llama'].refs['main']}.partial"
        while len([path for path in tmp_path.glob(f"{partial}/*") if path.is_file()]) < others:
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()
    assert not [path for path in tmp_path.glob("parents/*") if not path.name.startswith(".")]
    held, hub.held = hub.held, None
    hub.sent.clear()
    directory = materialize("hub:org/llama", tmp_path)
    assert [path for path in hub.sent if path.endswith(".safetensors")] == [held]
    assert fingerprint(directory) == fingerprint(sharded)
    assert {path.name for path in directory.parent.iterdir()} == {directory.name, f".{directory.name}.lock"}


def test_a_student_of_shards_is_the_student_of_one_file(checkpoint, sharded, tmp_path):
    """Sharded, loaded, pruned, saved in shards again and loaded."""
    plan = random_plan(
        source := parent_architecture(str(sharded)), replace(source, num_layers=2, hidden_size=24), seed=0
    )
    of_one, of_many = (prune(load_parent(directory), plan) for directory in (checkpoint, sharded))
    save_checkpoint(of_many, tmp_path / "student", companions=sharded)
    reloaded = load_parent(tmp_path / "student").state_dict()
    assert all(torch.equal(weight, reloaded[name]) for name, weight in of_one.state_dict().items())


def test_a_fingerprint_of_shards_sees_every_shard(sharded, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(sharded, changed)
    assert fingerprint(changed) == fingerprint(sharded)
    last = max(changed.glob("*.safetensors"))
    save_file({name: weight + 1 for name, weight in load_file(last).items()}, last, {"format": "pt"})
    assert fingerprint(changed) != fingerprint(sharded)
