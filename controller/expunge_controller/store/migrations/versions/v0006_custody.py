"""People, their signatures on custody, certificates issued again, lots; media that are in no machine (paper)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEYS = {
    "people": (),
    "custody_signatures": ("(medium = NEW.medium AND seq = NEW.seq AND person = NEW.person)",),
    "revisions": ("number = NEW.number", "(base = NEW.base AND rev = NEW.rev)"),
    "lots": ("number = NEW.number",),
}
_MEDIA = ("digest", "identity", "machine_id", "hint", "property_number", "source", "classification", "label")


def upgrade() -> None:
    """New tables, and `media` made again with a machine that may be missing."""
    _machine_may_be_missing()
    op.create_table(
        "people",
        sa.Column("n", sa.Integer, primary_key=True, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "custody_signatures",
        sa.Column("medium", sa.Text, primary_key=True, nullable=False),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("person", sa.Text, primary_key=True, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["medium", "seq"], ["custody.medium", "custody.seq"]),
    )
    op.create_table(
        "revisions",
        sa.Column("number", sa.Text, primary_key=True, nullable=False),
        sa.Column("base", sa.Text, sa.ForeignKey("certificates.number"), nullable=False),
        sa.Column("rev", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("issued_at", sa.Text, nullable=False),
        sa.UniqueConstraint("base", "rev", name="revisions_once"),
    )
    op.create_table(
        "lots",
        sa.Column("number", sa.Text, primary_key=True, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    for table, keys in KEYS.items():
        _guard(table, keys)


def downgrade() -> None:
    """Evidence is never dropped by a program."""
    raise RuntimeError("this migration cannot be undone; restore a backup")


def _machine_may_be_missing() -> None:
    """SQLite cannot take NOT NULL off a column. Custody and certificates refer to `media`: what they refer to is
    missing only within this transaction (deferred foreign keys), and every row comes back under its own key."""
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TEMPORARY TABLE media_kept AS SELECT rowid AS n, * FROM media")
    op.drop_table("media")
    op.create_table(
        "media",
        sa.Column("digest", sa.Text, primary_key=True, nullable=False),
        sa.Column("identity", sa.LargeBinary, nullable=False),
        sa.Column("machine_id", sa.Text, sa.ForeignKey("machines.machine_id"), nullable=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in _MEDIA[3:]),
        sa.Column("registered_at", sa.Text, nullable=False),
    )
    names = ", ".join((*_MEDIA, "registered_at"))
    op.execute(f"INSERT INTO media (rowid, {names}) SELECT n, {names} FROM media_kept ORDER BY n")  # noqa: S608
    op.execute("DROP TABLE media_kept")


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
