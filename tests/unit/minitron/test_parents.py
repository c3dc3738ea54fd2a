"""Names of parents, and what a config says before anything is loaded."""

import json
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from minitron.builtin import materialize
from minitron.checkpoint import fingerprint, load_parent, load_tokenizer
from minitron.errors import InvalidArchitecture, InvalidRecipe, UnreadableCheckpoint, UnsupportedModel
from minitron.parents import (
    BUILTIN_CONFIGS,
    SMOLLM2,
    TINY,
    check_parent,
    check_sequence_length,
    parent_architecture,
)
from minitron.smollm2 import smollm2_name
from tests.checkpoints import word_tokenizer, write_checkpoint


@pytest.mark.parametrize(("parent", "parameters"), [(TINY, 1_017_472), (SMOLLM2, 134_515_008)])
def test_builtin_parents_have_their_shape_by_name(parent, parameters):
    assert parent_architecture(parent).parameter_count == parameters


def test_a_local_directory_is_its_own_parent(tmp_path):
    directory = write_checkpoint(tmp_path / "parent")
    assert materialize(str(directory), tmp_path / "root") == directory
    assert not (tmp_path / "root").exists()


def test_for_other_machines_a_local_directory_is_brought_below_the_root(tmp_path):
    source, root = write_checkpoint(tmp_path / "parent"), tmp_path / "root"
    shards = tmp_path / "shards"
    load_parent(source).save_pretrained(shards, max_shard_size="40KB")
    word_tokenizer().save_pretrained(shards)
    for directory in (source, shards):
        (directory / "notes.txt").write_text("private")
        brought = materialize(str(directory), root, is_shared=True)
        assert brought.is_relative_to(root / "parents")
        assert fingerprint(brought) == fingerprint(directory)
        assert (
            load_tokenizer(brought)("the model")["input_ids"]
            == load_tokenizer(directory)("the model")["input_ids"]
        )
        assert not (brought / "notes.txt").exists()
        assert materialize(str(directory), root, is_shared=True) == brought
        assert materialize(str(brought), root, is_shared=True) == brought
        load_parent(brought)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UnreadableCheckpoint, match="|".join(BUILTIN_CONFIGS)):
        parent_architecture("builtin:huge")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, UnreadableCheckpoint, "no such file"),
        (b"{", UnreadableCheckpoint, "cannot be read as JSON"),
        (b"\xff", UnreadableCheckpoint, "cannot be read as JSON"),
        (b"[]", UnreadableCheckpoint, "holds no JSON object"),
        (b"[" * 100_000, UnreadableCheckpoint, "cannot be read as JSON: nested more than 64 levels deep"),
        (b'{"model_type": "bert"}', UnsupportedModel, "model_type: found 'bert'"),
        (b'{"model_type": ["llama"]}', UnsupportedModel, r"model_type: found \['llama'\]"),
        (b'{"model_type": "llama"}', UnsupportedModel, "num_hidden_layers, hidden_size"),
    ],
    ids=["missing", "cut", "binary", "list", "deep", "family", "families", "fields"],
)
def test_a_bad_config_is_named(tmp_path, content, error, message):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(error, match=f"config.json.*{message}"):
        materialize(str(tmp_path), tmp_path / "root")


def test_a_file_is_no_parent(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UnreadableCheckpoint, match=r"model.safetensors: found a file, allowed: a local dir"):
        parent_architecture(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".gguf", "~nobody-at-all/x"])
def test_a_path_that_no_file_can_have_is_named(name):
    with pytest.raises(UnreadableCheckpoint, match=r"x.*(no such file|cannot be read)"):
        check_parent(name)


def test_a_shape_that_contradicts_itself_is_named_with_its_file(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(BUILTIN_CONFIGS[TINY] | {"num_key_value_heads": 3}))
    with pytest.raises(InvalidArchitecture, match=rf"{tmp_path}/config.json: num_attention_heads: found 8"):
        parent_architecture(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_size", 10**30), ("max_position_embeddings", "512"), ("attention_bias", []), ("head_dim", 16.0)],
)
def test_an_entry_of_another_kind_is_named(tmp_path, name, value):
    (tmp_path / "config.json").write_text(json.dumps(BUILTIN_CONFIGS[TINY] | {name: value}))
    with pytest.raises(UnsupportedModel, match=rf"config\.json: {name}: found .*, allowed: "):
        check_parent(str(tmp_path))


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", DEEP),
        ("tokenizer.json", b'{"model": []}'),
        ("model.safetensors", len(DEEP).to_bytes(8, "little") + DEEP),
        ("model.safetensors", (25).to_bytes(8, "little") + b'{"a": {"data_offsets":[]}}'),
        ("model.safetensors.index.json", DEEP),
        ("model.safetensors.index.json", b'{"weight_map": {"a": 1}}'),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "\\ud800"}}'),
        ("model.safetensors.index.json", b'{"weight_map": {"a": ["x"]}}'),
    ],
)
def test_a_malformed_file_of_a_checkpoint_is_named(tmp_path, name, content):
    directory = write_checkpoint(tmp_path / "parent")
    if name.endswith("index.json"):
        (directory / "model.safetensors").unlink()
    (directory / name).write_bytes(content)
    with pytest.raises(UnreadableCheckpoint, match=rf"{name}: cannot be read as ") as caught:
        check_parent(str(directory))
    str(caught.value).encode("utf-8")


def test_what_the_files_tell_is_what_loading_would_find(tmp_path):
    directory = write_checkpoint(tmp_path / "parent")
    assert check_parent(str(directory)) == parent_architecture(str(directory))
    assert check_parent(TINY) == parent_architecture(TINY)
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(UnreadableCheckpoint, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        check_parent(str(directory))


def test_a_check_loads_no_framework(tmp_path):
    """It runs in the server, when a search is submitted."""
    directory = write_checkpoint(tmp_path / "parent")
    program = (
        "import sys; from minitron.parents import check_parent; check_parent(sys.argv[1]);"
        "print(*{'torch', 'transformers', 'safetensors'} & set(sys.modules))"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, directory], capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == ""


def test_blocks_fit_the_positions_of_the_parent():
    check_sequence_length(TINY, 512)
    check_sequence_length(SMOLLM2, 10_000)
    with pytest.raises(InvalidRecipe, match=r"data.sequence_length: found 513.*builtin:tiny: at most 512"):
        check_sequence_length(TINY, 513)


def test_what_a_killed_process_left_is_cleared_away(tmp_path, monkeypatch):
    """The next to make the parent removes it, even where it fails itself."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    abandoned = tmp_path / "parents" / f".{smollm2_name()}.a1b2c3"
    abandoned.mkdir(parents=True)
    (abandoned / "half.gguf").write_bytes(b"")
    with pytest.raises(UnreadableCheckpoint, match="pip cannot download"):
        materialize(SMOLLM2, tmp_path)
    assert [path.name for path in (tmp_path / "parents").iterdir()] == [f".{smollm2_name()}.lock"]


def test_a_parent_is_made_by_one_process_at_a_time(tmp_path):
    """A second one waits for the lock, then takes what the first has made."""
    directory = tmp_path / "parents" / smollm2_name()
    directory.parent.mkdir()
    found = []
    second = threading.Thread(target=lambda: found.append(materialize(SMOLLM2, tmp_path)))
    with FileLock(directory.with_name(f".{directory.name}.lock")):
        second.start()
        second.join(timeout=0.5)
        assert second.is_alive()
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(BUILTIN_CONFIGS[SMOLLM2]))
    second.join(timeout=30)
    assert found == [directory]
