"""The controller's log: everything kept is entered, nothing that was signed can be unsaid, and `check` finds what was changed."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from expunge_agent.errors import DocumentError, RefusedError, StateError, UsageError
from expunge_agent.protocol.canonical import U64
from expunge_controller import bundling, keys, log_audit, log_tiles, translog
from expunge_controller.bundle import bundle_files
from expunge_controller.context import Controller, opened
from expunge_controller.intake import store_receipt
from expunge_controller.records import merkle, tiles
from expunge_controller.records.certificate import parse_certificate
from expunge_controller.records.checkpoint import parse_checkpoint, parse_proof
from expunge_controller.records.findings import failures
from expunge_controller.records.log_entry import EntryKind, entry_of, parse_entry
from expunge_controller.records.log_policy import LogPolicy
from expunge_controller.records.note import verified
from expunge_controller.store.rows import OrderRow
from expunge_controller.store.schema import TRIGGERS
from expunge_controller.store.sqlite import open_store
from support.controllers import FakeAgent, disk, enrolled, make_controller, now, ordered


def wiped(controller: Controller, agent: FakeAgent, number: int = 1, name: str = "alpha") -> OrderRow:
    """An order whose receipt was stored."""
    with controller.store.read() as unit:
        machine = unit.fleet.machine_named(name)
    machine = machine or enrolled(controller, agent, name)
    order = ordered(controller, machine, disk(number))
    previous = {"previous": machine.last_digest} if machine.last_digest else {}
    receipt = agent.receipt(order.body, counter=U64(machine.counter + 1), **previous)
    stored = store_receipt(controller, machine.machine_id, *receipt, now=now())
    assert not stored.reasons
    return order


def kinds(controller: Controller) -> list[str]:
    with controller.store.read() as unit:
        return [parse_entry(row.body).kind for row in unit.log.entries(0, unit.log.size())]


def own_policy(controller: Controller) -> LogPolicy:
    with controller.store.read() as unit:
        return translog.policy_in(unit, controller.home)


def problems(controller: Controller, *against: bytes) -> str:
    return " | ".join(
        f"{step.title}: {step.detail}" for step in failures(log_audit.check_own(controller, against))
    )


def test_everything_that_is_kept_is_entered_as_it_is_kept(controller: Controller) -> None:
    agent = FakeAgent()
    order = wiped(controller, agent)
    assert kinds(controller) == [
        "key", "key-event", "enrolment", "key-event", "order", "custody", "custody", "receipt", "custody", "custody", "custody",
        "certificate",
    ]  # fmt: skip
    store_receipt(controller, agent.machine_id, b"{}", b"", now=now())
    assert kinds(controller)[-1] == "aside"
    assert problems(controller) == ""
    with controller.store.read() as unit:
        (row,) = unit.evidence.certificates_of_order(order.digest)
    log = parse_certificate(row.body).evidence.log
    assert log is not None
    assert (int(log.number), log.witnesses, log.required) == (7, [], 0)


def test_an_entry_holds_hashes_only(controller: Controller) -> None:
    order = wiped(controller, FakeAgent())
    with controller.store.read() as unit:
        receipt = unit.evidence.receipt_of_order(order.digest)
        bodies = [row.body for row in unit.log.entries(0, unit.log.size())]
    assert receipt is not None
    entry = entry_of(EntryKind.RECEIPT, receipt.body, receipt.signature)
    assert bodies[7] == entry
    assert entry.decode().splitlines()[:2] == ["expunge log entry v1", "kind receipt"]
    assert parse_entry(entry).body == receipt.digest
    second = entry_of(EntryKind.RECEIPT, b"1", b"2", b"3")
    assert parse_entry(second).mldsa65
    assert not any(b"FICT" in body for body in bodies)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"expunge log entry v1\nkind receipt\n",
        b"expunge log entry v2\nkind receipt\nbody " + b"0" * 64 + b"\n",
        b"expunge log entry v1\nkind rumour\nbody " + b"0" * 64 + b"\n",
        b"expunge log entry v1\nkind receipt\nbody " + b"0" * 64 + b"\n\n",
        b"expunge log entry v1\nkind receipt\nbody " + b"A" * 64 + b"\n",
    ],
)
def test_what_is_no_entry(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_entry(data)


def test_a_receipt_that_cannot_be_logged_is_not_kept(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    from expunge_controller.store.sql_log import SqlLog

    def full(*_: object) -> int:
        raise StateError("no room")

    monkeypatch.setattr(SqlLog, "append", full)
    with pytest.raises(StateError):
        store_receipt(controller, agent.machine_id, *agent.receipt(order.body), now=now())
    with controller.store.read() as unit:
        assert unit.evidence.receipts(5) == []


def test_heads_are_signed_once_and_continue_each_other(controller: Controller) -> None:
    agent = FakeAgent()
    wiped(controller, agent)
    first = translog.head(controller, now())
    assert translog.head(controller, now()) == first
    wiped(controller, agent, 2)
    second = translog.head(controller, now())
    before, after = parse_checkpoint(first.body)[0], parse_checkpoint(second.body)[0]
    assert after.size > before.size
    with controller.store.read() as unit:
        proof = merkle.consistency_proof(unit.log.node, before.size, after.size)
        key = translog.key_in(unit)
    assert merkle.is_consistent(before.size, after.size, proof, before.root, after.root)
    assert [one.key for one in verified(parse_checkpoint(second.body)[1], [key])] == [key]
    assert controller.home.log_head.read_bytes() == second.body
    assert problems(controller, first.body, second.body) == ""


def without_triggers(controller: Controller, *statements: str) -> None:
    """Change the database as somebody who owns it can."""
    connection = sqlite3.connect(controller.home.database)
    for name in TRIGGERS:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for sql in TRIGGERS.values():
        connection.execute(sql)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (
            ["UPDATE log_entries SET body = replace(body, 'receipt', 'custody') WHERE n = 7"],
            "entry 7 was changed",
        ),
        (["DELETE FROM log_entries WHERE n = 7"], "entry 7 is missing"),
        (["DELETE FROM log_entries WHERE n > 7"], "the newest are gone"),
        (["UPDATE log_entries SET above = zeroblob(32) WHERE n = 7"], "the tree above entry 7"),
        (["DELETE FROM certificates"], "the document of entry 11 (certificate) is gone"),
        (["DELETE FROM certificates", "DELETE FROM receipts"], "the document of entry 7 (receipt) is gone"),
        (["UPDATE receipts SET signature = x'00'"], "1 documents are not in the log"),
        (["DELETE FROM checkpoints", "UPDATE log_keys SET body = 'a+00000000+AA=='"], ""),
    ],
)
def test_the_owner_of_the_database_is_noticed(
    controller: Controller, statements: list[str], problem: str
) -> None:
    wiped(controller, FakeAgent())
    translog.head(controller, now())
    without_triggers(controller, *statements)
    if not problem:
        with pytest.raises(StateError, match="key in the database is damaged"):
            log_audit.check_own(controller, [])
        return
    assert problem in problems(controller)


def test_a_log_made_anew_is_noticed_only_by_what_others_kept(controller: Controller) -> None:
    """With the database, the key and the folder one can forge everything here; not what went out before."""
    agent = FakeAgent()
    wiped(controller, agent)
    theirs = translog.head(controller, now()).body
    with controller.store.read() as unit:
        rows = list(unit.log.entries(0, unit.log.size()))
    tree = merkle.MemoryTree()
    statements = ["DELETE FROM cosignatures", "DELETE FROM checkpoints", "DELETE FROM certificates"]
    statements.append("DELETE FROM log_entries")
    for row in [row for row in rows if parse_entry(row.body).kind is not EntryKind.CERTIFICATE]:
        above = b"".join(tree.append(row.leaf)[1:])
        values = f"{tree.size - 1}, x'{row.body.hex()}', x'{row.leaf.hex()}', x'{above.hex()}'"
        statements.append(f"INSERT INTO log_entries VALUES ({values})")
    without_triggers(controller, *statements)
    assert "the newest are gone" in problems(controller), "the head kept beside the database"
    controller.home.log_head.unlink()
    assert problems(controller) == ""
    assert "12 entries were signed, and there are 11" in problems(controller, theirs)
    wiped(controller, agent, 2)
    translog.head(controller, now())
    assert "the first 12 entries are not those that were signed" in problems(controller, theirs)


def test_nothing_is_signed_that_contradicts_what_was_signed(controller: Controller, tmp_path: Path) -> None:
    agent = FakeAgent()
    wiped(controller, agent)
    controller.store.close()
    older = tmp_path / "older.db"
    shutil.copy(controller.home.database, older)
    with opened(controller.home) as again:
        wiped(again, agent, 2)
        translog.head(again, now())
    for path in controller.home.path.glob("controller.db*"):
        path.unlink()
    shutil.copy(older, controller.home.database)
    with opened(controller.home) as again:
        with pytest.raises(StateError, match="does not continue the"):
            translog.head(again, now())
        wiped(again, agent, 3)  # grown again, otherwise
        wiped(again, agent, 4)
        with pytest.raises(StateError, match="does not continue the"):
            translog.head(again, now())


def test_an_older_database_goes_on_with_a_copy_of_the_log(controller: Controller, tmp_path: Path) -> None:
    agent = FakeAgent()
    wiped(controller, agent)
    controller.store.close()
    older = controller.home.database.read_bytes()
    with opened(controller.home) as again:
        second = wiped(again, agent, 2)
        log_tiles.publish(again, tmp_path / "tiles", now())
        size = len(kinds(again))
        with again.store.read() as unit:
            receipt = unit.evidence.receipt_of_order(second.digest)
    assert receipt is not None
    for path in controller.home.path.glob("controller.db*"):
        path.unlink()
    controller.home.database.write_bytes(older)
    controller.home.database.chmod(0o600)
    with opened(controller.home) as again:
        assert log_tiles.restore(again, tmp_path / "tiles") == size - 12
        assert log_tiles.restore(again, tmp_path / "tiles") == 0
        translog.head(again, now())
        with again.store.read() as unit:
            entry = entry_of(EntryKind.RECEIPT, receipt.body, receipt.signature)
            assert unit.log.number_of(merkle.leaf_hash(entry)) is not None
        found = problems(again)
        assert "is gone" in found, "the documents did not come back"
        assert log_audit.SIGNED not in found


def test_another_log_is_not_taken_back(controller: Controller, tmp_path: Path) -> None:
    fill(controller, 5)
    log_tiles.publish(controller, tmp_path / "tiles", now())
    other = make_controller(tmp_path / "other")
    with pytest.raises(RefusedError, match="not signed by it"):
        log_tiles.restore(other, tmp_path / "tiles")
    other.store.close()
    without_triggers(controller, "DELETE FROM log_entries WHERE n > 2")
    with controller.store.write() as unit:
        unit.log.append(entry_of(EntryKind.RECEIPT, b"made since"))
    with pytest.raises(RefusedError, match="do not begin with the 4 here"):
        log_tiles.restore(controller, tmp_path / "tiles")
    with controller.store.read() as unit:
        assert unit.log.size() == 4, "nothing was changed"


def test_the_logs_key_is_not_replaced_by_another(controller: Controller) -> None:
    controller.home.log_key.unlink()
    keys.ensure_key(controller.home.log_key, "another")
    with pytest.raises(StateError, match="not the key with which this log began"):
        translog.head(controller, now())
    controller.home.log_key.unlink()
    with pytest.raises(Exception, match="is missing"):
        translog.head(controller, now())


def test_a_database_from_before_the_log(controller: Controller) -> None:
    """What was kept is entered at the next start, once, and later documents follow."""
    agent = FakeAgent()
    order = wiped(controller, agent)
    without_triggers(controller, "DELETE FROM log_entries", "DELETE FROM log_keys")
    controller.store.close()
    with opened(controller.home) as again:
        found = kinds(again)
        assert found[0] == "key"
        assert sorted(found[1:]) == sorted(
            ["enrolment", "key-event", "key-event", "order", "receipt", "certificate"] + ["custody"] * 5
        )
        assert problems(again) == ""
        size = len(found)
    with opened(controller.home) as again:
        assert len(kinds(again)) == size
        # Its certificate names an entry of the tree that is gone; a bundle says so.
        assert bundling.collect(again, order.order_id, 0, now()).log is not None


def test_the_export_waits_for_the_witnesses_that_the_policy_asks_for(controller: Controller) -> None:
    order = wiped(controller, FakeAgent())
    key = own_policy(controller).logs[0]
    witness = key._replace(name="w.example", kind=4)
    controller.home.log_policy.write_text(f"quorum = 1\n[[witness]]\nvkey = '{witness.text}'\n")
    with pytest.raises(RefusedError, match="waits for witnesses"):
        bundling.collect(controller, order.order_id, 0, now())
    controller.home.log_policy.write_text("quorum = 2\n")
    with pytest.raises(StateError, match=r"log-policy.toml: .* names 0 witnesses"):
        bundling.collect(controller, order.order_id, 0, now())
    controller.home.log_policy.unlink()
    files = bundle_files(bundling.collect(controller, order.order_id, 0, now()))
    again = bundle_files(bundling.collect(controller, order.order_id, 0, now()))
    assert files == again
    assert parse_proof(files["receipt.tlog-proof"]).number == 7


@pytest.mark.parametrize("size", [2, 3, 255, 256, 257, 600])
def test_the_log_as_a_folder(controller: Controller, tmp_path: Path, size: int) -> None:
    folder = tmp_path / "tiles"
    fill(controller, size // 2)
    log_tiles.publish(controller, folder, now())
    fill(controller, size)
    done = log_tiles.publish(controller, folder, now())
    assert done.size == size
    copy = log_tiles.Copy(folder)
    head = translog.head(controller, now()).body
    assert not failures(log_audit.check_copy(copy, own_policy(controller), [head]))
    nodes = tiles.nodes_from(copy.read, size)
    with controller.store.read() as unit:
        for number in range(0, size, 37):
            assert merkle.inclusion_proof(nodes, number, size) == merkle.inclusion_proof(
                unit.log.node, number, size
            )
        assert merkle.root(nodes, size) == merkle.root(unit.log.node, size)
    assert log_tiles.publish(controller, folder, now()).written == 1, "the checkpoint alone"


def test_a_changed_copy_is_noticed(controller: Controller, tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    fill(controller, 300)
    log_tiles.publish(controller, folder, now())
    policy = own_policy(controller)
    for name in (
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ):
        path = folder / name
        good = path.read_bytes()
        path.write_bytes(
            good[:40] + bytes([good[40] ^ 1]) + good[41:] if len(good) > 40 else good[:-1] + b"x"
        )
        assert failures(log_audit.check_copy(log_tiles.Copy(folder), policy, [])), name
        path.write_bytes(good[:-1])
        assert failures(log_audit.check_copy(log_tiles.Copy(folder), policy, [])), name
        path.unlink()
        assert failures(log_audit.check_copy(log_tiles.Copy(folder), policy, [])), name
        path.write_bytes(good)
    assert not failures(log_audit.check_copy(log_tiles.Copy(folder), policy, []))
    other = LogPolicy(logs=(policy.logs[0]._replace(name="another"),))
    assert failures(log_audit.check_copy(log_tiles.Copy(folder), other, []))


def test_a_folder_that_is_not_this_logs(controller: Controller, tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    (folder / "letters.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        log_tiles.publish(controller, folder, now())
    other = make_controller(tmp_path / "other")
    fill(other, 9)
    log_tiles.publish(other, tmp_path / "theirs", now())
    other.store.close()
    for size in (1, 9, 12):
        fill(controller, size)
        with pytest.raises(UsageError, match="a log that this one does not continue"):
            log_tiles.publish(controller, tmp_path / "theirs", now())


def test_paths_of_tiles() -> None:
    assert tiles.Tile(0, 1234067, 256).path == "tile/0/x001/x234/067"
    assert tiles.Tile(-1, 0, 3).path == "tile/entries/000.p/3"
    # tlog-tiles, "Partial Tiles": a tree of size 70,000.
    found = list(tiles.tiles_of(70_000))
    full = [tile.level for tile in found if tile.width == 256]
    assert (full.count(0), full.count(1)) == (273, 1)
    assert [(tile.level, tile.width) for tile in found if tile.width < 256 and tile.level >= 0] == [
        (0, 112), (1, 17), (2, 1),
    ]  # fmt: skip


def fill(controller: Controller, size: int) -> None:
    """Bring the log to `size` entries."""
    with controller.store.write() as unit:
        for number in range(unit.log.size(), size):
            unit.log.append(entry_of(EntryKind.RECEIPT, b"%d" % number))


def test_the_store_finds_no_second_log(controller: Controller) -> None:
    store = open_store(controller.home.database)
    with pytest.raises(Exception, match="append-only"), store.write() as unit:
        unit.log.set_key("another", "2026-01-01T00:00:00Z")
    store.close()
