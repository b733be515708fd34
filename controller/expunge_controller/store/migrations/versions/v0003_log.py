"""The transparency log: entries, checkpoints, cosignatures, and certificates that wait for witnesses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEYS = {
    "log_keys": (),
    "log_entries": ("leaf = NEW.leaf",),
    "checkpoints": (),
    "cosignatures": ("(size = NEW.size AND witness = NEW.witness)",),
}


def upgrade() -> None:
    """New tables only. What was kept before is entered when the folder is next opened (`translog.begin`)."""
    op.create_table(
        "log_keys",
        sa.Column("n", sa.Integer, primary_key=True, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "log_entries",
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("above", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "cosignatures",
        sa.Column(
            "size",
            sa.Integer,
            sa.ForeignKey("checkpoints.size"),
            primary_key=True,
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("witness", sa.Text, primary_key=True, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("received_at", sa.Text, nullable=False),
    )
    op.create_table(
        "awaiting",
        sa.Column(
            "receipt_digest", sa.Text, sa.ForeignKey("receipts.digest"), primary_key=True, nullable=False
        ),
        sa.Column("target", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("medium", sa.Text, sa.ForeignKey("media.digest"), nullable=False),
        sa.Column("entry", sa.Integer, nullable=False),
    )
    for table, keys in KEYS.items():
        _guard(table, keys)


def downgrade() -> None:
    """Evidence is never dropped by a program."""
    raise RuntimeError("this migration cannot be undone; restore a backup")


def _guard(table: str, keys: tuple[str, ...]) -> None:
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
    there = " OR ".join(("rowid = NEW.rowid", *keys))
    found = f"EXISTS (SELECT 1 FROM {table} WHERE {there})"  # noqa: S608  (names from this file)
    op.execute(
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {found} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )
