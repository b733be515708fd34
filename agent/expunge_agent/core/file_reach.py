"""What an overwrite of one file can reach, decided from what the kernel says before anything is written.

Three answers: it is overwritten where it lies; it is, but for named exceptions; or it cannot be reached (then
it is neither written to nor unlinked). Of file systems the type says whether they *mean* to write in place
(their own documentation; NIST SP 800-88 r2 counts an overwrite only where it reaches the addressed places);
that they did is seen afterwards, from the extents. The meaning of extent flags:
Documentation/filesystems/fiemap.rst; of inode flags: ioctl_iflags(2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from expunge_agent.core.guard import listing
from expunge_agent.core.layout import MOST_EXTENTS
from expunge_agent.core.sharing import NOT_ASKED, Sharing
from expunge_agent.protocol.receipt import Reason

IN_PLACE = (
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "vfat",
    "msdos",
    "exfat",
    "ntfs3",
    "jfs",
    "udf",
    "hfsplus",
    "minix",
)
COPY_ON_WRITE = ("btrfs", "zfs", "bcachefs", "nilfs2", "f2fs", "ubifs", "jffs2", "apfs", "reiser4")
REMOTE = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "ceph",
    "9p",
    "virtiofs",
    "afs",
    "lustre",
    "glusterfs",
    "gfs2",
    "ocfs2",
)
STACKED = ("overlay", "aufs", "ecryptfs", "unionfs")
ATTRIBUTES_IN_PLACE = ("ext2", "ext3", "ext4")
IN_MEMORY = ("tmpfs", "ramfs", "hugetlbfs")

UNKNOWN, DELAYED, ENCODED, ENCRYPTED, INLINE, UNWRITTEN, SHARED = 0x2, 0x4, 0x8, 0x80, 0x200, 0x800, 0x2000
"""FIEMAP_EXTENT_*"""
FS_COMPRESSED, FS_IMMUTABLE, FS_APPEND, FS_JOURNAL_DATA, FS_ENCRYPTED, FS_NOCOW = (
    0x4, 0x10, 0x20, 0x4000, 0x800, 0x800000,
)  # fmt: skip
"""FS_*_FL"""

ELSEWHERE = (
    "Remove the snapshots and copies that hold its blocks, delete it, and wipe the free space of the file system; or "
    "sanitize the whole device, or destroy the key that its data is encrypted with."
)


class Part(NamedTuple):
    """One extent: bytes of the file from ``logical`` on lie at ``physical``; ``flags`` as FIEMAP gives them."""

    logical: int
    physical: int
    length: int
    flags: int

    @property
    def end(self) -> int:
        """The offset in the file after its last byte."""
        return self.logical + self.length


@dataclass(frozen=True)
class Ground:
    """What all files of a target stand on. ``options`` of the mount and the file system; ``beneath``: what
    keeps old data under the device (thin pool, snapshot, file on a copy-on-write file system), as sentences."""

    filesystem: str
    options: frozenset[str] = frozenset()
    block: int = 4096
    swap: bool = False
    flash: bool = False
    discards: bool = False
    virtual: bool = False
    beneath: tuple[str, ...] = ()

    @property
    def memory(self) -> bool:
        """Whether there is no device under it."""
        return self.filesystem in IN_MEMORY


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the kernel says of one regular file. ``parts`` None: it does not say where the file lies.
    ``names``: how many of its ``links`` lie in the target; ``used`` how the kernel itself uses it.
    ``attributes``: the length of each extended attribute that is not the system's own. ``sharing``: who else has
    its shared extents; ``snapshotted``: a snapshot was taken since it was written."""

    size: int
    parts: Sequence[Part] | None
    flags: int = 0
    links: int = 1
    names: int = 1
    opened_by: tuple[str, ...] = ()
    used: str = ""
    system: str = ""
    attributes: Sequence[int] = ()
    sharing: Sharing = NOT_ASKED
    snapshotted: bool = False


class Reach(NamedTuple):
    """``ok`` False: it must not be written to, for `reason`. Else ``why`` names the exceptions, if any."""

    ok: bool
    why: tuple[str, ...] = ()
    remedy: str = ""
    reason: Reason = Reason.NOT_REACHABLE


WHOLE = Reach(True)


def reach(ground: Ground, facts: FileFacts) -> Reach:
    """The answer for one file."""
    if against := _forbidden(facts) or _unreachable(ground, facts):
        return against
    why = [*ground.beneath, *_exceptions(ground, facts)]
    return Reach(True, tuple(why), ELSEWHERE) if why else WHOLE


def reach_alone(ground: Ground, facts: FileFacts) -> Reach | None:
    """The answer for a file that is a target by itself, of which the guard has looked at who uses it.

    None: as `reach` cannot say, since it is in memory or its file system is a program's (FUSE) or not known here and
    does not tell where it lies. Such a file is written to, and its receipt has the doubt.
    """
    kind = ground.filesystem
    told = kind in (*IN_PLACE, *COPY_ON_WRITE, *REMOTE, *STACKED)
    if ground.memory or (facts.parts is None and not told):
        return None
    return reach(ground, facts)


def _forbidden(facts: FileFacts) -> Reach | None:
    """Who needs it, and what protects it."""
    if facts.system:
        return Reach(False, (f"it is needed by the running system: {facts.system}",), "", Reason.SYSTEM)
    if facts.used:
        remedy = "End that use first (swapoff, losetup -d, umount)."
        return Reach(False, (facts.used,), remedy, Reason.HELD)
    if facts.opened_by:
        why = f"it is open in process {listing(facts.opened_by)}"
        return Reach(False, (why,), "End that program first, by its own means for a database.", Reason.IN_USE)
    if facts.flags & (FS_IMMUTABLE | FS_APPEND):
        what, letter = ("immutable", "i") if facts.flags & FS_IMMUTABLE else ("append-only", "a")
        return Reach(
            False, (f"it is {what}",), f"Take the attribute away: chattr -{letter}", Reason.READ_ONLY
        )
    if facts.links > facts.names:
        why = f"it has {facts.links} names, {facts.links - facts.names} of them outside this target"
        remedy = "Find the others (find -xdev -samefile) and name them too, or remove them."
        return Reach(False, (why,), remedy, Reason.HARD_LINKED)
    return None


def _unreachable(ground: Ground, facts: FileFacts) -> Reach | None:
    """Where an overwrite would go elsewhere than the data."""
    if facts.size == 0 and not facts.parts:
        return None
    kind = ground.filesystem
    if kind in REMOTE or kind.startswith("fuse"):
        return _not(f"{kind} does not tell where the file lies: another machine or program keeps it", _SERVER)
    if kind in STACKED:
        return _not(f"{kind} passes writes on to another file system, or copies the file up first", _BELOW)
    if kind in COPY_ON_WRITE and not (kind == "btrfs" and facts.flags & FS_NOCOW):
        return _not(f"{kind} writes changes to new places, so the old data would stay")
    if "data=journal" in ground.options or facts.flags & FS_JOURNAL_DATA:
        return _not("its data goes through the journal of the file system, which keeps copies", _JOURNAL)
    if facts.parts is None:
        if ground.memory or kind in IN_PLACE:
            return None
        return _not(f"{kind} does not tell where the file lies, so an overwrite may go elsewhere")
    if len(facts.parts) > MOST_EXTENTS:
        return _not(f"it lies in more than {MOST_EXTENTS} pieces, too many to be followed")
    return _unreachable_parts(facts) or (_not(_COPIED) if facts.snapshotted else None)


def _unreachable_parts(facts: FileFacts) -> Reach | None:
    parts = facts.parts or ()
    together = 0
    for part in parts:
        together |= part.flags
    if together & ENCODED or (facts.flags & FS_COMPRESSED and together & UNKNOWN):
        return _not("it is stored compressed, so changed data goes to new places")
    if together & INLINE:
        return _not("it is stored among the file system's own data, whose changes go through its journal")
    if together & (UNKNOWN | DELAYED):
        return _not("the file system does not tell where a part of it lies")
    shared = [part for part in parts if part.flags & SHARED]
    if shared and len(shared) == len(parts):
        return _not(f"{_shared(shared, facts.sharing)}: an overwrite would reach none of it")
    return None


def _exceptions(ground: Ground, facts: FileFacts) -> list[str]:
    found = []
    parts = facts.parts
    if parts is None:
        if facts.size and not ground.memory:
            found.append(
                f"{ground.filesystem} does not tell where the file lies: that it was overwritten in place was not seen"
            )
    else:
        if shared := [part for part in parts if part.flags & SHARED]:
            found.append(f"{_shared(shared, facts.sharing)}, where what they hold stays")
        if any(part.flags & ENCRYPTED for part in parts):
            found.append("a part of it is stored encrypted by the file system")
    if words := _attributes(ground, facts):
        found.append(words)
    if ground.memory and ground.swap and facts.size:
        found.append("pages of it may have gone to swap")
    if parts and ground.filesystem not in (*IN_PLACE, *IN_MEMORY, "btrfs"):
        found.append(f"whether {ground.filesystem} always writes in place is not known here")
    return found


def _attributes(ground: Ground, facts: FileFacts) -> str:
    """ext writes a value of the same length where it lay; one that needs blocks of its own into new ones, and with
    ``ea_inode`` that may be any."""
    if ground.memory or not facts.attributes:
        return ""
    in_place = ground.filesystem in ATTRIBUTES_IN_PLACE and "ea_inode" not in ground.options
    if in_place and max(facts.attributes) < ground.block:
        return ""
    count = sum(facts.attributes)
    return (
        f"its extended attributes ({count} bytes) are taken away, but what they held may stay on the medium"
    )


def _shared(parts: Sequence[Part], sharing: Sharing) -> str:
    """How much is shared, where the first of it lies, by which the file system's own tools find who else has it, and who
    that is where it was told."""
    count = f"{len(parts)} extents" if len(parts) > 1 else "1 extent"
    where = f"from byte {parts[0].physical} of the file system on"
    return f"{count} ({sum(part.length for part in parts)} bytes, {where}) shared with {sharing.in_words()}"


_COPIED = (
    "a snapshot of its subvolume was taken since it was written, and be it gone by now: btrfs writes the next change to a "
    "new place"
)
_SERVER = "Destroy it where it is stored: on the server, or on the device under it."
_BELOW = "Name it by its path in the layer that holds it."
_JOURNAL = "Mount the file system with data=ordered (or chattr -j), copy and delete the file, and wipe the free space; or sanitize the whole device."


def _not(why: str, remedy: str = ELSEWHERE) -> Reach:
    return Reach(False, (why,), remedy)


@dataclass(frozen=True)
class Stays:
    """Whether a file still lies where it lay: ``left`` bytes do not, and ``shared`` bytes became so meanwhile."""

    left: int = 0
    shared: int = 0


def own(parts: Sequence[Part], size: int) -> list[Part]:
    """The extents that hold data of a file of `size` bytes (rounded up to a block), clipped to it.

    What is allocated beyond the end holds nothing of the file and comes and goes.
    """
    if parts and parts[-1].logical + parts[-1].length <= size:
        return list(parts)
    return [
        part if part.end <= size else Part(part.logical, part.physical, size - part.logical, part.flags)
        for part in parts
        if part.logical < size
    ]


def stayed(before: Sequence[Part], after: Sequence[Part]) -> Stays:
    """Compare two answers about one file; parts shared before are left out, an overwrite moves them."""
    if list(before) == list(after):
        return Stays()
    kept = [part for part in before if not part.flags & SHARED]
    places = _joined(after)
    left = 0
    for start, shift, end in _joined(kept):
        there = sum(
            max(0, min(end, other_end) - max(start, other_start))
            for other_start, other_shift, other_end in places
            if other_shift == shift
        )
        left += end - start - there
    were = sum(part.length for part in before if part.flags & SHARED)
    shared = sum(part.length for part in after if part.flags & SHARED)
    return Stays(left=left, shared=max(0, shared - were))


def _joined(parts: Iterable[Part]) -> list[tuple[int, int, int]]:
    """(start, shift, end) ascending, the shift being from offset in the file to place; equal neighbours are one."""
    found: list[tuple[int, int, int]] = []
    for start, shift, end in sorted((part.logical, part.logical - part.physical, part.end) for part in parts):
        if found and found[-1][2] == start and found[-1][1] == shift:
            found[-1] = (found[-1][0], shift, end)
        else:
            found.append((start, shift, end))
    return found
