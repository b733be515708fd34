"""Starts orders where no systemd unit does it: a detached process each, started again if it dies."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import structlog

from expunge_agent.devices.process import spawn_detached
from expunge_agent.errors import ExpungeError
from expunge_agent.protocol.base import Digest
from expunge_agent.state import State

AGAIN_AFTER = 0.5
"""Seconds before an order whose process ended without a receipt is started again; doubled each time."""
AT_MOST = 60.0


class Starter:
    """Runs ``expunge-agent run ORDER`` for each unfinished order until it has a receipt."""

    def __init__(self, state: State, options: tuple[str, ...] = ()) -> None:
        self._state = state
        self._options = options
        self._due: dict[Digest, float] = dict.fromkeys(state.unfinished(), 0.0)
        self._pause: dict[Digest, float] = {}

    def start(self, digest: Digest) -> None:
        """See to this order from now on."""
        self._due.setdefault(digest, 0.0)
        self.tick()

    def tick(self) -> None:
        """Start what is due; call it often."""
        for digest, due in list(self._due.items()):
            if time.monotonic() < due:
                continue
            if self._state.receipt_number(digest) is not None:
                del self._due[digest]
                continue
            if not self._state.is_running(digest):
                self._try_to_start(digest)
            pause = min(self._pause.get(digest, AGAIN_AFTER / 2) * 2, AT_MOST)
            self._pause[digest] = pause
            self._due[digest] = time.monotonic() + pause

    def _try_to_start(self, digest: Digest) -> None:
        """Trouble with one order is logged and tried again later; it must not end the conversation."""
        try:
            self._spawn(digest)
        except (ExpungeError, OSError) as error:
            structlog.get_logger().error("cannot start an order", order=digest, problem=str(error))

    def _spawn(self, digest: Digest) -> None:
        log = self._state.root / "run.log"
        command = [sys.executable, "-m", "expunge_agent", "--state", str(Path(self._state.root).absolute())]
        spawn_detached([*command, "run", *self._options, digest], dict(os.environ), log)
