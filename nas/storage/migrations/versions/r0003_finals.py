"""What teacher and finalists score at tasks, and the loss of a corrected teacher."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("searches", sa.Column("corrected_loss", sa.Double))
    op.add_column("searches", sa.Column("evaluated", sa.JSON, nullable=False, server_default="[]"))
