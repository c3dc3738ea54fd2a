"""Silence for libraries that print of their own: progress is told by us, and what matters is raised."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets

from minitron.checkpoint import quiet_transformers


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silence transformers, the bars of datasets, and warnings of the named loggers."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    had_bars = not datasets.are_progress_bars_disabled()
    for logger in found:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # from one library to the authors of another
            yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
        if had_bars:
            datasets.enable_progress_bars()
