"""Names of parents, and what a config says before anything is loaded."""

import pytest

from minitron.builtin import materialize
from minitron.errors import UnreadableCheckpoint, UnsupportedModel
from minitron.parents import BUILTIN_CONFIGS, SMOLLM2, TINY, parent_architecture
from tests.checkpoints import write_checkpoint


@pytest.mark.parametrize(("parent", "parameters"), [(TINY, 1_017_472), (SMOLLM2, 134_515_008)])
def test_builtin_parents_have_their_shape_by_name(parent, parameters):
    assert parent_architecture(parent).parameter_count == parameters


def test_a_local_directory_is_its_own_parent(tmp_path):
    directory = write_checkpoint(tmp_path / "parent")
    assert materialize(str(directory), tmp_path / "root") == directory
    assert not (tmp_path / "root").exists()


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
        (b'{"model_type": "bert"}', UnsupportedModel, "model_type: found 'bert'"),
        (b'{"model_type": "llama"}', UnsupportedModel, "num_hidden_layers, hidden_size"),
    ],
    ids=["missing", "cut", "binary", "list", "family", "fields"],
)
def test_a_bad_config_is_named(tmp_path, content, error, message):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(error, match=f"config.json.*{message}"):
        materialize(str(tmp_path), tmp_path / "root")
