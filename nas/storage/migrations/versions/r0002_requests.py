"""Keys of requests that made a search, and which search another was cloned from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "request_keys",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("search_id", sa.String, sa.ForeignKey("searches.id"), nullable=False),
    )
    op.add_column("searches", sa.Column("cloned_from", sa.String))
