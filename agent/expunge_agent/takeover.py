"""From what is held open to the engine's target over it."""

from __future__ import annotations

import os

from expunge_agent.devices.opening import Opened
from expunge_agent.engine.target import Target


def take_over(opened: Opened, size: int | None = None) -> Target:
    """The engine's target over a duplicate of the descriptor, of the first `size` bytes (None: all of it); claim and
    lock stay with `opened`."""
    duplicate = opened.duplicate()
    try:
        return Target(duplicate, opened.size if size is None else size)
    except BaseException:
        os.close(duplicate)
        raise
