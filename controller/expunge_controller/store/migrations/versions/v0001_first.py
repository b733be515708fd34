"""The first tables, and the triggers that keep the evidence append-only."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make everything."""
    _fleet()
    _orders()
    _evidence()
    for table in ("receipts", "aside", "custody", "certificates"):
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def downgrade() -> None:
    """Evidence is never dropped by a program."""
    raise RuntimeError("the first migration cannot be undone; restore a backup")


def _ssh() -> list[sa.Column[Any]]:
    return [
        sa.Column("reach", sa.Text, nullable=False),
        sa.Column("ssh_user", sa.Text, nullable=False),
        sa.Column("ssh_host", sa.Text, nullable=False),
        sa.Column("ssh_port", sa.Integer, nullable=False),
        sa.Column("ssh_host_key", sa.Text, nullable=False),
    ]


def _text(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _document() -> list[sa.Column[Any]]:
    return [
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    ]


def _machine() -> sa.Column[Any]:
    return sa.Column("machine_id", sa.Text, sa.ForeignKey("machines.machine_id"), nullable=False)


def _order() -> sa.Column[Any]:
    return sa.Column(
        "order_digest", sa.Text, sa.ForeignKey("orders.digest"), nullable=False, primary_key=True
    )


def _fleet() -> None:
    op.create_table(
        "tokens",
        sa.Column("secret_digest", sa.Text, primary_key=True, nullable=False),
        *_text("name"),
        *_ssh(),
        *_text("created_at", "expires_at"),
        sa.Column("used_at", sa.Text),
        sa.Column("machine_id", sa.Text),
    )
    op.create_table(
        "machines",
        sa.Column("machine_id", sa.Text, primary_key=True, nullable=False),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("signing_key", sa.Text, nullable=False, unique=True),
        sa.Column("dial_key", sa.Text, nullable=False, unique=True),
        *_ssh(),
        *_text("enrolled_at"),
        sa.Column("enrolment", sa.LargeBinary, nullable=False),
        sa.Column("enrolment_signature", sa.LargeBinary, nullable=False),
        *_text("facts"),
        sa.Column("last_seen", sa.Text),
        sa.Column("counter", sa.String(20), nullable=False),
        sa.Column("last_digest", sa.Text),
        *_text("note"),
    )


def _orders() -> None:
    op.create_table(
        "orders",
        sa.Column("digest", sa.Text, primary_key=True, nullable=False),
        sa.Column("order_id", sa.Text, nullable=False, unique=True),
        _machine(),
        *_document(),
        *_text("status", "outcome"),
        sa.Column("rev", sa.Integer, nullable=False),
        *_text("created_at", "updated_at", "expires_at", "note"),
    )
    op.create_index("orders_by_machine_and_status", "orders", ["machine_id", "status"])
    op.create_table("progress", _order(), sa.Column("event", sa.LargeBinary, nullable=False))
    op.create_table(
        "events",
        _order(),
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("order_digest", "event", name="events_once"),
    )
    op.create_table(
        "requests",
        sa.Column("request_id", sa.Integer, primary_key=True, nullable=False),
        _machine(),
        *_text("paths", "created_at", "status"),
        sa.Column("answer", sa.LargeBinary, nullable=False),
    )


def _evidence() -> None:
    op.create_table(
        "media",
        sa.Column("digest", sa.Text, primary_key=True, nullable=False),
        sa.Column("identity", sa.LargeBinary, nullable=False),
        _machine(),
        *_text("hint", "property_number", "source", "classification", "label", "registered_at"),
    )
    op.create_table(
        "receipts",
        sa.Column("digest", sa.Text, primary_key=True, nullable=False),
        *_text("order_digest"),
        _machine(),
        sa.Column("counter", sa.String(20), nullable=False),
        *_text("outcome"),
        *_document(),
        *_text("received_at"),
        sa.UniqueConstraint("machine_id", "counter", name="receipts_counter"),
    )
    op.create_index("receipts_by_order", "receipts", ["order_digest"])
    op.create_table(
        "aside",
        sa.Column("n", sa.Integer, primary_key=True, nullable=False),
        *_text("digest", "machine_id", "order_digest"),
        sa.Column("counter", sa.String(20), nullable=False),
        *_text("reasons"),
        *_document(),
        *_text("received_at"),
    )
    op.create_index("aside_by_digest", "aside", ["digest"])
    op.create_table(
        "custody",
        sa.Column("medium", sa.Text, sa.ForeignKey("media.digest"), primary_key=True, nullable=False),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False, nullable=False),
        *_text("event", "order_digest"),
        *_document(),
    )
    op.create_table(
        "certificates",
        sa.Column("number", sa.Text, primary_key=True, nullable=False),
        sa.Column("receipt_digest", sa.Text, sa.ForeignKey("receipts.digest"), nullable=False),
        *_text("order_digest"),
        sa.Column("target", sa.Integer, nullable=False),
        sa.Column("medium", sa.Text, sa.ForeignKey("media.digest"), nullable=False),
        *_document(),
        *_text("issued_at"),
        sa.UniqueConstraint("receipt_digest", "target", name="certificates_once"),
    )
    op.create_index("certificates_by_order", "certificates", ["order_digest"])
