"""Why a search or a trial waits, for people and for programs. Pure functions of what is stored; knows no store, no Ray.

What hinders a runner from outside it says itself, as the stage of its progress: ``stage_of`` puts it in words that
``hindrance_in`` finds again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nas.confidence import Losses
from nas.ranking import Ranking, by_loss
from nas.rungs import Schedule, num_advancing
from nas.search import Search, SearchState
from nas.trial import Trial, TrialRole, TrialState


class WaitingKind(StrEnum):
    """What has to change before it goes on."""

    PAUSED = "paused"
    """People: until they resume it."""
    QUEUE = "queue"
    """Searches before it have to end."""
    NO_WORKERS = "no_workers"
    """A process that runs searches has to be started: here is none."""
    RUNNER = "runner"
    """The process that ran it is gone: another has to take it up again."""
    HUB = "hub"
    """The Hugging Face hub does not answer."""
    RESOURCES = "resources"
    """Others use the memory or the devices that it asks for."""
    IMPOSSIBLE = "impossible"
    """No node that is there could ever give what it asks for."""
    RUNG = "rung"
    """Further trials have to reach the rung at which this one is compared."""
    PLACE = "place"
    """A trial has advanced; as many as may run at once do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why something waits."""

    kind: WaitingKind
    text: str
    """One line for people."""
    position: int | None = None
    """Place in the queue, or rank among those measured at the rung; 1 is next, or best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the process that is asked does about searches."""

    max_searches: int | None = None
    """How many it runs at a time; None: not known."""
    notice: str | None = None
    """Why it runs none; None: it does."""


NO_CAPACITY = Capacity()
"""Of a process that does not know."""

_STAGES: Mapping[WaitingKind, str] = {
    WaitingKind.HUB: "waiting for the hub: ",
    WaitingKind.RESOURCES: "waiting for room: ",
    WaitingKind.IMPOSSIBLE: "waiting in vain: ",
}


def stage_of(kind: WaitingKind, text: str) -> str:
    """Return the stage of a progress that says what hinders."""
    return f"{_STAGES[kind]}{' '.join(text.split())}"


def hindrance_in(stage: str) -> Waiting | None:
    """Return what a stage says of a hindrance; None where it tells of work."""
    for kind, words in _STAGES.items():
        if stage.startswith(words):
            return Waiting(kind=kind, text=stage.removeprefix(words))
    return None


UNDER_WAY = frozenset({SearchState.PREPARING, SearchState.RUNNING, SearchState.COMPLETING})
"""States in which somebody runs a search, unless its runner is gone."""


def search_waits(
    search: Search, queue: Sequence[str], capacity: Capacity, *, is_held: bool
) -> Waiting | None:
    """Return why a search waits; None where it does not.

    Args:
        search: As stored.
        queue: Ids of the queued searches, the next first; it may end before this one.
        capacity: Of the process that is asked.
        is_held: Whether somebody runs it.
    """
    if search.state is SearchState.PAUSED:
        return Waiting(
            kind=WaitingKind.PAUSED, text=f"paused, until somebody resumes it: nas resume {search.id}"
        )
    if search.state is SearchState.QUEUED:
        return _queued(search, queue, capacity)
    hindrance = hindrance_in(search.progress.stage) if search.progress else None
    if hindrance or is_held or search.state not in UNDER_WAY:
        return hindrance
    if capacity.notice:
        return Waiting(kind=WaitingKind.NO_WORKERS, text=capacity.notice)
    text = f"its runner is gone; it is taken up again as soon as there is room{_limit(capacity)}"
    return Waiting(kind=WaitingKind.RUNNER, text=text)


def _limit(capacity: Capacity) -> str:
    most = capacity.max_searches
    return f"; {most} run{'s' if most == 1 else ''} at a time here (NAS_MAX_SEARCHES)" if most else ""


def _queued(search: Search, queue: Sequence[str], capacity: Capacity) -> Waiting:
    position = queue.index(search.id) + 1 if search.id in queue else None
    if capacity.notice:
        return Waiting(kind=WaitingKind.NO_WORKERS, text=capacity.notice, position=position)
    if position is None:
        place = f"behind {len(queue)} others or more" if queue else "about to be taken up"
    elif position == 1:
        place = "next in the queue"
    else:
        place = f"behind {position - 1} other{'s' if position > 2 else ''} in the queue"
    return Waiting(kind=WaitingKind.QUEUE, text=f"{place}{_limit(capacity)}", position=position)


def trial_waits(
    trial: Trial,
    trials: Sequence[Trial],
    losses: Losses,
    plan: Schedule,
    keeps: Sequence[float],
    *,
    ranking: Ranking = by_loss,
) -> Waiting | None:
    """Return why a trial waits; None where it does not.

    Args:
        trial: One of ``trials``.
        trials: All of its search.
        losses: All held-out losses of its search.
        plan: Where trials are compared.
        keeps: The share of trials that advances from each rung; see ``nas.rungs.shares``.
        ranking: Who is better than whom there.
    """
    if trial.state is not TrialState.WAITING:
        return None
    num_tokens = plan.rungs[trial.rung]
    at_rung = {
        each.number: losses[each.number][num_tokens]
        for each in trials
        if each.role is TrialRole.SEARCH and num_tokens in losses.get(each.number, {})
    }
    if trial.number not in at_rung:
        return Waiting(kind=WaitingKind.PLACE, text="has advanced, and goes on as soon as a worker is free")
    ranked = ranking(at_rung)
    position, best = ranked.index(trial.number) + 1, num_advancing(len(ranked), keeps[trial.rung])
    advance = (
        f"the best {best} advance" if best > 1 else "the best one advances" if best else "none advances yet"
    )
    return Waiting(
        kind=WaitingKind.RUNG,
        text=f"rank {position} of {len(ranked)} measured at {num_tokens:,} tokens, of which {advance}; it is decided "
        "once enough trials have come so far",
        position=position,
    )
