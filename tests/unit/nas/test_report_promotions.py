"""What promotion found is told the same everywhere, with its errors, while it runs and once it is over."""

from dataclasses import replace
from pathlib import Path

import pytest

from minitron.recipe import TrainingRecipe
from nas.promotion import Promotion
from nas.report import search_report
from nas.report_figures import figures
from nas.report_page import report_page
from nas.report_promotions import may_be_promoted, promotion_words, promotions
from nas.report_spending import SpentOn
from nas.search import Rungs
from nas.service import SearchService
from nas.storage.memory import InMemoryStore
from nas.trial import TrialRole, TrialState
from tests.fakes import ManualClock
from tests.unit.api.seeded import NOW, Played, demo_spec

PROMOTION = Promotion(training=TrainingRecipe(num_tokens=400_000))
STEPS = 400_000 // 2048 * 2048


class Searched:
    """A search with three promotions, as far as they came."""

    def __init__(self, root, num_points=None, **changes):
        self.store = InMemoryStore()
        self.service = SearchService(self.store, artifact_root=root)
        made = self.service.create(
            demo_spec(promotion=PROMOTION, rungs=Rungs(fractions=(0.75,), keep=0.5), **changes)
        )
        played = Played(self.store, ManualClock(NOW), made.id).train()
        if num_points is None:
            played.promote().succeed(root)
        elif num_points:
            played.promote(num_points=num_points)
        self.id = made.id

    @property
    def search(self):
        return self.store.get_search(self.id)

    @property
    def records(self):
        return self.service.trials(self.id)

    def found(self, **changes):
        return promotions(replace(self.search, **changes), self.records)

    def report(self):
        view = self.service.get(self.id)
        return search_report(view, self.records, self.service.comparison(view.search), NOW)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return Searched(tmp_path_factory.mktemp("done"))


def test_students_stand_by_their_loss_with_the_errors_that_the_choice_was_made_by(done):
    found, choice = done.found(), done.search.choice
    assert [student.trial_number for student in found.students] == [
        rival.trial_number for rival in choice.rivals
    ]
    for student, rival in zip(found.students, choice.rivals, strict=True):
        assert (student.loss, student.promoted_from) == (rival.loss, rival.promoted_from)
        assert (student.difference, student.difference_error) == (rival.difference, rival.standard_error)
        assert (student.is_tied, student.num_shards) == (rival.is_tied, 8)
        assert (student.num_tokens, student.of_tokens) == (STEPS, STEPS)
        assert student.loss < student.loss_before
    (winner,) = [student.trial_number for student in found.students if student.is_winner]
    assert winner == choice.winner == done.search.winner.trial_number
    assert (found.num_tokens, found.num_to_come, found.is_settled) == (3 * STEPS, 0, True)
    # The losses of all rise and fall with the shards, the differences do not.
    assert all(student.difference_error < student.shard_error for student in found.students[1:])


def test_ties_are_told_and_what_decides_them(done):
    first, second, *others = done.search.choice.rivals
    choice = replace(done.search.choice, rivals=(first, replace(second, is_tied=True), *others))
    tied = [rival.trial_number for rival in choice.tied]
    assert len(tied) > 1
    (told,) = [words for words in promotion_words(done.found(choice=choice)) if "tie" in words]
    assert f"{', '.join(map(str, tied))} tie" in told
    assert "the one with the least parameters wins" in told


def test_a_winner_that_was_not_promoted_is_told(done):
    choice = replace(done.search.choice, unpromoted=0)
    found = done.found(choice=choice)
    assert not any(student.is_winner for student in found.students)
    assert "Trial 0 wins all the same" in " ".join(promotion_words(found))


@pytest.mark.parametrize(("num_points", "state", "to_come"), [(0, None, 3), (2, TrialState.RUNNING, 2)])
def test_what_is_not_done_is_told_as_far_as_it_is(tmp_path, num_points, state, to_come):
    searched = Searched(tmp_path, num_points)
    found = searched.found()
    assert found.num_to_come == to_come
    assert [student.state for student in found.students] == [state] * (3 - to_come)
    assert not found.is_settled
    assert "3 to come or under way" in " ".join(promotion_words(found))
    for student in found.students:
        assert (student.num_tokens, student.difference, student.shard_error) == (98_304, None, None)


def test_where_nothing_is_promoted_nothing_is_said(tmp_path):
    searched = Searched(tmp_path, 0)
    assert promotions(replace(searched.search, spec=demo_spec()), searched.records) is None


def test_the_report_begins_with_both_winners_and_shows_the_students(done):
    report = done.report()
    text = " ".join(report.verdict)
    best = max(report.trials, key=lambda trial: trial.rank == 1)
    winner = next(student for student in report.promotions.students if student.is_winner)
    assert report.verdict[0].startswith(f"The winner is trial {winner.trial_number}, {winner.architecture}, ")
    assert f"it loses {winner.loss:.4f} nats per held-out token" in report.verdict[1]
    assert f"won back {report.gap_closed:.0%} of what pruning had cost" in report.verdict[1]
    assert f"The best before promotion is trial {best.number}" in text
    assert (report.best.number, report.best.loss) == (winner.trial_number, winner.loss)
    assert report.before_promotion == report.compared == best
    source = done.records[winner.promoted_from].trial.measurement
    assert report.best_tokens == source.num_tokens + STEPS
    pruned, parent = source.loss_before_retraining, done.search.parent_loss
    assert report.gap_closed == pytest.approx((pruned - winner.loss) / (pruned - parent))
    assert f"Trial {done.search.winner.trial_number} is the student of trial" in text
    (figure,) = [figure for figure in figures(report) if figure.name == "promotions"]
    (marks,) = figure.data
    assert marks["x"] == [student.difference for student in report.promotions.students]
    assert marks["error_x"]["array"][1:] == [
        student.difference_error for student in report.promotions.students[1:]
    ]
    choice = done.search.choice
    assert [row[-1] for row in figure.table.rows] == [
        "wins" if rival.trial_number == choice.winner else "ties" if rival.is_tied else "behind"
        for rival in choice.rivals
    ]
    assert 'id="promotions"' in "".join(report_page(report))
    spent = {part.on: part.num_tokens for part in report.spending.parts}
    assert spent[SpentOn.PROMOTIONS] == 3 * STEPS


def test_a_search_without_promotions_has_no_such_figure(tmp_path):
    store = InMemoryStore()
    service = SearchService(store, artifact_root=Path(tmp_path))
    made = service.create(demo_spec())
    Played(store, ManualClock(NOW), made.id).train().succeed(tmp_path)
    view = service.get(made.id)
    report = search_report(view, service.trials(made.id), None, NOW)
    assert report.promotions is None
    assert "promotions" not in {figure.name for figure in figures(report)}
    assert report.verdict[0].startswith("The winner is trial")


def test_what_may_be_promoted(done):
    kinds = {
        (record.trial.role, record.trial.state): may_be_promoted(record.trial) for record in done.records
    }
    assert kinds[TrialRole.SEARCH, TrialState.COMPLETED]
    assert kinds[TrialRole.PROMOTION, TrialState.COMPLETED]
    assert not kinds[TrialRole.RANDOM_INDICES, TrialState.COMPLETED]
    assert not kinds[TrialRole.SEARCH, TrialState.STOPPED]
