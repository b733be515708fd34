"""The store on SQLite: WAL, every commit synced, foreign keys on, one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc, pool

from expunge_agent.errors import BusyError, ExpungeError, NoSpaceError, PermissionProblemError, StateError
from expunge_controller.store import migrate
from expunge_controller.store.sql_custody import SqlCustody
from expunge_controller.store.sql_evidence import SqlEvidence
from expunge_controller.store.sql_fleet import SqlFleet
from expunge_controller.store.sql_keys import SqlKeys
from expunge_controller.store.sql_log import SqlLog
from expunge_controller.store.sql_orders import SqlOrders

BUSY_MS = 15_000
"""Milliseconds a writer waits for another one."""


@dataclass(frozen=True)
class SqlUnit:
    """One transaction's tables."""

    fleet: SqlFleet
    orders: SqlOrders
    evidence: SqlEvidence
    custody: SqlCustody
    log: SqlLog
    keys: SqlKeys


class SqliteStore:
    """The store in one file. `open_store` makes it."""

    def __init__(self, engine: sa.Engine, path: Path) -> None:
        self._engine = engine
        self._path = path

    @contextmanager
    def read(self) -> Iterator[SqlUnit]:
        """A unit that only reads, in one consistent state."""
        with explained(self._path), self._engine.connect() as connection:
            yield _unit(connection)

    @contextmanager
    def write(self) -> Iterator[SqlUnit]:
        """A unit that commits when it ends."""
        with explained(self._path), self._engine.connect() as connection:
            writing = connection.execution_options(expunge_begin="IMMEDIATE")
            with writing.begin():
                yield _unit(writing)

    def close(self) -> None:
        """Close all connections of this process."""
        self._engine.dispose()


def open_store(path: Path, *, create: bool = False) -> SqliteStore:
    """The store in the file `path`, brought up to date.

    Raises StateError where the file is missing (unless `create`), damaged, newer than this
    release, or lost its append-only triggers.
    """
    if not create and not path.exists():
        raise StateError(f"The database {path} is missing.", "Restore it from your backup.")
    if create and not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=pool.QueuePool, pool_size=8, max_overflow=-1)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    store = SqliteStore(engine, path)
    try:
        with explained(path), engine.connect() as connection:
            if migrate.current(connection) != migrate.HEAD:
                connection.rollback()
                writing = connection.execution_options(expunge_begin="IMMEDIATE")
                with writing.begin():
                    migrate.upgrade(writing)
            migrate.assert_append_only(connection)
    except BaseException:
        store.close()
        raise
    return store


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's complaints about the file at `path` into sentences."""
    try:
        yield
    except exc.IntegrityError:
        raise  # a rule of the tables; the caller knows which
    except exc.DatabaseError as error:
        raise _sentence(path, str(error.orig).lower()) from error


def _sentence(path: Path, said: str) -> ExpungeError:
    if "full" in said:
        return NoSpaceError(
            f"The disk that holds {path} is full.", "Free some space there; nothing was half stored."
        )
    if "locked" in said or "busy" in said:
        return BusyError(f"Another process keeps {path} busy.", "Try again.")
    if "readonly" in said or "unable to open" in said:
        return PermissionProblemError(
            f"This user may not write {path}.", "Run the command as the owner of the controller's folder."
        )
    return StateError(f"The database {path} cannot be used: {said}.", "Restore it from your backup.")


def _unit(connection: sa.Connection) -> SqlUnit:
    log = SqlLog(connection)
    return SqlUnit(
        SqlFleet(connection, log),
        SqlOrders(connection, log),
        SqlEvidence(connection, log),
        SqlCustody(connection, log),
        log,
        SqlKeys(connection, log),
    )


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`, not by the driver
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",  # or REPLACE would delete past the append-only triggers
        "trusted_schema = OFF",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    kind = connection.get_execution_options().get("expunge_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")
