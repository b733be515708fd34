"""A simulated drive as the agent's ScsiPort, in this process: no kernel in between."""

from __future__ import annotations

from typing import Protocol

from expunge_agent.commands.port import CommandTimeout, DriveGone, ScsiReply
from lab.drives.clock import Clock
from lab.drives.eraser import Gone, Wait
from lab.drives.scsi_wire import Completion


class Unit(Protocol):
    """ScsiDrive or SatDrive."""

    def command(self, cdb: bytes, data_out: bytes = b"") -> Completion | Wait: ...
    def resume(self) -> Completion | Wait: ...


class SimulatedPort:
    """Implements `expunge_agent.commands.port.ScsiPort`. Waiting is a pause of `clock`, which a VirtualClock
    makes instant. ``sent``: every CDB that went out. `delay`: seconds that each command takes."""

    def __init__(self, unit: Unit, clock: Clock, *, delay: float = 0.0) -> None:
        self.unit, self._clock, self._delay = unit, clock, delay
        self.sent: list[bytes] = []

    def scsi(
        self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> ScsiReply:
        """See ScsiPort."""
        if data_in and data_out:
            raise ValueError("a command moves data one way")
        self.sent.append(bytes(cdb))
        end = self._clock.now() + timeout
        if self._delay:
            self._clock.pause(self._delay)
        try:
            reply = self.unit.command(bytes(cdb), data_out)
            while isinstance(reply, Wait):
                left = end - self._clock.now()
                if left <= 0:
                    raise CommandTimeout(f"no answer in {timeout} s")
                self._clock.pause(min(reply.seconds, left))
                reply = self.unit.resume()
        except Gone:
            raise DriveGone("the drive is not there any more") from None
        data = reply.data[:data_in]
        return ScsiReply(
            status=reply.status, sense=reply.sense, data=data, residual=data_in - len(data) if data_in else 0
        )
