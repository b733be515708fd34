"""Time stamps on checkpoints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One new table, append-only."""
    op.create_table(
        "stamps",
        sa.Column("digest", sa.Text, primary_key=True, nullable=False),
        sa.Column("size", sa.Integer, sa.ForeignKey("checkpoints.size"), nullable=False),
        sa.Column("authority", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("received_at", sa.Text, nullable=False),
    )
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER stamps_no_{change.lower()} BEFORE {change} ON stamps "
            "BEGIN SELECT RAISE(ABORT, 'stamps is append-only'); END"
        )
    op.execute(
        "CREATE TRIGGER stamps_no_replace BEFORE INSERT ON stamps "
        "WHEN EXISTS (SELECT 1 FROM stamps WHERE rowid = NEW.rowid OR digest = NEW.digest) "
        "BEGIN SELECT RAISE(ABORT, 'stamps is append-only'); END"
    )


def downgrade() -> None:
    """Evidence is never dropped by a program."""
    raise RuntimeError("this migration cannot be undone; restore a backup")
