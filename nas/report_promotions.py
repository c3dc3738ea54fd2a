"""What promotion found: the students that were retrained for longer, which of them tie, who wins and what it took.

Pure functions of what is stored; page, REST, report and command line tell of the same values.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import stdev

from nas import wording
from nas.choice import Rival
from nas.promoting import missing_promotions, settled
from nas.rungs import schedule
from nas.search import Search
from nas.standing import TrialRecord
from nas.trial import Trial, TrialRole, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotedStudent:
    """One promotion; losses in nats per held-out token, None until measured."""

    trial_number: int
    promoted_from: int
    architecture: str
    """Its name."""
    num_parameters: int
    """As the budget counts them."""
    state: TrialState
    num_tokens: int
    """That it was retrained for so far."""
    of_tokens: int
    """That it is retrained for in all."""
    loss_before: float | None
    """Of the student that the retraining began from."""
    loss: float | None
    """At the last evaluation."""
    shard_error: float | None
    """The standard error of the mean over the shards of the held-out tokens."""
    num_shards: int
    """That the finished student was measured on."""
    difference: float | None
    """The mean over the shards of its loss minus the lowest's; None where not all is measured yet."""
    difference_error: float | None
    """Of that mean, which is far smaller than that of the loss: a shard is easy or hard for both."""
    is_tied: bool
    """Whether the difference from the lowest is noise."""
    is_winner: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotions:
    """All promotions of a search."""

    students: tuple[PromotedStudent, ...]
    """Those that have completed, the lowest loss first, then the others by number."""
    num_to_come: int
    """That are wanted and not begun."""
    num_tokens: int
    """That all were trained on."""
    counted: str
    """What decides among those that tie, in words."""
    unpromoted: int | None
    """The search's own best trial, where it wins as it is, its loss being lower than theirs."""

    @property
    def is_settled(self) -> bool:
        """Whether all are over."""
        return not self.num_to_come and all(student.state.is_final for student in self.students)


def promotions(search: Search, records: Sequence[TrialRecord]) -> Promotions | None:
    """Return what promotion found of a search so far; None where it promotes nothing."""
    own = [record for record in records if record.trial.role is TrialRole.PROMOTION]
    trials = [record.trial for record in records]
    to_come = 0 if search.state.is_final else len(missing_promotions(search, trials))
    if not own and not to_come:
        return None
    # The same as is stored at the end, and told on the way there.
    choice = search.choice if search.state.is_final else settled(search.measured_spec, trials)[1]
    rivals = {rival.trial_number: rival for rival in choice.rivals} if choice else {}
    order = {number: place for place, number in enumerate(rivals)}
    students = [
        _student(search, record, rivals.get(record.trial.number), choice.winner if choice else None)
        for record in sorted(
            own, key=lambda each: (order.get(each.trial.number, len(order)), each.trial.number)
        )
    ]
    return Promotions(
        students=tuple(students),
        num_to_come=to_come,
        num_tokens=sum(student.num_tokens for student in students),
        counted=choice.counted if choice else "parameters",
        unpromoted=choice.unpromoted if choice else None,
    )


def standing_words(found: Promotions, student: PromotedStudent) -> str:
    """Return in a word what a student has come to."""
    if student.difference is None:
        return student.state.lower()
    if student.is_winner:
        return "wins" if found.is_settled else "leads"
    return "ties" if student.is_tied else "behind"


def promotion_words(found: Promotions) -> Iterator[str]:
    """Yield what promotion found, in sentences."""
    done = [student for student in found.students if student.difference is not None]
    tied = [student for student in done if student.is_tied]
    winner = next((student for student in done if student.is_winner), None)
    if winner is not None:
        gained = "" if winner.loss_before is None else f" instead of {wording.loss(winner.loss_before)}"
        yield (
            f"Trial {winner.trial_number} is the student of trial {winner.promoted_from}, retrained for "
            f"{wording.count(winner.num_tokens)} tokens more: it loses {wording.loss(winner.loss)}{gained}."
        )
    if len(tied) > 1 and winner is not None:
        names = ", ".join(str(student.trial_number) for student in tied)
        yield (
            f"The promoted students {names} tie: between them the losses on {winner.num_shards} shards of held-out text "
            f"differ by no more than noise, so the one with the least {found.counted} wins."
        )
    if found.unpromoted is not None:
        yield f"Trial {found.unpromoted} wins all the same: none of the promoted students loses less."
    vain = sum(student.state in {TrialState.FAILED, TrialState.CANCELLED} for student in found.students)
    open_ = sum(not student.state.is_final for student in found.students) + found.num_to_come
    parts = [(len(done), "done"), (open_, "to come or under way"), (vain, "in vain")]
    told = ", ".join(f"{number} {words}" for number, words in parts if number)
    yield f"Promotions: {told or 'measured, not compared yet'}; {wording.count(found.num_tokens)} tokens so far."


def _student(search: Search, record: TrialRecord, rival: Rival | None, winner: int | None) -> PromotedStudent:
    trial, measured = record.trial, record.trial.measurement
    assert trial.promoted_from is not None
    assert trial.promotion is not None
    shards = measured.shard_losses if measured else ()
    first, last = (record.points[0], record.points[-1]) if record.points else (None, None)
    return PromotedStudent(
        trial_number=trial.number,
        promoted_from=trial.promoted_from,
        architecture=trial.architecture.name,
        num_parameters=search.spec.budget.count(trial.architecture),
        state=trial.state,
        num_tokens=last.num_tokens if last else 0,
        of_tokens=schedule(search.spec.promoted_by(trial.promotion)).num_tokens,
        loss_before=measured.loss_before_retraining if measured else first.loss if first else None,
        loss=measured.loss if measured else last.loss if last else None,
        shard_error=stdev(shards) / math.sqrt(len(shards)) if len(shards) > 1 else None,
        num_shards=len(shards),
        difference=rival.difference if rival else None,
        difference_error=rival.standard_error if rival else None,
        is_tied=rival is not None and rival.is_tied,
        is_winner=trial.number == winner,
    )


def may_be_promoted(trial: Trial) -> bool:
    """Return whether a trial's student can be retrained for longer, as far as the trial decides that."""
    return trial.state is TrialState.COMPLETED and trial.role is not TrialRole.RANDOM_INDICES
