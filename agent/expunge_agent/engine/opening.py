"""Opening a medium for the engine, without waiting for one that answers nothing."""

from __future__ import annotations

import os

from expunge_agent.bounded import NoAnswer, within
from expunge_agent.engine.problems import Stalled
from expunge_agent.engine.target import Target
from expunge_agent.engine.watchdog import PATIENCE


def target_over(fd: int, size: int, patience: float = PATIENCE) -> Target:
    """The target of `size` bytes over `fd`, which is its own from here on: whatever is raised, it gets closed.

    Raises ValueError and an EngineError as `Target` does; Stalled when the medium does not answer, for `patience`
    seconds, the reads that tell how it can be read. The descriptor then stays open for as long as they are stuck.
    """

    def late(target: Target | None) -> None:
        if target is not None:
            target.close()
        else:
            os.close(fd)

    try:
        return within(patience, lambda: Target(fd, size), late)
    except NoAnswer as error:
        raise Stalled(f"opening: {error}") from error
    except BaseException:
        os.close(fd)
        raise
