"""Who may import whom: the contracts of pyproject.toml, and what is really loaded in a process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "ray", "mlflow", "datasets")


def test_import_contracts_hold():
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert lint.returncode == 0, lint.stdout


@pytest.mark.parametrize(
    "modules",
    ["api.app", "nas.cli", "nas.driver, nas.proposer, nas.service, nas.storage.sql", "minitron.cli"],
)
def test_light_processes_load_nothing_heavy(modules):
    """The API, the search domain and every help text start without a model framework."""
    program = f"import sys, {modules}; print(*[m for m in {HEAVY} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == ""
