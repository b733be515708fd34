"""Who else has a block: the kernel's answers taken apart, and put into words."""

from __future__ import annotations

import struct

import pytest

from expunge_agent.commands.kernel_sharing import (
    Reference,
    Root,
    parse_owners,
    parse_references,
    parse_root,
)
from expunge_agent.core.file_reach import SHARED, FileFacts, Ground, Part, reach
from expunge_agent.core.sharing import NOT_ASKED, Holder, Sharing

SNAPSHOT = Holder("snapshot", "daily/1", "a/b")


def test_references_of_btrfs() -> None:
    answer = struct.pack("=4I9Q", 0, 0, 6, 0, 257, 0, 5, 300, 4096, 256, 9, 9, 9)
    assert parse_references(answer) == ([Reference(257, 5), Reference(300, 256)], False)


def test_references_that_did_not_fit() -> None:
    """The count is not believed beyond what the answer has room for."""
    answer = struct.pack("=4I3Q", 0, 48, 9, 6, 257, 0, 5)
    assert parse_references(answer) == ([Reference(257, 5)], True)


def searched(*items: tuple[int, int, bytes]) -> bytes:
    buffer = bytearray(struct.pack("=7Q4I32x", 1, 256, 256, 0, 0, 0, 0, 132, 144, len(items), 0))
    for offset, kind, data in items:
        buffer += struct.pack("=3Q2I", 7, 256, offset, kind, len(data)) + data
    return bytes(buffer)


def item(parent: bytes) -> bytes:
    return bytes(263) + parent.ljust(16, b"\0") + bytes(160)


def test_a_snapshot_of_btrfs_and_where_it_stands() -> None:
    place = struct.pack("<QQH", 258, 4, 5) + b"of\xff-1"
    assert parse_root(searched((0, 132, item(b"x")), (5, 144, place))) == Root(5, 258, b"of\xff-1", True)
    assert parse_root(searched((0, 132, item(b"")), (5, 144, place))) == Root(5, 258, b"of\xff-1", False)


def test_a_subvolume_without_a_name_and_an_answer_cut_short() -> None:
    assert parse_root(searched((0, 132, item(b"")))) is None
    whole = searched((0, 132, item(b"")), (5, 144, struct.pack("<QQH", 258, 4, 1) + b"n"))
    assert parse_root(whole[: 104 + 32 + 440 + 10]) is None


def mapped(*records: tuple[int, int, int, int], count: int = 8) -> bytes:
    head = struct.pack("=4I48x", 0, 1, count, len(records)) + bytes(128)
    return head + b"".join(
        struct.pack("=IIQQQQ24x", 1, flags, at, owner, 0, size) for flags, at, owner, size in records
    )


def test_owners_of_xfs() -> None:
    answer = mapped((8, 4096, 131, 8192), (8, 4096, 132, 4096), (0x10, 4096, 3, 4096), (8, 99999, 133, 1))
    assert parse_owners(answer, 8192, 4096) == ([131], False)
    assert parse_owners(answer, 4096, 4096) == ([131, 132], False)
    assert parse_owners(mapped((8, 0, 1, 9), count=1), 0, 9) == ([1], True)


@pytest.mark.parametrize(
    ("sharing", "words"),
    [
        (NOT_ASKED, "another file or snapshot"),
        (Sharing(untold="root only"), "another file or snapshot (root only)"),
        (Sharing((SNAPSHOT,), asked=1, extents=1), "snapshot daily/1 (a/b)"),
        (
            Sharing((SNAPSHOT, Holder("inode", "7")), more=True, asked=4, extents=9),
            "snapshot daily/1 (a/b), inode 7 and others (the first 4 extents were looked up)",
        ),
        (Sharing((Holder("own", path="x\ny"),)), "the file x\\ny of its own subvolume"),
    ],
)
def test_the_words(sharing: Sharing, words: str) -> None:
    assert sharing.in_words() == words


def test_the_answer_names_the_holder() -> None:
    parts = [Part(0, 4096, 4096, SHARED), Part(4096, 12288, 4096, 0)]
    ground = Ground(filesystem="btrfs")
    facts = FileFacts(size=8192, parts=parts, flags=0x800000, sharing=Sharing((SNAPSHOT,), False, 1, 1))
    assert "shared with snapshot daily/1 (a/b), where what they hold stays" in reach(ground, facts).why[0]


def test_what_a_snapshot_had_is_not_overwritten_in_place() -> None:
    facts = FileFacts(size=4096, parts=[Part(0, 4096, 4096, 0)], flags=0x800000, snapshotted=True)
    answer = reach(Ground(filesystem="btrfs"), facts)
    assert not answer.ok
    assert "a snapshot of its subvolume was taken" in answer.why[0]
