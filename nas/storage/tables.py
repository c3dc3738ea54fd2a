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
    _document("made_from"),
    _document("importance"),
    Column("num_priors", Integer),
    _document("latencies"),
    _document("progress"),
    _document("choice"),
    _document("winner"),
    Column("ended_as", String),
    _document("failure"),
    Column("cancel_requested", Boolean, nullable=False),
    Column("orders", JSON, nullable=False, server_default="{}"),
    Column("cloned_from", String),
    Column("workspace", String, nullable=False, server_default="default"),
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
    Column("progressed_at", UtcDateTime),
    Column("saved_tokens", BigInteger, nullable=False, server_default="0"),
    Index(None, "state"),
    Index(None, "created_at"),
    Index(None, "archived", "created_at", "id"),
    Index(None, "owner", "created_at", "id"),
    Index(None, "workspace", "archived", "created_at", "id"),
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
    Column("enqueued_by", String),
    _document("kept_layers"),
    _document("reused_from"),
    Column("promoted_from", Integer),
    _document("promotion"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("loss", Double),
    Column("measured_tokens", BigInteger),
    Column("measured_parameters", BigInteger),
    Column("num_tokens", BigInteger, nullable=False, server_default="0"),
    Column("busy_microseconds", BigInteger, nullable=False, server_default="0"),
    Column("spent_microseconds", BigInteger, nullable=False, server_default="0"),
    Index(
        "ix_trials_tally",
        "search_id", "role", "state", "num_tokens", "busy_microseconds", "spent_microseconds",
    ),
)  # fmt: skip
"""The columns from ``loss`` on repeat what measurement, points and attempts say, so that standing is found by an index."""

trials_by_rank = Index(
    "ix_trials_rank",
    trials.c.search_id,
    trials.c.role,
    trials.c.state,
    trials.c.measured_tokens.desc(),
    trials.c.loss,
    trials.c.measured_parameters,
    trials.c.number,
)
"""In the order in which trials win."""

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

totals = Table(
    "totals",
    metadata,
    Column("kind", String, primary_key=True),
    Column("state", String, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""How many searches and trials there are in each state, and of kinds ``tokens`` and ``gigaflops`` what was trained and
what that took, the latter since a version that knows it."""
measurements = Table(
    "measurements",
    metadata,
    Column("search_id", String, primary_key=True),
    Column("trial_number", Integer, primary_key=True, autoincrement=False),
    Column("role", String, nullable=False),
    Column("state", String, nullable=False),
    Column("is_partial", Boolean, nullable=False),
    Column("parent", String, nullable=False),
    Column("parent_key", String, nullable=False),
    Column("data_key", String, nullable=False),
    Column("recipe_key", String, nullable=False),
    Column("reuse_key", String),
    _document("architecture", nullable=False),
    Column("name", String, nullable=False),
    Column("num_layers", BigInteger, nullable=False),
    Column("hidden_size", BigInteger, nullable=False),
    Column("intermediate_size", BigInteger, nullable=False),
    Column("num_attention_heads", BigInteger, nullable=False),
    Column("num_key_value_heads", BigInteger, nullable=False),
    Column("num_parameters", BigInteger, nullable=False),
    Column("num_tokens", BigInteger, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("loss_before", Double),
    Column("loss", Double, nullable=False),
    Column("train_seconds", Double, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["search_id", "trial_number"], ["trials.search_id", "trials.number"]),
    *(
        Index(None, *first, *by, "search_id", "trial_number")
        for first in ((), ("parent_key",), ("name",))
        for by in (("at",), ("loss",), ("num_parameters",))
    ),
    Index(None, "reuse_key", "name"),
)
"""Final trials as lists over all searches show them; the axes and the name repeat what the architecture says."""

search_sums = Table(
    "search_sums",
    metadata,
    Column("parent_key", String, primary_key=True),
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("parent", String, nullable=False),
    Column("num_measurements", BigInteger, nullable=False),
    Column("num_tokens", BigInteger, nullable=False),
    Column("best_loss", Double),
    Column("last_at", UtcDateTime, nullable=False),
)
"""What the measurements of each search add up to."""

priors = Table(
    "priors",
    metadata,
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _document("architecture", nullable=False),
    Column("loss", Double, nullable=False),
    Column("standing", Double),
    _document("source", nullable=False),
)
"""What the proposals of searches began from, in order."""

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

workspaces = Table("workspaces", metadata, Column("name", String, primary_key=True))
"""All but ``default``, which is always there."""

members = Table(
    "members",
    metadata,
    Column("workspace", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("member", String, nullable=False),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Index(None, "created_at", "id"),
)

token_workspaces = Table(
    "token_workspaces",
    metadata,
    Column("workspace", String, primary_key=True),
    Column("token_id", ForeignKey("tokens.id"), primary_key=True, index=True),
)
"""Where each token holds."""

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

registered_versions = Table(
    "registered_versions",
    metadata,
    Column("outbox_id", ForeignKey("outboxes.id"), primary_key=True),
    Column("search_id", ForeignKey("searches.id"), primary_key=True),
    Column("trial_number", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
)
"""Which version of a registered model a winner is."""
