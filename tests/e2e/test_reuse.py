"""A search of what was searched before: no training, the same winner, also where its student is gone."""

import shutil

import pytest
import torch
from mlflow.tracking import MlflowClient
from transformers import AutoModelForCausalLM

from nas.axes import Axes
from nas.earlier import HistoryUse
from nas.frontier import best_trial
from nas.resources import Resources
from nas.search import Comparisons, Rungs, SearchState
from nas.service import SearchService
from nas.trial import Origin, TrialState
from tests.home import new_home, tell_mlflow

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

WHOLE = {
    "axes": Axes(num_layers=(1, 2), hidden_size=(24,), intermediate_size=(16, 24)),
    "rungs": Rungs(fractions=()),
    "comparisons": Comparisons(random_architectures=1),
    "num_trials": 4,
}
"""All of a space of four."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return new_home(tmp_path_factory)


def succeeded(home, **changes):
    """Run a search to its end, and return it with its trials."""
    search_id = home.create(**WHOLE | changes)
    assert home.run(search_id) == 0
    search = home.store.get_search(search_id)
    assert search.state is SearchState.SUCCEEDED
    return search, home.store.trials(search_id)


@pytest.fixture(scope="module")
def first(home):
    """A search that trains all of its space."""
    search, trials = succeeded(home)
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    return search, trials


@pytest.fixture(scope="module")
def second(home, first):
    """The same once more, by another seed."""
    return succeeded(home, history=HistoryUse(), seed=3)


def same_weights(home, left, right):
    ours, theirs = home.weights(left.id), home.weights(right.id)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_second_search_trains_nothing_and_takes_the_same_winner_home(home, first, second):
    before, trained = first
    search, trials = second
    assert home.store.attempts(search.id) == []
    assert {trial.reused_from.search_id for trial in trials} == {before.id}
    assert best_trial(trials).measurement == best_trial(trained).measurement
    assert same_weights(home, search, before)
    view = SearchService(home.store, artifact_root=home.settings.artifact_root).get(search.id)
    assert view.tokens_done == 0
    assert view.tokens_saved == sum(trial.measurement.num_tokens for trial in trials)
    directory = home.settings.artifact_root / search.winner.path
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.num_parameters() == best_trial(trials).architecture.parameter_count
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert str(best_trial(trials).reused_from) in card


def test_mlflow_has_a_run_for_each_reused_trial_with_its_curve(home, second):
    search, trials = second
    for _ in range(2):
        tell_mlflow(home.settings)
    client = MlflowClient(tracking_uri=home.settings.tracking_uri)
    experiment = client.get_experiment_by_name("minitron-nas")
    runs = client.search_runs([experiment.experiment_id], f"tags.`nas.search_id` = '{search.id}'")
    reused = {int(run.data.tags["nas.trial"]): run for run in runs if "nas.reused_from" in run.data.tags}
    assert sorted(reused) == [trial.number for trial in trials]
    assert len(runs) == 1 + len(trials)
    for trial in trials:
        run = reused[trial.number]
        assert run.info.status == "FINISHED"
        assert run.data.tags["nas.reused_from"] == str(trial.reused_from)
        curve = client.get_metric_history(run.info.run_id, "loss")
        points = home.store.points(search.id, [trial.number])
        assert [(each.step, each.value) for each in curve] == [
            (each.point.num_tokens, each.point.loss) for each in points
        ]


def test_a_winner_whose_student_is_gone_is_trained_again_to_the_bit(home, first):
    before, trained = first
    winner = trained[before.winner.trial_number]
    student = home.settings.artifact_root / winner.checkpoint
    kept = student.with_name("kept")
    student.rename(kept)
    try:
        search, trials = succeeded(home, history=HistoryUse())
    finally:
        kept.rename(student)
    assert best_trial(trials).reused_from == Origin(search_id=before.id, trial_number=winner.number)
    assert home.store.attempts(search.id) == []
    assert same_weights(home, search, before)
    states = list((home.settings.artifact_root / "searches" / search.id).glob("trials/*/states/*"))
    assert states == [], "resumable states are swept"


def test_several_processes_train_it_again_together(home):
    """Their sums are rounded as those of as many: theirs is another measurement than that of one."""
    two = {"resources": Resources(cpus=1, processes=2), "num_trials": 1, "comparisons": Comparisons()}
    before, (trial,) = succeeded(home, **two)
    shutil.rmtree(home.settings.artifact_root / trial.checkpoint)
    search, (reused,) = succeeded(home, **two, history=HistoryUse(warm_start=False))
    assert reused.reused_from == Origin(search_id=before.id, trial_number=0)
    assert same_weights(home, search, before)
