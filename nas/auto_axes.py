"""What ``auto`` means on an axis: sizes that are legal first, then friendly to hardware, told from the parent alone.

What it means for a parent never changes: stored searches say ``auto`` and must keep their spaces.
"""

from dataclasses import replace
from math import ceil, gcd, lcm

from minitron.architecture import Architecture
from minitron.families import family_named
from nas.axes import AXIS_NAMES, Auto, Axes, AxisChoices, AxisName, Range, SpeltOut

STEPS = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""What tiles of matrix units and parts of tensor parallelism divide, the widest first."""
LEAST_STEPS = 16
"""That the parent's size is at least, so that no step cuts more than a sixteenth, where what is legal allows."""
DEEP = 48
"""Layers; above, depth falls by two."""


def resolved(axes: Axes, parent: Architecture) -> Axes:
    """Return axes whose automatic choices are spelt out."""
    chosen = {name: _choices(name, axes, parent) for name in AXIS_NAMES if is_auto(getattr(axes, name))}
    return replace(axes, **chosen) if chosen else axes


def is_auto(choices: AxisChoices | None) -> bool:
    """Return whether choices are derived from the parent."""
    return choices == "auto" or isinstance(choices, Auto)


def _choices(name: AxisName, axes: Axes, parent: Architecture) -> SpeltOut:
    asked = getattr(axes, name)
    share = Auto().auto_from if asked == "auto" else asked.auto_from
    match name:
        case "num_layers":
            return _down(parent.num_layers, share, 1 if parent.num_layers <= DEEP else 2)
        case "hidden_size":
            return _stepped(parent.hidden_size, share, unit=_hidden_unit(parent))
        case "intermediate_size":
            return _stepped(parent.intermediate_size, share, unit=1)
        case "num_attention_heads":
            return _stepped(parent.num_attention_heads, share, unit=_heads_unit(axes, parent))
        case "num_key_value_heads":
            groups = parent.num_key_value_heads
            return tuple(
                kept for kept in range(1, groups + 1) if groups % kept == 0 and kept >= share * groups
            )


def _hidden_unit(parent: Architecture) -> int:
    """Return what divides every hidden size that is legal with the parent's heads."""
    if parent.traits.heads_span_hidden:
        return parent.head_dim
    return parent.num_attention_heads if family_named(parent.family).heads_divide_hidden else 1


def _heads_unit(axes: Axes, parent: Architecture) -> int:
    """Return how many query heads come and go together: one of each KV group."""
    groups = parent.num_key_value_heads
    if family_named(parent.family).pairs_heads:
        return 1
    if groups < parent.num_attention_heads or axes.num_key_value_heads is None:
        return groups
    # With a KV head for each query head, query heads go where KV heads do.
    return gcd(
        groups,
        *resolved(replace(axes, num_attention_heads=None), parent).sizes(
            "num_key_value_heads", parent, hidden_size=0
        ),
    )


def _stepped(whole: int, share: float, *, unit: int) -> Range:
    """Return sizes down from the parent's, in the widest step that divides it often enough, else in units."""
    steps = (lcm(unit, step) for step in STEPS)
    friendly = (step for step in steps if whole % step == 0 and whole // step >= LEAST_STEPS)
    return _down(whole, share, next(friendly, unit))


def _down(whole: int, share: float, step: int) -> Range:
    least = ceil(share * whole)
    return Range(start=whole - (whole - least) // step * step, stop=whole, step=step)
