"""Which indices of one axis are kept, from its scores alone: the most important ones. Free of torch."""

import numpy as np
import numpy.typing as npt

from minitron.errors import ArtifactMismatch
from minitron.heads import Indices

Scores = npt.NDArray[np.float32]


def best(scores: Scores, kept: int) -> Indices:
    """Keep the highest scores; between equals, the lower index."""
    return tuple(np.sort(np.argsort(-scores, kind="stable")[:kept]).tolist())


def best_layers(layers_L: Scores, blocks_RL: Scores | None, num_layers: int) -> Indices:
    """Keep the layers that cost most to do without: all but the cheapest block where blocks were measured.

    Args:
        layers_L: See ``minitron.depth.LayerScores``.
        blocks_RL: See there.
        num_layers: How many.

    Raises:
        ArtifactMismatch: Fewer layers than the scores tell.
    """
    every = len(layers_L)
    dropped = every - num_layers
    # Infinity says that a layer never went, or that nothing works without it.
    fewest = int(np.isposinf(layers_L).sum()) if blocks_RL is None else every - len(blocks_RL)
    if num_layers < fewest:
        raise ArtifactMismatch(
            f"target.num_layers: found {num_layers}, allowed for these scores: at least {fewest}"
        )
    if blocks_RL is None or dropped == 0:
        return best(layers_L, num_layers)
    first = int(blocks_RL[dropped - 1].argmin())
    return tuple(index for index in range(every) if not first <= index < first + dropped)
