"""Students that are promoted: of which trial, how, and which of them won."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("trials", sa.Column("promoted_from", sa.Integer))
    op.add_column("trials", sa.Column("promotion", sa.JSON))
    op.add_column("searches", sa.Column("choice", sa.JSON))
    op.add_column("searches", sa.Column("ended_as", sa.String))
