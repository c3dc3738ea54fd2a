"""What a student keeps of its parent's importance: told as its plan keeps it, and the same to whoever asks."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minitron.errors import ArtifactMismatch
from minitron.families import read_architecture
from minitron.importance import ImportanceScores
from minitron.plan import plan_pruning
from minitron.recipe import PruningRecipe
from nas.clock import utc_now
from nas.driver import Driver
from nas.samplers.sampler import HINTED_DRAWS
from nas.search import Rungs
from nas.space import search_space
from nas.spec import spec_to_json
from nas.storage.memory import InMemoryStore
from tests.fakes import FakeExecutor, Simulation, running_search, small_spec
from tests.micro import micro_spec
from tests.scores import random_scores
from tests.strategies import architectures, targets
from tests.tiny import tiny_config
from workers.artifacts import prepare
from workers.hints import ImportanceKept, hint_of

LLAMA = read_architecture(tiny_config("llama"))


def hint_from(scores, recipe=None):
    blocks_RL = None if scores.blocks_RL is None else scores.blocks_RL.numpy()
    return ImportanceKept(
        parent=scores.architecture,
        recipe=recipe or PruningRecipe(),
        hidden_D=scores.hidden_D.numpy(),
        neurons_LF=scores.neurons_LF.numpy(),
        heads_LN=scores.heads_LN.numpy(),
        layers_L=scores.layers_L.numpy(),
        blocks_RL=blocks_RL,
    )


def kept_by_its_plan(scores, target):
    """The same share, summed over what the plan of the target keeps."""
    plan, source = plan_pruning(scores, target), scores.architecture
    mlp = source.traits.mlp_matrices * source.hidden_size * source.intermediate_size / source.layer_parameters
    embedded = source.embedding_parameters / source.parameter_count
    blocks = sum(
        (scores.layers_L[layer] / scores.layers_L.sum()).item()
        * (
            mlp * (scores.neurons_LF[layer][list(neurons)].sum() / scores.neurons_LF[layer].sum()).item()
            + (1 - mlp) * (scores.heads_LN[layer][list(heads)].sum() / scores.heads_LN[layer].sum()).item()
        )
        for layer, neurons, heads in zip(plan.layers, plan.neurons, plan.heads, strict=True)
    )
    hidden = (scores.hidden_D[list(plan.hidden)].sum() / scores.hidden_D.sum()).item()
    return hidden * (embedded + (1 - embedded) * blocks)


@st.composite
def sources_and_targets(draw):
    source = draw(architectures())
    return random_scores(source, draw(st.integers(0, 1000))), draw(targets(source))


@given(drawn=sources_and_targets())
@settings(max_examples=60)
def test_the_share_is_that_of_the_plan(drawn):
    scores, target = drawn
    assert hint_from(scores)(target) == pytest.approx(kept_by_its_plan(scores, target), abs=2e-5)


@given(drawn=sources_and_targets())
@settings(max_examples=60)
def test_who_keeps_more_of_every_axis_keeps_no_less(drawn):
    scores, target = drawn
    hint, source = hint_from(scores), scores.architecture
    assert 0 < hint(target) <= hint(source) == 1
    for name in ("num_layers", "hidden_size", "intermediate_size"):
        assert hint(target) <= hint(replace(target, **{name: getattr(source, name)})) + 1e-6


def test_layers_of_which_only_the_order_is_known_count_alike():
    """Infinity is what an iterative selection says of those that never went."""
    scores = random_scores(LLAMA)
    order = torch.tensor([float("inf"), *range(1, LLAMA.num_layers)])
    ordered = replace(scores, layers_L=order.float())
    alike = replace(scores, layers_L=torch.ones(LLAMA.num_layers), neurons_LF=scores.neurons_LF)
    assert hint_from(ordered)(LLAMA) == hint_from(alike)(LLAMA) == 1
    half = replace(LLAMA, num_layers=1)
    embedded = LLAMA.embedding_parameters / LLAMA.parameter_count
    expected = embedded + (1 - embedded) / LLAMA.num_layers
    assert hint_from(ordered)(half) == pytest.approx(expected, abs=1e-5)


def test_what_went_in_an_earlier_step_of_importance_counts_nothing():
    scores = random_scores(LLAMA)
    hidden_D = scores.hidden_D.clone()
    hidden_D[: LLAMA.hidden_size // 2] -= 5
    narrow = replace(LLAMA, hidden_size=LLAMA.hidden_size // 2)
    assert hint_from(replace(scores, hidden_D=hidden_D))(narrow) == 1


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    """A spec that wants the hint, and what was prepared for it."""
    directory = tmp_path_factory.mktemp("micro")
    spec = micro_spec(directory, prior="importance_kept")
    return spec, prepare(spec, directory / "artifacts", lambda _: None)


def test_a_hint_is_read_from_the_cached_scores(micro):
    spec, prepared = micro
    scores = ImportanceScores.load(prepared.scores_path, expected_fingerprint=prepared.scores_fingerprint)
    hint = hint_of(spec, prepared)
    for architecture in search_space(spec).architectures:
        assert hint(architecture) == hint_from(scores)(architecture)
    assert len({hint(architecture) for architecture in search_space(spec).architectures}) > 5


def test_nothing_is_read_where_no_hint_is_wanted(micro):
    spec, prepared = micro
    assert hint_of(replace(spec, prior="none"), replace(prepared, scores_path=Path("nowhere"))) is None


def test_scores_of_something_else_are_refused(micro):
    spec, prepared = micro
    with pytest.raises(ArtifactMismatch, match="allowed: other"):
        hint_of(spec, replace(prepared, scores_fingerprint="other"))


def test_a_runner_that_takes_over_is_told_the_same_and_loads_no_torch(micro, tmp_path):
    spec, prepared = micro
    (tmp_path / "spec.json").write_text(json.dumps(spec_to_json(spec)))
    script = f"""
import sys
from pathlib import Path
from nas.parent import architecture_of
from nas.space import search_space
from nas.spec import load_spec
from workers.hints import ImportanceKept
spec = load_spec(Path({str(tmp_path / "spec.json")!r}))
hint = ImportanceKept.read(
    Path({str(prepared.scores_path)!r}),
    expected_fingerprint={prepared.scores_fingerprint!r},
    parent=architecture_of(spec),
    recipe=spec.pruning,
)
print(hint(search_space(spec).at(7)), "torch" in sys.modules)
"""
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root
    )
    assert found.stdout.split() == [str(hint_of(spec, prepared)(search_space(spec).at(7))), "False"]


def test_a_driver_begins_where_the_hint_points(tmp_path):
    """And one that takes over goes on the same."""
    spec = small_spec(num_trials=6, rungs=Rungs(fractions=()), max_parallel=1, prior="importance_kept")

    def tried(directory, hint):
        store = InMemoryStore()
        search, lease = running_search(store, spec, utc_now)
        (tmp_path / directory).mkdir()
        driver = Driver(search, store, lease, utc_now, hint=hint)
        FakeExecutor(Simulation(directory=tmp_path / directory, spec=spec)).run(driver)
        return [trial.architecture for trial in store.trials("s1")]

    def narrow(architecture):
        return -architecture.hidden_size

    hinted, even = tried("hinted", narrow), tried("even", None)
    first = spec.num_trials // 2
    assert HINTED_DRAWS > 1
    assert sum(map(narrow, hinted[:first])) > sum(map(narrow, even[:first]))
    assert tried("again", narrow) == hinted
