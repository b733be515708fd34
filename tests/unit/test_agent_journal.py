"""The journal keeps every record, drops only a write cut off at its end, and notices anything else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.errors import NoSpaceError, StateError
from expunge_agent.journal import DamagedJournalError, Journal, replace_damaged

AT = "2026-11-22T12:00:00Z"


def write(path: Path, count: int) -> bytes:
    with Journal(path, "boot-1") as journal:
        for number in range(count):
            journal.append("step", AT, {"number": number})
    return path.read_bytes()


def test_records_survive_reopening(tmp_path: Path) -> None:
    write(tmp_path / "j", 3)
    with Journal(tmp_path / "j", "boot-2") as journal:
        journal.append("step", AT, {"number": 3})
    with Journal(tmp_path / "j", "boot-3") as journal:
        assert [record.data["number"] for record in journal.records] == [0, 1, 2, 3]
        assert [record.boot for record in journal.records] == ["boot-1"] * 3 + ["boot-2"]


def test_every_cut_leaves_the_whole_records_before_it(tmp_path: Path) -> None:
    whole = write(tmp_path / "j", 3)
    ends = [at + 1 for at, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole) + 1):
        path = tmp_path / "cut"
        path.write_bytes(whole[:cut])
        with Journal(path, "b") as journal:
            assert len(journal.records) == sum(end <= cut for end in ends)
            journal.append("step", AT, {"number": 99})
        with Journal(path, "b") as journal:
            assert journal.records[-1].data == {"number": 99}


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("j") / "j"
    whole = bytearray(write(path, 4))
    last_line = whole[:-1].rfind(b"\n") + 1
    position %= last_line  # the last record may be taken for a write cut off, if its newline goes
    whole[position] ^= flip
    path.write_bytes(whole)
    with pytest.raises(DamagedJournalError):
        Journal(path, "b").__exit__()


def test_a_lost_or_doubled_record_is_noticed(tmp_path: Path) -> None:
    lines = write(tmp_path / "j", 4).splitlines(keepends=True)
    for wrong in ([0, 2, 3], [0, 0, 1, 2], [1, 0, 2, 3], [1, 2, 3]):
        (tmp_path / "j").write_bytes(b"".join(lines[at] for at in wrong))
        with pytest.raises(DamagedJournalError):
            Journal(tmp_path / "j", "b").__exit__()


def test_a_failed_write_leaves_the_journal_whole_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets share a journal: none may write behind half a line, or a second record of the same number."""
    write(tmp_path / "j", 2)
    with Journal(tmp_path / "j", "b") as journal:
        real = os.write

        def short(descriptor: int, data: bytes) -> int:
            if len(data) < 30:
                raise OSError(errno.ENOSPC, "full")
            return real(descriptor, data[: len(data) - 20])

        monkeypatch.setattr(os, "write", short)
        with pytest.raises(NoSpaceError):
            journal.append("step", AT, {"number": 2})
        monkeypatch.undo()
        with pytest.raises(StateError):
            journal.append("step", AT, {"number": 2})
    with Journal(tmp_path / "j", "b") as journal:
        assert [record.data["number"] for record in journal.records] == [0, 1]


def test_a_damaged_journal_is_replaced_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"nonsense\n")
    replace_damaged(tmp_path / "j", "b", AT, "why")
    with Journal(tmp_path / "j", "b") as journal:
        assert [(record.kind, record.data) for record in journal.records] == [("damaged", {"why": "why"})]
    assert [path.read_bytes() for path in tmp_path.glob("journal.damaged.*")] == [b"nonsense\n"]
