"""How much there is in a store: what an operator watches, as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from nas.search import SearchState
from nas.trial import TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Over all searches that are stored."""

    searches: Mapping[SearchState, int]
    """How many there are in each state; states without any are left out."""
    trials: Mapping[TrialState, int]
    """Of every role."""
    trained_tokens: int
    """That trials came to, the latest point of each; what a lost worker repeats counts once."""
    training_gigaflops: int = 0
    """That training on them took, in 10^9 floating-point operations of the students; a teacher's are not counted."""
