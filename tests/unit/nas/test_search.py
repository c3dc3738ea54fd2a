"""What may be asked of a search, and the states that it goes through."""

import re
from dataclasses import replace

import pytest

from minitron.progress import Progress
from minitron.recipe import DistillationRecipe, TrainingRecipe
from nas.errors import Conflict, InvalidSpec
from nas.resources import Resources
from nas.search import LEGAL_MOVES, MOST, Artifacts, Comparisons, Rungs, SearchState
from nas.trial import Failure, FailureKind
from tests.searches import after, make_search, make_spec


@pytest.mark.parametrize(("name", "most"), MOST.items())
def test_counts_are_at_least_one_and_within_reason(name, most):
    """A thousand million evaluations would keep every server that lists the search busy for ever."""
    for count in (1, most):
        assert getattr(make_spec(**{name: count}), name) == count
    for count in (0, most + 1, 10**15):
        with pytest.raises(InvalidSpec) as caught:
            make_spec(**{name: count})
        assert caught.value.problems == ((name, f"found {count}, allowed: 1 to {most}"),)


def test_a_search_does_not_go_on_by_another_version_of_the_loss():
    """Its own trials would not compare; what it has is kept."""
    made_from = Artifacts(parent="p", blocks="b", validation="v", scores="s", teacher="t")
    search = make_search(state=SearchState.PREPARING, made_from=made_from)
    assert (
        search.moved(SearchState.RUNNING, after(1), made_from=replace(made_from, scores="x")).made_from.scores
        == "x"
    )
    with pytest.raises(
        Conflict, match="version 1 of the held-out loss and cannot go on by version 2; allowed: nas cl"
    ):
        search.moved(SearchState.RUNNING, after(1), made_from=replace(made_from, loss_version=2))


def test_all_wrong_counts_are_told_at_once():
    with pytest.raises(InvalidSpec) as caught:
        make_spec(num_trials=0, max_parallel=-1, checkpoint_seconds=0)
    assert str(caught.value) == (
        "num_trials: found 0, allowed: 1 to 100000; max_parallel: found -1, allowed: 1 to 10000; "
        "checkpoint_seconds: found 0, allowed: above 0"
    )


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: Rungs(fractions=(0.5, 0.25)), "rungs.fractions"),
        (lambda: Rungs(fractions=(0.5, 0.5)), "rungs.fractions"),
        (lambda: Rungs(fractions=(0.5, 1.0)), "rungs.fractions"),
        (lambda: Rungs(fractions=(-0.1, 0.5)), "rungs.fractions"),
        (lambda: Rungs(keep=0.0), "rungs.keep"),
        (lambda: Rungs(keep=1.0), "rungs.keep"),
        (lambda: Resources(cpus=-1), "resources.cpus"),
        (lambda: Resources(gpus=-0.5), "resources.gpus"),
        (lambda: Resources(threads=-1), "resources.threads"),
        (lambda: Comparisons(random_architectures=-1), "comparisons.random_architectures"),
        (lambda: Comparisons(random_indices=-1), "comparisons.random_indices"),
        (lambda: Comparisons(random_indices=1001), "comparisons.random_indices"),
    ],
)
def test_what_is_out_of_range_names_its_field(build, field):
    with pytest.raises(InvalidSpec) as caught:
        build()
    ((found, reason),) = caught.value.problems
    assert found == field
    assert reason.startswith("found ")
    assert ", allowed: " in reason


@pytest.mark.parametrize("state", SearchState)
@pytest.mark.parametrize("following", SearchState)
def test_only_legal_moves_are_possible(state, following):
    search = make_search(state=state)
    if following in LEGAL_MOVES[state]:
        assert search.moved(following, after(1)).state is following
    else:
        with pytest.raises(Conflict, match=f"search search-1: is {state} and cannot become {following}"):
            search.moved(following, after(1))


def test_from_final_states_there_is_no_way_but_to_promote():
    assert {state for state in SearchState if state.is_final} == {
        state
        for state, moves in LEGAL_MOVES.items()
        if moves <= {SearchState.QUEUED} and state is not SearchState.PAUSED
    }
    assert not LEGAL_MOVES[SearchState.FAILED]
    assert set(LEGAL_MOVES) == set(SearchState)


def test_every_state_that_is_not_final_can_be_taken_up_again_or_ended():
    """A crash must leave no state from which there is no way on."""
    for state in SearchState:
        if not state.is_final and state is not SearchState.PAUSED:
            ways = {SearchState.PREPARING, SearchState.PAUSED, SearchState.FAILED, SearchState.CANCELLED}
            assert ways <= LEGAL_MOVES[state]
    assert LEGAL_MOVES[SearchState.PAUSED] == {SearchState.QUEUED, SearchState.CANCELLED}


def test_a_search_keeps_its_first_start_and_drops_progress_at_its_end():
    search = make_search().moved(SearchState.PREPARING, after(1), progress=Progress(stage="scores"))
    search = search.moved(SearchState.RUNNING, after(2)).moved(SearchState.PREPARING, after(3))
    assert (search.started_at, search.finished_at) == (after(1), None)
    assert search.progress == Progress(stage="scores")
    failure = Failure(kind=FailureKind.OUT_OF_SPACE, message="full")
    ended = search.moved(SearchState.FAILED, after(4), failure=failure)
    assert (ended.started_at, ended.finished_at) == (after(1), after(4))
    assert (ended.failure, ended.progress) == (failure, None)


@pytest.mark.parametrize(
    ("changes", "field", "found"),
    [
        (
            {"resources": {"processes": 3}},
            "resources.processes",
            "found 3, allowed: what divides the 8 blocks",
        ),
        ({"training": {"weights": "bfloat16"}}, "training.weights", "found bfloat16, allowed with several"),
        ({"distillation": {"cache_form": "hidden"}}, "distillation.cache_form", "found hidden, allowed with"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(changes, field, found):
    resources = Resources(**{"processes": 2, **changes.get("resources", {})})
    with pytest.raises(InvalidSpec) as caught:
        make_spec(
            resources=resources,
            training=TrainingRecipe(**changes.get("training", {})),
            distillation=DistillationRecipe(**changes.get("distillation", {})),
        )
    ((name, reason),) = caught.value.problems
    assert name == field
    assert reason.startswith(found)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"processes": 0}, "resources.processes: found 0, allowed: 1 to 1024"),
        (
            {"processes": 2, "gpus": 0.5},
            "resources.gpus: found 0.5, allowed with several processes: 1 for each",
        ),
    ],
)
def test_processes_are_whole_and_have_whole_devices(resources, message):
    with pytest.raises(InvalidSpec, match=re.escape(message)):
        Resources(**resources)
