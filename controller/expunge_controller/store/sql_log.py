"""The transparency log in SQL: one row an entry, with the hashes of every complete subtree that ends there.

So any node of the tree is one look-up, and an append touches no row but its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from expunge_agent.errors import StateError
from expunge_controller.records import merkle
from expunge_controller.records.archive_layout import Document
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.store.rows import AwaitingRow, CheckpointRow, CosignatureRow, EntryRow, StampRow
from expunge_controller.store.schema import (
    aside,
    awaiting,
    certificates,
    checkpoints,
    cosignatures,
    custody,
    custody_signatures,
    key_events,
    log_entries,
    log_keys,
    lots,
    machines,
    orders,
    people,
    receipts,
    revisions,
    stamps,
)

_PAGE = 4096
# Made once: putting a statement together costs more than running it.
_SIZE = sa.select(sa.func.max(log_entries.c.n))
_NUMBER = sa.select(log_entries.c.n).where(log_entries.c.leaf == sa.bindparam("leaf"))
_NODE = sa.select(log_entries.c.leaf, log_entries.c.above).where(log_entries.c.n == sa.bindparam("last"))
_APPEND = sa.insert(log_entries)
_SIGNED = ("body", "signature")
_TWICE = (*_SIGNED, "mldsa65_signature")
_DOCUMENTS = (
    (EntryKind.ENROLMENT, machines, ("enrolment", "enrolment_signature")),
    (EntryKind.KEY_EVENT, key_events, _SIGNED),
    (EntryKind.ORDER, orders, _SIGNED),
    (EntryKind.RECEIPT, receipts, _TWICE),
    (EntryKind.ASIDE, aside, _TWICE),
    (EntryKind.CUSTODY, custody, _SIGNED),
    (EntryKind.CERTIFICATE, certificates, _SIGNED),
    (EntryKind.PERSON, people, _SIGNED),
    (EntryKind.CERTIFICATE, revisions, _SIGNED),
    (EntryKind.LOT, lots, _SIGNED),
)
_SIGNATURES = sa.select(custody.c.body, custody_signatures.c.body).where(
    custody_signatures.c.medium == custody.c.medium, custody_signatures.c.seq == custody.c.seq
)


class SqlLog:
    """See `port.LogTables`."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def append(self, entry: bytes) -> int:
        """Put `entry` at the end; its number, from 0. An entry that is there already keeps its number."""
        leaf = merkle.leaf_hash(entry)
        known = self.number_of(leaf)
        if known is not None:
            return known
        number = self.size()
        hashes = merkle.completed(number, leaf, self.node)
        row = {"n": number, "body": entry, "leaf": leaf, "above": b"".join(hashes[1:])}
        self._connection.execute(_APPEND, row)
        return number

    def enter(self, kind: EntryKind, body: bytes, signature: bytes, mldsa65: bytes = b"") -> int:
        """Append the entry of a document that is kept in this transaction."""
        return self.append(entry_of(kind, body, signature, mldsa65))

    def documents(self) -> Iterator[bytes]:
        """The entries that there should be, in the order in which the documents of each table came."""
        return (entry_of(*document) for document in self.kept())

    def kept(self) -> Iterator[Document]:
        """The documents that those entries are of."""
        for kind, table, names in _DOCUMENTS:
            query = sa.select(*(table.c[name] for name in names)).order_by(sa.literal_column("rowid"))
            for parts in self._connection.execute(query):
                yield Document(kind, *(_as_bytes(part or b"") for part in parts))
        for (document,) in self._connection.execute(sa.select(stamps.c.body)):
            yield Document(EntryKind.STAMP, _as_bytes(document), b"")
        for event, signed in self._connection.execute(_SIGNATURES):
            yield Document(EntryKind.SIGNATURE, _as_bytes(event), _as_bytes(signed))

    def size(self) -> int:
        """How many entries there are."""
        last = self._connection.execute(_SIZE).scalar_one()
        return 0 if last is None else int(last) + 1

    def node(self, level: int, number: int) -> bytes:
        """The hash of a complete subtree (`merkle.Nodes`)."""
        last = ((number + 1) << level) - 1
        row = self._connection.execute(_NODE, {"last": last}).one_or_none()
        start = (level - 1) * merkle.HASH_SIZE
        found = (
            b"" if row is None else row.leaf if level == 0 else row.above[start : start + merkle.HASH_SIZE]
        )
        if len(found) != merkle.HASH_SIZE:
            raise StateError(
                f"Entry {last} of the log is missing or damaged.",
                "Run `expunge log check`; restore the database from a backup.",
            )
        return found

    def number_of(self, leaf: bytes) -> int | None:
        """The number of the entry with this leaf hash."""
        found: int | None = self._connection.execute(_NUMBER, {"leaf": leaf}).scalar_one_or_none()
        return found

    def entries(self, start: int, stop: int) -> Iterator[EntryRow]:
        """The entries from `start` up to `stop`, in order, as they lie there."""
        for page in range(start, stop, _PAGE):
            query = sa.select(log_entries).where(
                log_entries.c.n >= page, log_entries.c.n < min(page + _PAGE, stop)
            )
            for row in self._connection.execute(query.order_by(log_entries.c.n)):
                yield EntryRow(
                    number=row.n,
                    body=_as_bytes(row.body),
                    leaf=_as_bytes(row.leaf),
                    above=_as_bytes(row.above),
                )

    def set_key(self, vkey: str, now: str) -> None:
        """Remember the log's verifier key, once and for all."""
        self._connection.execute(sa.insert(log_keys).values(n=1, body=vkey.encode(), created_at=now))

    def key(self) -> str | None:
        """The log's verifier key; None before the log began."""
        found = self._connection.execute(sa.select(log_keys.c.body)).scalar_one_or_none()
        return None if found is None else _as_bytes(found).decode("utf-8", "replace")

    def add_checkpoint(self, checkpoint: CheckpointRow) -> None:
        """Keep a signed checkpoint."""
        self._connection.execute(sa.insert(checkpoints).values(dataclasses.asdict(checkpoint)))

    def checkpoint(self, size: int) -> CheckpointRow | None:
        """The checkpoint of this size."""
        return self._checkpoint(sa.select(checkpoints).where(checkpoints.c.size == size))

    def newest_checkpoint(self) -> CheckpointRow | None:
        """The checkpoint of the largest size."""
        return self._checkpoint(sa.select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1))

    def checkpoints_from(self, size: int) -> Iterator[CheckpointRow]:
        """The checkpoints of `size` entries and more, the smallest first."""
        query = sa.select(checkpoints).where(checkpoints.c.size >= size).order_by(checkpoints.c.size)
        for row in self._connection.execute(query):
            yield CheckpointRow(**row._mapping)

    def add_cosignature(self, cosignature: CosignatureRow) -> None:
        """Keep a witness's signature line; the first one for a size stays."""
        there = sa.select(cosignatures.c.size).where(
            cosignatures.c.size == cosignature.size, cosignatures.c.witness == cosignature.witness
        )
        if self._connection.execute(there).one_or_none() is None:
            self._connection.execute(sa.insert(cosignatures).values(dataclasses.asdict(cosignature)))

    def cosignatures(self, size: int) -> list[CosignatureRow]:
        """The cosignatures of the checkpoint of this size, by witness."""
        query = sa.select(cosignatures).where(cosignatures.c.size == size).order_by(cosignatures.c.witness)
        return [CosignatureRow(**row._mapping) for row in self._connection.execute(query)]

    def cosigned_size(self, witness: str) -> int:
        """The largest size that this witness is known to have cosigned; 0 where none."""
        query = sa.select(sa.func.max(cosignatures.c.size)).where(cosignatures.c.witness == witness)
        return int(self._connection.execute(query).scalar_one() or 0)

    def add_stamp(self, stamp: StampRow) -> None:
        """Keep a time stamp and enter it in the log; the same one again changes nothing."""
        there = sa.select(stamps.c.size).where(stamps.c.digest == stamp.digest)
        if self._connection.execute(there).one_or_none() is None:
            self._connection.execute(sa.insert(stamps).values(dataclasses.asdict(stamp)))
            self.append(entry_of(EntryKind.STAMP, stamp.body))

    def stamps_from(self, size: int) -> Iterator[StampRow]:
        """The stamps on checkpoints of `size` entries and more, the earliest first."""
        query = sa.select(stamps).where(stamps.c.size >= size).order_by(stamps.c.at, stamps.c.size)
        for row in self._connection.execute(query):
            yield StampRow(**row._mapping)

    def wait(self, row: AwaitingRow) -> None:
        """Remember a certificate that waits for witnesses."""
        self._connection.execute(sa.insert(awaiting).values(dataclasses.asdict(row)))

    def awaiting(self) -> list[AwaitingRow]:
        """The certificates that wait, oldest first."""
        query = sa.select(awaiting).order_by(awaiting.c.entry, awaiting.c.target)
        return [AwaitingRow(**row._mapping) for row in self._connection.execute(query)]

    def waited(self, row: AwaitingRow) -> None:
        """Forget a certificate that need not wait any more."""
        self._connection.execute(
            sa.delete(awaiting).where(
                awaiting.c.receipt_digest == row.receipt_digest, awaiting.c.target == row.target
            )
        )

    def _checkpoint(self, query: sa.Select[Any]) -> CheckpointRow | None:
        row = self._connection.execute(query).one_or_none()
        return None if row is None else CheckpointRow(**row._mapping)


def _as_bytes(value: bytes | str) -> bytes:
    """A column as it is kept; SQLite keeps text in one of bytes if somebody puts it there."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
