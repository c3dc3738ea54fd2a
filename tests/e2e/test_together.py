"""A whole search whose trials are evaluated by two processes each, beside the same by one."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from minitron.recipe import DistillationRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.resources import Resources
from nas.search import SearchState
from tests.home import new_home

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return new_home(tmp_path_factory)


@pytest.mark.parametrize(
    ("teacher", "correction"),
    [
        ("cached", None),
        ("live", CorrectionRecipe(mode="alongside", stages=3)),
    ],
    ids=["cached", "live-alongside"],
)
def test_two_processes_find_what_one_finds(home, teacher, correction):
    """The same proposals, rungs, losses within rounding and winner, which is an ordinary checkpoint."""
    alone, together = (
        home.create(
            distillation=DistillationRecipe(top_k=16, teacher=teacher),
            correction=correction,
            num_trials=3 if correction is None else 1,
            resources=Resources(cpus=1, processes=processes),
        )
        for processes in (1, 2)
    )
    assert home.run(alone) == 0
    assert home.run(together) == 0
    search = home.store.get_search(together)
    assert search.state is SearchState.SUCCEEDED
    assert search.winner.trial_number == home.store.get_search(alone).winner.trial_number
    for found, expected in zip(home.results(together), home.results(alone), strict=True):
        assert found[:-1] == expected[:-1]
        assert (found[-1] or ()) == pytest.approx(expected[-1] or (), rel=1e-4)
    for name, tensor in home.weights(alone).items():
        torch.testing.assert_close(home.weights(together)[name], tensor, rtol=0, atol=1e-5, msg=name)
    model = AutoModelForCausalLM.from_pretrained(home.settings.artifact_root / search.winner.path)
    winner = home.store.trials(together)[search.winner.trial_number]
    assert sum(parameter.numel() for parameter in model.parameters()) == winner.architecture.parameter_count
