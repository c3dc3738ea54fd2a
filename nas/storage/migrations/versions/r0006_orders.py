"""What people order of searches once they are submitted, and who had a trial's architecture tried."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("searches", sa.Column("orders", sa.JSON, nullable=False, server_default="{}"))
    op.add_column("trials", sa.Column("enqueued_by", sa.String))
