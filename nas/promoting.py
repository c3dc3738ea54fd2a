"""Which promotions of a search are still to be run, and which trial wins once they are. Pure functions."""

from collections.abc import Sequence

from nas.choice import Choice, chosen, promoted_students
from nas.frontier import best_trial, ranked_trials
from nas.latency_costs import latency_of
from nas.promotion import Promoted, Promotion
from nas.search import Search, SearchSpec, SearchState
from nas.trial import Trial, TrialRole


def planned_promotions(search: Search) -> list[Promotion]:
    """Return how each promotion that a search will have had at its end is run, as far as can be told before its trials are
    done: one that is ordered and comes of itself counts twice.
    """
    spec, promotion = search.spec_by_now, search.spec.promotion
    ordered = [each.promotion for each in search.orders.promoted]
    if promotion is None or search.ended_as is SearchState.CANCELLED:
        return ordered
    return [promotion] * min(promotion.top_k, spec.num_trials, search.num_feasible) + ordered


def wanted_promotions(search: Search, trials: Sequence[Trial]) -> list[Promoted]:
    """Return the promotions that a search is to have once its trials are done: those of the spec, then those ordered.

    Of a search that had ended before, only those ordered: its spec was obeyed.
    """
    promotion = search.spec.promotion
    asked = []
    if promotion is not None and search.ended_as is None:
        best = ranked_trials(trials)[: promotion.top_k]
        asked = [Promoted(trial_number=trial.number, promotion=promotion) for trial in best]
    return [*asked, *search.orders.promoted]


def missing_promotions(search: Search, trials: Sequence[Trial]) -> list[Promoted]:
    """Return those that no trial stands for yet, each once."""
    made: dict[tuple[int | None, Promotion | None], int] = {
        (trial.promoted_from, trial.promotion): trial.number
        for trial in trials
        if trial.role is TrialRole.PROMOTION
    }
    missing: dict[tuple[int, Promotion], Promoted] = {}
    for each in wanted_promotions(search, trials):
        key = each.trial_number, each.promotion
        last = made.get(key)
        if last is None or last == each.repeats:
            missing[key] = each
    return list(missing.values())


def left_to_promote(search: Search, trials: Sequence[Trial]) -> list[Promotion]:
    """Return by which recipes something is to be promoted yet, begun or not, each once."""
    begun = [trial.promotion for trial in trials if trial.promotion and not trial.state.is_final]
    return list(dict.fromkeys([*begun, *(each.promotion for each in missing_promotions(search, trials))]))


def sources(search: Search, trials: Sequence[Trial], promotion: Promotion) -> list[Trial]:
    """Return the trials whose students the promotions by one recipe go on from, of those that are not over."""
    if promotion.start == "pruned":
        return []
    begun = {each.promoted_from for each in trials if each.promotion == promotion and not each.state.is_final}
    wanted = {each.trial_number for each in missing_promotions(search, trials) if each.promotion == promotion}
    return [trial for trial in trials if trial.number in begun | wanted]


def settled(spec: SearchSpec, trials: Sequence[Trial]) -> tuple[Trial | None, Choice | None]:
    """Return the trial that wins a search, and the choice among its promoted students where there are any.

    Ties go to the lowest cost: that of the objective; without one the measured latency, where the budget bounds it;
    without either the parameters.
    """
    best, objective, latency = best_trial(trials), spec.weighed, spec.budget.latency
    if objective:
        choice = chosen(trials, best=best, cost=objective.of, counted=objective.words)
    elif latency and latency.table:
        table, counted = latency.table, f"nanoseconds to {latency.phase}"
        choice = chosen(trials, best=best, cost=lambda each: latency_of(table, each), counted=counted)
    else:
        choice = chosen(trials, best=best)
    if choice is None:
        return best, None
    return next(trial for trial in trials if trial.number == choice.winner), choice


def lineage(winner: Trial, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials whose students one was made from, the first first and itself last."""
    by_number = {trial.number: trial for trial in trials}
    line = [winner]
    while (source := line[0].promoted_from) is not None:
        line.insert(0, by_number[source])
    return line


def tokens_behind(line: Sequence[Trial]) -> int:
    """Return the tokens of retraining that made the student at the end of a lineage, of trials that were measured."""
    total = 0
    for trial in line:
        assert trial.measurement is not None, f"trial {trial.number}: {trial.state}"
        before = 0 if trial.promotion and trial.promotion.start == "pruned" else total
        total = before + trial.measurement.num_tokens
    return total


def finalists(spec: SearchSpec, trials: Sequence[Trial]) -> list[Trial]:
    """Return the students to put to tasks, the winner first; none where a search has no evaluation.

    Where students were promoted, these are asked, and no others but a winner that was not.
    """
    winner, choice = settled(spec, trials)
    if spec.evaluation is None or winner is None:
        return []
    others = [trial for trial, _ in promoted_students(trials)] if choice else ranked_trials(trials)
    ranked = [winner, *(trial for trial in others if trial != winner)]
    return ranked[: spec.evaluation.finalists]
