"""What searches took from earlier ones: trials that were not run again, and what proposals began from."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("trials", sa.Column("reused_from", sa.JSON))
    op.add_column("searches", sa.Column("saved_tokens", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("searches", sa.Column("num_priors", sa.Integer))
    op.create_table(
        "priors",
        sa.Column("search_id", sa.String, sa.ForeignKey("searches.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("architecture", sa.JSON, nullable=False),
        sa.Column("loss", sa.Double, nullable=False),
        sa.Column("standing", sa.Double),
        sa.Column("source", sa.JSON, nullable=False),
    )
