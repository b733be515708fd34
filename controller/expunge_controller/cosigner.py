"""Has the log cosigned while ``expunge serve`` runs: soon when certificates wait for it, else now and then."""

from __future__ import annotations

import threading
import time
from typing import Any

from expunge_agent.errors import ExpungeError
from expunge_controller import translog
from expunge_controller.context import Controller, utc_now
from expunge_controller.witness_client import cosign

LOOK_SECONDS = 2.0
REST = 600.0
"""Seconds between two rounds while nothing waits for one."""
PAUSE = 60.0
"""Seconds after a round in which a witness failed."""


class Cosigner:
    """One thread; a witness that hangs delays nothing else."""

    def __init__(self, controller: Controller, log: Any) -> None:
        self._controller = controller
        self._log = log
        self._stopping = threading.Event()
        self._not_before = 0.0
        self._next_round = 0.0
        self._thread = threading.Thread(target=self._run, name="cosigner", daemon=True)

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """End it, waiting up to `seconds`; a request under way is given up, and made again later."""
        self._stopping.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                if time.monotonic() >= self._not_before and self._is_due():
                    self._round()
            except ExpungeError as error:
                self._log.error("the log cannot be cosigned", code=error.code, problem=error.message)
                self._not_before = time.monotonic() + PAUSE
            except Exception:  # noqa: BLE001  (the next round may go well)
                self._log.exception("a defect ended this round of cosigning")
                self._not_before = time.monotonic() + PAUSE

    def _is_due(self) -> bool:
        with self._controller.store.read() as unit:
            policy = translog.policy_in(unit, self._controller.home)
            if not any(witness.url for witness in policy.witnesses):
                return False
            if unit.log.awaiting():
                return True
            sizes = [unit.log.cosigned_size(witness.key.text) for witness in policy.witnesses if witness.url]
            return time.monotonic() >= self._next_round and min(sizes) < unit.log.size()

    def _round(self) -> None:
        answers, issued = cosign(self._controller, utc_now())
        self._next_round = time.monotonic() + REST
        for one in answers:
            if one.problem is not None:
                self._log.warning("no cosignature", witness=one.witness, problem=one.problem.message)
                self._not_before = time.monotonic() + PAUSE
        for number in issued:
            self._log.info("certificate issued", number=number)
