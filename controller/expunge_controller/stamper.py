"""Has the log's head stamped while ``expunge serve`` runs: once a day, if there is anything to stamp."""

from __future__ import annotations

from typing import Any

from expunge_controller import stamping, translog
from expunge_controller.context import Controller, utc_now
from expunge_controller.rounds import Rounds

LOOK_SECONDS = 5.0
REST = 86400.0
PAUSE = 600.0
"""Seconds after a round in which an authority failed."""


class Stamper(Rounds):
    """An authority that hangs delays nothing else."""

    def __init__(self, controller: Controller, log: Any) -> None:
        super().__init__(
            "stamper", log, every=LOOK_SECONDS, pause=PAUSE, done="stamped", doing="time stamping"
        )
        self._controller = controller

    def round(self) -> float:
        """See `Rounds`."""
        now = utc_now()
        with self._controller.store.read() as unit:
            due = stamping.is_due(unit, translog.policy_in(unit, self._controller.home), now)
        if not due:
            return 0.0
        rest = REST
        for one in stamping.stamp_head(self._controller, now):
            if one.problem is not None:
                self._log.warning("no time stamp", authority=one.authority, problem=one.problem.message)
                rest = PAUSE
        return rest
