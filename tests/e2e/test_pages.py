"""The pages through a real search: launched in Chromium, run by real workers, watched to its winner."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nas.search import Comparisons, Rungs
from nas.space import search_space
from nas.spec import spec_to_json
from nas.text import yaml_of
from tests.micro import micro_spec
from tests.unit.api.chromium import chromium
from tests.unit.api.visitor import click, press, type_spec

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
SECONDS = 240
"""For a search that takes half a minute."""


@contextmanager
def served(home):
    """Serve as users do, with workers and MLflow; give the address."""
    command = (Path(sys.executable).with_name("nas"), "serve", "--port", "0")
    environment = os.environ | {"NAS_HOME": str(home), "NAS_MLFLOW_PORT": "0"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split()[-1]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with served(tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with chromium(executable, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return replace(
        micro_spec(tmp_path_factory.mktemp("data")),
        name="launched here",
        max_parallel=1,
        rungs=Rungs(fractions=(0.5,), keep=0.5, adaptive=False),
        comparisons=Comparisons(random_indices=1),
    )


def test_a_search_is_launched_watched_and_found_again(address, browser, spec, tmp_path):
    browser.open(address)
    browser.wait_for("No searches yet")
    browser.open(f"{address}/launch")
    browser.wait_for("feasible")
    type_spec(browser, yaml_of(spec_to_json(spec)))
    browser.wait_for(f"{len(search_space(spec))} feasible")
    press(browser, "Launch")
    browser.wait_for("launched here", "Live; as of")
    assert browser.screenshot(tmp_path / "live.png").stat().st_size > 20_000
    browser.wait_for("Succeeded", "Winner", "random indices", seconds=SECONDS)
    assert browser.screenshot(tmp_path / "finished.png").stat().st_size > 20_000
    press(browser, "Log")
    browser.wait_for("attempt 1: log", "the whole log")
    press(browser, "Close", last=True)
    browser.wait_for("In MLflow", "This search: its losses", seconds=SECONDS)
    browser.open(f"{address}/history")
    browser.wait_for("launched here", "random indices")
    click(browser, "a", "launched here")
    browser.wait_for("What was kept of the parent")
    assert browser.complaints == []
