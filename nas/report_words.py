"""What a report says in sentences: the verdict, how each figure is read, what it shows. Pure."""

from collections.abc import Iterable, Iterator

from nas import wording
from nas.frontier import Comparison
from nas.report_promotions import Promotions, promotion_words
from nas.report_spending import Spending, SpentOn
from nas.report_zones import Sizes, Zone
from nas.search import SearchState
from nas.standing import SearchView

SPENT_ON = {
    SpentOn.COMPLETED: "trained to the end",
    SpentOn.STOPPED: "stopped at a rung",
    SpentOn.FAILED: "failed",
    SpentOn.CANCELLED: "ended by people",
    SpentOn.UNDER_WAY: "under way",
    SpentOn.BASELINES: "baselines",
    SpentOn.PROMOTIONS: "promotions",
}
TIE = 1e-4
"""Nats per token: less is no difference in the digits that are shown."""


def verdict(
    view: SearchView, comparison: Comparison | None, spent: Spending, promoted: Promotions | None = None
) -> tuple[str, ...]:
    """Return the best student against budget, parent and baselines, and what it cost to find it, in sentences."""
    told = tuple(_verdict(view, comparison, spent))
    return told if promoted is None else (*told[:-1], *promotion_words(promoted), told[-1])


def sizes_words(sizes: Sizes) -> str:
    """Return sizes on an axis: layers 4, hidden size 96 to 104."""
    span = f"{sizes.least:,}" if sizes.least == sizes.most else f"{sizes.least:,} to {sizes.most:,}"
    return f"{wording.AXES[sizes.axis]} {span}"


def zone_words(zone: Zone) -> str:
    """Return which architectures are in a zone."""
    return " and ".join(map(sizes_words, zone.sizes))


def listed(words: Iterable[object]) -> str:
    """Return words with commas, and an ``and`` before the last."""
    *others, last = map(str, words)
    return f"{', '.join(others)} and {last}" if others else last


def trials_words(number: int) -> str:
    """Return a number of trials."""
    return "1 trial" if number == 1 else f"{number:,} trials"


def against(loss: float, other: float) -> str:
    """Return how a loss compares with another one."""
    if abs(loss - other) < TIE:
        return "as much as"
    return f"{abs(loss - other):.4f} {'more' if loss > other else 'less'} than"


def cost_words(spent: Spending, num_feasible: int) -> str:
    """Return what a search trained on beside what training every architecture takes."""
    every = f"training each of the {num_feasible:,} architectures that fit"
    takes = wording.count(spent.exhaustive_tokens)
    done = f"The search trained on {wording.count(spent.num_tokens)} tokens"
    if spent.saved_tokens < 0:
        return f"{done}, more than {every} once ({takes}): baselines cost more than was left out."
    return f"{done}, {spent.num_tokens / spent.exhaustive_tokens:.1%} of what {every} would take ({takes})."


def _verdict(view: SearchView, comparison: Comparison | None, spent: Spending) -> Iterator[str]:
    search, best = view.search, view.best
    if best is None or view.best_loss is None:
        yield f"{_standing(search.state)}No trial has been trained to the end{_so_far(search.state)}."
        return
    budget = search.spec.budget
    parameters, room = budget.count(best.architecture), budget.max_parameters
    called = "The winner is" if search.winner else f"{_standing(search.state)}The best so far is"
    below = "within" if room is None else "exactly"
    if room is not None and parameters != room:
        below = f"{(room - parameters) / room:.1%} below"
    share = best.architecture.parameter_count / search.parent_parameters
    yield (
        f"{called} trial {best.number}, {best.architecture.name}, with {wording.count(parameters)} parameters: "
        f"{below} what the budget allows ({wording.budget(budget)}), and {share:.0%} of the parent's size."
    )
    yield _losses(view, view.best_loss)
    before = view.before_promotion
    if before is not None and before.measurement is not None:
        yield (
            f"The best before promotion is trial {before.number}, {before.architecture.name}: it loses "
            f"{before.measurement.loss:.4f} after {wording.count(before.measurement.num_tokens)} tokens, as many as the "
            "trials that it is compared with."
        )
    if comparison is not None:
        drawn, copies = comparison.random_architectures, comparison.random_indices
        yield from _beside("architecture", "drawn evenly from the space", drawn, comparison.winner_loss)
        yield from _beside("copy", "of it from randomly kept parts", copies, comparison.winner_loss)
    yield cost_words(spent, search.num_feasible)


def _losses(view: SearchView, loss: float) -> str:
    told = f"After retraining on {wording.count(view.best_tokens or 0)} tokens it loses {loss:.4f} nats per held-out token"
    if view.search.parent_loss is not None:
        told += f", {against(loss, view.search.parent_loss)} the parent ({view.search.parent_loss:.4f})"
    if view.gap_closed is not None:
        told += f"; retraining won back {view.gap_closed:.0%} of what pruning had cost"
    return f"{told}."


def _beside(what: str, how: str, losses: tuple[float, ...], loss: float) -> Iterator[str]:
    """Yield how the best compares with baselines of one kind, if there are any."""
    if not losses:
        return
    if len(losses) == 1:
        yield f"It loses {against(loss, losses[0])} one {what} {how} ({losses[0]:.4f})."
        return
    beaten = sum(loss < other - TIE for other in losses)
    many = f"{what.removesuffix('y')}ies" if what.endswith("y") else f"{what}s"
    mean = sum(losses) / len(losses)
    yield (
        f"It is better than {beaten} of {len(losses)} {many} {how}, which lose {mean:.4f} on average "
        f"and {min(losses):.4f} at best."
    )


def _standing(state: SearchState) -> str:
    if state is SearchState.FAILED:
        return "The search failed before its end. "
    if state is SearchState.CANCELLED:
        return "The search was cancelled before its end. "
    return "" if state is SearchState.SUCCEEDED else "The search has not ended yet. "


def _so_far(state: SearchState) -> str:
    return "" if state.is_final else " so far"
