"""The tiny parent, trained for a moment: what it is, and that it was made honestly."""

import math

import numpy as np
import pytest
import torch

from minitron.builtin import materialize
from minitron.checkpoint import fingerprint, load_parent, load_tokenizer
from minitron.data import prepare_blocks
from minitron.errors import ArtifactMismatch
from minitron.evaluate import held_out_loss
from minitron.parents import TINY, parent_architecture
from minitron.reading import read_documents
from minitron.recipe import DataRecipe, DataSource, TrainingRecipe
from minitron.sources import PYTHON_DOCS
from minitron.tiny import TRAINING, tiny_name, train_tiny
from tests.checkpoints import write_checkpoint

BRIEFLY = TrainingRecipe(
    num_tokens=8_192, batch_tokens=512, micro_batch_size=4, peak_learning_rate=6e-3, precision="float32"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory, and what was reported on the way."""
    told = []
    directory = tmp_path_factory.mktemp("parents") / "tiny"
    train_tiny(directory, training=BRIEFLY, report=told.append)
    return directory, told


def test_it_is_what_its_name_promises(trained):
    directory, _ = trained
    assert parent_architecture(str(directory)) == parent_architecture(TINY)
    model, tokenizer = load_parent(directory), load_tokenizer(directory)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_017_472
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer.eos_token_id == model.config.eos_token_id == 0
    text = "def f(é):\n    return '漢'\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_it_has_learnt_something(trained, tmp_path):
    directory, _ = trained
    recipe = DataRecipe(sequence_length=64, validation_tokens=4_096)
    blocks = prepare_blocks(recipe, directory, calibration_blocks=0, training_blocks=0, root=tmp_path)
    assert held_out_loss(load_parent(directory), blocks.validation_NT) < math.log(1024) - 0.2


def test_progress_is_told_to_the_end(trained):
    _, told = trained
    last = told[-1]
    assert (last.stage, last.done, last.total) == ("training builtin:tiny", 8_192, 8_192)
    assert {progress.stage for progress in told} >= {"tokenizer of builtin:tiny", "token blocks"}


def test_a_second_training_gives_the_same_weights_and_disturbs_nobody(trained, tmp_path):
    """Same bits from another random state and thread count, which are both left as they were."""
    directory, _ = trained
    torch.manual_seed(7)
    state = torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        train_tiny(tmp_path / "again", training=BRIEFLY)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert fingerprint(tmp_path / "again") == fingerprint(directory)


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupt(progress):
        if progress.stage == "training builtin:tiny":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "tiny", training=BRIEFLY, report=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_its_name_says_how_it_was_made():
    assert tiny_name() == tiny_name(TRAINING)
    assert tiny_name(BRIEFLY) != tiny_name()


def test_what_a_search_holds_out_it_was_not_trained_on(trained, tmp_path):
    """Held-out text of any seed and length, in its own words, occurs in no training block."""
    directory, _ = trained
    tokenizer = load_tokenizer(directory)
    training = prepare_blocks(
        DataRecipe(sequence_length=128), directory, calibration_blocks=0, training_blocks=4_000, root=tmp_path
    ).training_NT
    known = "".join(tokenizer.batch_decode(training.tolist()))
    found = read_documents("data.source", DataSource(source=PYTHON_DOCS), seed=0)
    documents = [document.text for document in found if document.text[:2_000] in known]
    assert len(documents) > 50
    for seed in (0, 1):
        recipe = DataRecipe(sequence_length=256, seed=seed)
        blocks = prepare_blocks(recipe, directory, calibration_blocks=0, training_blocks=0, root=tmp_path)
        held_out = "".join(tokenizer.batch_decode(np.asarray(blocks.validation_NT).tolist()))
        assert not [text for text in documents if text[:2_000] in held_out]


def test_a_parent_that_was_made_is_found(trained, tmp_path):
    directory, _ = trained
    made = tmp_path / "parents" / tiny_name()
    made.parent.mkdir()
    made.symlink_to(directory)
    told = []
    assert materialize(TINY, tmp_path, told.append) == made
    assert [progress.is_cached for progress in told] == [True]


def test_a_parent_of_another_shape_is_refused(tmp_path):
    write_checkpoint(tmp_path / "parents" / tiny_name())
    with pytest.raises(ArtifactMismatch, match=r"num_layers=4.*expected.*num_layers=6"):
        materialize(TINY, tmp_path)
