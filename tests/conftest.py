"""What every test can rely on: one thread, fixed seeds, no network, whether torch is used or not."""

import os
import random
import sys

import pytest
from hypothesis import settings

# How long a test takes says nothing on a busy machine; benchmarks measure speed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Read when torch is first imported, here or in a child process. Two spinning threads on busy cores
# are many times slower than one.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("COLUMNS", None)  # of the terminal that the tests were started from


@pytest.fixture(autouse=True)
def _same_start():
    """Each test starts from the same seeds, however many ran before it."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def ray_cluster():
    """One local Ray cluster for all tests that run trials in this process; its start takes seconds."""
    from nas.resources import Resources
    from workers.cluster import connected

    with connected(None, Resources(), max_parallel=2):
        yield
