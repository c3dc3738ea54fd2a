"""Which layers of the parent each trial keeps, and how much each axis of a search matters."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("trials", sa.Column("kept_layers", sa.JSON(none_as_null=True)))
    op.add_column("searches", sa.Column("importance", sa.JSON(none_as_null=True)))
