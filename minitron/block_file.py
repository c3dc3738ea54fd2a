"""A file of token blocks, written block by block. Knows neither documents nor a split."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np

# N blocks, T tokens of a block

Write = Callable[[list[int]], None]
"""Takes tokens, as many at once as it is given."""


class BlockFile:
    """A ``.npy`` file of shape ``(N, T)``, int32, that sources fill one after another, each its own blocks.

    Which blocks are whose is drawn by the seed. Written rather than mapped, because a full disk is an
    error of writing, and of a mapping a crash.
    """

    def __init__(self, path: Path, num_blocks: int, sequence_length: int, *, seed: str) -> None:
        self._file = path.open("wb")
        self._sequence_length = sequence_length
        shape = (num_blocks, sequence_length)
        header = {"descr": "<i4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._begin = self._file.tell()
        self._free = list(range(num_blocks))
        random.Random(seed).shuffle(self._free)  # noqa: S311 - an order, not a secret

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def writer(self, num_blocks: int) -> Write:
        """Set so many blocks aside, and return what fills them with tokens in ascending order."""
        taken, self._free = sorted(self._free[:num_blocks]), self._free[num_blocks:]
        assert len(taken) == num_blocks
        places = iter(taken)
        waiting: list[int] = []

        def write(tokens: list[int]) -> None:
            waiting.extend(tokens)
            whole = len(waiting) // self._sequence_length * self._sequence_length
            blocks_NT = np.array(waiting[:whole], dtype="<i4").reshape(-1, self._sequence_length)
            del waiting[:whole]
            for block_T in blocks_NT:
                self._file.seek(self._begin + next(places) * block_T.nbytes)
                self._file.write(block_T.tobytes())

        return write
