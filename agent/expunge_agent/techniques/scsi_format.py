"""SCSI FORMAT UNIT (SBC-4 §5.4): the drive writes its whole medium anew.

What it leaves of reassigned blocks is the maker's business, so it is never more than Clear. As with
SANITIZE, a drive keeps no record of a format that ended well: `poll` says IDLE then, never DONE.
"""

from __future__ import annotations

from expunge_agent.commands import scsi, scsi_pages
from expunge_agent.commands.port import CommandError, Evasive, ScsiPort
from expunge_agent.commands.scsi import Readiness, Refused
from expunge_agent.commands.sense import Garbled
from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status
from expunge_agent.techniques.scsi_patience import patience

OPCODE = 0x04
_ACCEPTING = 300.0


class ScsiFormat:
    """A `Hand`. `size` in bytes, for the patience only."""

    technique = Technique.SCSI_FORMAT_UNIT
    waits = False

    def __init__(self, port: ScsiPort, *, size: int = 0) -> None:
        self._port = port
        self.timeout = patience(scsi.support(port, OPCODE), size)

    def prepare(self) -> list[Answer]:
        """See `Hand`: ready (or left half formatted by an earlier one) and writable."""
        now = scsi.condition(self._port)
        answers = [now.answer] if now.answer is not None else []
        if now.readiness not in (Readiness.READY, Readiness.FORMAT_FAILED):
            raise Rejected(f"the drive is busy or not ready: {now.words}", answers)
        support = scsi.support(self._port, OPCODE)
        if support.known and not support.supported:
            raise Rejected("the drive does not support FORMAT UNIT", answers)
        if scsi.write_protected(self._port):
            raise Rejected("the drive is write-protected", answers)
        return answers

    def start(self) -> list[Answer]:
        """See `Hand`: with IMMED, keeping the type of protection information."""
        cdb, parameters = scsi.format_unit(protection=self._protection())
        try:
            scsi.send(self._port, "FORMAT UNIT", cdb, data_out=parameters, timeout=_ACCEPTING)
        except Refused as refused:
            if refused.may_have_begun:
                raise CommandError(f"{refused}; whether anything began is not known") from refused
            raise Rejected(f"the drive refused {refused}", [refused.answer]) from refused
        return [Answer(name="FORMAT UNIT: accepted, CDB and parameters", hex=(cdb + parameters).hex())]

    def poll(self) -> Status:
        """See `Hand`. Raises Evasive while the drive is not ready for another reason: that is no end."""
        now = scsi.condition(self._port)
        answers = [now.answer] if now.answer is not None else []
        if now.readiness is Readiness.FORMATTING:
            return Status(State.RUNNING, now.ppm, detail=now.words, answers=answers)
        if now.readiness is Readiness.FORMAT_FAILED:
            return Status(State.FAILED, detail=now.words, answers=answers)
        if now.readiness is not Readiness.READY:
            raise Evasive(f"the drive does not tell how far it is: {now.words}")
        detail = "ready; a SCSI drive keeps no record of a format that ended well"
        return Status(State.IDLE, detail=detail, answers=answers)

    def settle(self) -> list[Answer]:
        """See `Hand`: a failed format can be left only by another one."""
        status = self.poll()
        if status.state is State.RUNNING:
            raise Rejected(f"a format still runs: {status.detail}", status.answers)
        if status.state is State.FAILED:
            raise Rejected("the drive stays unformatted: only a format that succeeds ends it", status.answers)
        return status.answers

    def _protection(self) -> int:
        try:
            return scsi_pages.read_capacity16(scsi.read_capacity16(self._port)).protection
        except (Refused, Garbled):
            return 0  # half formatted, or a drive that has no such thing
