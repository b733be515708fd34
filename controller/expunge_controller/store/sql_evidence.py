"""Media, receipts, custody and certificates in SQL. What is added is logged in the same transaction."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import sqlalchemy as sa

from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.receipt import parse_statement
from expunge_controller.records.consistency import tells_of_work
from expunge_controller.records.log_entry import EntryKind
from expunge_controller.store.rows import AsideRow, CertificateRow, CustodyRow, MediumRow, ReceiptRow
from expunge_controller.store.schema import aside, certificates, custody, media, receipts, revisions
from expunge_controller.store.sql_log import SqlLog
from expunge_controller.store.sql_second import flat, nested


class SqlEvidence:
    """See `port.EvidenceTables`."""

    def __init__(self, connection: sa.Connection, log: SqlLog) -> None:
        self._connection = connection
        self._log = log

    def put_medium(self, medium: MediumRow) -> None:
        """Add a medium, or replace what is known of it."""
        values = dataclasses.asdict(medium)
        done = self._connection.execute(
            sa.update(media).where(media.c.digest == medium.digest).values(values)
        )
        if done.rowcount == 0:
            self._connection.execute(sa.insert(media).values(values))

    def medium(self, digest: str) -> MediumRow | None:
        """The medium with this digest."""
        row = self._one(sa.select(media).where(media.c.digest == digest))
        return None if row is None else MediumRow(**row)

    def media(self) -> list[MediumRow]:
        """Every medium, oldest first."""
        query = sa.select(media).order_by(media.c.registered_at, media.c.digest)
        return [MediumRow(**row) for row in self._all(query)]

    def add_receipt(self, receipt: ReceiptRow) -> None:
        """Keep a receipt that passed every check."""
        self._connection.execute(sa.insert(receipts).values(flat(receipt)))
        self._log.enter(EntryKind.RECEIPT, receipt.body, receipt.signature, receipt.mldsa65)

    def receipt(self, digest: str) -> ReceiptRow | None:
        """The receipt with this digest."""
        row = self._one(sa.select(receipts).where(receipts.c.digest == digest))
        return None if row is None else ReceiptRow(**nested(row))

    def receipts_of_order(self, order_digest: str) -> list[ReceiptRow]:
        """The receipts that answer an order, in the order in which they came."""
        query = sa.select(receipts).where(receipts.c.order_digest == order_digest)
        return [ReceiptRow(**nested(row)) for row in self._all(query.order_by(sa.literal_column("rowid")))]

    def receipt_of_order(self, order_digest: str) -> ReceiptRow | None:
        """The receipt that an order's outcome rests on: the first that tells of work, else the first."""
        rows = self.receipts_of_order(order_digest)
        working = (row for row in rows if tells_of_work(parse_statement(row.body).predicate))
        return next(working if len(rows) > 1 else iter(rows), rows[0] if rows else None)

    def digest_at(self, machine_id: str, counter: int) -> str | None:
        """The digest of the machine's authentic receipt with this counter, kept aside or not."""
        if counter < 1:
            return None
        for table in (receipts, aside):
            query = sa.select(table.c.digest).where(
                table.c.machine_id == machine_id, table.c.counter == counter
            )
            found = self._connection.execute(query.limit(1)).scalar_one_or_none()
            if found is not None:
                return str(found)
        return None

    def receipts(self, limit: int) -> list[ReceiptRow]:
        """The newest receipts first."""
        query = sa.select(receipts).order_by(receipts.c.received_at.desc(), receipts.c.counter.desc())
        return [ReceiptRow(**nested(row)) for row in self._all(query.limit(limit))]

    def add_aside(self, receipt: AsideRow) -> None:
        """Keep a receipt that failed a check."""
        values = {**flat(receipt), "reasons": json.dumps(receipt.reasons)}
        self._connection.execute(sa.insert(aside).values(values))
        self._log.enter(EntryKind.ASIDE, receipt.body, receipt.signature, receipt.mldsa65)

    def is_aside(
        self, machine_id: str, digest: str, signature: bytes, second: SecondSignatures | None
    ) -> bool:
        """Whether this very document, signed like this, is kept aside already, as delivered by this machine."""
        query = sa.select(aside.c.n).where(
            aside.c.machine_id == machine_id,
            aside.c.digest == digest,
            aside.c.signature == signature,
            aside.c.classic_signature.is_not_distinct_from(second and second.classic),
            aside.c.mldsa65_signature.is_not_distinct_from(second and second.mldsa65),
            aside.c.mldsa65_key.is_not_distinct_from(second and second.mldsa65_key),
        )
        return self._connection.execute(query.limit(1)).one_or_none() is not None

    def aside(self, limit: int) -> list[AsideRow]:
        """The newest receipts kept aside first."""
        query = sa.select(*(column for column in aside.c if column.name != "n"))
        rows = self._all(query.order_by(aside.c.n.desc()).limit(limit))
        return [AsideRow(**{**nested(row), "reasons": tuple(json.loads(row["reasons"]))}) for row in rows]

    def add_custody(self, event: CustodyRow) -> None:
        """Append to a medium's custody."""
        self._connection.execute(sa.insert(custody).values(dataclasses.asdict(event)))
        self._log.enter(EntryKind.CUSTODY, event.body, event.signature)

    def custody(self, medium: str) -> list[CustodyRow]:
        """A medium's custody, in order."""
        query = sa.select(custody).where(custody.c.medium == medium).order_by(custody.c.seq)
        return [CustodyRow(**row) for row in self._all(query)]

    def last_custody(self, medium: str) -> CustodyRow | None:
        """The newest event of a medium's custody."""
        query = sa.select(custody).where(custody.c.medium == medium)
        row = self._one(query.order_by(custody.c.seq.desc()).limit(1))
        return None if row is None else CustodyRow(**row)

    def has_custody(self, medium: str, event: str, order_digest: str) -> bool:
        """Whether a medium's custody holds this event for this order."""
        query = sa.select(custody.c.seq).where(
            custody.c.medium == medium, custody.c.event == event, custody.c.order_digest == order_digest
        )
        return self._connection.execute(query.limit(1)).one_or_none() is not None

    def add_certificate(self, certificate: CertificateRow) -> None:
        """Keep a certificate."""
        self._connection.execute(sa.insert(certificates).values(dataclasses.asdict(certificate)))
        self._log.enter(EntryKind.CERTIFICATE, certificate.body, certificate.signature)

    def certificates_of_order(self, order_digest: str) -> list[CertificateRow]:
        """The certificates about an order's targets, by target."""
        query = sa.select(certificates).where(certificates.c.order_digest == order_digest)
        rows = self._all(query.order_by(certificates.c.target))
        return [self._newest(CertificateRow(**row)) for row in rows]

    def first_certificate(self, receipt_digest: str, medium: str) -> CertificateRow | None:
        """The certificate about a medium in a receipt, as it was first issued."""
        row = self._one(
            sa.select(certificates).where(
                certificates.c.receipt_digest == receipt_digest, certificates.c.medium == medium
            )
        )
        return None if row is None else CertificateRow(**row)

    def certificate(self, number: str) -> CertificateRow | None:
        """The newest issue of the certificate with this number, which may be that of any of its issues."""
        issue = sa.select(revisions.c.base).where(revisions.c.number == number)
        base = self._connection.execute(issue).scalar_one_or_none() or number
        row = self._one(sa.select(certificates).where(certificates.c.number == base))
        return None if row is None else self._newest(CertificateRow(**row))

    def _newest(self, first: CertificateRow) -> CertificateRow:
        query = sa.select(revisions).where(revisions.c.base == first.number)
        row = self._one(query.order_by(revisions.c.rev.desc()).limit(1))
        if row is None:
            return first
        changed = {name: row[name] for name in ("number", "body", "signature", "issued_at")}
        return dataclasses.replace(first, **changed)

    def last_certificate_number(self, prefix: str) -> str | None:
        """The greatest number that begins with `prefix`; 1000000 comes after 999999."""
        number = certificates.c.number
        query = sa.select(number).where(number.startswith(prefix, autoescape=True))
        longest = query.order_by(sa.func.length(number).desc(), number.desc()).limit(1)
        return self._connection.execute(longest).scalar_one_or_none()

    def _one(self, query: sa.Select[Any]) -> dict[str, Any] | None:
        row = self._connection.execute(query).one_or_none()
        return None if row is None else dict(row._mapping)

    def _all(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in self._connection.execute(query)]
