"""The tables: a row for each object, a column for each of its fields, JSON where a field has its own.

The schema of a database is made by ``migrations``; this is what queries are written against.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    false,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time, also where the database knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what is stored for an aware time."""
        if value is None:
            return None
        assert value.tzinfo is not None, f"{value} has no time zone"
        return (
            value.astimezone(UTC)
            if dialect.name == "postgresql"
            else value.astimezone(UTC).replace(tzinfo=None)
        )

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the aware time that was stored."""
        if value is None:
            return None
        return value.astimezone(UTC) if dialect.name == "postgresql" else value.replace(tzinfo=UTC)


def _document(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, JSON(none_as_null=True), nullable=nullable)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

searches = Table(
    "searches",
    metadata,
    Column("id", String, primary_key=True),
    _document("spec", nullable=False),
    Column("state", String, nullable=False),
    Column("num_feasible", BigInteger, nullable=False),
    Column("parent_parameters", BigInteger, nullable=False),
    Column("parent_loss", Double),
    Column("corrected_loss", Double),
    Column("evaluated", JSON, nullable=False, server_default="[]"),
    _document("progress"),
    _document("winner"),
    _document("fingerprints"),
    _document("failure"),
    Column("cancel_requested", Boolean, nullable=False),
    Column("cloned_from", String),
    Column("owner", String, nullable=False, server_default=""),
    Column("tags", JSON, nullable=False, server_default="[]"),
    Column("notes", String, nullable=False, server_default=""),
    Column("archived", Boolean, nullable=False, server_default=false()),
    Column("version", Integer, nullable=False, server_default="0"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("lease_owner", String),
    Column("lease_until", UtcDateTime),
    Index(None, "state"),
    Index(None, "created_at"),
    Index(None, "archived", "created_at", "id"),
    Index(None, "owner", "created_at", "id"),
)

search_tags = Table(
    "search_tags",
    metadata,
    Column("tag", String, primary_key=True),
    Column("search_id", ForeignKey("searches.id"), primary_key=True, index=True),
)
"""Which searches have a tag: the index of ``searches.tags``, which holds the same."""

request_keys = Table(
    "request_keys",
    metadata,
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("search_id", ForeignKey("searches.id"), nullable=False),
)

trials = Table(
    "trials",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _document("architecture", nullable=False),
    Column("role", String, nullable=False),
    Column("state", String, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("num_attempts", Integer, nullable=False),
    _document("measurement"),
    _document("failure"),
    Column("checkpoint", String),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
)

points = Table(
    "points",
    metadata,
    Column("search_id", String, primary_key=True),
    Column("trial_number", Integer, primary_key=True, autoincrement=False),
    Column("num_tokens", BigInteger, primary_key=True, autoincrement=False),
    Column("loss", Double, nullable=False),
    Column("train_loss", Double),
    Column("seconds", Double, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["search_id", "trial_number"], ["trials.search_id", "trials.number"]),
)

attempts = Table(
    "attempts",
    metadata,
    Column("search_id", String, primary_key=True),
    Column("trial_number", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("worker", String, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    _document("failure"),
    Column("mlflow_run_id", String),  # of earlier versions; now in tracked_runs
    ForeignKeyConstraint(["search_id", "trial_number"], ["trials.search_id", "trials.number"]),
)

events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("search_id", ForeignKey("searches.id"), nullable=False),
    Column("kind", String, nullable=False),
    Column("trial_number", Integer),
    Column("at", UtcDateTime, nullable=False),
    _document("data", nullable=False),
    Index(None, "search_id", "sequence"),
)

outboxes = Table(
    "outboxes",
    metadata,
    Column("id", String, primary_key=True),
    Column("target", String, nullable=False, unique=True),
    Column("experiment_id", String, nullable=False),
    Column("cursor", BigInteger, nullable=False),
    Column("owner", String),
    Column("until", UtcDateTime),
)

tracked_runs = Table(
    "tracked_runs",
    metadata,
    Column("outbox_id", ForeignKey("outboxes.id"), primary_key=True),
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("trial_number", Integer, primary_key=True, autoincrement=False),
    Column("attempt_number", Integer, primary_key=True, autoincrement=False),
    Column("run_id", String, nullable=False),
)
"""Which run of MLflow shows what; both numbers are -1 where it is a search."""
