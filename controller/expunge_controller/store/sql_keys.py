"""Key events in SQL."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from expunge_controller.records.key_event import KeyEventKind
from expunge_controller.records.log_entry import EntryKind
from expunge_controller.store.rows import KeyEventRow
from expunge_controller.store.schema import key_events
from expunge_controller.store.sql_log import SqlLog


class SqlKeys:
    """See `port.KeyTables`."""

    def __init__(self, connection: sa.Connection, log: SqlLog) -> None:
        self._connection = connection
        self._log = log

    def add(self, event: KeyEventRow) -> None:
        """Keep an event, and log it."""
        self._connection.execute(sa.insert(key_events).values(dataclasses.asdict(event)))
        self._log.enter(EntryKind.KEY_EVENT, event.body, event.signature)

    def of(self, principal: str) -> list[KeyEventRow]:
        """The principal's events, oldest first."""
        query = sa.select(key_events).where(key_events.c.principal == principal).order_by(key_events.c.seq)
        return [KeyEventRow(**row._mapping) for row in self._connection.execute(query)]

    def principals(self) -> list[str]:
        """Whoever has events, by name."""
        query = sa.select(key_events.c.principal).distinct().order_by(key_events.c.principal)
        return list(self._connection.execute(query).scalars())

    def owner(self, line: str) -> str | None:
        """Whose key this is or was."""
        query = sa.select(key_events.c.principal).limit(1)
        had = sa.or_(key_events.c.key == line, key_events.c.successor == line)
        found: str | None = self._connection.execute(query.where(had)).scalar_one_or_none()
        return found

    def ended(self) -> list[str]:
        """Whoever has an event that ended a key without a successor."""
        query = sa.select(key_events.c.principal).distinct()
        ends = (str(KeyEventKind.REVOKED), str(KeyEventKind.COMPROMISED))
        return list(self._connection.execute(query.where(key_events.c.event.in_(ends))).scalars())
