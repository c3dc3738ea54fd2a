"""Which versions of registered models winners are."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "registered_versions",
        sa.Column("outbox_id", sa.String, sa.ForeignKey("outboxes.id"), primary_key=True),
        sa.Column("search_id", sa.String, sa.ForeignKey("searches.id"), primary_key=True),
        sa.Column("trial_number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
