"""The tables. Migrations make them; a test holds the two together."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

APPEND_ONLY = (
    "receipts", "aside", "custody", "certificates", "log_keys", "log_entries", "checkpoints", "cosignatures",
    "stamps", "key_events", "people", "custody_signatures", "revisions", "lots",
)  # fmt: skip
"""Tables whose rows never change and never go: triggers see to it, and are checked at every start."""


def _trigger(name: str, when: str, what: str) -> tuple[str, str]:
    return (
        name,
        f"CREATE TRIGGER {name} BEFORE {when} BEGIN SELECT RAISE(ABORT, '{what} is append-only'); END",
    )


def _no_replace(table: str, *keys: str) -> tuple[str, str]:
    there = " OR ".join(("rowid = NEW.rowid", *keys))
    when = f"INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {there})"  # noqa: S608  (names from this file)
    return _trigger(f"{table}_no_replace", when, table)


_SIGNED = ("digest", "order_id", "machine_id", "body", "signature", "created_at", "expires_at")
TRIGGERS: dict[str, str] = dict(
    [
        *(_trigger(f"{table}_no_update", f"UPDATE ON {table}", table) for table in APPEND_ONLY),
        *(_trigger(f"{table}_no_delete", f"DELETE ON {table}", table) for table in (*APPEND_ONLY, "orders")),
        _no_replace(
            "receipts", "digest = NEW.digest", "(machine_id = NEW.machine_id AND counter = NEW.counter)"
        ),
        _no_replace("aside"),
        _no_replace("custody", "(medium = NEW.medium AND seq = NEW.seq)"),
        _no_replace(
            "certificates",
            "number = NEW.number",
            "(receipt_digest = NEW.receipt_digest AND target = NEW.target)",
        ),
        _no_replace("orders", "digest = NEW.digest", "order_id = NEW.order_id"),
        _no_replace("people"),
        _no_replace("custody_signatures", "(medium = NEW.medium AND seq = NEW.seq AND person = NEW.person)"),
        _no_replace("revisions", "number = NEW.number", "(base = NEW.base AND rev = NEW.rev)"),
        _no_replace("lots", "number = NEW.number"),
        _no_replace("log_keys"),
        _no_replace("log_entries", "leaf = NEW.leaf"),
        _no_replace("checkpoints"),
        _no_replace("cosignatures", "(size = NEW.size AND witness = NEW.witness)"),
        _no_replace("stamps", "digest = NEW.digest"),
        _no_replace("key_events", "(principal = NEW.principal AND seq = NEW.seq)"),
        _trigger(
            "orders_no_update",
            "UPDATE ON orders WHEN " + " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in _SIGNED),
            "what was ordered",
        ),
    ]
)
"""Every trigger of the database by name, to the letter; of an order only how far it has come may change."""


class Counter(sa.TypeDecorator[int]):
    """An unsigned 64-bit number as 20 digits, so that its order is kept (SQLite's integers are signed)."""

    impl = sa.String(20)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Any) -> str | None:
        """Number to digits."""
        return None if value is None else f"{value:020d}"

    def process_result_value(self, value: str | None, dialect: Any) -> int | None:
        """Digits to number."""
        return None if value is None else int(value)


def _text(name: str, *args: Any, **options: Any) -> sa.Column[str]:
    options.setdefault("nullable", False)
    return sa.Column(name, sa.Text, *args, **options)


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def _second_columns() -> list[sa.Column[bytes]]:
    """`dsse.SecondSignatures`; all NULL where there are none."""
    names = ("classic_signature", "mldsa65_signature", "mldsa65_key")
    return [sa.Column(name, sa.LargeBinary, nullable=True) for name in names]


def _ssh_columns() -> list[sa.Column[Any]]:
    return [
        _text("reach"),
        _text("ssh_user"),
        _text("ssh_host"),
        sa.Column("ssh_port", sa.Integer, nullable=False),
        _text("ssh_host_key"),
    ]


tokens = sa.Table(
    "tokens",
    metadata,
    _text("secret_digest", primary_key=True),
    _text("name"),
    *_ssh_columns(),
    _text("created_at"),
    _text("expires_at"),
    _text("used_at", nullable=True),
    _text("machine_id", nullable=True),
    _text("problem", server_default=""),
)

machines = sa.Table(
    "machines",
    metadata,
    _text("machine_id", primary_key=True),
    _text("name", unique=True),
    _text("signing_key", unique=True),
    _text("dial_key", unique=True),
    *_ssh_columns(),
    _text("enrolled_at"),
    _blob("enrolment"),
    _blob("enrolment_signature"),
    _text("facts"),
    _text("last_seen", nullable=True),
    sa.Column("counter", Counter, nullable=False),
    _text("last_digest", nullable=True),
    _text("note"),
    _text("problem", server_default=""),
    sa.Column("mldsa65_key", sa.LargeBinary, nullable=True),
)

media = sa.Table(
    "media",
    metadata,
    _text("digest", primary_key=True),
    _blob("identity"),
    _text("machine_id", sa.ForeignKey("machines.machine_id"), nullable=True),  # paper is in no machine
    _text("hint"),
    _text("property_number"),
    _text("source"),
    _text("classification"),
    _text("label"),
    _text("registered_at"),
)

orders = sa.Table(
    "orders",
    metadata,
    _text("digest", primary_key=True),
    _text("order_id", unique=True),
    _text("machine_id", sa.ForeignKey("machines.machine_id")),
    _blob("body"),
    _blob("signature"),
    _text("status"),
    _text("outcome"),
    sa.Column("rev", sa.Integer, nullable=False),
    _text("created_at"),
    _text("updated_at"),
    _text("expires_at"),
    _text("note"),
    _text("problem", server_default=""),
    _text("followed_until", server_default=""),
    sa.Index("orders_by_machine_and_status", "machine_id", "status"),
)

progress = sa.Table(
    "progress",
    metadata,
    _text("order_digest", sa.ForeignKey("orders.digest"), primary_key=True),
    _blob("event"),
)

events = sa.Table(
    "events",
    metadata,
    _text("order_digest", sa.ForeignKey("orders.digest"), primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    _blob("event"),
    sa.UniqueConstraint("order_digest", "event", name="events_once"),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("request_id", sa.Integer, primary_key=True),
    _text("machine_id", sa.ForeignKey("machines.machine_id")),
    _text("paths"),
    _text("created_at"),
    _text("status"),
    _blob("answer"),
)

receipts = sa.Table(
    "receipts",
    metadata,
    _text("digest", primary_key=True),
    _text("order_digest"),  # no reference: a machine may wipe on its own, without an order of ours
    _text("machine_id", sa.ForeignKey("machines.machine_id")),
    sa.Column("counter", Counter, nullable=False),
    _text("outcome"),
    _blob("body"),
    _blob("signature"),
    _text("received_at"),
    *_second_columns(),
    sa.UniqueConstraint("machine_id", "counter", name="receipts_counter"),
    sa.Index("receipts_by_order", "order_digest"),
)

aside = sa.Table(
    "aside",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True),
    _text("digest"),
    _text("machine_id"),
    _text("order_digest"),
    sa.Column("counter", Counter, nullable=False),
    _text("reasons"),
    _blob("body"),
    _blob("signature"),
    _text("received_at"),
    *_second_columns(),
    sa.Index("aside_by_digest", "digest"),
)

custody = sa.Table(
    "custody",
    metadata,
    _text("medium", sa.ForeignKey("media.digest"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    _text("event"),
    _text("order_digest"),
    _blob("body"),
    _blob("signature"),
)

certificates = sa.Table(
    "certificates",
    metadata,
    _text("number", primary_key=True),
    _text("receipt_digest", sa.ForeignKey("receipts.digest")),
    _text("order_digest"),
    sa.Column("target", sa.Integer, nullable=False),
    _text("medium", sa.ForeignKey("media.digest")),
    _blob("body"),
    _blob("signature"),
    _text("issued_at"),
    sa.UniqueConstraint("receipt_digest", "target", name="certificates_once"),
    sa.Index("certificates_by_order", "order_digest"),
)

log_keys = sa.Table(
    "log_keys",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True),
    _blob("body"),
    _text("created_at"),
)

log_entries = sa.Table(
    "log_entries",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    _blob("body"),
    sa.Column("leaf", sa.LargeBinary, nullable=False, unique=True),
    _blob("above"),  # hashes of the larger complete subtrees that end here, lowest level first
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("size", sa.Integer, primary_key=True, autoincrement=False),
    _blob("body"),
    _text("created_at"),
)

cosignatures = sa.Table(
    "cosignatures",
    metadata,
    sa.Column("size", sa.Integer, sa.ForeignKey("checkpoints.size"), primary_key=True, autoincrement=False),
    _text("witness", primary_key=True),
    _blob("body"),
    _text("received_at"),
)

stamps = sa.Table(
    "stamps",
    metadata,
    _text("digest", primary_key=True),  # SHA-256 of ``body``
    sa.Column("size", sa.Integer, sa.ForeignKey("checkpoints.size"), nullable=False),
    _text("authority"),
    _blob("body"),
    _text("at"),
    _text("received_at"),
)

key_events = sa.Table(
    "key_events",
    metadata,
    _text("principal", primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    _text("event"),
    _text("key"),
    _text("successor"),
    _blob("body"),
    _blob("signature"),
    _blob("document"),  # what the machine signed for it, with its signatures; empty where there is none
    _blob("document_signature"),
    _blob("endorsement"),
)

awaiting = sa.Table(
    "awaiting",
    metadata,
    _text("receipt_digest", sa.ForeignKey("receipts.digest"), primary_key=True),
    sa.Column("target", sa.Integer, primary_key=True, autoincrement=False),
    _text("medium", sa.ForeignKey("media.digest")),
    sa.Column("entry", sa.Integer, nullable=False),
)

people = sa.Table(
    "people",
    metadata,
    sa.Column("n", sa.Integer, primary_key=True),
    _text("person"),
    _blob("body"),
    _blob("signature"),
)

custody_signatures = sa.Table(
    "custody_signatures",
    metadata,
    _text("medium", primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    _text("person", primary_key=True),
    _blob("body"),
    sa.ForeignKeyConstraint(["medium", "seq"], ["custody.medium", "custody.seq"]),
)

revisions = sa.Table(
    "revisions",
    metadata,
    _text("number", primary_key=True),
    _text("base", sa.ForeignKey("certificates.number")),
    sa.Column("rev", sa.Integer, nullable=False),
    _blob("body"),
    _blob("signature"),
    _text("issued_at"),
    sa.UniqueConstraint("base", "rev", name="revisions_once"),
)

lots = sa.Table(
    "lots",
    metadata,
    _text("number", primary_key=True),
    _blob("body"),
    _blob("signature"),
    _text("created_at"),
)
