"""What root recorded of the drives reaches the controller through the unprivileged side."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from expunge_agent import inventory_report
from expunge_agent.devices import host
from expunge_agent.inventory_report import (
    RECORD,
    WANTED,
    Record,
    ask_for_record,
    read_record,
    record,
    with_record,
)
from expunge_agent.protocol import canonical, wire
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def item(serial: str, **told: object) -> wire.InventoryItem:
    plain = wire.InventoryItem(
        identity=BlockIdentity(bus="nvme", model="M", serial=serial, wwn="", size=U64(4096)),
        path="/dev/nvme9n1",
        type="ssd",
        firmware="",
        logical_sector=512,
        physical_sector=512,
        blocked=[],
        notes=[],
        drive={"bus": "nvme"},
        silent="nobody may ask it",
    )
    return msgspec.structs.replace(plain, **told)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path


def keep(state: Path, *items: wire.InventoryItem, boot: str = "") -> None:
    made = Record(at="2026-01-31T12:00:00Z", boot_id=boot or host.boot_id(), items=list(items))
    (state / RECORD).write_bytes(canonical.dumps(made))


def test_the_same_medium_gets_what_root_was_told_and_another_does_not(state: Path) -> None:
    keep(state, item("A", can="sanitize", silent="", members=["disk 0"]))
    answer = wire.Inventory(items=[item("A"), item("B")], problems=[])
    first, second = with_record(answer, read_record(state, 0)).items
    assert (first.can, first.silent, first.members) == ("sanitize", "", ["disk 0"])
    assert first.notes == ["The drive was asked by root at 2026-01-31T12:00:00Z."]
    assert second == item("B")


def test_a_record_of_another_boot_or_a_broken_one_says_nothing(state: Path) -> None:
    keep(state, item("A"), boot="another boot")
    assert read_record(state, 0) is None
    (state / RECORD).write_bytes(b'{"at": ')
    assert read_record(state, 0) is None


def test_it_asks_for_a_fresh_record_and_waits_for_it(state: Path) -> None:
    keep(state, item("A", can="old"))
    asked = ask_for_record(state)
    assert (state / "spool" / WANTED).exists()
    later = threading.Timer(0.3, keep, (state, item("A", can="new")))
    later.start()
    made = read_record(state, asked)
    later.join()
    assert made is not None
    assert made.items[0].can == "new"


def test_it_does_not_wait_for_ever(state: Path) -> None:
    keep(state, item("A", can="old"))
    made = read_record(state, ask_for_record(state), patience=0.2)
    assert made is not None
    assert made.items[0].can == "old"


def test_nobody_is_asked_where_root_records_nothing(state: Path) -> None:
    assert read_record(state, ask_for_record(state)) is None
    assert not (state / "spool" / WANTED).exists()


def test_root_records_what_this_machine_has(state: Path) -> None:
    known = record(state, NOW)
    made = read_record(state, 0)
    assert made is not None
    assert len(made.items) == known
    assert made.at == "2026-01-31T12:00:00Z"
    assert os.stat(state / RECORD).st_mode & 0o007 == 0
    report = inventory_report.report([], state, runs_orders=False)
    assert [one.identity for one in with_record(report, made).items] == [one.identity for one in made.items]
