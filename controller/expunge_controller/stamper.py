"""Has the log's head stamped while ``expunge serve`` runs: once a day, if there is anything to stamp."""

from __future__ import annotations

import threading
import time
from typing import Any

from expunge_agent.errors import ExpungeError
from expunge_controller import stamping, translog
from expunge_controller.context import Controller, utc_now

LOOK_SECONDS = 5.0
REST = 86400.0
PAUSE = 600.0
"""Seconds after a round in which an authority failed."""


class Stamper:
    """One thread; an authority that hangs delays nothing else."""

    def __init__(self, controller: Controller, log: Any) -> None:
        self._controller = controller
        self._log = log
        self._stopping = threading.Event()
        self._next_round = 0.0
        self._thread = threading.Thread(target=self._run, name="stamper", daemon=True)

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """End it, waiting up to `seconds`; a request under way is given up."""
        self._stopping.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            if time.monotonic() < self._next_round:
                continue
            try:
                self._round()
            except ExpungeError as error:
                self._log.error("the log cannot be stamped", code=error.code, problem=error.message)
                self._next_round = time.monotonic() + PAUSE
            except Exception:  # noqa: BLE001  (the next round may go well)
                self._log.exception("a defect ended this round of time stamping")
                self._next_round = time.monotonic() + PAUSE

    def _round(self) -> None:
        now = utc_now()
        with self._controller.store.read() as unit:
            due = stamping.is_due(unit, translog.policy_in(unit, self._controller.home), now)
        if not due:
            return
        self._next_round = time.monotonic() + REST
        for one in stamping.stamp_head(self._controller, now):
            if one.problem is not None:
                self._log.warning("no time stamp", authority=one.authority, problem=one.problem.message)
                self._next_round = time.monotonic() + PAUSE
