"""The papers' formulas in numpy and float64, to hold what is computed in batches against."""

import itertools

import numpy as np

HOW = ("mean", "l2", "variance")
PAIRS = list(itertools.product(HOW, HOW))
"""Aggregations over the sequence and over the batch."""


def along(values: np.ndarray, how: str, axis: int) -> np.ndarray:
    """Aggregate along one axis."""
    match how:
        case "mean":
            return np.abs(values).mean(axis)
        case "l2":
            return np.sqrt((values**2).sum(axis))
        case _:
            return ((values - values.mean(axis, keepdims=True)) ** 2).mean(axis)
