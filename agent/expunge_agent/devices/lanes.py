"""What a target shares with others: the controller or bus its drive hangs on, the file system it lies in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from expunge_agent.devices.nodes import by_number
from expunge_agent.devices.roots import LIVE, Roots, link_name, read_text

NVM_SUBSYSTEM = "nvme "
"""What the name of a lane begins with on which only one can erase at a time, whatever is allowed: a sanitize takes
all of an NVM subsystem (NVM Express Base 2.0, Sanitize command), and another one in the middle of it is refused."""
_NQN = 60
"""Characters kept of its name, which may have 223; two that end alike would only wait for each other."""


def lane(path: str, roots: Roots = LIVE) -> str:
    """A name that is equal for targets which share a way: the PCI device (or other bus device) of a
    drive's controller, `NVM_SUBSYSTEM` and its qualified name's end, ``file system MAJOR:MINOR`` of a file, ``virtual``
    for loop, zram and the like."""
    try:
        seen = Path(path).stat()
    except (OSError, ValueError):
        return ""
    if not stat.S_ISBLK(seen.st_mode):
        return f"file system {os.major(seen.st_dev)}:{os.minor(seen.st_dev)}"
    node = by_number(f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}", roots)
    if node is None:
        return ""
    for folder in node.parents():
        if name := read_text(folder / "subsysnqn"):
            return NVM_SUBSYSTEM + name[-_NQN:]
        if link_name(folder / "subsystem") in ("pci", "platform", "virtio"):
            return folder.name
    return "virtual"
