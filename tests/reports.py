"""A small search with a known course, to report of: its losses are a formula of the architecture."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from minitron.architecture import Architecture
from nas.frontier import Comparison
from nas.leaderboard import comparison_of
from nas.report import SearchReport, search_report
from nas.rungs import schedule
from nas.search import AxisImportance, Rungs, Search, SearchSpec, SearchState, Winner
from nas.standing import TrialRecord, view_of
from nas.tally import tally_of
from nas.trial import Failure, FailureKind, Measurement, Point, TrialRole
from tests.searches import after, make_attempt, make_search, make_spec, make_trial

PARENT_LOSS = 2.0


def rung_spec(**changes: Any) -> SearchSpec:
    """Return a spec with one rung before the last."""
    return make_spec(
        **(
            {"rungs": Rungs(fractions=(0.5,), keep=0.5, adaptive=False), "num_points": 2, "name": "small"}
            | changes
        )
    )


def loss_of(architecture: Architecture) -> float:
    """Return a loss that falls with layers and hidden size; three layers never work."""
    return 2.1 + 0.3 * (6 - architecture.num_layers) + 0.01 * (128 - architecture.hidden_size) / 8


def played_record(
    number: int,
    search: Search,
    *,
    num_layers: int,
    hidden_size: int,
    end: str = "completed",
    role: TrialRole = TrialRole.SEARCH,
    loss: Callable[[Architecture], float] = loss_of,
) -> TrialRecord:
    """Return a trial that ended as ``completed``, ``stopped``, ``failed``, ``diverged`` or not yet (``running``)."""
    plan = schedule(search.spec)
    architecture = replace(make_trial().architecture, num_layers=num_layers, hidden_size=hidden_size)
    trial = make_trial(number, architecture=architecture, role=role, search_id=search.id).started(
        after(number)
    )
    begun, value = 10.0 * number, loss(architecture)
    reached = {"failed": 0, "diverged": 0, "running": 1, "stopped": 1}.get(end, 2)
    tokens = (0, *plan.rungs)[: reached + 1]
    assert (0, *plan.rungs) == plan.points
    points = tuple(
        Point(num_tokens=count, loss=value + 2.0 / (1 + at), at=after(begun + 3 * at))
        for at, count in enumerate(tokens)
    )
    if end == "completed":
        measurement = Measurement(
            num_tokens=tokens[-1],
            loss=points[-1].loss,
            loss_before_retraining=points[0].loss,
            num_parameters=architecture.parameter_count,
            train_seconds=6.0,
        )
        trial = trial.completed(measurement, f"trials/{number}", after(begun + 7))
    elif end == "stopped":
        trial = trial.saved(f"trials/{number}").parked().stopped(after(begun + 4))
    elif end in {"failed", "diverged"}:
        kind = FailureKind.ERROR if end == "failed" else FailureKind.NON_FINITE
        trial = trial.failed(Failure(kind=kind, message="it broke"), after(begun + 1))
    ended = None if end == "running" else after(begun + 3 * reached + 1)
    attempt = make_attempt(number, 1, started_at=after(begun), ended_at=ended)
    return TrialRecord(trial=trial, points=points, attempts=(attempt,))


def reported(
    search: Search, records: Sequence[TrialRecord], *, comparison: Comparison | None = None
) -> SearchReport:
    """Return the report of a search with such trials."""
    tally = tally_of((record.trial, record.points, record.attempts) for record in records)
    found = comparison or comparison_of(search, [record.trial for record in records])
    return search_report(view_of(search, tally), records, found, after(10_000))


def small_report(**changes: Any) -> SearchReport:
    """Return the report of a search of 26 trials with a zone that never works."""
    search = make_search(**({
        "spec": rung_spec(), "state": SearchState.SUCCEEDED, "num_feasible": 40, "parent_parameters": 10**6,
        "parent_loss": PARENT_LOSS, "winner": Winner(trial_number=23, path="searches/search-1/winner"),
        "importance": AxisImportance(num_trials=8, shares={"num_layers": 0.75, "hidden_size": 0.25}),
        "owner": "ann", "tags": ("small",), "notes": "A first look.", "finished_at": after(5_000),
    } | changes))  # fmt: skip
    shapes = list(product((3, 4, 5, 6), (88, 96, 104, 112, 120, 128)))
    records = [
        played_record(
            number,
            search,
            num_layers=layers,
            hidden_size=hidden,
            end="completed" if layers > 4 else "stopped",
        )
        for number, (layers, hidden) in enumerate(shapes)
    ]
    records.append(played_record(24, search, num_layers=4, hidden_size=120, end="failed"))
    role = TrialRole.RANDOM_ARCHITECTURE
    records.append(played_record(25, search, num_layers=5, hidden_size=104, role=role))
    drawn, best = records[-1].trial.measurement, records[23].trial.measurement
    assert drawn
    assert best
    comparison = Comparison(
        winner_loss=best.loss,
        parent_loss=PARENT_LOSS,
        random_architectures=(drawn.loss,),
        random_indices=(2.8, 2.9),
    )
    return reported(search, records, comparison=comparison)
