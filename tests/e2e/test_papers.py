"""A scaled-down twin of each of the papers' searches, from its spec to a checkpoint."""

from dataclasses import replace

import pytest
from transformers import AutoModelForCausalLM

from minitron.parents import parent_architecture
from nas.budget import Budget
from nas.search import SearchState
from nas.service import SearchService
from nas.settings import Settings
from nas.space import search_space
from nas.storage.sql import open_store
from nas.trial import TrialState
from tests.home import Home
from tests.papers import PUBLISHED, twin, twin_sizes

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.file)
def test_a_twin_is_searched_to_its_end(published, tmp_path):
    settings = Settings(home=tmp_path / "home")
    home = Home(settings, open_store(settings.database_url))
    settings.home.mkdir(exist_ok=True)
    spec = twin(published, settings.home, window=Budget(max_parameters=10**9))
    target = replace(parent_architecture(spec.parent), **twin_sizes(published.sizes))
    size = target.parameter_count
    spec = replace(spec, budget=Budget(max_parameters=round(size * 1.05), min_parameters=round(size * 0.95)))
    assert target in search_space(spec)
    search = SearchService(home.store, artifact_root=settings.artifact_root).create(spec)
    assert home.run(search.id) == 0
    ended = home.store.get_search(search.id)
    trials = home.store.trials(search.id)
    assert ended.state is SearchState.SUCCEEDED
    assert (ended.corrected_loss is None) == (published.spec.correction is None)
    assert [trial.state for trial in trials] == [TrialState.COMPLETED] * min(3, search.num_feasible)
    model = AutoModelForCausalLM.from_pretrained(settings.artifact_root / ended.winner.path)
    winner = trials[ended.winner.trial_number].architecture
    assert model.config.model_type == winner.family == parent_architecture(spec.parent).family
    assert sum(parameter.numel() for parameter in model.parameters()) == winner.parameter_count
