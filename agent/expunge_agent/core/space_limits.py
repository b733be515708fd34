"""What filling free space does not reach: shortfalls that cost the level, and limits that are always there."""

from __future__ import annotations

from expunge_agent.core.medium import MediumType
from expunge_agent.core.space import Space

ALWAYS = (
    "Copies of deleted data in files that exist: in blocks set aside for a file and not written yet "
    "(fallocate), in databases, disk images and backups.",
    "Deleted files that a process still has open: their blocks are not free.",
    "Names of deleted files in the slack of directories that exist.",
    "Sectors and cells the medium does not let the host address.",
)
_RECORDS = (
    "Places that the file system gave its own records while it was filled and took back before they were written there: "
    "waited for, not proved."
)
_PER_KIND = {
    "ext4": ("The file system's journal, which holds copies of directories and inodes.", _RECORDS),
    "xfs": (
        "The file system's log, which holds copies of directories and inodes.",
        "Blocks that XFS sets aside: each allocation group's reservation, and copies prepared for shared "
        "extents (reflink).",
        _RECORDS,
    ),
    "btrfs": (
        "Deleted files that a snapshot still has: their blocks are not free.",
        "Old copies of the file system's trees in metadata chunks, where names and small files lie.",
        "A second copy of a chunk, once its profile was changed (single, dup, raid).",
    ),
}
_PER_TYPE = {
    MediumType.SSD: "What a flash drive keeps of earlier contents in cells that it gave other blocks.",
    MediumType.USB_FLASH: "What a flash medium keeps of earlier contents in cells that it gave other blocks.",
    MediumType.VIRTUAL: "What lies under a virtual device: snapshots, thin pools, sparse images, storage systems.",
}


def not_reached(space: Space) -> list[str]:
    """What is never reached here, whatever is left free."""
    found = [*_PER_KIND.get(space.identity.filesystem, ()), *ALWAYS]
    if space.type in _PER_TYPE:
        found.append(_PER_TYPE[space.type])
    if "discard" in space.features:
        found.append(
            "Blocks that were discarded when their files were deleted: the device may have put other cells "
            "in their place, and writing to them does not reach the old ones."
        )
    return found


def doubts(space: Space) -> list[str]:
    """Why file contents may be where no filling reaches: each is an exception of its own."""
    found = []
    if "data=journal" in space.features:
        found.append(
            "The file system keeps file contents in its journal too (data=journal); it was not reached."
        )
    if "bigalloc" in space.features:
        found.append(
            "The file system gives its files whole clusters of blocks (bigalloc): what lies behind the end of a file in its "
            "last cluster is neither the file's nor free, and was not reached."
        )
    if "unread" in space.features:
        found.append("Whether file contents lie in its inodes or its journal could not be read.")
    if "realtime" in space.features:
        found.append("The file system has a realtime section; its free space was not filled.")
    if space.identity.filesystem == "btrfs":
        found.append(
            "Small files lie among the trees of btrfs, in metadata chunks, whose old copies cannot be shown to "
            "be overwritten."
        )
    return found
