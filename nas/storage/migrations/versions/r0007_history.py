"""What was ever measured, in lists over all searches; and what trials are made from, by content."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

from nas.history import SearchSum, measured, sum_of
from nas.search import SearchSpec
from nas.spec import load
from nas.storage import tables
from nas.storage.history_rows import measured_row
from nas.trial import Point, Trial

revision = "0007"
down_revision = "0006"

COLUMNS = (
    "search_id", "trial_number", "role", "state", "is_partial", "parent", "parent_key", "data_key", "recipe_key",
    "reuse_key", "architecture", "name", "num_layers", "hidden_size", "intermediate_size", "num_attention_heads",
    "num_key_value_heads", "num_parameters", "num_tokens", "rung", "loss_before", "loss", "train_seconds", "at",
)  # fmt: skip
SUMS = ("parent_key", "search_id", "parent", "num_measurements", "num_tokens", "best_loss", "last_at")
FINAL = ("COMPLETED", "STOPPED", "FAILED", "CANCELLED")


def upgrade() -> None:
    op.add_column("searches", sa.Column("made_from", sa.JSON))
    op.create_table(
        "measurements",
        sa.Column("search_id", sa.String, primary_key=True),
        sa.Column("trial_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("is_partial", sa.Boolean, nullable=False),
        sa.Column("parent", sa.String, nullable=False),
        sa.Column("parent_key", sa.String, nullable=False),
        sa.Column("data_key", sa.String, nullable=False),
        sa.Column("recipe_key", sa.String, nullable=False),
        sa.Column("reuse_key", sa.String),
        sa.Column("architecture", sa.JSON, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("num_layers", sa.BigInteger, nullable=False),
        sa.Column("hidden_size", sa.BigInteger, nullable=False),
        sa.Column("intermediate_size", sa.BigInteger, nullable=False),
        sa.Column("num_attention_heads", sa.BigInteger, nullable=False),
        sa.Column("num_key_value_heads", sa.BigInteger, nullable=False),
        sa.Column("num_parameters", sa.BigInteger, nullable=False),
        sa.Column("num_tokens", sa.BigInteger, nullable=False),
        sa.Column("rung", sa.Integer, nullable=False),
        sa.Column("loss_before", sa.Double),
        sa.Column("loss", sa.Double, nullable=False),
        sa.Column("train_seconds", sa.Double, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["search_id", "trial_number"], ["trials.search_id", "trials.number"]),
    )
    op.create_table(
        "search_sums",
        sa.Column("parent_key", sa.String, primary_key=True),
        sa.Column("search_id", sa.String, sa.ForeignKey("searches.id"), primary_key=True),
        sa.Column("parent", sa.String, nullable=False),
        sa.Column("num_measurements", sa.BigInteger, nullable=False),
        sa.Column("num_tokens", sa.BigInteger, nullable=False),
        sa.Column("best_loss", sa.Double),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
    )
    for first in ((), ("parent_key",), ("name",)):
        for by in ("at", "loss", "num_parameters"):
            op.create_index(None, "measurements", [*first, by, "search_id", "trial_number"])
    op.create_index(None, "measurements", ["reuse_key", "name"])
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    """List what was measured before there was this list. Columns that come later are theirs to fill who add them."""
    searches, measurements, sums = (
        tables.searches.c,
        _some(tables.measurements, COLUMNS),
        _some(tables.search_sums, SUMS),
    )
    for search_id, spec in connection.execute(sa.select(searches.id, searches.spec)).all():
        total: SearchSum | None = None
        read = load(SearchSpec, spec)
        points = dict(_points(connection, search_id))
        for row in connection.execute(_trials(search_id)).mappings().all():
            trial = load(Trial, row)
            if found := measured(read, None, trial, points.get(trial.number, ())):
                row_found = measured_row(found)
                connection.execute(measurements.insert().values({name: row_found[name] for name in COLUMNS}))
                total = (total or sum_of(found)).plus(found)
        if total:
            connection.execute(sums.insert().values({name: getattr(total, name) for name in SUMS}))


def _some(table: sa.Table, names: tuple[str, ...]) -> sa.TableClause:
    return sa.table(table.name, *(sa.column(name, table.c[name].type) for name in names))


def _trials(search_id: str) -> sa.Select[Any]:
    trials = tables.trials
    columns = (
        "search_id", "number", "architecture", "role", "state", "rung", "num_attempts", "measurement", "failure",
        "checkpoint", "created_at", "started_at", "finished_at",
    )  # fmt: skip
    return (
        sa.select(*(trials.c[name] for name in columns))
        .where(trials.c.search_id == search_id, trials.c.state.in_(FINAL))
        .order_by(trials.c.number)
    )


def _points(connection: sa.Connection, search_id: str) -> Iterator[tuple[int, tuple[Point, ...]]]:
    points = tables.points.c
    columns = (
        points.trial_number,
        points.num_tokens,
        points.loss,
        points.train_loss,
        points.seconds,
        points.at,
    )
    query = sa.select(*columns).where(points.search_id == search_id)
    rows = connection.execute(query.order_by(points.trial_number, points.num_tokens)).mappings().all()
    for number, ours in groupby(rows, key=lambda row: int(row["trial_number"])):
        yield number, tuple(load(Point, row) for row in ours)
