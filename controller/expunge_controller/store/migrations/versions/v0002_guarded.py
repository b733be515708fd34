"""Nothing of the evidence can be replaced, orders keep what was signed; problems and followers get a place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEYS = {
    "receipts": ("digest = NEW.digest", "(machine_id = NEW.machine_id AND counter = NEW.counter)"),
    "aside": (),
    "custody": ("(medium = NEW.medium AND seq = NEW.seq)",),
    "certificates": (
        "number = NEW.number",
        "(receipt_digest = NEW.receipt_digest AND target = NEW.target)",
    ),
    "orders": ("digest = NEW.digest", "order_id = NEW.order_id"),
}
SIGNED = ("digest", "order_id", "machine_id", "body", "signature", "created_at", "expires_at")


def upgrade() -> None:
    """Plain ADD COLUMN only: rebuilding a table would drop its triggers."""
    for table in ("tokens", "machines", "orders"):
        op.add_column(table, sa.Column("problem", sa.Text, nullable=False, server_default=""))
    op.add_column("orders", sa.Column("followed_until", sa.Text, nullable=False, server_default=""))
    for table, keys in KEYS.items():
        # INSERT OR REPLACE deletes what is in its way without asking the triggers for DELETE.
        there = " OR ".join(("rowid = NEW.rowid", *keys))
        found = f"EXISTS (SELECT 1 FROM {table} WHERE {there})"  # noqa: S608  (names from this file)
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {found} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
    changed = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in SIGNED)
    op.execute(
        f"CREATE TRIGGER orders_no_update BEFORE UPDATE ON orders WHEN {changed} "
        "BEGIN SELECT RAISE(ABORT, 'what was ordered is append-only'); END"
    )
    op.execute(
        "CREATE TRIGGER orders_no_delete BEFORE DELETE ON orders "
        "BEGIN SELECT RAISE(ABORT, 'orders is append-only'); END"
    )


def downgrade() -> None:
    """Evidence never loses its guard by a program."""
    raise RuntimeError("this migration cannot be undone; restore a backup")
