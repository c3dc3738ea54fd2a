"""Measurements as rows of a table and back."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import Enum
from typing import Any

from minitron.architecture import Architecture
from nas.axes import AXIS_NAMES
from nas.history import Measured
from nas.spec import load

FIELDS = tuple(field.name for field in fields(Measured))


def row_of(found: Measured) -> dict[str, Any]:
    """Return the columns of a measurement: its fields, and what of its architecture is looked for."""
    values = {name: getattr(found, name) for name in FIELDS}
    plain = {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
    shape = found.architecture
    axes: dict[str, int] = {name: getattr(shape, name) for name in AXIS_NAMES}
    return {**plain, "architecture": asdict(shape), "name": shape.name, **axes}


def measured_in(row: Mapping[Any, Any]) -> Measured:
    """Return the measurement of a row."""
    values = {name: row[name] for name in FIELDS}
    return load(Measured, values | {"architecture": Architecture.from_json(row["architecture"])})
