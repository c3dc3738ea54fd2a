"""How far MLflow has been told and which of its runs show what."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "outboxes",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("target", sa.String, nullable=False, unique=True),
        sa.Column("experiment_id", sa.String, nullable=False),
        sa.Column("cursor", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.String),
        sa.Column("until", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "tracked_runs",
        sa.Column("outbox_id", sa.String, sa.ForeignKey("outboxes.id"), primary_key=True),
        sa.Column("search_id", sa.String, sa.ForeignKey("searches.id"), primary_key=True),
        sa.Column("trial_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("attempt_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("run_id", sa.String, nullable=False),
    )
