"""People, their signatures on custody events, certificates issued again, and lots in SQL. All of it can only grow,
and is logged in the same transaction."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import sqlalchemy as sa

from expunge_controller.records.log_entry import EntryKind
from expunge_controller.store.custody_rows import CustodySignatureRow, LotRow, PersonRow, RevisionRow
from expunge_controller.store.schema import custody, custody_signatures, lots, people, revisions
from expunge_controller.store.sql_log import SqlLog


class SqlCustody:
    """See `port.CustodyTables`."""

    def __init__(self, connection: sa.Connection, log: SqlLog) -> None:
        self._connection = connection
        self._log = log

    def add_person(self, person: str, body: bytes, signature: bytes) -> None:
        """Keep a person record."""
        self._connection.execute(sa.insert(people).values(person=person, body=body, signature=signature))
        self._log.enter(EntryKind.PERSON, body, signature)

    def people(self) -> list[PersonRow]:
        """Every person record, in the order in which they were made."""
        return [PersonRow(**row) for row in self._all(sa.select(people).order_by(people.c.n))]

    def add_signature(self, row: CustodySignatureRow) -> None:
        """Keep a person's signature over an event that is kept already."""
        query = sa.select(custody.c.body).where(custody.c.medium == row.medium, custody.c.seq == row.seq)
        event = bytes(self._connection.execute(query).scalar_one())
        self._connection.execute(sa.insert(custody_signatures).values(dataclasses.asdict(row)))
        self._log.enter(EntryKind.SIGNATURE, event, row.body)

    def signatures(self, medium: str) -> dict[int, dict[str, bytes]]:
        """People's signatures over a medium's events: event number → person → signature."""
        query = sa.select(custody_signatures).where(custody_signatures.c.medium == medium)
        found: dict[int, dict[str, bytes]] = {}
        for row in self._all(query.order_by(custody_signatures.c.seq, custody_signatures.c.person)):
            found.setdefault(row["seq"], {})[row["person"]] = row["body"]
        return found

    def sealed_with(self, seal: str) -> list[str]:
        """The media whose custody ever named this seal; letters' case (ASCII) makes no difference.

        A quote inside a text is escaped in the canonical JSON, so the needle is found in that field only.
        """
        needle = '"seal_id":' + json.dumps(seal, ensure_ascii=False)
        text = sa.func.lower(sa.cast(custody.c.body, sa.Text))
        query = sa.select(custody.c.medium).where(sa.func.instr(text, sa.func.lower(needle)) > 0)
        return sorted(set(self._connection.execute(query).scalars()))

    def add_revision(self, row: RevisionRow) -> None:
        """Keep a certificate that was issued again."""
        self._connection.execute(sa.insert(revisions).values(dataclasses.asdict(row)))
        self._log.enter(EntryKind.CERTIFICATE, row.body, row.signature)

    def revisions(self, base: str) -> list[RevisionRow]:
        """The certificates issued again after that number, oldest first."""
        query = sa.select(revisions).where(revisions.c.base == base).order_by(revisions.c.rev)
        return [RevisionRow(**row) for row in self._all(query)]

    def add_lot(self, row: LotRow) -> None:
        """Keep a lot."""
        self._connection.execute(sa.insert(lots).values(dataclasses.asdict(row)))
        self._log.enter(EntryKind.LOT, row.body, row.signature)

    def lots(self) -> list[LotRow]:
        """Every lot, oldest first."""
        return [
            LotRow(**row) for row in self._all(sa.select(lots).order_by(lots.c.created_at, lots.c.number))
        ]

    def _all(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in self._connection.execute(query)]
