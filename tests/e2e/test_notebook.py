"""The notebook of the examples, as a user runs it: a kernel beside a real ``nas serve``, a real search."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "deploy" / "examples" / "search.ipynb"
NAS = Path(sys.executable).with_name("nas")
CELL_SECONDS = 900
"""The tiny parent is trained in one cell, on a machine that may be busy."""


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture
def address(tmp_path):
    """Serve and run searches as a user does."""
    environment = os.environ | {"NAS_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [NAS, "serve", "--port", "0"], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        yield server.stdout.readline().split()[-1]
        server.send_signal(signal.SIGINT)


def test_the_notebook_is_kept_without_what_it_printed(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert not any("metadata" in cell and cell.metadata for cell in notebook.cells)


@pytest.mark.searches
@pytest.mark.timeout(2 * CELL_SECONDS)
def test_the_notebook_goes_from_submit_to_the_winner(notebook, address, tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_SERVER_URL", address)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    NotebookClient(notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "architectures of" in printed
    assert "search: succeeded" in printed
    assert 1 <= printed.count(" -> ") < 6, "most are stopped early"
    assert "parameters, " in printed
    shown = [output.data for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == 2
    assert not any(output.output_type == "error" for output in outputs)
