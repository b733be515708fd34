"""What lay under a target before and after: pure comparisons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expunge_agent.core.beneath import BackingFile, Beneath, changes, holding
from expunge_agent.core.file_reach import SHARED, UNWRITTEN, FileFacts, Ground, Part, reach_alone
from expunge_agent.core.volume import Layout, Volume, doubts, forbidden
from expunge_agent.protocol.canonical import U64

DISK = BackingFile(device="8:1", inode=U64(12), path="/srv/disk", extents=[(U64(4096), U64(8192))])
FACTS = FileFacts(size=8192, parts=[Part(0, 4096, 8192, 0)])


def at(*extents: tuple[int, int], inode: int = 12) -> Beneath:
    places = [(U64(start), U64(length)) for start, length in extents]
    return Beneath(files=[BackingFile(device="8:1", inode=U64(inode), path="/srv/disk", extents=places)])


def test_a_file_below_that_stayed_is_no_exception() -> None:
    before = Beneath(files=[DISK])
    assert changes(before, before) == []
    assert changes(before, at((4096, 4096), (8192, 4096), (40960, 4096))) == [], "split, and grown"
    assert changes(Beneath(doubts=["thin"]), Beneath(doubts=["thin"])) == [], "said before already"


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (at((40960, 8192)), "8192 bytes of the file /srv/disk"),
        (at((4096, 4096)), "4096 bytes of the file /srv/disk"),
        (at((4096, 8192), inode=13), "could not be looked at again"),
        (Beneath(), "could not be looked at again"),
        (Beneath(doubts=["/dev/loop0 lies in the file /srv/disk: shared"]), "shared"),
    ],
)
def test_a_file_below_that_moved_or_was_shared_is_one(after: Beneath, says: str) -> None:
    (found,) = changes(Beneath(files=[DISK]), after)
    assert says in found


def test_only_written_extents_of_its_own_hold_data() -> None:
    parts = [Part(0, 4096, 4096, 0), Part(4096, 8192, 4096, UNWRITTEN), Part(8192, 12288, 4096, SHARED)]
    assert holding(parts) == [(4096, 4096)]


@pytest.mark.parametrize(
    ("kind", "told", "decided"),
    [
        ("ext4", True, True),
        ("btrfs", True, False),
        ("overlay", True, False),
        ("nfs4", False, False),
        ("fuse.expunge", False, None),
        ("novelfs", False, None),
        ("tmpfs", False, None),
    ],
)
def test_a_file_by_itself(kind: str, told: bool, decided: bool | None) -> None:
    answer = reach_alone(Ground(filesystem=kind), FACTS if told else replace(FACTS, parts=None))
    assert (answer.ok if answer is not None else None) is decided


def test_volumes_of_other_makers() -> None:
    for layout, word in ((Layout.ZVOL, "ZFS"), (Layout.BCACHE, "bcache")):
        found = forbidden(Volume(name="/dev/one", layout=layout))
        assert found is not None
        assert word in found.why
    mapped = Volume(name="one", layout=Layout.LINEAR, targets=("linear", "novel"))
    assert doubts(mapped) == ["one is mapped by novel: whether that writes in place is not known here."]
    assert "dmsetup" in doubts(replace(mapped, targets=(), unasked=True))[0]
    assert doubts(replace(mapped, targets=("linear", "crypt"))) == []
