"""Who else holds the shared extents of a file, as the file system tells it: bounded, and only for naming them."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from expunge_agent.commands import kernel_sharing as kernel
from expunge_agent.core.file_reach import SHARED, Part
from expunge_agent.core.layout import MOST_EXTENTS
from expunge_agent.core.sharing import NOT_ASKED, SUBVOLUME_TOP, Holder, Sharing

MOST_ASKED = 4
"""Extents of one file that are looked up."""
MOST_NAMED = 3
"""Holders of one file's extents that are named."""
MOST_OF_ALL = 2000
"""Extents that are looked up for one target, so that a tree of copies is not held up by it."""
_RECORDS = 64
_DEEP = 16
_ROOT_ONLY = "who that is the file system tells root only, or only where it has a reverse map"


@dataclass
class Sharers:
    """Looks up holders for the files of one target."""

    filesystem: str
    _left: int = MOST_OF_ALL
    _names: dict[int, tuple[str, str]] = field(default_factory=dict)
    _snapshots: dict[int, int] = field(default_factory=dict)

    def of(self, fd: int, parts: Sequence[Part] | None) -> Sharing:
        """Who else has the shared ones of `parts` of the open file."""
        shared = [part for part in parts or () if part.flags & SHARED]
        if not shared or self.filesystem not in ("btrfs", "xfs"):
            return NOT_ASKED
        asked = shared[: min(MOST_ASKED, self._left)]
        if not asked:
            return Sharing(untold=f"looked up for the first {MOST_OF_ALL} extents only")
        self._left -= len(asked)
        found: dict[Holder, None] = {}
        more = False
        try:
            for part in asked:
                holders, missed = self._ask(fd, part)
                more = more or missed
                for holder in holders:
                    if len(found) < MOST_NAMED or holder in found:
                        found[holder] = None
                    else:
                        more = True
                        break
        except OSError:
            more = True
        if not found:
            return Sharing(untold=_ROOT_ONLY)
        return Sharing(tuple(found), more, len(asked), len(shared))

    def snapshotted(self, fd: int, parts: Sequence[Part] | None) -> bool:
        """Whether a snapshot was taken of the open file's subvolume since one of its `parts` that is not shared was
        written, if only for a while: btrfs copies that at the next write, whatever its flags (can_nocow_extent)."""
        alone = [part for part in parts or () if not part.flags & SHARED]
        if self.filesystem != "btrfs" or not alone:
            return False
        try:
            root = kernel.btrfs_root_of(fd)
            if root not in self._snapshots:
                self._snapshots[root] = kernel.btrfs_last_snapshot(fd, root)
            last = self._snapshots[root]
            return last > 0 and any(
                written <= last and _holds(alone, offset)
                for offset, written in islice(
                    kernel.btrfs_written(fd, root, os.fstat(fd).st_ino), MOST_EXTENTS
                )
            )
        except OSError:
            return False  # it is seen afterwards then

    def _ask(self, fd: int, part: Part) -> tuple[Iterator[Holder], bool]:
        if self.filesystem == "xfs":
            inodes, more = kernel.xfs_owners(fd, part.physical, part.length, _RECORDS)
            own = os.fstat(fd).st_ino
            return (Holder("inode", str(one)) for one in inodes if one != own), more
        references, more = kernel.btrfs_references(fd, part.physical)
        return self._on_btrfs(fd, references), more

    def _on_btrfs(self, fd: int, references: Sequence[kernel.Reference]) -> Iterator[Holder]:
        here, own = kernel.btrfs_root_of(fd), os.fstat(fd).st_ino
        for one in references:
            if one == (own, here):
                continue
            path = _path(fd, one)
            if one.root == here:
                yield Holder("own", path=path)
            else:
                yield Holder(*self._subvolume(fd, one.root), path)

    def _subvolume(self, fd: int, root: int) -> tuple[str, str]:
        """(kind, path from the top of the file system) of a subvolume."""
        if root not in self._names:
            self._names[root] = _named(fd, root)
        return self._names[root]


def _holds(parts: Sequence[Part], offset: int) -> bool:
    place = bisect_right(parts, offset, key=lambda part: part.logical) - 1
    return place >= 0 and offset < parts[place].end


def _path(fd: int, one: kernel.Reference) -> str:
    try:
        return _text(kernel.btrfs_path(fd, one.root, one.inode))
    except OSError:
        return f"inode {one.inode}"


def _named(fd: int, root: int) -> tuple[str, str]:
    if root == SUBVOLUME_TOP:
        return "subvolume", "/"
    kind, parts, here = "subvolume", list[bytes](), root
    while here != SUBVOLUME_TOP and len(parts) < _DEEP:
        try:
            found = kernel.btrfs_root(fd, here)
            if found is None:
                return kind, f"number {root}"
            above = kernel.btrfs_path(fd, found.parent, found.folder)
        except OSError:
            return kind, f"number {root}"
        if here == root and found.snapshot:
            kind = "snapshot"
        parts.append(b"/".join(one for one in (above, found.name) if one))
        here = found.parent
    return kind, _text(b"/".join(reversed(parts)))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
