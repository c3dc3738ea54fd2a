"""Which promotions are to be run, what specs may say of them, and whose students are put to tasks."""

from dataclasses import replace

import pytest
from rich.console import Console

from minitron.recipe import DataRecipe, DistillationRecipe, TrainingRecipe
from nas import display
from nas.admission import admitted
from nas.agreement import rank_agreement
from nas.budget import LatencyBudget
from nas.errors import InvalidSpec
from nas.finals import Evaluation
from nas.frontier import Comparison, best_trial, pareto_front, trained_architectures
from nas.history import keys_of
from nas.promoting import (
    finalists,
    left_to_promote,
    lineage,
    missing_promotions,
    settled,
    sources,
    tokens_behind,
)
from nas.promotion import Promoted, Promotion
from nas.resources import Resources
from nas.rungs import decide, schedule
from nas.sampling import Objective
from nas.search import Artifacts, Comparisons, Rungs, SearchState, Winner
from nas.space import search_space
from nas.spec import dump, parse_spec
from nas.standing import TrialRecord, view_of
from nas.tally import tally_of
from nas.trial import TrialRole, TrialState
from tests.latencies import table_of
from tests.searches import MEASUREMENT, after, make_point, make_search, make_spec, make_trial

PROMOTION = Promotion(training=TrainingRecipe(num_tokens=4_000_000), top_k=2)
LONGER = replace(PROMOTION, training=TrainingRecipe(num_tokens=8_000_000))


def completed(number, loss, **changes):
    known = {"state": TrialState.COMPLETED, "checkpoint": "x", "finished_at": after(number)}
    measured = replace(MEASUREMENT, loss=loss)
    return make_trial(number, measurement=measured, **{**known, **changes})


def promotion_of(number, source, loss=None, promotion=PROMOTION, **changes):
    known = {"role": TrialRole.PROMOTION, "promoted_from": source, "promotion": promotion}
    if loss is None:
        return make_trial(number, **known, **changes)
    return completed(number, loss, **known, **changes)


TRIALS = [completed(0, 3.0), completed(1, 1.0), completed(2, 2.0), make_trial(3)]
SEARCH = make_search(spec=make_spec(promotion=PROMOTION))


def missing(search, trials):
    return [(each.trial_number, each.promotion) for each in missing_promotions(search, trials)]


def test_the_best_are_promoted_and_then_what_was_ordered():
    assert missing(SEARCH, TRIALS) == [(1, PROMOTION), (2, PROMOTION)]
    ordered = replace(SEARCH.orders, promoted=(Promoted(trial_number=0, promotion=LONGER),))
    search = replace(SEARCH, orders=ordered)
    assert missing(search, TRIALS) == [(1, PROMOTION), (2, PROMOTION), (0, LONGER)]
    assert left_to_promote(search, TRIALS) == [PROMOTION, LONGER]


def test_what_was_made_or_has_begun_is_not_missing_and_what_has_begun_is_left():
    trials = [*TRIALS, promotion_of(4, 1)]
    assert missing(SEARCH, trials) == [(2, PROMOTION)]
    assert left_to_promote(SEARCH, [*trials, promotion_of(5, 2, 0.5)]) == [PROMOTION]
    assert left_to_promote(SEARCH, [*TRIALS, promotion_of(4, 1, 0.9), promotion_of(5, 2, 0.5)]) == []


def test_only_students_that_a_recipe_goes_on_from_are_brought_for_it():
    """So what keeps one from being brought hinders no promotion by another recipe."""
    anew = replace(LONGER, start="pruned")
    wanted = [Promoted(trial_number=0, promotion=LONGER), Promoted(trial_number=0, promotion=anew)]
    search = replace(SEARCH, orders=replace(SEARCH.orders, promoted=tuple(wanted)))
    trials = [*TRIALS, promotion_of(4, 1), promotion_of(5, 4, 0.5, LONGER)]
    found = {
        each: [source.number for source in sources(search, trials, each)]
        for each in (PROMOTION, LONGER, anew)
    }
    assert found == {PROMOTION: [1, 2], LONGER: [0], anew: []}


def test_what_is_ordered_and_promoted_anyway_is_promoted_once():
    ordered = replace(SEARCH.orders, promoted=(Promoted(trial_number=1, promotion=PROMOTION, by="ann"),))
    assert missing(replace(SEARCH, orders=ordered), TRIALS) == [(1, PROMOTION), (2, PROMOTION)]


def test_one_that_failed_is_repeated_only_where_that_was_ordered():
    trials = [*TRIALS, promotion_of(4, 1, state=TrialState.FAILED), promotion_of(5, 2, 0.5)]
    assert missing(SEARCH, trials) == []
    again = Promoted(trial_number=1, promotion=PROMOTION, repeats=4)
    search = replace(SEARCH, orders=replace(SEARCH.orders, promoted=(again,)))
    assert missing(search, trials) == [(1, PROMOTION)]
    assert missing(search, [*trials, promotion_of(6, 1, state=TrialState.FAILED)]) == []


def test_a_search_that_had_ended_promotes_what_is_ordered_alone():
    ordered = replace(SEARCH.orders, promoted=(Promoted(trial_number=0, promotion=LONGER),))
    assert missing(replace(SEARCH, orders=ordered, ended_as=SearchState.CANCELLED), TRIALS) == [(0, LONGER)]


def test_the_winner_is_promoted_and_its_line_leads_back_to_its_trial():
    trials = [*TRIALS, promotion_of(4, 1, 0.9), promotion_of(5, 4, 0.5)]
    winner, choice = settled(SEARCH.spec, trials)
    assert winner.number == choice.winner == 5
    assert [trial.number for trial in lineage(winner, trials)] == [1, 4, 5]
    assert settled(SEARCH.spec, TRIALS) == (TRIALS[1], None)
    assert settled(SEARCH.spec, [make_trial()]) == (None, None)


def test_the_promoted_are_put_to_tasks_the_winner_first():
    spec = make_spec(promotion=PROMOTION, evaluation=Evaluation(tasks=("arc",), finalists=2))

    def sized(number, source, num_parameters):
        made = promotion_of(number, source, 0.9)
        measured = replace(made.measurement, num_parameters=num_parameters, shard_losses=(0.9, 0.9))
        return replace(made, measurement=measured)

    larger, tied = sized(4, 1, 2), sized(5, 2, 1)
    assert [trial.number for trial in finalists(spec, [*TRIALS, larger, tied])] == [5, 4]
    assert [trial.number for trial in finalists(spec, TRIALS)] == [1, 2]
    worse = promotion_of(4, 1, 1.5)
    assert [trial.number for trial in finalists(spec, [*TRIALS, worse])] == [1, 4]


def test_promotions_are_trained_by_their_own_recipe_and_compared_nowhere():
    spec = make_spec(
        promotion=replace(PROMOTION, resources=Resources(cpus=2), num_points=2),
        rungs=Rungs(fractions=(0.5,)),
        comparisons=Comparisons(random_indices=1),
    )
    promoted = spec.promoted_by(spec.promotion)
    assert promoted.training == PROMOTION.training
    assert promoted.distillation == spec.distillation
    assert promoted.resources.cpus == 2
    plan = schedule(promoted)
    assert plan.rungs == (plan.num_tokens,)
    assert len(plan.points) == 3
    assert plan.num_tokens == pytest.approx(4_000_000, rel=0.01)


@pytest.mark.parametrize(
    ("promotion", "changes", "field", "allowed"),
    [
        ({"top_k": 0}, {}, "promotion.top_k", "1 to 1000"),
        ({"num_points": 0}, {}, "promotion.num_points", "1 to 1000"),
        ({"num_shards": 1}, {}, "promotion.num_shards", "2 to 1000"),
        ({"num_shards": 200}, {}, "promotion.num_shards", "at most 128, the held-out blocks"),
        ({"training": {"num_tokens": 10}}, {}, "promotion.training.num_tokens", "at least one step"),
        (
            {"training": {"num_tokens": 300, "batch_tokens": 100}},
            {"data": {"sequence_length": 512}},
            "promotion.training.num_tokens",
            "at least one step of 512",
        ),
        ({"resources": {"processes": 3}}, {}, "promotion.resources.processes", "divides the 8 blocks"),
        ({"resources": {"cpus": -1}}, {}, "promotion.resources.cpus", "at least 0"),
        (
            {"resources": {"processes": 2}, "distillation": {"cache_form": "hidden"}},
            {},
            "promotion.distillation.cache_form",
            "top_k",
        ),
        ({"distillation": {"top_k": 0}}, {}, "promotion.distillation.top_k", "at least 1"),
        ({"start": "middle"}, {}, "promotion.start", "'student' or 'pruned'"),
        ({"top": 1}, {}, "promotion.top", "top_k"),
    ],
)
def test_what_cannot_be_promoted_so_is_refused_with_its_field(promotion, changes, field, allowed):
    spec = dump(make_spec()) | changes
    with pytest.raises(InvalidSpec) as caught:
        parse_spec({**spec, "promotion": {"training": {}, **promotion}})
    problems = dict(caught.value.problems)
    assert allowed in problems[field]
    assert len(problems) == 1


def test_a_promotion_without_a_training_is_refused():
    with pytest.raises(InvalidSpec, match=r"promotion\.training: missing"):
        parse_spec({**dump(make_spec()), "promotion": {"top_k": 2}})


def test_several_processes_of_the_search_bind_its_promotions_too():
    with pytest.raises(InvalidSpec) as caught:
        make_spec(
            resources=Resources(processes=2),
            data=DataRecipe(sequence_length=256),
            promotion=Promotion(
                training=TrainingRecipe(batch_tokens=3 * 256),
                distillation=DistillationRecipe(cache_form="hidden"),
            ),
        )
    assert {field for field, _ in caught.value.problems} == {
        "promotion.resources.processes",
        "promotion.distillation.cache_form",
    }


def test_promotions_to_come_are_among_the_tokens_ahead():
    def ahead(search, trials):
        view = view_of(search, tally_of((trial, (), ()) for trial in trials))
        return view.tokens_total - view.tokens_done

    trials = [completed(number, 1.0 + number) for number in range(SEARCH.spec.num_trials)]
    search = replace(SEARCH, state=SearchState.COMPLETING)
    own = schedule(SEARCH.spec.promoted_by(PROMOTION)).num_tokens
    assert ahead(search, trials) == 2 * own
    first = promotion_of(len(trials), 0, 0.5)
    assert ahead(search, [*trials, first]) == own
    begun = promotion_of(len(trials) + 1, 1)
    assert ahead(search, [*trials, first, begun]) == own
    ordered = replace(search.orders, promoted=(Promoted(trial_number=5, promotion=LONGER),))
    ended = replace(search, orders=ordered, ended_as=SearchState.CANCELLED, spec=make_spec())
    assert ahead(ended, trials[:3]) == schedule(SEARCH.spec.promoted_by(LONGER)).num_tokens


def test_a_promotion_tells_nothing_of_architectures_and_competes_with_no_trial():
    """However low its loss is: it was trained for longer."""
    promoted = promotion_of(4, 1, 0.1)
    trials = [*TRIALS, promoted]
    assert best_trial(trials) == best_trial(TRIALS)
    assert pareto_front(trials) == pareto_front(TRIALS)
    assert trained_architectures(trials) == trained_architectures(TRIALS)
    plan, losses = schedule(SEARCH.spec), {4: {schedule(SEARCH.spec).rungs[0]: 0.1}}
    waiting = make_trial(5, state=TrialState.WAITING)
    decisions = [
        decide([*each, waiting], losses, plan, asked=SEARCH.spec.rungs, more_to_come=True)
        for each in (TRIALS, trials)
    ]
    assert decisions[0] == decisions[1]
    record = TrialRecord(trial=promoted, points=(make_point(4).point, make_point(4, 9).point), attempts=())
    assert rank_agreement([record]) == []


def test_a_promotion_stands_for_nothing_and_is_listed_under_its_own_recipe():
    artifacts = Artifacts(parent="p", blocks="b", validation="v", scores="s", teacher="t")
    own, promoted = (
        keys_of(SEARCH.spec, artifacts),
        keys_of(SEARCH.spec, artifacts, TrialRole.PROMOTION, PROMOTION),
    )
    longer = keys_of(SEARCH.spec, artifacts, TrialRole.PROMOTION, LONGER)
    assert own.reuse is not None
    assert promoted.reuse is None
    assert len({own.recipe, promoted.recipe, longer.recipe}) == 3
    assert own.data == promoted.data


def test_memory_that_is_stated_for_promotions_binds_them_alone(tmp_path):
    tight = replace(PROMOTION, resources=Resources(memory_bytes=1))
    with pytest.raises(InvalidSpec, match=r"promotion\.resources\.memory_bytes: found 1 B of memory stated"):
        admitted(make_spec(promotion=tight), tmp_path)
    assert admitted(make_spec(promotion=PROMOTION), tmp_path)


def test_the_report_says_who_was_promoted_which_tied_and_who_won():
    def measured(number, source, losses, num_parameters):
        made = promotion_of(number, source, sum(losses) / len(losses))
        sized = replace(made.measurement, num_parameters=num_parameters, shard_losses=losses)
        return replace(made, measurement=sized)

    trials = [
        *TRIALS[:3],
        measured(4, 1, (0.5, 0.6), 9),
        measured(5, 2, (0.66, 0.46), 5),
        measured(6, 0, (0.8, 0.9), 1),
    ]
    _, choice = settled(SEARCH.spec, trials)
    won = replace(SEARCH, choice=choice, winner=Winner(trial_number=5, path="w"), state=SearchState.SUCCEEDED)
    records = [TrialRecord(trial=trial, points=(), attempts=()) for trial in trials]
    comparison = Comparison(winner_loss=1.0, parent_loss=0.4, random_architectures=(), random_indices=())
    console = Console(width=200)
    with console.capture() as printed:
        view = view_of(won, tally_of(((trial, (), ()) for trial in trials), winner=5))
        display.report(console, view, records, comparison)
    text = printed.get()
    assert "winner: trial 5, " in text
    assert f"held-out loss 0.5600 after {2 * MEASUREMENT.num_tokens:,} tokens" in text
    assert "parent: 0.4000; winner 0.1600 higher" in text
    assert "best before promotion: trial 1, " in text
    assert f"held-out loss 1.0000 after {MEASUREMENT.num_tokens:,} tokens" in text
    assert "trial 4, promoted from trial 1: loss 0.5500\n" in text
    assert "trial 5, promoted from trial 2: loss 0.5600, +0.0100 +- 0.1500, a tie" in text
    assert "trial 6, promoted from trial 0: loss 0.8500, +0.3000 +- 0.0000, no tie" in text


def test_the_tokens_of_a_student_are_those_since_it_was_pruned():
    afresh = replace(PROMOTION, start="pruned")
    source, further = completed(0, 3.0), promotion_of(1, 0, 2.0)
    each = MEASUREMENT.num_tokens
    assert [tokens_behind(line) for line in ([source], [source, further])] == [each, 2 * each]
    anew = promotion_of(2, 1, 1.5, afresh)
    assert tokens_behind([source, further, anew]) == each
    assert tokens_behind([source, further, anew, promotion_of(3, 2, 1.4)]) == 2 * each


def test_under_a_budget_of_latency_the_faster_of_two_that_tie_wins():
    """A table by which the wider student is the faster: it has more parameters, and wins all the same."""
    spec = make_spec(promotion=PROMOTION)
    narrow, wide = (
        next(each for each in search_space(spec).architectures if each.hidden_size == size)
        for size in (96, 128)
    )
    table = table_of(spec, lambda hidden, neurons, heads, kv_heads: 10**6 - 5000 * hidden)
    fast = LatencyBudget(max_ms=10.0, context=64, dtype="float32", table=table)

    def measured(number, architecture):
        made = replace(promotion_of(number, 1, 0.5 + number / 100), architecture=architecture)
        sized = replace(
            made.measurement,
            num_parameters=architecture.parameter_count,
            shard_losses=(0.5, 0.6) if number == 4 else (0.66, 0.46),
        )
        return replace(made, measurement=sized)

    trials = [*TRIALS[:3], measured(4, narrow), measured(5, wide)]
    assert settled(spec, trials)[1].trial_number == 4
    spec = replace(spec, budget=replace(spec.budget, latency=fast))
    _, choice = settled(spec, trials)
    assert (choice.trial_number, choice.counted) == (5, "nanoseconds to decode")
    _, choice = settled(replace(spec, sampler="nsga2", objective=Objective(cost="latency")), trials)
    assert (choice.trial_number, choice.counted) == (5, "nanoseconds to decode, 1 x 64 tokens in float32")
