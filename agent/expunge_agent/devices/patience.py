"""Telling who works with a target from who only glances at it."""

from __future__ import annotations

import time
from collections.abc import Callable

from expunge_agent.protocol.receipt import Reason, Refusal

PATIENCE = 2.0
"""Seconds. udev, blkid, mdadm and losetup open a device for a moment whenever one appears or was written."""
CLAIMED_PATIENCE = 20.0
"""Seconds, once the kernel has given this process the device alone. Nobody else can begin to write it, and another
order for it, a plan or an inventory may be looking at it just then: of two orders at once, one is to win."""
_PAUSE = 0.05


def lasting(objection: Callable[[], Refusal | None], patience: float = PATIENCE) -> Refusal | None:
    """What `objection` finds; that a target is in use only counts when it still is after `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        found = objection()
        if found is None or found.reason is not Reason.IN_USE or time.monotonic() > until:
            return found
        time.sleep(_PAUSE)
