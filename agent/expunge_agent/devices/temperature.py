"""How warm a drive is, as its driver tells hwmon (Documentation/hwmon/sysfs-interface.rst: millidegrees)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from expunge_agent.devices.nodes import by_number
from expunge_agent.devices.roots import LIVE, Roots, read_int

_PLACES = ("device/hwmon/hwmon*/temp1_input", "device/hwmon*/temp1_input")
"""drivetemp (ATA, SCSI) and, in either place by kernel version, NVMe."""
_ABSENT = -1_000_000


def celsius(path: str, roots: Roots = LIVE) -> int | None:
    """Whole degrees of the drive at `path`; None for a file, and for drives that do not tell."""
    try:
        seen = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISBLK(seen.st_mode):
        return None
    node = by_number(f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}", roots)
    if node is None:
        return None
    for place in _PLACES:
        for sensor in sorted(node.disk.folder.glob(place)):
            value = read_int(sensor, _ABSENT)
            if value != _ABSENT:
                return round(value / 1000)
    return None
