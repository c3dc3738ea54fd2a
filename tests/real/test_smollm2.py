"""A search on a real language model through the command line, judged from outside.

Nothing here imports the project's model code: the winner is loaded and counted by stock transformers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.service import SearchService
from nas.spec import load_spec
from nas.storage.sql import open_store
from nas.trial import TrialRole, TrialState

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]

SPEC = Path(__file__).with_name("smollm2.yaml")
RELOAD = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
prompt = tokenizer("The capital of France is", return_tensors="pt")
answer = model.generate(**prompt, max_new_tokens=16, do_sample=False)
print(json.dumps({
    "parameters": sum(parameter.numel() for parameter in model.parameters()),
    "config": model.config.to_dict(),
    "new_tokens": answer.shape[1] - prompt["input_ids"].shape[1],
    "text": tokenizer.decode(answer[0], skip_special_tokens=True),
}))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("nas")


@pytest.fixture(scope="module")
def service(home):
    """The search, run to its end by ``nas run``; then the store it left behind."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    nas = Path(sys.executable).with_name("nas")
    subprocess.run([nas, "run", SPEC], env=environment | {"NAS_HOME": str(home)}, check=True)
    return SearchService(open_store(f"sqlite:///{home}/nas.db"), artifact_root=home / "artifacts")


@pytest.fixture(scope="module")
def search(service):
    (view,) = service.list_views()
    return view.search


@pytest.fixture(scope="module")
def winner(service, search):
    assert search.winner is not None
    return next(
        record.trial
        for record in service.trials(search.id)
        if record.trial.number == search.winner.trial_number
    )


def test_winner_reloads_with_stock_transformers_and_speaks(service, search, winner):
    directory = service.winner_directory(search.id)
    reloaded = subprocess.run(
        [sys.executable, "-c", RELOAD, directory], capture_output=True, text=True, check=True
    )
    facts = json.loads(reloaded.stdout.splitlines()[-1])
    print(facts["text"])
    budget = load_spec(SPEC).budget
    assert facts["parameters"] == winner.architecture.parameter_count == winner.measurement.num_parameters
    assert budget.min_parameters <= facts["parameters"] <= budget.max_parameters
    assert facts["new_tokens"] > 0
    assert "quantization_config" not in facts["config"]


def test_winner_closes_half_of_the_gap_to_its_parent(search, winner):
    measured = winner.measurement
    gap_before = measured.loss_before_retraining - search.parent_loss
    gap_after = measured.loss - search.parent_loss
    assert gap_after <= gap_before / 2, (measured, search.parent_loss)


def test_winner_beats_randomly_kept_indices_at_equal_tokens(service, search, winner):
    random = [
        record.trial for record in service.trials(search.id) if record.trial.role is TrialRole.RANDOM_INDICES
    ]
    assert [trial.state for trial in random] == [TrialState.COMPLETED]
    assert random[0].architecture == winner.architecture
    assert random[0].measurement.num_tokens == winner.measurement.num_tokens
    assert winner.measurement.loss < random[0].measurement.loss
