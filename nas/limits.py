"""How far a search may go: whether one more trial may be proposed, and what that comes to in all. Pure decisions.

Trials and tokens limit together, whichever is reached first. They follow from stored trials and points, so that whoever
takes a search over decides the same.
"""

from collections.abc import Sequence

from nas.confidence import Losses
from nas.orders import Orders
from nas.rungs import Schedule, assumed_share, num_advancing
from nas.search import SearchSpec
from nas.trial import Trial


def admit_another(
    spec: SearchSpec,
    orders: Orders,
    searched: Sequence[Trial],
    losses: Losses,
    schedule: Schedule,
    *,
    num_feasible: int,
) -> bool:
    """Return whether one more trial may be proposed.

    Tokens admit it if it can be trained to the first rung, after every trial under way has come to the rung that it
    trains towards. So proposals never exceed ``max_tokens``: what does are trials that advance after the last of them,
    and architectures that people enqueue.

    Args:
        spec: As it was asked.
        orders: The limits that were ordered since.
        searched: The SEARCH trials.
        losses: Of all trials.
        schedule: See ``nas.rungs.schedule``.
        num_feasible: Architectures in the space.
    """
    num_trials, max_tokens = orders.num_trials or spec.num_trials, orders.max_tokens or spec.max_tokens
    if len(searched) >= min(num_trials, num_feasible):
        return False
    if max_tokens is None:
        return True
    # A trial that is compared before it is trained takes nothing until then; at the limit there is none all the same.
    least = max(1, schedule.rungs[0])
    return committed_tokens(searched, losses, schedule) + least <= max_tokens


def trained_tokens(searched: Sequence[Trial], losses: Losses) -> int:
    """Return how many tokens trials were trained on, each as of its last evaluation; reused ones on none."""
    return sum(_trained(trial, losses) for trial in searched)


def committed_tokens(searched: Sequence[Trial], losses: Losses, schedule: Schedule) -> int:
    """Return what ``trained_tokens`` will be once each trial under way is at the rung that it trains towards."""
    return sum(
        _trained(trial, losses)
        if trial.state.is_final
        else max(_trained(trial, losses), schedule.rungs[trial.rung])
        for trial in searched
    )


def _trained(trial: Trial, losses: Losses) -> int:
    return 0 if trial.reused_from else max(losses.get(trial.number) or (0,))


def expected_trials(spec: SearchSpec, schedule: Schedule, num_feasible: int) -> int:
    """Return about how many trials a search will have, baselines aside."""
    most = min(spec.num_trials, num_feasible)
    max_tokens = spec.max_tokens
    if max_tokens is None or _halving_tokens(spec, schedule, most) <= max_tokens:
        return most
    fewest = 1  # that fit; of ``most`` it is known that they do not
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fits = _halving_tokens(spec, schedule, middle) <= max_tokens
        fewest, most = (middle, most) if fits else (fewest, middle)
    return fewest


def expected_tokens(spec: SearchSpec, schedule: Schedule, num_feasible: int, *, saved: int = 0) -> int:
    """Return about how many tokens a search trains on, baselines included; ``saved`` were measured before."""
    num_baselines = spec.comparisons.random_architectures + spec.comparisons.random_indices
    searched = max(0, _halving_tokens(spec, schedule, min(spec.num_trials, num_feasible)) - saved)
    if spec.max_tokens is not None:
        searched = min(searched, spec.max_tokens)
    return num_baselines * schedule.num_tokens + searched


def _halving_tokens(spec: SearchSpec, schedule: Schedule, num_trials: int) -> int:
    total = 0
    for before, num_tokens in zip((0, *schedule.rungs), schedule.rungs, strict=False):
        total += num_trials * (num_tokens - before)
        num_trials = max(1, num_advancing(num_trials, assumed_share(spec.rungs)))
    return total
