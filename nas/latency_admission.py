"""What can be told of a budget of latency before a search starts, which times its blocks where nobody has."""

from dataclasses import replace
from pathlib import Path

from minitron.families import num_positions
from minitron.parents import read_config
from nas.budget import LatencyBudget
from nas.errors import EmptySpace, InvalidSpec
from nas.latency_anchors import anchors_of
from nas.latency_file import measured_before
from nas.search import SearchSpec
from nas.space import SearchSpace, search_space
from nas.wording import machine


def timed_space(spec: SearchSpec, artifact_root: Path) -> tuple[SearchSpace, list[str]]:
    """Return the space of a spec by all that is known by now, and in words what is not known.

    Raises:
        InvalidSpec: A context that the parent has no positions for, blocks that no table could hold, or a table that
            the spec brings and that does not reach its space.
        EmptySpace: Nothing is feasible; says on what was measured, where that rules it out.
    """
    asked = spec.budget.latency
    if asked is None:
        return search_space(spec), []
    _require_positions(spec, asked)
    anchors = anchors_of(spec)
    if anchors is not None and asked.table is not None and (lacking := anchors.lacking(asked.table)):
        reason = f"found none of {lacking}, allowed: one that reaches all sizes of the axes"
        raise InvalidSpec((("budget.latency.table", reason),))
    known = measured_before(spec, artifact_root)
    space = search_space(spec)
    if known is None:
        told = "budget.latency: blocks are timed when the search starts"
        if asked.most_nanoseconds is not None:
            told += f"; {len(space):,} architectures are feasible without it"
        return space, [] if asked.table is not None else [told]
    try:
        return search_space(replace(spec, budget=spec.budget.measured(known))), []
    except EmptySpace as error:
        raise EmptySpace(
            tuple(
                (field, f"{reason}; measured on {machine(known.machine)}") for field, reason in error.problems
            )
        ) from None


def _require_positions(spec: SearchSpec, asked: LatencyBudget) -> None:
    most = num_positions(read_config(spec.parent) if spec.parent_config is None else spec.parent_config)
    room = None if most is None else most - (asked.phase == "decode")
    if room is not None and asked.context > room:
        reason = f"found {asked.context}, allowed by max_position_embeddings of {spec.parent} to {asked.phase}: at most {room}"
        raise InvalidSpec((("budget.latency.context", reason),))
