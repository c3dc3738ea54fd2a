"""What real searches came to, kept as JSON lines. Knows neither how they were run nor what is told of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

RECORDS = Path(__file__).with_name("real.jsonl")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one method came to with one seed."""

    method: str
    seed: int
    num_tokens: int
    """Of retraining, of all its trials together."""
    found_after: int
    """Of these tokens, those that were trained when its choice had been retrained to the end."""
    seconds: float
    """From the start of its searches to their ends, what is measured once for all students included."""
    num_looked_at: int
    """Students that were pruned and measured."""
    num_trained: int
    """Students that were retrained to the end."""
    architecture: str
    """That it chose."""
    num_parameters: int
    loss: float
    """Of its choice, on the held-out tokens that were chosen by."""
    judged_loss: float
    """The same, on more of them."""
    losses: Mapping[str, Mapping[str, float]]
    """Of every trial at each point: by architecture, then by tokens."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What all of them have in common."""

    parent: str
    parent_parameters: int
    parent_loss: float
    """On the tokens that the choices are judged on."""
    max_parameters: int
    num_feasible: int
    tokens_each: int
    """Of a whole training."""
    chosen_on: int
    """Held-out tokens."""
    judged_on: int
    """Held-out tokens."""


def read(path: Path = RECORDS) -> tuple[Head, list[Outcome]]:
    """Return what is kept: the head and an outcome a line."""
    first, *others = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return Head(**first), [Outcome(**each) for each in others]


def write(head: Head, outcomes: list[Outcome], path: Path = RECORDS) -> None:
    """Keep all in place of what is there."""
    lines = (json.dumps(asdict(each)) for each in (head, *outcomes))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
