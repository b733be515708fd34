"""Extended attributes of a file: how much they hold, and overwriting it.

ext2, ext3 and ext4 put a value of the same length where the old one was (measured on raw images, tests/device); other file
systems write it elsewhere.
"""

from __future__ import annotations

import os


def own_attributes(fd: int) -> list[str]:
    """The names of those that hold data: not those that the system keeps for itself. None where there are none."""
    try:
        return [name for name in os.listxattr(fd) if name.startswith(("user.", "trusted."))]
    except OSError:
        return []


def attribute_bytes(fd: int) -> list[int]:
    """The length of each value."""
    found = []
    for name in own_attributes(fd):
        try:
            found.append(len(os.getxattr(fd, name)))
        except OSError:
            found.append(0)
    return found


MOVED = (
    "one of its extended attributes moved into its inode when it was written: the block that held it was given back, "
    "and what stands there may stay on the medium"
)


def overwrite_attributes(fd: int) -> list[str]:
    """Put random bytes in place of every value, not yet flushed; what that did not reach. Raises OSError.

    ext4 looks for room in the inode first: a value that once had none there leaves its block, which is freed as it is.
    """
    before = os.fstat(fd).st_blocks
    for name in own_attributes(fd):
        os.setxattr(fd, name, os.urandom(len(os.getxattr(fd, name))), os.XATTR_REPLACE)
    return [MOVED] if os.fstat(fd).st_blocks < before else []
