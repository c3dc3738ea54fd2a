"""What people say of searches: owner, tags, notes, archived; and what finds them by it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("searches", sa.Column("owner", sa.String, nullable=False, server_default=""))
    op.add_column("searches", sa.Column("tags", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("searches", sa.Column("notes", sa.String, nullable=False, server_default=""))
    op.add_column("searches", sa.Column("archived", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("searches", sa.Column("version", sa.Integer, nullable=False, server_default="0"))
    op.create_index(None, "searches", ["archived", "created_at", "id"])
    op.create_index(None, "searches", ["owner", "created_at", "id"])
    op.create_table(
        "search_tags",
        sa.Column("tag", sa.String, primary_key=True),
        sa.Column("search_id", sa.String, sa.ForeignKey("searches.id"), primary_key=True, index=True),
    )
