"""Objects of a vault: only what was sealed, for whom it was sealed, comes out; whole, or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from expunge_agent.errors import (
    DocumentError,
    NotFoundError,
    PermissionProblemError,
    RefusedError,
    UsageError,
    VerificationError,
)
from expunge_agent.protocol import canonical
from expunge_agent.vault import work
from expunge_agent.vault.look import looking
from expunge_agent.vault.manifest import manifest
from expunge_agent.vault.objects import appearing
from expunge_agent.vault.story import UNSAID
from support.vaults import NOW, VaultBench

DATA = b"record 4711 " * 10


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultBench:
    return VaultBench.make(tmp_path, monkeypatch)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_what_was_put_comes_back(bench: VaultBench, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert bench.get(bench.put("alice", data[:size])) == data[:size]


def test_nothing_of_it_lies_there_in_clear(bench: VaultBench) -> None:
    bench.put("alice", DATA)
    for path in bench.folder.rglob("*"):
        assert path.is_dir() or b"4711" not in path.read_bytes(), path


def test_every_byte_of_an_object_counts(bench: VaultBench) -> None:
    object_id = bench.put("alice", DATA)
    path = bench.folder / "objects" / object_id
    sealed = path.read_bytes()
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        path.write_bytes(bytes(altered))
        with pytest.raises((VerificationError, DocumentError)):
            bench.get(object_id)
    path.write_bytes(sealed)
    assert bench.get(object_id) == DATA


def test_no_shorter_object_opens(bench: VaultBench) -> None:
    object_id = bench.put("alice", DATA)
    path = bench.folder / "objects" / object_id
    sealed = path.read_bytes()
    for end in range(len(sealed)):
        path.write_bytes(sealed[:end])
        with pytest.raises((VerificationError, DocumentError)):
            bench.get(object_id)


def test_objects_cannot_be_exchanged(bench: VaultBench) -> None:
    one, other = bench.put("alice", DATA), bench.put("bob", DATA[::-1])
    first, second = (bench.folder / "objects" / one), (bench.folder / "objects" / other)
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    with pytest.raises(VerificationError, match=r"exchanged|under the name"):
        bench.get(one)
    # The header of one before the chunks of the other.
    head_a, head_b = len(a) - len(DATA) - 16, len(b) - len(DATA) - 16
    first.write_bytes(a[:head_a] + b[head_b:])
    with pytest.raises(VerificationError):
        bench.get(one)


def test_a_header_that_names_another_subject_is_refused(bench: VaultBench) -> None:
    object_id = bench.put("alice", DATA)
    bench.put("malice", DATA)
    path = bench.folder / "objects" / object_id
    sealed = path.read_bytes()
    swapped = sealed.replace(b'"subject":"alice"', b'"subject":"bob"')
    length = int.from_bytes(sealed[8:12], "big") - 2
    path.write_bytes(swapped[:8] + length.to_bytes(4, "big") + swapped[12:])
    with pytest.raises(VerificationError, match="does not belong"):
        bench.get(object_id)


def test_a_wrong_passphrase_is_said_in_a_sentence(bench: VaultBench) -> None:
    object_id = bench.put("alice", DATA)
    with pytest.raises(PermissionProblemError, match="passphrase"):
        bench.get(object_id, passphrase="wrong")


def test_a_taken_name_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "there"
    path.write_bytes(b"before")
    with pytest.raises(UsageError, match="exists"), appearing(path) as sink:
        sink.write(b"after")
    assert path.read_bytes() == b"before"
    with appearing(path, replace=True) as sink:
        sink.write(b"after")
    assert path.read_bytes() == b"after"
    assert [one.name for one in tmp_path.iterdir()] == ["there"]


def test_what_breaks_off_leaves_no_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), appearing(tmp_path / "half") as sink:
        sink.write(b"half of it")
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # EISDIR: as an old kernel answers
    with appearing(tmp_path / "whole") as sink:
        sink.write(b"all")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("whole", b"all")]


def test_labels_are_sealed_too(bench: VaultBench) -> None:
    object_id = bench.put("alice", DATA)
    answer = canonical.loads(work.labels(canonical.dumps(bench.job())), work.Answer)
    assert answer.labels == {object_id: "L"}


def test_check_names_what_is_wrong(bench: VaultBench) -> None:
    good, bad = bench.put("alice", DATA), bench.put("alice", DATA)
    path = bench.folder / "objects" / bad
    path.write_bytes(path.read_bytes()[:-1])
    answer = bench.check()
    assert (answer.sound, len(answer.wrong)) == (1, 1)
    assert bad in answer.wrong[0]
    assert good not in answer.wrong[0]


def test_a_get_that_broke_off_is_remembered_as_partly_given_out(bench: VaultBench) -> None:
    good, bad = bench.put("alice", DATA), bench.put("alice", DATA)
    path = bench.folder / "objects" / bad
    path.write_bytes(path.read_bytes()[:-1])
    bench.get(good)
    with pytest.raises(VerificationError):
        bench.get(bad)
    with bench.held() as held:
        assert [one.object for one in held.story.exports] == [good, bad]
        assert held.story.partly == {held.story.exports[1].id}


def test_a_taken_target_gets_no_plaintext_and_no_record(bench: VaultBench) -> None:
    object_id = bench.put("alice", DATA)
    taken = bench.root / "taken"
    taken.write_bytes(b"before")
    with pytest.raises(UsageError, match="exists"):
        work.get(canonical.dumps(bench.job(object=object_id, path=str(taken))))
    with bench.held() as held:
        assert held.story.exports == []


def test_without_a_record_it_is_still_known_that_something_went_out(bench: VaultBench) -> None:
    bench.get(bench.put("alice", DATA), record=False)
    with bench.held() as held:
        (export,) = held.story.exports
        assert (export.where, export.by) == (UNSAID, "-")


@pytest.mark.parametrize("how", ["cut", "put back"])
def test_a_journal_without_an_export_that_happened_is_noticed(bench: VaultBench, how: str) -> None:
    object_id = bench.put("alice", DATA)
    path = bench.folder / "journal.jsonl"
    before = path.read_bytes()
    bench.get(object_id)
    path.write_bytes(before if how == "put back" else b"".join(path.read_bytes().splitlines(True)[:-1]))
    with looking(bench.place, NOW) as held:
        assert "cut or put back" in held.story.gaps[0]
    bench.change(shred="alice")
    with looking(bench.place, NOW) as held:  # the new keystore knows the cut journal, which says so itself
        assert held.gap() == ""
        assert len(held.story.gaps) == 1


def test_unknown_things_are_said(bench: VaultBench) -> None:
    with pytest.raises(NotFoundError):
        bench.get("f" * 32)
    with pytest.raises(NotFoundError):
        bench.get("../vault.json")
    with bench.held() as held, pytest.raises(NotFoundError):
        held.entry("nobody")


def test_a_shredded_subject_takes_and_gives_nothing(bench: VaultBench) -> None:
    object_id, other = bench.put("alice", DATA), bench.put("bob", DATA)
    bench.change(shred="alice")
    for act in (lambda: bench.get(object_id), lambda: bench.put("alice", DATA)):
        with pytest.raises(RefusedError, match="shredded"):
            act()
    assert bench.get(other) == DATA
    answer = bench.check()
    assert (answer.sound, answer.wrong) == (1, [])


@pytest.mark.parametrize("odd", ["folder", "fifo", "link", "socket"])
def test_what_is_no_file_among_the_objects_is_named(bench: VaultBench, odd: str) -> None:
    bench.put("alice", DATA)
    path = bench.folder / "objects" / ("f" * 32)
    if odd == "folder":
        path.mkdir()
    elif odd == "fifo":
        os.mkfifo(path)
    elif odd == "link":
        path.symlink_to("/dev/zero")
    else:
        os.mknod(path, 0o600 | stat.S_IFSOCK)
    answer = bench.check()
    assert (answer.sound, len(answer.wrong)) == (1, 1)
    assert "no regular file" in answer.wrong[0]
    with looking(bench.place, NOW) as held:
        assert len(manifest(held, "m", lambda _: None).damaged) == 1


def test_memory_that_may_be_swapped_is_written_down_once(
    bench: VaultBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "swap_risk", lambda: "the machine swaps")
    for _ in range(2):
        bench.put("alice", DATA)
    assert (bench.folder / "journal.jsonl").read_bytes().count(b"the machine swaps") == 1
    with bench.held() as held:
        assert held.story.swappable == "the machine swaps"


def test_what_killed_writes_left_is_cleared_away(bench: VaultBench) -> None:
    bench.put("alice", DATA)
    (root,) = (bench.root / "keys").glob("root-*.json")
    left = [
        bench.folder / "keystore" / f".{2:020d}.json.0123456789abcdef.new",
        bench.root / "known" / bench.vault / ".newest.json.0123456789abcdef.new",
        root.with_name(f".{root.name}.0123456789abcdef.new"),
    ]
    for path in left:
        path.write_bytes(b"x")
    bench.change()
    assert [path for path in left if path.exists()] == []
