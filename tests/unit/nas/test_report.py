"""The numbers of a report: laws that hold for any search, and one small report to the letter."""

import json
import os
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise
from math import comb
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.budget import Budget, MemoryBudget
from nas.frontier import Comparison
from nas.report import MOST_TRIALS, SearchReport
from nas.report_figures import figures
from nas.report_spending import SpentOn, spending
from nas.report_tables import MOST_ROWS
from nas.report_zones import LEAST_TRIALS, MOST_CHOICES, chance_of_all_behind, zones
from nas.resources import Resources
from nas.sampling import Objective
from nas.search import Rungs, SearchState
from nas.spec import dump, load
from nas.standing import TrialRecord, view_of
from nas.tally import tally_of
from nas.trial import TrialRole
from tests.reports import played_record, reported, rung_spec, small_report
from tests.searches import after, make_attempt, make_point, make_search, make_spec, trials

GOLDEN = Path(__file__).parent / "golden" / "report.json"
ENDS = ("completed", "stopped", "failed", "diverged", "running")


@st.composite
def histories(draw: st.DrawFn) -> list[TrialRecord]:
    """Trials in any state with points and attempts of any length."""
    records = []
    for number in range(draw(st.integers(0, 6))):
        counts = sorted(draw(st.sets(st.integers(0, 10**6), max_size=4)))
        times = sorted(draw(st.lists(st.integers(0, 10**5), min_size=6, max_size=6)))
        points = tuple(
            make_point(number, count, at=after(at)).point for count, at in zip(counts, times, strict=False)
        )
        attempts = tuple(
            make_attempt(
                number, 1 + at, started_at=after(begin), ended_at=None if is_open else after(begin + 50)
            )
            for at, (begin, is_open) in enumerate(
                draw(st.lists(st.tuples(st.integers(0, 10**5), st.booleans()), max_size=3).map(sorted))
            )
        )
        trial = replace(draw(trials), number=number)
        records.append(TrialRecord(trial=trial, points=points, attempts=attempts))
    return records


@settings(max_examples=60)
@given(histories(), st.sampled_from([1, 4]))
def test_parts_add_up_to_what_standing_counts(records, processes):
    search = make_search(spec=make_spec(resources=Resources(processes=processes)))
    view = view_of(search, tally_of((each.trial, each.points, each.attempts) for each in records))
    spent = spending(search, records)
    assert spent.num_tokens == sum(part.num_tokens for part in spent.parts) == view.tokens_done
    assert sum(part.num_trials for part in spent.parts) == len(records)
    assert spent.compute_seconds == pytest.approx(view.compute_seconds, abs=1e-6)
    promoted = spent.on(SpentOn.PROMOTIONS)
    searching = spent.num_tokens - (promoted.num_tokens if promoted else 0)
    assert spent.saved_tokens + searching == spent.exhaustive_tokens
    assert spent.saved_share == pytest.approx(spent.saved_tokens / spent.exhaustive_tokens)
    assert [part.on for part in spent.parts] == [each for each in SpentOn if spent.on(each)]


def test_what_is_spent_is_told_by_what_became_of_the_trials():
    search = make_search(spec=rung_spec(), num_feasible=10)
    ends = dict(enumerate(ENDS))
    records = [
        played_record(number, search, num_layers=4, hidden_size=96, end=end) for number, end in ends.items()
    ]
    records.append(
        played_record(9, search, num_layers=5, hidden_size=96, end="stopped", role=TrialRole.RANDOM_INDICES)
    )
    half, whole = 499_712, 999_424
    told = {
        part.on: (part.num_trials, part.num_tokens, part.compute_seconds)
        for part in spending(search, records).parts
    }
    assert told == {
        SpentOn.COMPLETED: (1, whole, 7.0),
        SpentOn.STOPPED: (1, half, 4.0),
        SpentOn.FAILED: (2, 0, 2.0),
        SpentOn.UNDER_WAY: (1, half, 3.0),
        SpentOn.BASELINES: (1, half, 4.0),
    }
    spent = spending(search, records)
    assert spent.exhaustive_tokens == 10 * whole
    assert spent.exhaustive_seconds == pytest.approx(20.0 * 10 * whole / (2.5 * whole))


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 9))
def test_chance_is_that_of_all_ways_to_draw(num_trials, num_behind, drawn):
    num_behind, drawn = min(num_behind, num_trials), min(drawn, num_trials)
    ways = list(combinations(range(num_trials), drawn))
    share = sum(all(each < num_behind for each in way) for way in ways) / len(ways)
    assert len(ways) == comb(num_trials, drawn)
    assert chance_of_all_behind(num_trials, num_behind, drawn) == pytest.approx(share)


tries = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 9), st.floats(0, 8, width=16), st.sampled_from(ENDS)),
    max_size=24,
)


def tried(found, scale=1.0, shift=0.0):
    search = make_search(spec=rung_spec())
    records = [
        played_record(
            number, search, num_layers=layers, hidden_size=16 * width, end=end, loss=lambda _, x=loss: x * scale + shift
        )
        for number, (layers, width, loss, end) in enumerate(found)
    ]  # fmt: skip
    return search, records


def judgement(zone):
    return zone.sizes, zone.num_trials, zone.num_behind, zone.chance, zone.never_works


@settings(max_examples=80)
@given(tries, st.randoms(use_true_random=False))
def test_zones_part_the_trials_whatever_their_order_and_the_scale_of_losses(found, random):
    search, records = tried(found)
    told = zones(search, records)
    parts = Counter()
    for zone in told.choices:
        parts[zone.sizes[0].axis] += zone.num_trials
        assert zone.num_behind <= zone.num_trials
    assert set(parts.values()) <= {told.num_trials}
    for axis in parts:
        own = [zone.sizes[0] for zone in told.choices if zone.sizes[0].axis == axis]
        assert 1 < len(own) <= MOST_CHOICES
        assert all(one.most < other.least for one, other in pairwise(own))
    shuffled = random.sample(records, len(records))
    assert zones(search, shuffled) == told
    doubled = zones(*tried(found, scale=2.0, shift=1.0))
    assert list(map(judgement, doubled.choices)) == list(map(judgement, told.choices))
    assert list(map(judgement, doubled.pairs)) == list(map(judgement, told.pairs))


@settings(max_examples=80)
@given(tries)
def test_no_trial_of_a_zone_that_never_works_is_near_the_median(found):
    told = zones(*tried(found))
    for zone in told.dead:
        assert zone.num_trials >= LEAST_TRIALS
        assert zone.num_behind == zone.num_trials
        assert told.behind_above is not None
        assert zone.best_loss is None or zone.best_loss > told.behind_above > told.median_loss - 1e-9
        assert zone.chance is not None
        assert zone.chance <= 0.05


def planted(dead, end="stopped"):
    """Return what is told of 36 trials, those in the dead part clearly worse than all others."""
    search, random = make_search(spec=rung_spec()), Random(0)
    records = []
    for number in range(36):
        layers, hidden = 3 + number % 4, 96 + 16 * (number // 4 % 3)
        bad = dead(layers, hidden)
        loss = random.gauss(3.0 if bad else 2.0, 0.1)
        records.append(
            played_record(
                number, search, num_layers=layers, hidden_size=hidden, end=end if bad else "completed",
                loss=lambda _, x=loss: x,
            )
        )  # fmt: skip
    return zones(search, records)


def test_a_size_that_never_works_is_found_and_explains_its_pairs():
    told = planted(lambda layers, _: layers == 3)
    ((zone,),) = [told.dead]
    (sizes,) = zone.sizes
    assert (sizes.axis, sizes.least, sizes.most, zone.num_trials) == ("num_layers", 3, 3, 9)
    assert told.pairs == ()


def test_a_pair_that_never_works_is_found_where_neither_size_explains_it():
    told = planted(lambda layers, hidden: layers in (3, 4) and hidden == 96)
    assert not any(zone.never_works for zone in told.choices)
    assert {tuple((each.axis, each.least) for each in zone.sizes) for zone in told.pairs} <= {
        (("num_layers", 3), ("hidden_size", 96)),
        (("num_layers", 4), ("hidden_size", 96)),
    }


def test_a_loss_that_is_not_finite_is_behind_and_a_failure_of_another_kind_is_no_evidence():
    assert planted(lambda layers, _: layers == 3, end="diverged").dead[0].best_loss is None
    assert planted(lambda layers, _: layers == 3, end="failed").num_trials == 36 - 9
    broken = make_search(spec=rung_spec())
    records = [played_record(n, broken, num_layers=4, hidden_size=96, end="failed") for n in range(9)]
    assert zones(broken, [replace(each, points=()) for each in records]).num_trials == 0


def test_trials_that_recover_redeem_their_zone():
    """The papers saw rankings settle late: what is behind at the first rung may end in front."""
    search = make_search(spec=rung_spec(rungs=Rungs(fractions=(0.5,), keep=0.9, adaptive=False)))
    records = [
        played_record(
            n, search, num_layers=3 + n % 4, hidden_size=96, loss=lambda each: 5.0 - each.num_layers
        )
        for n in range(36)
    ]
    assert [zone.sizes[0].least for zone in zones(search, records).dead] == [3, 4]
    late = [
        replace(each, points=(*each.points[:-1], replace(each.points[-1], loss=0.5)))
        if each.trial.architecture.num_layers == 3 and each.trial.number == 0
        else each
        for each in records
    ]
    assert [zone.sizes[0].least for zone in zones(search, late).dead] == [4]


def test_chance_alone_seldom_makes_a_zone():
    """Losses that have nothing to do with the sizes: in 200 searches, some zone is told in one of twenty at most."""
    search, random = make_search(spec=rung_spec()), Random(1)
    told = 0
    for _ in range(200):
        records = [
            played_record(
                number, search, num_layers=random.choice((3, 4, 5, 6)), hidden_size=random.choice((96, 104, 112)),
                loss=lambda _: random.gauss(3, 1),
            )
            for number in range(24)
        ]  # fmt: skip
        told += any(zone.never_works for zone in zones(search, records).choices)
    assert told <= 10


def test_the_small_report_is_the_golden_one():
    """What is told changes only on purpose: run this test with GOLDEN=write and review the difference."""
    text = json.dumps(dump(small_report()), indent=1) + "\n"
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")
    assert load(SearchReport, json.loads(text)) == small_report()


def test_a_front_is_drawn_by_what_the_search_weighs():
    plain, objective = small_report(), Objective(cost="memory", batch=64)
    weighed = small_report(spec=rung_spec(sampler="nsga2", objective=objective))
    assert (plain.cost, weighed.cost) == ("parameters", objective.words)
    assert [trial.cost for trial in weighed.front] == sorted(trial.cost for trial in weighed.front)
    assert max(trial.cost for trial in weighed.front) > 10**6 > max(trial.cost for trial in plain.front)
    figure = {each.name: each for each in figures(weighed)}["front"]
    assert figure.title == f"Loss against {objective.words}"
    assert figure.layout["xaxis"]["title"]["text"] == objective.words
    assert figure.data[0]["x"] == [trial.cost for trial in weighed.front]
    assert "budget" not in str(figure.layout["annotations"]), "it counts parameters"


def test_the_verdict_is_of_winner_budget_parent_baselines_and_cost():
    winner, losses, drawn, copies, cost = small_report().verdict
    assert winner.startswith("The winner is trial 23, L6-D128-")
    assert "below what the budget allows (300 k to 700 k parameters)" in winner
    assert "more than the parent (2.0000); retraining won back" in losses
    assert "less than one architecture drawn evenly from the space" in drawn
    assert copies.startswith(
        "It is better than 2 of 2 copies of it from randomly kept parts, which lose 2.8500"
    )
    assert "of what training each of the 40 architectures that fit would take (40 M)" in cost


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (SearchState.RUNNING, "The search has not ended yet. The best so far is trial 23"),
        (SearchState.FAILED, "The search failed before its end. The best so far is trial 23"),
        (SearchState.CANCELLED, "The search was cancelled before its end. The best so far is trial 23"),
    ],
)
def test_the_verdict_says_when_it_is_of_no_whole_search(state, words):
    assert small_report(state=state, winner=None).verdict[0].startswith(words)


def test_the_verdict_says_when_nothing_was_saved_and_when_nothing_was_found():
    assert "more than training each of the 2 architectures" in small_report(num_feasible=2).verdict[-1]
    empty = reported(make_search(spec=rung_spec()), [])
    assert empty.verdict == ("The search has not ended yet. No trial has been trained to the end so far.",)


def test_the_verdict_does_not_hide_baselines_that_are_better():
    comparison = Comparison(
        winner_loss=2.1, parent_loss=None, random_architectures=(2.0, 3.0, 3.1), random_indices=()
    )
    search = make_search(spec=rung_spec(budget=Budget(max_parameters=700_000)), parent_parameters=10**6)
    records = [
        played_record(n, search, num_layers=4, hidden_size=96, loss=lambda _: 2.1 - 2 / 3) for n in range(3)
    ]
    told = reported(search, records, comparison=comparison).verdict
    assert (
        "It is better than 2 of 3 architectures drawn evenly from the space, which lose 2.7000 on average "
        "and 2.0000 at best."
    ) in told


def test_a_budget_that_bounds_no_parameters_has_no_line_and_is_kept_to():
    budget = Budget(memory=MemoryBudget(max_bytes=10**9, context=8))
    search = make_search(spec=rung_spec(budget=budget), parent_parameters=10**6)
    report = reported(search, [played_record(n, search, num_layers=4, hidden_size=96) for n in range(3)])
    assert report.max_parameters is None
    assert "within what the budget allows (at most 1 GB of weights and cache" in report.verdict[0]
    drawn = {figure.name: figure.layout for figure in figures(report)}["front"]
    assert "budget" not in [each["text"] for each in drawn["annotations"]]


@pytest.mark.parametrize("num_trials", [0, 1, 2, 700])
def test_every_report_has_its_eight_figures_and_stays_small(num_trials):
    search = make_search(spec=rung_spec(), num_feasible=10**6)
    records = [
        played_record(n, search, num_layers=3 + n % 4, hidden_size=8 * (9 + n % 90), end=ENDS[n % 5])
        for n in range(num_trials)
    ]
    report = reported(search, records)
    told = figures(report)
    names = ["front", "saved", "spent", "curves", "agreement", "parallel", "importance", "zones"]
    assert [figure.name for figure in told] == names
    assert all(figure.caption and figure.reading for figure in told)
    assert len(report.trials) == min(num_trials, MOST_TRIALS)
    assert all(len(figure.table.rows) <= MOST_ROWS for figure in told)
    if num_trials == 700:
        assert told[0].table.num_left_out == 600
        assert "200 of 700 trials are left out" in told[0].caption
        assert len(json.dumps(dump(report))) < 500_000
        assert sum(len(json.dumps(figure.data)) for figure in told) < 500_000


def test_figures_show_the_numbers_of_the_report():
    report = small_report()
    shown = {figure.name: figure for figure in figures(report)}
    marks = {trace["name"]: trace for trace in shown["front"].data}
    assert marks["best at equal tokens"]["y"] == [report.best.loss]
    assert len(marks["stopped at a rung"]["x"]) == 12
    assert shown["saved"].data[0]["x"] == [report.spending.num_tokens, report.spending.exhaustive_tokens]
    shares = {trace["name"]: trace["x"][0] for trace in shown["spent"].data}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["stopped at a rung"] == pytest.approx(6 / 19)
    assert shown["importance"].data[0]["x"] == [0.25, 0.75]
    assert len(shown["curves"].data) == 26
    assert len(shown["parallel"].data) == 13
    assert shown["zones"].caption == "Never worked: layers 3; layers 4."
