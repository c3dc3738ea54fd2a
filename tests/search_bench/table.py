"""A tabular benchmark: every architecture of a space, retrained with several seeds, and its losses on the way.

Knows how it is kept, neither how it was made nor what is done with it.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from minitron.architecture import Architecture
from nas.axes import AXIS_NAMES
from nas.rungs import schedule
from nas.search import SearchSpec
from nas.space import search_space
from nas.spec import dump, load

DIRECTORY = Path(__file__).with_name("tables")
DECIMALS = 5

# N architectures, in the order of the space; S seeds; P points, the first at 0 tokens


@dataclass(frozen=True, kw_only=True)
class Table:
    """What came of every architecture that a spec allows."""

    spec: SearchSpec
    """Which architectures, and how they were retrained; its seed of training is the first of the seeds."""
    parent: Architecture
    parent_loss: float
    losses_NSP: npt.NDArray[np.float64]
    """Held-out nats per token."""

    @cached_property
    def architectures(self) -> tuple[Architecture, ...]:
        """In the order of the space."""
        return search_space(self.spec).architectures

    @property
    def points(self) -> tuple[int, ...]:
        """Token counts of the losses."""
        return schedule(self.spec).points

    @property
    def num_tokens(self) -> int:
        """Tokens of one whole training."""
        return self.points[-1]

    @property
    def exhaustive_tokens(self) -> int:
        """What it costs to train all of them, once."""
        return len(self.architectures) * self.num_tokens

    @cached_property
    def final_N(self) -> npt.NDArray[np.float64]:  # noqa: N802 - shapes end names here
        """The final loss of each, as the mean of its seeds: what a search would like to know."""
        return self.losses_NSP[:, :, -1].mean(axis=1)

    @property
    def seed_deviation(self) -> float:
        """Standard deviation of the final loss of one architecture between seeds, pooled over all."""
        return float(np.sqrt(self.losses_NSP[:, :, -1].var(axis=1, ddof=1).mean()))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one architecture with one seed."""

    sizes: tuple[int, ...]
    """In the order of ``AXIS_NAMES``."""
    seed: int
    """Of its training."""
    losses: tuple[float, ...]
    """At the points."""


class IncompleteTable(Exception):
    """Raised when a table is read before it is made to the end; says how to go on."""


class TableFile:
    """A table on disk, as JSON lines: the spec and the parent's loss, then a row a line, in any order.

    It grows row by row, so that making it can be interrupted and gone on with.
    """

    def __init__(self, name: str, directory: Path = DIRECTORY) -> None:
        self.path = directory / f"{name}.jsonl"

    def begin(self, spec: SearchSpec, parent_loss: float) -> None:
        """Write the head, or go on with what is there, which must be of the same spec and parent."""
        if not self.path.exists():
            head = {"spec": dump(spec), "parent_loss": round(parent_loss, DECIMALS)}
            self.path.write_text(json.dumps(head) + "\n", encoding="utf-8")
        found = self._head()
        assert found == (spec, round(parent_loss, DECIMALS)), f"{self.path} is of {found}"

    def add(self, row: Row) -> None:
        """Append a row."""
        losses = [round(loss, DECIMALS) for loss in row.losses]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([list(row.sizes), row.seed, losses]) + "\n")

    def rows(self) -> list[Row]:
        """Return what is there."""
        return [
            Row(sizes=tuple(sizes), seed=seed, losses=tuple(losses))
            for sizes, seed, losses in map(json.loads, self._lines()[1:])
        ]

    def load(self) -> Table:
        """Return the whole table.

        Raises:
            IncompleteTable: Rows are missing.
        """
        spec, parent_loss = self._head()
        space = search_space(spec)
        found = {(row.sizes, row.seed): row.losses for row in self.rows()}
        seeds = sorted({seed for _, seed in found})
        if len(found) < len(space) * len(seeds):
            raise IncompleteTable(
                f"{self.path}: found {len(found)} rows of {len(space) * len(seeds)}; go on with: "
                f"python -m tests.search_bench.build {self.path.stem}"
            )
        losses_NSP = np.array(
            [[found[sizes_of(each), seed] for seed in seeds] for each in space.architectures]
        )
        return Table(spec=spec, parent=space.parent, parent_loss=parent_loss, losses_NSP=losses_NSP)

    def _head(self) -> tuple[SearchSpec, float]:
        head = json.loads(self._lines()[0])
        return load(SearchSpec, head["spec"]), head["parent_loss"]

    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines()


def sizes_of(architecture: Architecture) -> tuple[int, ...]:
    """Return the sizes on all axes."""
    return tuple(getattr(architecture, name) for name in AXIS_NAMES)
