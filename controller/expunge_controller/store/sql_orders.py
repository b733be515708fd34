"""Orders, progress, events and questions in SQL."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from expunge_controller.records.log_entry import EntryKind
from expunge_controller.store.rows import OPEN, OrderRow, OrderStatus, RequestRow
from expunge_controller.store.schema import events, orders, progress, requests
from expunge_controller.store.sql_log import SqlLog

MAX_EVENTS = 10_000
"""Events kept of one order; a hostile agent shall not fill the disk with more."""


class SqlOrders:
    """See `port.OrderTables`."""

    def __init__(self, connection: sa.Connection, log: SqlLog) -> None:
        self._connection = connection
        self._log = log

    def add(self, order: OrderRow) -> None:
        """Keep a new order, and log it."""
        self._connection.execute(sa.insert(orders).values(dataclasses.asdict(order)))
        self._log.enter(EntryKind.ORDER, order.body, order.signature)

    def get(self, digest: str) -> OrderRow | None:
        """The order with this digest."""
        found = self._select(orders.c.digest == digest)
        return found[0] if found else None

    def find(self, text: str) -> list[OrderRow]:
        """Orders whose id is `text` or whose digest begins with it."""
        return self._select(
            sa.or_(orders.c.order_id == text, orders.c.digest.startswith(text, autoescape=True))
        )

    def newest(self, limit: int) -> list[OrderRow]:
        """The newest orders first."""
        query = sa.select(orders).order_by(orders.c.created_at.desc(), orders.c.order_id.desc()).limit(limit)
        return [_order(row) for row in self._connection.execute(query)]

    def open_of(self, machine_id: str) -> list[OrderRow]:
        """The machine's orders in an open status, oldest first."""
        return self._select(orders.c.machine_id == machine_id, orders.c.status.in_(OPEN))

    def all_open(self) -> list[OrderRow]:
        """Every order in an open status, oldest first."""
        return self._select(orders.c.status.in_(OPEN))

    def change(
        self,
        order: OrderRow,
        status: OrderStatus,
        now: str,
        *,
        note: str | None = None,
        outcome: str = "",
        problem: str = "",
    ) -> bool:
        """Compare-and-set on ``rev``; False when somebody else changed the row since it was read."""
        done = self._connection.execute(
            sa.update(orders)
            .where(orders.c.digest == order.digest, orders.c.rev == order.rev)
            .values(
                status=str(status),
                rev=order.rev + 1,
                updated_at=now,
                outcome=outcome or order.outcome,
                note=order.note if note is None else note,
                problem=problem,
            )
        )
        return done.rowcount == 1

    def follow(self, digest: str, until: str) -> None:
        """Remember that somebody follows an order, for the time being."""
        self._connection.execute(
            sa.update(orders).where(orders.c.digest == digest).values(followed_until=until)
        )

    def set_progress(self, digest: str, event: bytes) -> None:
        """Replace the newest progress of an order."""
        done = self._connection.execute(
            sa.update(progress).where(progress.c.order_digest == digest).values(event=event)
        )
        if done.rowcount == 0:
            self._connection.execute(sa.insert(progress).values(order_digest=digest, event=event))

    def progress(self, digest: str) -> bytes | None:
        """The newest progress of an order."""
        return self._connection.execute(
            sa.select(progress.c.event).where(progress.c.order_digest == digest)
        ).scalar_one_or_none()

    def add_event(self, digest: str, event: bytes) -> bool:
        """Append an event; False when this very event is there already."""
        of_order = events.c.order_digest == digest
        if self._connection.execute(
            sa.select(events.c.n).where(of_order, events.c.event == event)
        ).one_or_none():
            return False
        last = self._connection.execute(sa.select(sa.func.max(events.c.n)).where(of_order)).scalar_one()
        if (last or 0) >= MAX_EVENTS:
            return False
        self._connection.execute(
            sa.insert(events).values(order_digest=digest, n=(last or 0) + 1, event=event)
        )
        return True

    def events(self, digest: str, after: int) -> list[tuple[int, bytes]]:
        """Events numbered above `after` (from 1), ascending."""
        rows = self._connection.execute(
            sa.select(events.c.n, events.c.event)
            .where(events.c.order_digest == digest, events.c.n > after)
            .order_by(events.c.n)
        )
        return [(row.n, row.event) for row in rows]

    def ask(self, machine_id: str, paths: Sequence[str], now: str) -> int:
        """Leave an inventory question for a machine; returns its number."""
        done = self._connection.execute(
            sa.insert(requests).values(
                machine_id=machine_id,
                paths=json.dumps(list(paths)),
                created_at=now,
                status="waiting",
                answer=b"",
            )
        )
        key = done.inserted_primary_key
        assert key is not None  # an INSERT of one row always has one  # noqa: S101
        return int(key[0])

    def request(self, request_id: int) -> RequestRow | None:
        """The question with this number."""
        row = self._connection.execute(
            sa.select(requests).where(requests.c.request_id == request_id)
        ).one_or_none()
        return None if row is None else _request(row)

    def waiting_requests(self, machine_id: str | None, since: str) -> list[RequestRow]:
        """Unanswered questions not older than `since`, of one machine or of all."""
        query = sa.select(requests).where(requests.c.status == "waiting", requests.c.created_at >= since)
        if machine_id is not None:
            query = query.where(requests.c.machine_id == machine_id)
        return [_request(row) for row in self._connection.execute(query.order_by(requests.c.request_id))]

    def answer(self, request_id: int, status: str, answer: bytes) -> None:
        """Answer a question that still waits."""
        self._connection.execute(
            sa.update(requests)
            .where(requests.c.request_id == request_id, requests.c.status == "waiting")
            .values(status=status, answer=answer)
        )

    def forget_requests(self, before: str) -> None:
        """Drop questions asked before a moment."""
        self._connection.execute(sa.delete(requests).where(requests.c.created_at < before))

    def _select(self, *conditions: sa.ColumnElement[bool]) -> list[OrderRow]:
        query = sa.select(orders).where(*conditions).order_by(orders.c.created_at, orders.c.order_id)
        return [_order(row) for row in self._connection.execute(query)]


def _order(row: sa.Row[Any]) -> OrderRow:
    values = dict(row._mapping)
    return OrderRow(**{**values, "status": OrderStatus(values["status"])})


def _request(row: sa.Row[Any]) -> RequestRow:
    values = dict(row._mapping)
    return RequestRow(**{**values, "paths": tuple(json.loads(values["paths"]))})
