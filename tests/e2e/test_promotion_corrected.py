"""Students of a search that corrects its teacher are promoted by the corrected one: at its end, and ordered later."""

import pytest

from minitron.recipe import DistillationRecipe, TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.promotion import Promotion
from nas.search import Comparisons, Rungs, SearchState
from tests.home import new_home
from tests.micro import LONGER, STEP_TOKENS

pytestmark = [
    pytest.mark.searches,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]

TAUGHT = Promotion(
    training=LONGER,
    distillation=DistillationRecipe(top_k=16, label_weight=0.0),
    top_k=1,
    num_points=1,
    num_shards=2,
    start="pruned",
)
"""By a teacher alone and from the parent's own weights: all that is learnt of the text comes from what the teacher learnt."""


@pytest.fixture
def home(tmp_path_factory):
    made = new_home(tmp_path_factory)
    yield made
    made.end()


@pytest.mark.parametrize(
    "correction",
    [
        CorrectionRecipe(num_tokens=200 * STEP_TOKENS, learning_rate_ratio=1.0),
        CorrectionRecipe(mode="alongside", stages=2, learning_rate_ratio=1.0),
    ],
    ids=lambda correction: correction.mode,
)
def test_what_the_teacher_learnt_is_what_promoted_students_learn(home, correction):
    """The micro parent knows nothing: as it is, it would leave them about where it stands itself."""
    search_id = home.create(
        num_trials=2,
        rungs=Rungs(fractions=()),
        comparisons=Comparisons(),
        correction=correction,
        training=TrainingRecipe(
            num_tokens=100 * STEP_TOKENS, batch_tokens=STEP_TOKENS, precision="float32", peak_learning_rate=1e-2
        ),
        promotion=TAUGHT,
    )  # fmt: skip
    assert home.run(search_id) == 0
    search = home.store.get_search(search_id)
    (first,) = home.promotions(search_id)
    assert search.corrected_loss < search.parent_loss - 2
    assert first.measurement.loss < search.parent_loss - 1

    (other,) = {0, 1} - {first.promoted_from}
    home.promote(search_id, other, TAUGHT)
    assert home.run(search_id) == 0
    ended = home.store.get_search(search_id)
    _, second = home.promotions(search_id)
    assert (ended.state, ended.corrected_loss) == (SearchState.SUCCEEDED, search.corrected_loss)
    assert second.promoted_from == other
    assert second.measurement.loss < search.parent_loss - 1
