"""The life of a trial: every legal move, and no other."""

from dataclasses import FrozenInstanceError

import pytest

from nas.errors import FinalTrialChanged
from nas.trial import Failure, FailureKind, TrialState
from tests.searches import MEASUREMENT, START, after, make_trial

FAILURE = Failure(kind=FailureKind.ERROR, message="it broke")
MOVES = {
    "started": lambda trial: trial.started(after(1)),
    "saved": lambda trial: trial.saved("later state"),
    "interrupted": lambda trial: trial.interrupted(),
    "parked": lambda trial: trial.parked(),
    "advanced": lambda trial: trial.advanced(),
    "completed": lambda trial: trial.completed(MEASUREMENT, "student", after(9)),
    "stopped": lambda trial: trial.stopped(after(9)),
    "failed": lambda trial: trial.failed(FAILURE, after(9)),
    "cancelled": lambda trial: trial.cancelled(after(9)),
}
LEGAL = {
    TrialState.PROPOSED: {"started", "parked", "failed", "cancelled"},
    TrialState.RUNNING: {
        "started",
        "saved",
        "interrupted",
        "parked",
        "advanced",
        "completed",
        "failed",
        "cancelled",
    },
    TrialState.WAITING: {"started", "advanced", "stopped", "failed", "cancelled"},
    TrialState.COMPLETED: set(),
    TrialState.STOPPED: set(),
    TrialState.FAILED: set(),
    TrialState.CANCELLED: set(),
}


def in_state(state: TrialState):
    """Return a trial that came to ``state`` by legal moves."""
    running = make_trial().started(after(0))
    return {
        TrialState.PROPOSED: make_trial(),
        TrialState.RUNNING: running,
        TrialState.WAITING: running.saved("state").parked(),
        TrialState.COMPLETED: MOVES["completed"](running),
        TrialState.STOPPED: running.saved("state").parked().stopped(after(2)),
        TrialState.FAILED: running.failed(FAILURE, after(2)),
        TrialState.CANCELLED: running.cancelled(after(2)),
    }[state]


@pytest.mark.parametrize("state", TrialState)
@pytest.mark.parametrize("move", MOVES)
def test_only_legal_moves_are_possible(state, move):
    trial = in_state(state)
    assert trial.state is state
    if move in LEGAL[state]:
        assert MOVES[move](trial) != trial
    else:
        with pytest.raises(FinalTrialChanged if state.is_final else AssertionError, match="trial 0: "):
            MOVES[move](trial)


def test_final_states_are_those_without_moves():
    assert {state for state in TrialState if state.is_final} == {state for state in LEGAL if not LEGAL[state]}


def test_a_trial_through_two_rungs_keeps_its_history():
    """Waiting, advanced, resumed after a lost worker, completed."""
    trial = make_trial().started(after(1)).saved("state").parked().advanced()
    assert (trial.state, trial.rung, trial.checkpoint) == (TrialState.WAITING, 1, "state")
    trial = trial.started(after(5)).started(after(7)).completed(MEASUREMENT, "student", after(9))
    assert trial.num_attempts == 3
    assert (trial.created_at, trial.started_at, trial.finished_at) == (START, after(1), after(9))
    assert (trial.measurement, trial.checkpoint, trial.rung) == (MEASUREMENT, "student", 1)


def test_a_failed_trial_says_why():
    trial = make_trial().failed(FAILURE, after(2))
    assert trial.failure == FAILURE
    assert trial.finished_at == after(2)


def test_a_move_leaves_the_trial_as_it_was():
    trial = make_trial()
    trial.started(after(1))
    assert trial == make_trial()
    with pytest.raises(FrozenInstanceError):
        trial.rung = 1


def test_only_the_loss_of_a_worker_is_worth_another_attempt():
    assert [kind for kind in FailureKind if kind.is_retryable] == [
        FailureKind.WORKER_LOST,
        FailureKind.UNFIT_NODE,
    ]
