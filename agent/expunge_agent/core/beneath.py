"""What lies under the device of a target, before and after it was overwritten: pure comparisons.

A device may lie in a file (loop) or on another device that keeps old data. What is known of that before the first
byte is written is a doubt; a file below that was left alone by snapshots until then may get one meanwhile, so
that where it lies is kept and compared at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from expunge_agent.core.file_reach import SHARED, UNWRITTEN, Part
from expunge_agent.core.layout import Layout, left_behind
from expunge_agent.protocol.base import Frozen, Name, PathText, Text
from expunge_agent.protocol.canonical import U64


class BackingFile(Frozen, frozen=True):
    """A file that a device lies in, by number of its file system (``major:minor``) and inode.

    ``extents``: (first byte, bytes) on the device under that file system, of what holds data.
    """

    device: Name
    inode: U64
    path: PathText
    extents: list[tuple[U64, U64]] = []

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from other files."""
        return self.device, int(self.inode)


class Beneath(Frozen, frozen=True):
    """``doubts``: what keeps old data under a device, as sentences without a full stop. ``files``: those that hold
    it and keep nothing now."""

    doubts: list[Text] = []
    files: list[BackingFile] = []


def holding(parts: Sequence[Part]) -> list[tuple[U64, U64]]:
    """Where those extents lie that hold data: one that is allocated and not written reads as zeros, and what its
    blocks hold is nobody's."""
    return [(U64(part.physical), U64(part.length)) for part in parts if not part.flags & (UNWRITTEN | SHARED)]


def changes(before: Beneath, after: Beneath) -> list[str]:
    """What became of it meanwhile, that may keep old data: each an exception of its own."""
    found = [doubt for doubt in after.doubts if doubt not in before.doubts]
    now = {file.key: file for file in after.files}
    for file in before.files:
        seen = now.get(file.key)
        if seen is None:
            if not any(file.path in doubt for doubt in found):
                found.append(f"the file {file.path} could not be looked at again, in which the device lay")
        elif lost := left_behind(Layout(extents=file.extents), Layout(extents=seen.extents)):
            found.append(
                f"{lost} bytes of the file {file.path}, in which the device lies, lie elsewhere now: "
                "what they held before was not overwritten"
            )
    return found
