"""Everything on this machine that could be wiped, with who uses it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.medium import Found
from expunge_agent.devices.look import look, look_at_node
from expunge_agent.devices.roots import LIVE, Roots
from expunge_agent.devices.usage import Eyes


def inventory(
    extra_paths: Sequence[str | os.PathLike[str]] = (),
    roots: Roots = LIVE,
    system: SystemPaths | None = None,
) -> list[Found]:
    """Every whole disk with a medium in it, then each of `extra_paths`, in that order.

    Left out: devices of size 0 (unattached loop devices, empty readers and zram), RAM disks of the
    kernel (brd), and the hidden paths of a multipath. What of this may be wiped is the guard's
    question, not this one's: the system's own disk is in the list too.
    """
    eyes = Eyes.open(roots, system)
    found = []
    for disk in eyes.disks:
        if disk.size > 0 and disk.driver != "ramdisk":
            found.append(look_at_node(disk, eyes))
    return found + [look(path, eyes=eyes) for path in extra_paths]
