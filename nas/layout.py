"""Where things lie below the artifact root. Knows no file and reads none.

``searches/ID`` belongs to one search; every other folder is shared by searches, each entry named by a hash of
what it was made from.
"""

from pathlib import Path

from nas.trial import Trial

SHARED = ("parents", "blocks", "scores", "corrections", "teachers", "losses", "evaluations", "latencies")
"""Made once and found again; made or fetched anew when they are gone, if what they came from is still there."""
USES = "uses.json"
STUDENT = "student"


def search_directory(root: Path, search_id: str) -> Path:
    """Return where everything that belongs to one search lies."""
    return root / "searches" / search_id


def uses_file(root: Path, search_id: str) -> Path:
    """Return where it stands which shared artifacts a search uses that has not ended."""
    return search_directory(root, search_id) / USES


def latencies_directory(root: Path) -> Path:
    """Return where it stands how long blocks take: a file for each parent, setting and machine."""
    return root / "latencies"


def probes(root: Path) -> Path:
    """Return where the nodes of clusters show that they see the root."""
    return root / ".nodes"


def states_directory(root: Path, trial: Trial) -> Path:
    """Return where a trial's resumable states lie, each named by its tokens."""
    return trial_directory(root, trial.search_id, trial.number) / "states"


def student_directory(root: Path, trial: Trial) -> Path:
    """Return where the checkpoint of a completed trial lies."""
    return trial_directory(root, trial.search_id, trial.number) / STUDENT


def source_directory(root: Path, promotion: Trial) -> Path:
    """Return where the student of the trial that is promoted lies."""
    assert promotion.promoted_from is not None, f"trial {promotion.number}: {promotion.role}"
    return trial_directory(root, promotion.search_id, promotion.promoted_from) / STUDENT


def student_of(root: Path, trial: Trial) -> Path:
    """Return where the student of a completed trial is read: of a reused one, where it has been brought to."""
    assert trial.checkpoint is not None, f"trial {trial.number}: {trial.state}"
    return student_directory(root, trial) if trial.reused_from else root / trial.checkpoint


def attempt_log(root: Path, search_id: str, trial_number: int, number: int) -> Path:
    """Return where the log of one attempt of a trial lies."""
    return trial_directory(root, search_id, trial_number) / "attempts" / f"{number}.log"


def winner_directory(root: Path, search_id: str, promotion: int | None = None) -> Path:
    """Return where the winner is exported to; where a ``promotion`` won, to a place of that trial's.

    So that whoever won before stays where it is found until the search says that another has.
    """
    name = "winner" if promotion is None else f"winner-{promotion}"
    return search_directory(root, search_id) / name


def winner_directories(root: Path, search_id: str) -> list[Path]:
    """Return where winners of a search lie: the present one, and those that it has succeeded."""
    directory = search_directory(root, search_id)
    return sorted([*directory.glob("winner"), *directory.glob("winner-*")])


def trial_directory(root: Path, search_id: str, number: int) -> Path:
    """Return where a trial's states and student lie."""
    return search_directory(root, search_id) / "trials" / str(number)
