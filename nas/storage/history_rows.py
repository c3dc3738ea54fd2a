"""Measurements as rows of a table."""

from typing import Any

from nas.axes import AXIS_NAMES
from nas.history import Measured
from nas.storage.rows import row_of


def measured_row(found: Measured) -> dict[str, Any]:
    """Return the columns of a measurement: its fields, and what of its architecture is looked for."""
    shape = found.architecture
    return row_of(found) | {"name": shape.name} | {axis: getattr(shape, axis) for axis in AXIS_NAMES}
