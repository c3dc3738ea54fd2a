"""What real searches came to is read as it was written, and told seed by seed."""

from dataclasses import replace

from tests.search_bench.methods import DEFAULT, RULE, RULE_IN_ORDER
from tests.search_bench.real import smollm2
from tests.search_bench.real_page import real_section
from tests.search_bench.record import Head, Outcome, read, write

HEAD = Head(
    parent="builtin:some",
    parent_parameters=2_000_000,
    parent_loss=1.5,
    max_parameters=1_000_000,
    num_feasible=7,
    tokens_each=1_000,
    chosen_on=100,
    judged_on=800,
)
OUTCOME = Outcome(
    method=DEFAULT,
    seed=0,
    num_tokens=4_000,
    found_after=3_000,
    seconds=120.0,
    num_looked_at=5,
    num_trained=2,
    architecture="L2",
    num_parameters=900_000,
    loss=2.0,
    judged_loss=2.1,
    losses={
        "L2": {"0": 3.0, "1000": 2.0},
        "L3": {"0": 4.0},
        "L4": {"0": 3.5, "1000": 2.5},
        "L5": {"1000": 2.25},
    },
)


def test_records_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "real.jsonl"
    write(HEAD, [OUTCOME, replace(OUTCOME, seed=1)], path)
    assert read(path) == (HEAD, [OUTCOME, replace(OUTCOME, seed=1)])


def test_choices_are_compared_by_what_they_are_judged_on_within_a_seed():
    outcomes = [
        replace(OUTCOME, method=method, seed=seed, judged_loss=loss)
        for seed, losses in enumerate([(2.1, 2.3, 2.2), (2.2, 2.2, 2.1)])
        for method, loss in zip((DEFAULT, RULE, RULE_IN_ORDER), losses, strict=True)
    ]
    text = real_section(HEAD, outcomes)
    assert f"*{RULE}* by +0.2000, +0.0000 nats (+0.1000 in the mean)" in text
    assert f"*{RULE_IN_ORDER}* by +0.1000, -0.1000 nats (+0.0000 in the mean)" in text
    assert (
        "| 1 | default | 5 | 2 | 4,000 | 3,000 | 2 | L2 | 900,000 | 2.0000 | +0.2500, +0.5000 | 2.2000 |"
        in text
    )


def test_what_is_kept_is_of_the_searches_that_would_be_run():
    head, outcomes = read()
    spec = smollm2(0)
    assert (head.parent, head.max_parameters) == (spec.parent, spec.budget.max_parameters)
    assert {(of.method, of.seed) for of in outcomes} == {
        (method, seed) for method in (DEFAULT, RULE, RULE_IN_ORDER) for seed in (0, 1)
    }
    assert all(of.found_after <= of.num_tokens for of in outcomes)
    assert all(of.num_parameters <= head.max_parameters for of in outcomes)
