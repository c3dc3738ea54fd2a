"""People: workspaces, members and tokens; and which workspace each search belongs to."""

import sqlalchemy as sa
from alembic import op

from nas.storage.tables import UtcDateTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("searches", sa.Column("workspace", sa.String, nullable=False, server_default="default"))
    op.create_index(None, "searches", ["workspace", "archived", "created_at", "id"])
    op.create_table("workspaces", sa.Column("name", sa.String, primary_key=True))
    op.create_table(
        "members",
        sa.Column("workspace", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("role", sa.String, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("member", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime),
        sa.Column("revoked_at", UtcDateTime),
        sa.Column("last_used_at", UtcDateTime),
    )
    op.create_index(None, "tokens", ["created_at", "id"])
    op.create_table(
        "token_workspaces",
        sa.Column("workspace", sa.String, primary_key=True),
        sa.Column("token_id", sa.String, sa.ForeignKey("tokens.id"), primary_key=True, index=True),
    )
