"""Searches of parents that are not laid out as Llama is, from the spec to a checkpoint that is taken home."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from minitron.families import read_architecture
from minitron.recipe import DistillationRecipe, PruningRecipe
from nas.axes import Axes
from nas.budget import Budget
from nas.search import SearchState
from nas.service import SearchService
from nas.settings import Settings
from nas.storage.sql import open_store
from nas.trial import TrialState
from tests.home import Home
from tests.micro import micro_parent, micro_spec

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

SEARCHES = {
    "gpt2": {
        "axes": Axes(num_layers=(1, 2), hidden_size=(32, 40), intermediate_size=(16, 24)),
    },
    "gemma2": {
        "axes": Axes(hidden_size=(24, 36), num_attention_heads=(2, 4), num_key_value_heads=(1, 2)),
        "pruning": PruningRecipe(head_merge=True, norm_rescaling=True, kv_heads="mean"),
        "distillation": DistillationRecipe(cache_form="hidden"),  # through a head that caps its logits
    },
}


@pytest.mark.parametrize("family", SEARCHES)
def test_a_search_of_another_layout_ends_with_a_checkpoint(family, tmp_path):
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    home = Home(settings, open_store(settings.database_url))
    spec = replace(
        micro_spec(tmp_path),
        parent=str(micro_parent(tmp_path / family, family)),
        budget=Budget(max_parameters=10**6),
        num_trials=2,
        max_parallel=1,
        **SEARCHES[family],
    )
    search = SearchService(home.store, artifact_root=settings.artifact_root).create(spec)
    assert home.run(search.id) == 0
    ended, trials = home.store.get_search(search.id), home.store.trials(search.id)
    assert ended.state is SearchState.SUCCEEDED
    assert [trial.state for trial in trials] == [TrialState.COMPLETED] * 2
    directory = settings.artifact_root / ended.winner.path
    model = AutoModelForCausalLM.from_pretrained(directory)
    winner = trials[ended.winner.trial_number].architecture
    assert read_architecture(model.config.to_dict()) == winner
    assert model.num_parameters() == winner.parameter_count
    assert torch.isfinite(model(input_ids=torch.arange(9)[None]).logits).all()
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert f"| kv_heads | {spec.pruning.kv_heads} |" in card
