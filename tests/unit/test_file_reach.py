"""What an overwrite of a file can reach: the decision, from facts alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expunge_agent.core.file_reach import (
    ENCODED,
    ENCRYPTED,
    FS_APPEND,
    FS_IMMUTABLE,
    FS_JOURNAL_DATA,
    FS_NOCOW,
    INLINE,
    SHARED,
    UNKNOWN,
    UNWRITTEN,
    FileFacts,
    Ground,
    Part,
    own,
    reach,
    stayed,
)
from expunge_agent.protocol.receipt import Reason

EXT4 = Ground(filesystem="ext4")
PART = Part(0, 1 << 20, 8192, 0)
FILE = FileFacts(size=8000, parts=(PART,))


def with_flags(*flags: int) -> FileFacts:
    """A file of one extent for each of `flags`."""
    parts = tuple(Part(n * 4096, (1 << 20) + n * 4096, 4096, one) for n, one in enumerate(flags))
    return replace(FILE, size=4096 * len(flags), parts=parts)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "vfat", "tmpfs"])
def test_in_place(kind: str) -> None:
    answer = reach(Ground(filesystem=kind), FILE)
    assert answer.ok
    assert answer.why == ()


@pytest.mark.parametrize(
    ("ground", "facts", "reason", "says"),
    [
        (Ground(filesystem="btrfs"), FILE, Reason.NOT_REACHABLE, "writes changes to new places"),
        (
            Ground(filesystem="zfs"),
            replace(FILE, parts=None),
            Reason.NOT_REACHABLE,
            "writes changes to new places",
        ),
        (Ground(filesystem="bcachefs"), FILE, Reason.NOT_REACHABLE, "writes changes to new places"),
        (Ground(filesystem="overlay"), FILE, Reason.NOT_REACHABLE, "another file system"),
        (Ground(filesystem="nfs4"), replace(FILE, parts=None), Reason.NOT_REACHABLE, "another machine"),
        (Ground(filesystem="fuse.sshfs"), replace(FILE, parts=None), Reason.NOT_REACHABLE, "another machine"),
        (
            Ground(filesystem="novelfs"),
            replace(FILE, parts=None),
            Reason.NOT_REACHABLE,
            "does not tell where",
        ),
        (
            Ground(filesystem="ext4", options=frozenset({"data=journal"})),
            FILE,
            Reason.NOT_REACHABLE,
            "journal",
        ),
        (EXT4, replace(FILE, flags=FS_JOURNAL_DATA), Reason.NOT_REACHABLE, "journal"),
        (EXT4, with_flags(0, ENCODED), Reason.NOT_REACHABLE, "compressed"),
        (EXT4, with_flags(INLINE), Reason.NOT_REACHABLE, "file system's own data"),
        (EXT4, with_flags(0, UNKNOWN), Reason.NOT_REACHABLE, "does not tell where a part"),
        (
            EXT4,
            with_flags(SHARED, SHARED),
            Reason.NOT_REACHABLE,
            "2 extents (8192 bytes, from byte 1048576 of the file system on) shared",
        ),
        (EXT4, replace(FILE, flags=FS_IMMUTABLE), Reason.READ_ONLY, "immutable"),
        (EXT4, replace(FILE, flags=FS_APPEND), Reason.READ_ONLY, "append-only"),
        (EXT4, replace(FILE, links=3, names=2), Reason.HARD_LINKED, "3 names, 1 of them outside"),
        (EXT4, replace(FILE, opened_by=("12 postgres",)), Reason.IN_USE, "12 postgres"),
        (EXT4, replace(FILE, used="it is used as swap"), Reason.HELD, "swap"),
        (EXT4, replace(FILE, system="it lies in the system's /usr"), Reason.SYSTEM, "running system"),
        (EXT4, replace(FILE, parts=[PART] * 20_001), Reason.NOT_REACHABLE, "more than 20000 pieces"),
    ],
    ids=lambda value: value.filesystem if isinstance(value, Ground) else None,
)
def test_refused(ground: Ground, facts: FileFacts, reason: Reason, says: str) -> None:
    answer = reach(ground, facts)
    assert not answer.ok
    assert answer.reason is reason
    assert says in answer.why[0]


@pytest.mark.parametrize(
    ("ground", "facts", "says"),
    [
        (Ground(filesystem="xfs"), with_flags(0, SHARED), "1 extent (4096 bytes, from byte 1052672 "),
        (EXT4, with_flags(ENCRYPTED), "encrypted by the file system"),
        (Ground(filesystem="vfat"), replace(FILE, parts=None), "was not seen"),
        (Ground(filesystem="tmpfs", swap=True), replace(FILE, parts=None), "gone to swap"),
        (Ground(filesystem="novelfs"), FILE, "not known here"),
        (replace(EXT4, beneath=("the volume has a snapshot",)), FILE, "snapshot"),
    ],
)
def test_exceptions(ground: Ground, facts: FileFacts, says: str) -> None:
    answer = reach(ground, facts)
    assert answer.ok
    assert says in answer.why[0]


def test_nocow_on_btrfs_is_in_place_unless_shared() -> None:
    btrfs = Ground(filesystem="btrfs", options=frozenset({"compress=zstd"}))
    assert reach(btrfs, replace(FILE, flags=FS_NOCOW)).why == ()
    assert not reach(btrfs, replace(with_flags(SHARED), flags=FS_NOCOW)).ok


def test_an_empty_file_can_lie_anywhere() -> None:
    assert reach(Ground(filesystem="zfs"), FileFacts(size=0, parts=())).ok


def test_what_lies_beyond_the_end_is_not_the_files() -> None:
    parts = [Part(0, 1000, 8192, 0), Part(8192, 90_000, 65_536, UNKNOWN)]
    assert own(parts, 8192) == [Part(0, 1000, 8192, 0)]
    assert own(parts, 4096) == [Part(0, 1000, 4096, 0)]


@pytest.mark.parametrize(
    ("before", "after", "left", "shared"),
    [
        ([Part(0, 100, 8, 0)], [Part(0, 100, 8, 1)], 0, 0),
        ([Part(0, 100, 8, UNWRITTEN)], [Part(0, 100, 4, 0), Part(4, 104, 4, UNWRITTEN)], 0, 0),
        ([Part(0, 100, 8, 0)], [Part(0, 200, 8, 0)], 8, 0),
        ([Part(0, 100, 8, 0)], [Part(0, 100, 4, 0), Part(4, 300, 4, 0)], 4, 0),
        ([Part(0, 100, 8, 0)], [Part(0, 100, 8, SHARED)], 0, 8),
        ([Part(0, 100, 8, 0)], [], 8, 0),
        ([Part(0, 100, 4, SHARED), Part(4, 500, 4, 0)], [Part(0, 900, 4, 0), Part(4, 500, 4, 0)], 0, 0),
        # The same place for another part of the file is no overwrite of what lay there.
        ([Part(0, 100, 4, 0), Part(4, 200, 4, 0)], [Part(0, 200, 4, 0), Part(4, 100, 4, 0)], 8, 0),
    ],
)
def test_whether_it_stayed(before: list[Part], after: list[Part], left: int, shared: int) -> None:
    change = stayed(before, after)
    assert (change.left, change.shared) == (left, shared)
