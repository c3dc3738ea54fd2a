"""A spec that cannot be run is refused where it is submitted, over REST and by `nas run`: nothing is stored or started."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from nas.spec import spec_to_json
from tests.micro import micro_spec
from tests.unit.api.answers import problem_in
from tests.unit.api.server import running

NAS = Path(sys.executable).with_name("nas")
TOP_K = ("promotion.top_k", "found 0, allowed: 1 to 1000")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server"), filled=False) as server:
        yield server


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"promotion": {"top_k": 0, "training": {}}}, {TOP_K}),
        (
            {"promotion": {"top_k": 0}, "num_trials": 0, "trials": 3},
            {
                TOP_K,
                ("promotion.training", "missing, and has no default"),
                ("num_trials", "found 0, allowed: 1 to 100000"),
                ("trials", "unknown"),
            },
        ),
        (
            {"promotion": {"top_k": 0, "training": {"num_tokens": 1}}, "num_points": 0},
            {
                TOP_K,
                ("promotion.training.num_tokens", "found 1, allowed: at least one step of batch_tokens"),
                ("num_points", "found 0, allowed: 1 to 1000"),
            },
        ),
    ],
)
def test_every_wrong_field_is_told_with_what_was_found_and_is_allowed(server, tmp_path, changes, problems):
    spec = spec_to_json(micro_spec(tmp_path)) | changes
    told = httpx.post(f"{server.address}/api/v1/searches", json=spec)
    errors = problem_in(told, 422, "invalid_spec")["errors"]
    assert {(error["field"], _without_names(error["reason"])) for error in errors} == problems
    assert len(errors) == len(problems)
    assert server.store.list_searches() == []

    (tmp_path / "spec.json").write_text(told.request.content.decode(), encoding="utf-8")
    ended = subprocess.run(
        [NAS, "run", "spec.json"], env=os.environ | {"NAS_HOME": str(tmp_path / "home")},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stdout == ""
    lines = [_without_names(line) for line in ended.stderr.splitlines()]
    assert sorted(lines) == sorted(f"error: {field}: {reason}" for field, reason in problems)
    assert not (tmp_path / "home").exists()


def _without_names(reason: str) -> str:
    """Return a reason without the long list of the fields that there are."""
    return reason.partition(", allowed: parent, ")[0]
