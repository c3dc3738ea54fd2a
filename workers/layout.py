"""Where things of one search lie below the artifact root; what searches share is laid out in artifacts."""

from pathlib import Path

from nas.trial import Trial


def states_directory(root: Path, trial: Trial) -> Path:
    """Return where a trial's resumable states lie, each named by its tokens."""
    return _trial_directory(root, trial) / "states"


def student_directory(root: Path, trial: Trial) -> Path:
    """Return where the checkpoint of a completed trial lies."""
    return _trial_directory(root, trial) / "student"


def winner_directory(root: Path, search_id: str) -> Path:
    """Return where the winner is exported to."""
    return root / "searches" / search_id / "winner"


def _trial_directory(root: Path, trial: Trial) -> Path:
    return root / "searches" / trial.search_id / "trials" / str(trial.number)
