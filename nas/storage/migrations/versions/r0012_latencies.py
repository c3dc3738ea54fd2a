"""What was measured for searches whose budget bounds latency."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("searches", sa.Column("latencies", sa.JSON(none_as_null=True)))
