"""The store: what is written is whole and stays; evidence cannot be changed, not even by SQL."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from expunge_agent.errors import StateError
from expunge_controller import translog
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.store import migrate
from expunge_controller.store.custody_rows import CustodySignatureRow, LotRow, RevisionRow
from expunge_controller.store.rows import CosignatureRow, CustodyRow, OrderStatus, StampRow
from expunge_controller.store.schema import APPEND_ONLY, TRIGGERS, metadata
from expunge_controller.store.sqlite import open_store
from support.controllers import FakeAgent, enrolled, now, ordered
from support.databases import database_at, scripts


def raw(controller: Controller) -> sqlite3.Connection:
    connection = sqlite3.connect(controller.home.database)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA recursive_triggers = ON")
    return connection


def test_the_migrations_make_the_tables_of_the_schema(controller: Controller) -> None:
    engine = sa.create_engine(f"sqlite:///{controller.home.database}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_known_head_is_the_newest_script() -> None:
    assert ScriptDirectory.from_config(scripts()).get_current_head() == migrate.HEAD


def test_every_connection_is_durable_and_checks_references(controller: Controller) -> None:
    with controller.store.read() as unit:
        connection = unit.fleet._connection  # type: ignore[attr-defined]
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "recursive_triggers", "busy_timeout")
        }
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "recursive_triggers": 1,
        "busy_timeout": 15_000,
    }


def filled(controller: Controller) -> None:
    """A row or more in every table of evidence."""
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    good = agent.receipt(ordered(controller, machine).body)
    store_receipt(controller, machine.machine_id, *good, now=now())
    store_receipt(controller, machine.machine_id, good.body[:-1], good.signature, now=now())
    row = translog.head(controller, now())
    with controller.store.write() as unit:
        line = CosignatureRow(size=row.size, witness="w+00000000+", body=b"-", received_at=row.created_at)
        unit.log.add_cosignature(line)
        at = row.created_at
        unit.log.add_stamp(
            StampRow(digest="0" * 64, size=row.size, authority="t", body=b"-", at=at, received_at=at)
        )
        medium, first = unit.evidence.media()[0].digest, unit.evidence.last_certificate_number("CERT-")
        assert first is not None
        unit.custody.add_person("wang", b"{}", b"-")
        unit.custody.add_signature(CustodySignatureRow(medium=medium, seq=1, person="wang", body=b"-"))
        unit.custody.add_revision(
            RevisionRow(number=f"{first}.2", base=first, rev=2, body=b"{}", signature=b"-", issued_at="")
        )
        unit.custody.add_lot(LotRow(number="LOT-1", body=b"{}", signature=b"-", created_at=""))


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("statement", ["UPDATE {} SET body = x'00'", "DELETE FROM {}"])
def test_evidence_cannot_be_changed_by_sql(controller: Controller, table: str, statement: str) -> None:
    filled(controller)
    with raw(controller) as connection:
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement.format(table))
    connection.close()


def test_evidence_cannot_be_replaced_either(controller: Controller) -> None:
    enrolled(controller, FakeAgent())
    ordered(controller, enrolled(controller, FakeAgent(machine_id="1" * 32), "beta"))
    with controller.store.read() as unit:
        connection = unit.fleet._connection  # type: ignore[attr-defined]
        row = connection.execute(sa.text("SELECT * FROM custody LIMIT 1")).mappings().one()
    with (
        pytest.raises(sa.exc.IntegrityError, match="append-only"),
        controller.store.write() as unit,
    ):
        unit.fleet._connection.execute(  # type: ignore[attr-defined]
            sa.text(
                "INSERT OR REPLACE INTO custody VALUES (:medium, :seq, :event, :order_digest, x'00', x'00')"
            ),
            dict(row),
        )


@pytest.mark.parametrize("trigger", ["receipts_no_update", "custody_no_delete"])
def test_a_lost_trigger_is_noticed_at_the_next_start(controller: Controller, trigger: str) -> None:
    with raw(controller) as connection:
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.close()
    with pytest.raises(StateError, match=f"were altered: {trigger}"):
        open_store(controller.home.database)


def test_a_trigger_that_does_nothing_is_noticed_too(controller: Controller) -> None:
    with raw(controller) as connection:
        connection.execute("DROP TRIGGER aside_no_delete")
        connection.execute("CREATE TRIGGER aside_no_delete BEFORE DELETE ON aside BEGIN SELECT 1; END")
    connection.close()
    with pytest.raises(StateError, match="were altered: aside_no_delete"):
        open_store(controller.home.database)


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_that_never_fires_is_noticed(controller: Controller, name: str) -> None:
    with raw(controller) as connection:
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", [name]).fetchone()
        connection.execute(f"DROP TRIGGER {name}")
        head, _, tail = sql.partition(" BEGIN ")
        connection.execute(f"{head.partition(' WHEN ')[0]} WHEN 0 BEGIN {tail}")
    connection.close()
    with pytest.raises(StateError, match=f"were altered: {name}"):
        open_store(controller.home.database)


def test_a_trigger_that_is_not_ours_is_noticed(controller: Controller) -> None:
    with raw(controller) as connection:
        connection.execute("CREATE TRIGGER extra AFTER INSERT ON custody BEGIN SELECT 1; END")
    connection.close()
    with pytest.raises(StateError, match="were altered: extra"):
        open_store(controller.home.database)


@pytest.mark.parametrize("table", [*APPEND_ONLY, "orders"])
@pytest.mark.parametrize("by", ["key", "rowid"])
def test_a_plain_sqlite_connection_cannot_replace_either(controller: Controller, table: str, by: str) -> None:
    filled(controller)
    connection = sqlite3.connect(controller.home.database)  # recursive_triggers is off in it
    cursor = connection.execute(f"SELECT rowid AS place, * FROM {table} LIMIT 1")
    row = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
    place = row.pop("place")
    row["body"] = b"forged"
    if by == "rowid":
        row |= {key: "another" for key in ("digest", "order_id", "medium", "number") if key in row}
        row |= {key: 77 for key in ("counter", "seq", "target", "rev") if key in row}
        row.pop("n", None)
        row["rowid"] = place
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", list(row.values()))
    connection.close()


@pytest.mark.parametrize("column", ["digest", "order_id", "machine_id", "body", "signature", "expires_at"])
def test_what_was_ordered_cannot_be_changed(controller: Controller, column: str) -> None:
    filled(controller)
    connection = sqlite3.connect(controller.home.database)
    connection.execute("UPDATE orders SET note = 'may change'")
    for statement in (f"UPDATE orders SET {column} = x'00'", "DELETE FROM orders"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_a_database_of_the_first_release_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    with database_at(path, "0001"):
        pass
    store = open_store(path)
    with store.read() as unit:
        assert unit.orders.newest(1) == []
    store.close()


def test_media_of_an_earlier_release_keep_their_custody(tmp_path: Path) -> None:
    """`media` is made again while custody and certificates refer to it."""
    path = tmp_path / "controller.db"
    with database_at(path, "0003"):
        pass
    with sqlite3.connect(path) as plain:
        plain.execute(
            "INSERT INTO machines VALUES ('m','n','s','d','ssh','','',0,'','',x'00',x'00','{}',NULL,'0',NULL,'','')"
        )
        for number in range(3):
            plain.execute(
                "INSERT INTO media VALUES (?, x'00', 'm', '', ?, '', '', '', '')",
                [f"d{number}", f"P-{number}"],
            )
            plain.execute("INSERT INTO custody VALUES (?, 1, 'registered', '', x'00', x'00')", [f"d{number}"])
    plain.close()
    store = open_store(path)
    with store.read() as unit:
        assert [(row.digest, row.property_number, row.machine_id) for row in unit.evidence.media()] == [
            (f"d{number}", f"P-{number}", "m") for number in range(3)
        ]
        assert unit.fleet._connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []  # type: ignore[attr-defined]
    with pytest.raises(sa.exc.IntegrityError, match="FOREIGN KEY"), store.write() as unit:
        unit.evidence.add_custody(
            CustodyRow(medium="nobody", seq=1, event="registered", order_digest="", body=b"-", signature=b"-")
        )
    store.close()


def test_a_newer_database_is_left_alone(controller: Controller) -> None:
    with raw(controller) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StateError, match="newer release"):
        open_store(controller.home.database)


@pytest.mark.parametrize("damage", [b"", b"not a database, but long enough to be looked at" * 100])
def test_a_damaged_database_is_an_error_in_words(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "controller.db"
    with pytest.raises(StateError, match="missing"):
        open_store(path)
    path.write_bytes(damage)
    if damage:
        with pytest.raises(StateError, match="cannot be used"):
            open_store(path)
    else:
        open_store(path).close()  # an empty file is an empty database: a crash of init left it


def test_a_failed_unit_leaves_nothing(controller: Controller) -> None:
    machine = enrolled(controller, FakeAgent())
    with pytest.raises(ZeroDivisionError), controller.store.write() as unit:
        unit.fleet.set_note(machine.machine_id, "half")
        raise ZeroDivisionError
    with controller.store.read() as unit:
        found = unit.fleet.machine(machine.machine_id)
    assert found is not None
    assert found.note == ""


def test_an_order_changes_only_from_the_revision_that_was_read(controller: Controller) -> None:
    order = ordered(controller, enrolled(controller, FakeAgent()))
    with controller.store.write() as unit:
        assert unit.orders.change(order, OrderStatus.SENT, "2026-01-01T00:00:00Z")
    with controller.store.write() as unit:
        assert not unit.orders.change(order, OrderStatus.ATTENTION, "2026-01-01T00:00:01Z")
        now_there = unit.orders.get(order.digest)
    assert now_there is not None
    assert (now_there.status, now_there.rev) == (OrderStatus.SENT, 1)


def test_writers_from_several_threads_wait_for_each_other(controller: Controller) -> None:
    order = ordered(controller, enrolled(controller, FakeAgent()))
    lost: list[int] = []

    def write(start: int) -> None:
        for number in range(start, start + 20):
            with controller.store.write() as unit:
                if not unit.orders.add_event(order.digest, str(number).encode()):
                    lost.append(number)

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with controller.store.read() as unit:
        numbers = [number for number, _ in unit.orders.events(order.digest, 0)]
    assert numbers == list(range(1, 81))
    assert lost == []


def test_the_same_event_is_kept_once(controller: Controller) -> None:
    order = ordered(controller, enrolled(controller, FakeAgent()))
    with controller.store.write() as unit:
        assert unit.orders.add_event(order.digest, b"one")
        assert not unit.orders.add_event(order.digest, b"one")
        assert unit.orders.add_event(order.digest, b"two")
    with controller.store.read() as unit:
        assert unit.orders.events(order.digest, 1) == [(2, b"two")]


def test_counters_of_64_bits_keep_their_order(controller: Controller) -> None:
    machine = enrolled(controller, FakeAgent())
    with controller.store.write() as unit:
        unit.fleet.set_chain(machine.machine_id, 2**64 - 1, "0" * 64)
    with controller.store.read() as unit:
        found = unit.fleet.machine(machine.machine_id)
    assert found is not None
    assert found.counter == 2**64 - 1
