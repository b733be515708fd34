"""From what is held open to the engine's target over it."""

from __future__ import annotations

from expunge_agent.devices.opening import Opened
from expunge_agent.engine.opening import target_over
from expunge_agent.engine.target import Target
from expunge_agent.engine.watchdog import PATIENCE


def take_over(opened: Opened, size: int | None = None, patience: float = PATIENCE) -> Target:
    """The engine's target over a duplicate of the descriptor, of the first `size` bytes (None: all of it); claim and
    lock stay with `opened`. Raises as `target_over` does; what is stuck then keeps claim and lock."""
    return target_over(opened.duplicate(), opened.size if size is None else size, patience)
