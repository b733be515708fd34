"""The life of signing keys: signed events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A new table. The keys that are there get their first event when the folder is next opened (`key_history.begin`)."""
    op.create_table(
        "key_events",
        sa.Column("principal", sa.Text, primary_key=True, nullable=False),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("successor", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("document_signature", sa.LargeBinary, nullable=False),
        sa.Column("endorsement", sa.LargeBinary, nullable=False),
    )
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER key_events_no_{change.lower()} BEFORE {change} ON key_events "
            "BEGIN SELECT RAISE(ABORT, 'key_events is append-only'); END"
        )
    there = (
        "SELECT 1 FROM key_events WHERE rowid = NEW.rowid OR (principal = NEW.principal AND seq = NEW.seq)"
    )
    op.execute(
        f"CREATE TRIGGER key_events_no_replace BEFORE INSERT ON key_events WHEN EXISTS ({there}) "
        "BEGIN SELECT RAISE(ABORT, 'key_events is append-only'); END"
    )


def downgrade() -> None:
    """Evidence is never dropped by a program."""
    raise RuntimeError("this migration cannot be undone; restore a backup")
