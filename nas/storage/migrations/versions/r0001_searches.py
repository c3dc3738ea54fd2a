"""Searches, trials, points, attempts and events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "searches",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("num_feasible", sa.BigInteger, nullable=False),
        sa.Column("parent_parameters", sa.BigInteger, nullable=False),
        sa.Column("parent_loss", sa.Double),
        sa.Column("progress", sa.JSON),
        sa.Column("winner", sa.JSON),
        sa.Column("failure", sa.JSON),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, index=True),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("lease_owner", sa.String),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "trials",
        sa.Column("search_id", sa.String, sa.ForeignKey("searches.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("architecture", sa.JSON, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("rung", sa.Integer, nullable=False),
        sa.Column("num_attempts", sa.Integer, nullable=False),
        sa.Column("measurement", sa.JSON),
        sa.Column("failure", sa.JSON),
        sa.Column("checkpoint", sa.String),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "points",
        sa.Column("search_id", sa.String, primary_key=True),
        sa.Column("trial_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("num_tokens", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("loss", sa.Double, nullable=False),
        sa.Column("train_loss", sa.Double),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["search_id", "trial_number"], ["trials.search_id", "trials.number"]),
    )
    op.create_table(
        "attempts",
        sa.Column("search_id", sa.String, primary_key=True),
        sa.Column("trial_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.String, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("failure", sa.JSON),
        sa.Column("mlflow_run_id", sa.String),
        sa.ForeignKeyConstraint(["search_id", "trial_number"], ["trials.search_id", "trials.number"]),
    )
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("search_id", sa.String, sa.ForeignKey("searches.id"), nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("trial_number", sa.Integer),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_index(None, "events", ["search_id", "sequence"])
