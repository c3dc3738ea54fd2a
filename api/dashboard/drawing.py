"""An architecture drawn against its parent, as HTML: what was kept on each axis, and which layers.

Pure functions of two shapes; only numbers come into the text.
"""

from collections.abc import Collection, Sequence

from minitron.architecture import Architecture
from nas import wording
from nas.axes import AXIS_NAMES

UNKNOWN = "which ones is not recorded"


def drawing(parent: Architecture, student: Architecture, kept_layers: Sequence[int] | None) -> str:
    """Return the drawing; ``kept_layers`` None draws how many layers were kept, not which."""
    rows = [_layers(parent.num_layers, student.num_layers, kept_layers)]
    for name in AXIS_NAMES[1:]:
        whole, kept = getattr(parent, name), getattr(student, name)
        words = f"{kept:,} of {whole:,}"
        rows.append(_row(wording.AXES[name], _bar(kept / whole), words, is_whole=kept == whole))
    whole, kept = parent.parameter_count, student.parameter_count
    words = f"{wording.count(kept)} of {wording.count(whole)}"
    rows.append(_row("parameters", _bar(kept / whole), words, is_whole=kept == whole))
    return f'<div class="shape">{"".join(rows)}</div>'


def layer_words(whole: int, kept_layers: Collection[int]) -> str:
    """Return which layers of a parent are dropped, in words: 3, 7 to 9."""
    dropped = [index for index in range(whole) if index not in set(kept_layers)]
    runs: list[list[int]] = []
    for index in dropped:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _layers(whole: int, kept: int, kept_layers: Sequence[int] | None) -> str:
    words = f"{kept} of {whole}"
    if kept == whole:
        return _row("layers", _cells(whole, range(whole)), words, is_whole=True)
    if kept_layers is None:
        return _row("layers", _bar(kept / whole), words, note=UNKNOWN)
    note = f"without {layer_words(whole, kept_layers)}, counted from 0"
    return _row("layers", _cells(whole, kept_layers), words, note=note)


def _row(name: str, figure: str, words: str, *, is_whole: bool = False, note: str = "") -> str:
    told = "kept whole" if is_whole else note
    return (
        f'<div class="shape-name">{name}</div><div role="img" aria-label="{name}: {words} {told}">{figure}</div>'
        f'<div class="shape-words">{words}<span class="soft"> {told}</span></div>'
    )


def _bar(share: float) -> str:
    return f'<div class="shape-bar"><i style="width: {share:.2%}"></i></div>'


def _cells(whole: int, kept: Collection[int]) -> str:
    found = set(kept)
    states = ["kept" if index in found else "dropped" for index in range(whole)]
    cells = "".join(
        f'<i class="{state}" title="layer {index}, {state}"></i>' for index, state in enumerate(states)
    )
    return f'<div class="shape-cells">{cells}</div>'
