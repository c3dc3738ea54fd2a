"""What searches of a real model came to, for people. Pure functions."""

from collections.abc import Sequence

import numpy as np

from tests.search_bench.methods import DEFAULT, RULE, RULE_IN_ORDER
from tests.search_bench.record import Head, Outcome


def real_section(head: Head, outcomes: Sequence[Outcome]) -> str:
    """Return the section of them."""
    return "\n".join(
        [
            f"## For real: {head.parent}",
            "",
            (
                f"{head.parent} ({head.parent_parameters / 1e6:.1f} M parameters) to at most "
                f"{head.max_parameters / 1e6:.0f} M, every axis `auto`: {head.num_feasible} architectures fit. A whole "
                f"light retraining is {head.tokens_each:,} tokens. Each method chooses on {head.chosen_on:,} held-out tokens, "
                f"and what it chose is judged on {head.judged_on:,} (parent {head.parent_loss:.4f}). The rule ends with one student "
                "retrained; *all in its order* retrains the next best of its ten for the default's tokens, as far as they go. *Found after* is how "
                "many tokens had been trained, by all trials, when the choice had been retrained to the end: with fewer a method has "
                "not come to it, with more it has chosen nothing else. *Next two* is "
                "how far the second and third best of those that were retrained to the end are above the choice. Two cores, two "
                "trials at a time; minutes are from the start of a method's searches to their ends, preparations included where they "
                "were not there yet. `make search-real` runs all of it."
            ),
            "",
            "| seed | method | looked at | retrained | tokens | found after | minutes | chosen | parameters | loss, chosen by | next two | loss, judged |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
            *(_row(of, head.tokens_each) for of in outcomes),
            "",
            *(_verdict(outcomes, rule) for rule in (RULE, RULE_IN_ORDER)),
            "",
        ]
    )


def _row(of: Outcome, tokens_each: int) -> str:
    at_the_end = sorted(
        losses[str(tokens_each)] for losses in of.losses.values() if str(tokens_each) in losses
    )
    above = ", ".join(f"{loss - at_the_end[0]:+.4f}" for loss in at_the_end[1:3]) or "none"
    return (
        f"| {of.seed} | {of.method} | {of.num_looked_at} | {of.num_trained} | {of.num_tokens:,} | {of.found_after:,} | {of.seconds / 60:.0f} "
        f"| {of.architecture} | {of.num_parameters:,} | {of.loss:.4f} | {above} | {of.judged_loss:.4f} |"
    )


def _verdict(outcomes: Sequence[Outcome], rule: str) -> str:
    """Return how far the default's choices are below another method's, seed by seed."""
    judged = {(of.method, of.seed): of.judged_loss for of in outcomes}
    seeds = sorted({of.seed for of in outcomes})
    below = [judged[rule, seed] - judged[DEFAULT, seed] for seed in seeds]
    told = ", ".join(f"{difference:+.4f}" for difference in below)
    return (
        f"The default's choice is below that of *{rule}* by {told} nats ({np.mean(below):+.4f} in the mean)."
    )
