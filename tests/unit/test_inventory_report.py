"""What root recorded of the drives reaches the controller through the unprivileged side."""

from __future__ import annotations

import os
import threading
import time
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
from expunge_agent.protocol.identity import BlockIdentity, KeyIdentity

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
    first, second = with_record(answer, read_record(state, 0, []), []).items
    assert (first.can, first.silent, first.members) == ("sanitize", "", ["disk 0"])
    assert first.notes == ["The drive was asked by root at 2026-01-31T12:00:00Z."]
    assert second == item("B")


def test_a_record_of_another_boot_or_a_broken_one_says_nothing(state: Path) -> None:
    keep(state, item("A"), boot="another boot")
    assert read_record(state, 0, []) is None
    (state / RECORD).write_bytes(b'{"at": ')
    assert read_record(state, 0, []) is None


def test_it_asks_for_a_fresh_record_and_waits_for_it(state: Path) -> None:
    keep(state, item("A", can="old"))
    asked = ask_for_record(state, [])
    assert (state / "spool" / WANTED).exists()
    later = threading.Timer(0.3, keep, (state, item("A", can="new")))
    later.start()
    made = read_record(state, asked, [])
    later.join()
    assert made is not None
    assert made.items[0].can == "new"


def test_it_does_not_wait_for_ever(state: Path) -> None:
    keep(state, item("A", can="old"))
    made = read_record(state, ask_for_record(state, []), [], patience=0.2)
    assert made is not None
    assert made.items[0].can == "old"


def test_nobody_is_asked_where_root_records_nothing(state: Path) -> None:
    assert read_record(state, ask_for_record(state, []), []) is None
    assert not (state / "spool" / WANTED).exists()


def test_root_records_what_this_machine_has(state: Path) -> None:
    known = record(state, NOW)
    made = read_record(state, 0, [])
    assert made is not None
    assert len(made.items) == known
    assert made.at == "2026-01-31T12:00:00Z"
    assert os.stat(state / RECORD).st_mode & 0o007 == 0
    report = inventory_report.report([], state, runs_orders=False)
    assert [one.identity for one in with_record(report, made, []).items] == [
        one.identity for one in made.items
    ]


def hidden_item(path: str, *asked: str) -> wire.InventoryItem:
    who = KeyIdentity(scheme="vault", key="ab" * 16, path="/srv/vault", host="h")
    return item("", identity=who, path=path, asked=list(asked), drive={})


def test_root_looks_at_the_paths_that_only_it_may_enter(state: Path) -> None:
    """What this user cannot see, root was asked for by the note; the answer tells who looked."""
    keep(state, item("A"))
    paths = ["vault:/srv/vault", "fscrypt:/srv/nothing", "/dev/nvme9n1"]
    ask_for_record(state, paths)
    seen = inventory_report._wanted(state)
    assert seen == paths
    own = wire.Inventory(
        items=[item("A")],
        problems=["vault:/srv/vault: This user may not use it.", "fscrypt:/srv/nothing: Permission denied."],
    )
    made = Record(
        at="2026-01-31T12:00:00Z",
        boot_id=host.boot_id(),
        items=[hidden_item("vault:/srv/vault#4711", "vault:/srv/vault"), hidden_item("vault:/other#1")],
        problems=["fscrypt:/srv/nothing: The folder is not encrypted."],
        asked=paths,
    )
    answer = with_record(own, made, paths)
    assert [one.path for one in answer.items] == ["/dev/nvme9n1", "vault:/srv/vault#4711"]
    assert answer.items[1].notes == ["It was looked at by root at 2026-01-31T12:00:00Z."]
    assert answer.problems == ["fscrypt:/srv/nothing: The folder is not encrypted."]


def test_a_record_that_does_not_tell_of_the_paths_is_waited_for(state: Path) -> None:
    keep(state, item("A"))
    begun = time.monotonic()
    made = read_record(state, 0, ["/srv/closed"], patience=0.2)
    assert made is not None
    assert time.monotonic() - begun > 0.15
    assert with_record(
        wire.Inventory(items=[], problems=["/srv/closed: no"]), made, ["/srv/closed"]
    ).problems == ["/srv/closed: no"]


MANY = b'{"paths":[' + b",".join([b'"/a"'] * 257) + b"]}"


@pytest.mark.parametrize("note", [b"", b"{", b'{"paths":["/a"],"more":1}', b'{"paths":"/a"}', MANY])
def test_a_note_that_is_none_asks_for_nothing(state: Path, note: bytes) -> None:
    (state / "spool" / WANTED).write_bytes(note)
    assert inventory_report._wanted(state) == []
    (state / "spool" / WANTED).unlink()
    (state / "elsewhere").write_bytes(canonical.dumps(inventory_report.Wanted(paths=["/a"])))
    (state / "spool" / WANTED).symlink_to(state / "elsewhere")
    assert inventory_report._wanted(state) == [], "a link is not followed"


def test_a_path_of_any_length_leaves_a_record_that_can_be_read(state: Path) -> None:
    ask_for_record(state, [])
    (state / RECORD).unlink(missing_ok=True)
    (state / "spool" / WANTED).write_bytes(
        canonical.dumps(inventory_report.Wanted(paths=["fscrypt:/" + "a" * 4080, "/" + "b" * 4090]))
    )
    record(state, NOW)
    made = read_record(state, 0, [])
    assert made is not None
    assert len(made.problems) == 2


def test_a_note_is_answered_once(state: Path, tmp_path: Path) -> None:
    keep(state, item("A"))
    folder = tmp_path / "closed"
    folder.mkdir()
    ask_for_record(state, [str(folder)])
    record(state, NOW)
    made = read_record(state, 0, [str(folder)])
    assert made is not None
    assert [one.path for one in made.items if one.path == str(folder)] == [str(folder)]
    record(state, NOW)
    again = read_record(state, 0, [])
    assert again is not None
    assert again.asked == []
