"""A pause that is withdrawn before all of a runner has seen it costs the search time and nothing else."""

import pytest

from minitron.recipe import TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.search import Rungs, SearchState
from tests.home import RUN, new_home
from tests.micro import STEP_TOKENS

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

HASTY = """
import threading
from nas.clock import utc_now
from nas.orders import Pause, Resume
from nas.search import SearchState
from workers import runner

class Hasty(runner._Run):
    is_withdrawn = False

    def _must_stop(self):
        is_here = threading.current_thread().name == "{thread}"
        search_id = self._lease.search_id
        if self.is_withdrawn or not is_here or self._store.get_search(search_id).state is not SearchState.{state}:
            return super()._must_stop()
        self.is_withdrawn, self._cancel_at = True, 0.0
        self._store.give_order(search_id, Pause(), at=utc_now())
        try:
            return super()._must_stop()
        finally:
            self._store.give_order(search_id, Resume(), at=utc_now())

runner._Run = Hasty
"""


@pytest.fixture
def home(tmp_path_factory):
    made = new_home(tmp_path_factory)
    yield made
    made.end()


@pytest.mark.parametrize(
    ("thread", "state"), [("background", SearchState.RUNNING), ("MainThread", SearchState.PREPARING)]
)
def test_a_pause_that_only_one_thread_sees_leaves_the_search_to_the_next_runner(home, thread, state):
    search_id = home.create(
        correction=CorrectionRecipe(mode="alongside", stages=2, learning_rate_ratio=0.5),
        training=TrainingRecipe(num_tokens=8 * STEP_TOKENS, batch_tokens=STEP_TOKENS, precision="float32"),
        num_trials=2,
        rungs=Rungs(fractions=()),
    )
    process = home.start(search_id, HASTY.format(thread=thread, state=state.name) + RUN)
    assert process.wait(300) == 0, home.log
    assert home.store.get_search(search_id).state is SearchState.QUEUED
    assert home.run(search_id) == 0
    search = home.store.get_search(search_id)
    assert search.state is SearchState.SUCCEEDED
    assert search.corrected_loss is not None
