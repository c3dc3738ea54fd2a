"""Scores that nobody measured."""

import torch

from minitron.architecture import Architecture
from minitron.importance import ImportanceScores


def random_scores(source: Architecture, seed: int = 0) -> ImportanceScores:
    """Evenly drawn scores of every part of a shape."""
    generator = torch.Generator().manual_seed(seed)
    shape = source.num_layers, source.hidden_size, source.intermediate_size, source.num_attention_heads
    layers, hidden, neurons, heads = shape
    return ImportanceScores(
        architecture=source,
        fingerprint="random",
        hidden_D=torch.rand(hidden, generator=generator),
        neurons_LF=torch.rand(layers, neurons, generator=generator),
        heads_LN=torch.rand(layers, heads, generator=generator),
        layers_L=torch.rand(layers, generator=generator),
    )
