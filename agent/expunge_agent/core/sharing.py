"""Who else holds blocks of a file: other files, subvolumes and snapshots, as words."""

from __future__ import annotations

from dataclasses import dataclass

from expunge_agent.core.guard import readable

SUBVOLUME_TOP = 5
"""The root id of a btrfs's top subvolume, which has no name (BTRFS_FS_TREE_OBJECTID)."""
_LONGEST = 300


@dataclass(frozen=True)
class Holder:
    """A file that holds a block too. ``kind``: ``snapshot`` or ``subvolume`` it lies in, ``own`` for that of the file
    itself, or ``inode``; ``place``: the name of that, or the inode number; ``path`` within it, where it is known."""

    kind: str
    place: str = ""
    path: str = ""

    def in_words(self) -> str:
        """It, as it may stand in a document."""
        path, place = readable(self.path, _LONGEST), readable(self.place, _LONGEST)
        if self.kind == "own":
            return f"the file {path} of its own subvolume"
        return f"{self.kind} {place} ({path})" if path else f"{self.kind} {place}"


@dataclass(frozen=True)
class Sharing:
    """What was found out about shared extents: of ``extents`` the first ``asked`` were looked up. ``more``: not every
    holder is named. ``untold``: why nothing is known."""

    holders: tuple[Holder, ...] = ()
    more: bool = False
    asked: int = 0
    extents: int = 0
    untold: str = ""

    def in_words(self) -> str:
        """With whom it is shared: "snapshot daily/1 (a/b) and others"."""
        if not self.holders:
            return f"another file or snapshot ({self.untold})" if self.untold else "another file or snapshot"
        said = [holder.in_words() for holder in self.holders]
        whole = ", ".join(said) + (" and others" if self.more else "")
        if self.asked < self.extents:
            whole += f" (the first {self.asked} extents were looked up)"
        return whole


NOT_ASKED = Sharing()
