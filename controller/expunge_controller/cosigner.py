"""Has the log cosigned while ``expunge serve`` runs: soon when certificates wait for it, else now and then."""

from __future__ import annotations

import time
from typing import Any

from expunge_controller import translog
from expunge_controller.context import Controller, utc_now
from expunge_controller.rounds import Rounds
from expunge_controller.witness_client import cosign

LOOK_SECONDS = 2.0
REST = 600.0
"""Seconds between two rounds while nothing waits for one."""
PAUSE = 60.0
"""Seconds after a round in which a witness failed."""


class Cosigner(Rounds):
    """A witness that hangs delays nothing else."""

    def __init__(self, controller: Controller, log: Any) -> None:
        super().__init__("cosigner", log, every=LOOK_SECONDS, pause=PAUSE, done="cosigned", doing="cosigning")
        self._controller = controller
        self._next_round = 0.0

    def round(self) -> float:
        """See `Rounds`."""
        if not self._is_due():
            return 0.0
        rest = 0.0
        answers, issued = cosign(self._controller, utc_now())
        self._next_round = time.monotonic() + REST
        for one in answers:
            if one.problem is not None:
                self._log.warning("no cosignature", witness=one.witness, problem=one.problem.message)
                rest = PAUSE
        for number in issued:
            self._log.info("certificate issued", number=number)
        return rest

    def _is_due(self) -> bool:
        with self._controller.store.read() as unit:
            policy = translog.policy_in(unit, self._controller.home)
            if not any(witness.url for witness in policy.witnesses):
                return False
            if unit.log.awaiting():
                return True
            sizes = [unit.log.cosigned_size(witness.key.text) for witness in policy.witnesses if witness.url]
            return time.monotonic() >= self._next_round and min(sizes) < unit.log.size()
