"""Having the kernel look at a drive's capacity again: one that sanitizes itself reports none meanwhile."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from expunge_agent.devices.nodes import by_number
from expunge_agent.devices.roots import LIVE, Roots

_PATIENCE = 10.0


def rescan(path: str, roots: Roots = LIVE) -> int:
    """Where the drive at `path` shows no size, ask for a new look and wait for one; the size in bytes.

    SCSI and ATA drives: ``device/rescan`` (Documentation/scsi/scsi_mid_low_api.rst); NVMe:
    ``rescan_controller`` of its controller. Without either nothing is asked for.
    """
    try:
        seen = os.stat(path)  # noqa: PTH116 - may hold surrogates
    except OSError:
        return 0
    node = by_number(f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}", roots)
    if node is None:
        return 0
    if node.disk.size > 0:
        return node.disk.size  # a new look could show another size than the one that was ordered
    folder = node.disk.folder
    for trigger in (folder / "device/rescan", folder / "device/rescan_controller"):
        if trigger.exists():
            with suppress(OSError):
                Path(trigger).write_text("1")
    until = time.monotonic() + _PATIENCE
    while node.disk.size == 0 and time.monotonic() < until:
        time.sleep(0.1)
    return node.disk.size
