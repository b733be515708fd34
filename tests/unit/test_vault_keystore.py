"""The keystore: bound, counted, never older than it was, and worth nothing once its root is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from expunge_agent.errors import (
    DocumentError,
    ExpungeError,
    NotFoundError,
    StateError,
    UsageError,
    VerificationError,
)
from expunge_agent.protocol import canonical
from expunge_agent.vault import keystore, work
from expunge_agent.vault.change import finish
from expunge_agent.vault.session import opens
from support.vaults import VaultBench

DATA = b"record 4711"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultBench:
    return VaultBench.make(tmp_path, monkeypatch)


def newest(bench: VaultBench) -> Path:
    return max((bench.folder / "keystore").glob("0*.json"))


def test_every_byte_of_a_keystore_counts(bench: VaultBench) -> None:
    bench.put("alice", DATA)
    path = newest(bench)
    data = path.read_bytes()
    with bench.held() as held:
        vault_key = held.unlock().vault_key
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 1
        with pytest.raises((DocumentError, VerificationError)):
            keystore.check(keystore.parse(bytes(altered), "keystore"), vault_key)
        path.write_bytes(bytes(altered))
        with bench.held() as held, pytest.raises(StateError, match=r"damaged|rolled back|holds"):
            held.shelf.current()
    path.write_bytes(data)
    assert bench.check().sound == 1


@pytest.mark.parametrize("field", ["subject", "key", "generation"])
def test_a_wrapped_key_belongs_to_its_entry_alone(bench: VaultBench, field: str) -> None:
    bench.put("alice", DATA)
    bench.put("bob", DATA)
    with bench.held() as held:
        unlocked = held.unlock()
        alice, bob = unlocked.store.entries
        moved = msgspec.structs.replace(alice, **{field: getattr(bob, field)})
        assert unlocked.data_key(alice) != unlocked.data_key(bob)
        with pytest.raises(VerificationError):
            unlocked.data_key(moved)


def test_a_key_of_another_vault_does_not_open(bench: VaultBench) -> None:
    bench.put("alice", DATA)
    with bench.held() as held:
        unlocked = held.unlock()
        other = msgspec.structs.replace(unlocked.store, vault="0" * 32)
        with pytest.raises(VerificationError):
            keystore.Unlocked(other, unlocked.vault_key).data_key(unlocked.store.entries[0])


def test_a_rolled_back_keystore_is_refused(bench: VaultBench, tmp_path: Path) -> None:
    bench.put("alice", DATA)
    shutil.copytree(bench.folder / "keystore", tmp_path / "old")
    bench.put("bob", DATA)
    shutil.rmtree(bench.folder / "keystore")
    shutil.copytree(tmp_path / "old", bench.folder / "keystore")
    with pytest.raises(StateError, match=r"rolled back.*generation 3.*generation 2"):
        bench.put("carol", DATA)


def test_a_forged_generation_beside_the_real_one_is_not_taken(bench: VaultBench) -> None:
    """Without the vault key nobody can write a generation that counts."""
    bench.put("alice", DATA)
    with bench.held() as held:
        store = held.shelf.current()
    forged = msgspec.structs.replace(
        store,
        generation=type(store.generation)(store.generation + 1),
        previous=canonical.sha256_hex(canonical.dumps(store)),
    )
    path = newest(bench).with_name(f"{forged.generation:020d}.json")
    path.write_bytes(canonical.dumps(forged))
    with pytest.raises(VerificationError, match="altered"):
        bench.put("bob", DATA)
    path.unlink()
    assert bench.check().sound == 1


@pytest.mark.parametrize("left", [0, 1, 300])
def test_a_torn_write_is_passed_over(bench: VaultBench, left: int) -> None:
    """The next generation lies there in part: never said to be written, so the one before counts."""
    bench.put("alice", DATA)
    path = newest(bench)
    torn = path.with_name(f"{int(path.name[:20]) + 1:020d}.json")
    torn.write_bytes(path.read_bytes()[:left])
    assert bench.check().sound == 1
    bench.put("bob", DATA)
    assert bench.check().sound == 2


def test_a_write_that_came_before_its_mark_counts(bench: VaultBench) -> None:
    bench.put("alice", DATA)
    marks = [bench.folder / "keystore" / "head.json", bench.place.floor(bench.vault)]
    before = [mark.read_bytes() for mark in marks]
    bench.put("bob", DATA)
    for mark, data in zip(marks, before, strict=True):
        mark.write_bytes(data)
    assert bench.check().sound == 2
    bench.put("carol", DATA)
    assert bench.check().sound == 3


def test_a_lost_mark_is_made_anew(bench: VaultBench) -> None:
    bench.put("alice", DATA)
    (bench.folder / "keystore" / "head.json").write_bytes(b"{")
    bench.put("bob", DATA)
    assert bench.check().sound == 2


def test_a_vault_on_a_new_machine_is_taken_as_it_is(bench: VaultBench) -> None:
    bench.put("alice", DATA)
    shutil.rmtree(bench.root / "known")
    bench.put("bob", DATA)
    assert bench.check().sound == 2
    assert bench.place.floor(bench.vault).exists()


def test_a_damaged_generation_is_named(bench: VaultBench) -> None:
    bench.put("alice", DATA)
    newest(bench).write_bytes(b"")
    with pytest.raises(StateError, match="Generation 2 of the keystore is damaged"):
        bench.check()


def test_a_rotation_keeps_everything_and_leaves_old_keystores_worthless(
    bench: VaultBench, tmp_path: Path
) -> None:
    object_id = bench.put("alice", DATA)
    shutil.copytree(bench.folder, tmp_path / "backup")
    bench.change()
    assert bench.get(object_id) == DATA
    old = keystore.parse(newest_of(tmp_path / "backup").read_bytes(), "old")
    with bench.held() as held:
        assert not opens(held, old)
        assert held.unlock().store.root != old.root
    shutil.rmtree(bench.folder)
    shutil.copytree(tmp_path / "backup", bench.folder)
    shutil.rmtree(bench.root / "known")
    with pytest.raises(NotFoundError, match="is not in the folder"):
        bench.get(object_id)


def newest_of(folder: Path) -> Path:
    return max((folder / "keystore").glob("0*.json"))


def test_an_old_backup_of_data_and_keystore_opens_nothing_of_the_shredded(
    bench: VaultBench, tmp_path: Path
) -> None:
    """The classic hole, and what is left of it: the root key's own file, if somebody kept a copy of it."""
    object_id = bench.put("alice", DATA)
    shutil.copytree(bench.folder, tmp_path / "backup")
    shutil.copytree(bench.root / "keys", tmp_path / "roots")
    bench.change(shred="alice")
    for known in (True, False):  # as it is, and on a machine that has never seen the vault
        shutil.rmtree(bench.folder)
        shutil.copytree(tmp_path / "backup", bench.folder)
        if not known:
            shutil.rmtree(bench.root / "known")
        with pytest.raises((StateError, NotFoundError)):
            bench.get(object_id)
    # What no vault with root keys in files can prevent, and the receipt's no-header-backup stands for.
    shutil.rmtree(bench.root / "keys")
    shutil.copytree(tmp_path / "roots", bench.root / "keys")
    assert bench.get(object_id) == DATA


STEPS = ("changing", "create", "put", "written", "destroying", "spoil", "spoiled", "destroy", "drop")


class Broken(BaseException):
    """As a kill: nothing catches it."""


@pytest.mark.parametrize("shred", ["alice", ""])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_a_change_broken_off_at_any_step_is_finished(
    bench: VaultBench, monkeypatch: pytest.MonkeyPatch, step: str, after: bool, shred: str
) -> None:
    alice, bob = bench.put("alice", DATA), bench.put("bob", DATA)
    with bench.held() as held:
        key = held.entry("alice").key if shred else ""
    job = canonical.dumps(bench.job(shred=key, subject=shred))
    with monkeypatch.context() as patch:
        break_at(patch, step, after=after)
        with pytest.raises(Broken):
            work.change(job)
    with bench.held() as held:
        assert held.story.shredding(key) is None, "not said before it was seen"
    # Whoever comes next finishes it.
    assert bench.get(bob) == DATA
    with bench.held() as held:
        assert held.story.pending is None
        begun = bool(held.story.changes)
        assert begun or (step == "changing" and not after)
        for change, gone in held.story.changes:
            assert not held.holder.has(change.from_root)
            assert gone.doubts == []
    if begun and shred:
        with pytest.raises(ExpungeError, match="shredded"):
            bench.get(alice)
    else:
        assert bench.get(alice) == DATA


@pytest.mark.parametrize("step", ["create", "put", "spoil", "destroy"])
@pytest.mark.parametrize("after", [False, True])
def test_a_wrong_passphrase_after_a_broken_off_change_harms_nothing(
    bench: VaultBench, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    alice = bench.put("alice", DATA)
    with monkeypatch.context() as patch:
        break_at(patch, step, after=after)
        with pytest.raises(Broken):
            bench.change()
    with contextlib.suppress(
        ExpungeError
    ):  # where the old root is spoiled already, no key is needed any more
        work.check(canonical.dumps(bench.job(passphrase="a typo")))
    assert bench.check().sound == 1
    assert bench.get(alice) == DATA


def break_at(patch: pytest.MonkeyPatch, step: str, *, after: bool) -> None:
    """Make the process seem to die before or after one step."""
    from expunge_agent.vault.holders.file import FileHolder
    from expunge_agent.vault.session import Session
    from expunge_agent.vault.shelf import Shelf

    owner, name = {
        "create": (FileHolder, "create"),
        "spoil": (FileHolder, "spoil"),
        "destroy": (FileHolder, "destroy"),
        "put": (Shelf, "put"),
        "drop": (Shelf, "drop_other_roots"),
    }.get(step, (Session, "record"))
    real = getattr(owner, name)

    def dying(self: object, *args: object, **more: object) -> object:
        if name == "record" and args[0] != step:
            return real(self, *args, **more)
        if after:
            real(self, *args, **more)
        raise Broken

    patch.setattr(owner, name, dying)


def test_a_vault_without_its_journal_is_refused(bench: VaultBench) -> None:
    (bench.folder / "journal.jsonl").unlink()
    with pytest.raises(StateError, match="journal"):
        bench.check()


def test_an_altered_journal_is_refused(bench: VaultBench) -> None:
    bench.put("alice", DATA)
    bench.change()
    path = bench.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"kind":"written"', b'"kind":"created"'))
    with pytest.raises(StateError, match="damaged at record"):
        bench.check()


def test_finishing_needs_nothing_to_finish(bench: VaultBench) -> None:
    with bench.held() as held:
        assert finish(held) is None


def test_two_vaults_do_not_share_a_folder(bench: VaultBench) -> None:
    holder = {"kind": "file", "folder": str(bench.root / "keys")}
    job = canonical.parse(canonical.dumps(bench.job()))
    with pytest.raises(UsageError, match="already"):
        work.create(canonical.dumps({**job, "holder": holder, "vault": "a" * 32}))


def test_a_root_key_file_is_overwritten_before_it_goes(bench: VaultBench) -> None:
    (path,) = (bench.root / "keys").glob("root-*.json")
    before = path.read_bytes()
    fd = os.open(path, os.O_RDONLY)  # keeps the inode
    try:
        bench.change()
        assert not path.exists()
        after = os.pread(fd, 65536, 0)
    finally:
        os.close(fd)
    assert len(after) == len(before)
    assert sum(a == b for a, b in zip(after, before, strict=True)) < len(before) // 8
