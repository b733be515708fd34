"""SCSI SANITIZE: cryptographic erase, block erase, overwrite (SBC-4 §4.11, §5.29).

It runs in the background, survives loss of power, and cannot be stopped. A drive keeps *no* record of
one that ended well: afterwards it is ready, as one that never began. So `poll` says IDLE then, never
DONE: that counts as the end only for who saw `start` accepted, or RUNNING, before.
"""

from __future__ import annotations

from expunge_agent.commands import scsi
from expunge_agent.commands.port import CommandError, Evasive, ScsiPort
from expunge_agent.commands.scsi import Condition, Readiness, Refused, SanitizeAction
from expunge_agent.commands.sense import ILLEGAL
from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status
from expunge_agent.techniques.scsi_patience import patience

OPCODE = 0x48
_ACTIONS = {
    Technique.SCSI_SANITIZE_CRYPTO: SanitizeAction.CRYPTO_ERASE,
    Technique.SCSI_SANITIZE_BLOCK: SanitizeAction.BLOCK_ERASE,
    Technique.SCSI_SANITIZE_OVERWRITE: SanitizeAction.OVERWRITE,
}
_ACCEPTING = 300.0


class ScsiSanitize:
    """A `Hand`. `size` in bytes, for the patience only: a drive that sanitizes does not tell its capacity.

    `passes` (1 to 31), `pattern` (at most one logical block) and `invert` are for overwrite. Raises
    KeyError for another technique.
    """

    waits = False

    def __init__(
        self,
        port: ScsiPort,
        technique: Technique,
        *,
        size: int = 0,
        passes: int = 1,
        pattern: bytes = bytes(4),
        invert: bool = False,
    ) -> None:
        self.technique = technique
        self._action = _ACTIONS[technique]
        self._port = port
        self._passes, self._pattern, self._invert = passes, pattern, invert
        written = passes * size if self._action is SanitizeAction.OVERWRITE else 0
        self.timeout = patience(scsi.support(port, OPCODE, self._action), written)

    def prepare(self) -> list[Answer]:
        """See `Hand`: ready, writable, out of an earlier failure where that can be left."""
        now = scsi.condition(self._port)
        answers = _answers(now)
        if now.readiness in (Readiness.SANITIZING, Readiness.FORMATTING, Readiness.NOT_READY):
            raise Rejected(f"the drive is busy or not ready: {now.words}", answers)
        support = scsi.support(self._port, OPCODE, self._action)
        if support.known and not support.supported:
            raise Rejected(f"the drive does not support {self.technique}", answers)
        if now.readiness is Readiness.SANITIZE_FAILED:
            answers += leave_failure(self._port)[1]
        if scsi.write_protected(self._port):
            raise Rejected("the drive is write-protected", answers)
        return answers

    def start(self) -> list[Answer]:
        """See `Hand`: with IMMED and AUSE; where the drive refuses just AUSE, without it (then only a
        sanitize that succeeds ends a failure)."""
        answers: list[Answer] = []
        for ause in (True, False):
            try:
                self._send(ause=ause, answers=answers)
                break
            except Refused as refused:
                answers.append(refused.answer)
                if ause and (refused.sense.key, refused.sense.asc) == (ILLEGAL, 0x24):
                    continue
                if refused.may_have_begun:
                    raise CommandError(f"{refused}; whether anything began is not known") from refused
                raise Rejected(f"the drive refused {refused}", answers) from refused
        return [*answers, *_after(self._port)]

    def poll(self) -> Status:
        """See `Hand`. Raises Evasive while the drive is not ready for another reason: that is no end."""
        now = scsi.condition(self._port)
        answers = _answers(now)
        if now.readiness is Readiness.SANITIZING:
            return Status(State.RUNNING, now.ppm, detail=now.words, answers=answers)
        if now.readiness is Readiness.SANITIZE_FAILED:
            return Status(State.FAILED, detail=now.words, answers=answers)
        if now.readiness in (Readiness.NOT_READY, Readiness.FORMATTING):
            raise Evasive(f"the drive does not tell how far it is: {now.words}")
        detail = "ready; a SCSI drive keeps no record of a sanitize operation that ended well"
        return Status(State.IDLE, detail=detail, answers=answers)

    def settle(self) -> list[Answer]:
        """See `Hand`: EXIT FAILURE MODE after a failure."""
        now = scsi.condition(self._port)
        answers = _answers(now)
        if now.readiness is Readiness.SANITIZING:
            raise Rejected(f"the operation still runs: {now.words}", answers)
        if now.readiness is Readiness.SANITIZE_FAILED:
            left, more = leave_failure(self._port)
            answers += more
            if not left:
                raise Rejected(
                    "the drive stays in failure mode: only a sanitize operation that succeeds ends it",
                    answers,
                )
        return answers

    def _send(self, *, ause: bool, answers: list[Answer]) -> None:
        parameters = b""
        if self._action is SanitizeAction.OVERWRITE:
            parameters = scsi.overwrite_parameters(self._pattern, count=self._passes, invert=self._invert)
        cdb = scsi.sanitize_cdb(self._action, ause=ause, parameters=len(parameters))
        what = f"SANITIZE {self._action.name} {'with' if ause else 'without'} AUSE"
        scsi.send(self._port, what, cdb, data_out=parameters, timeout=_ACCEPTING)
        answers.append(Answer(name=f"{what}: accepted, CDB", hex=cdb.hex()))


def leave_failure(port: ScsiPort) -> tuple[bool, list[Answer]]:
    """EXIT FAILURE MODE (SBC-4 §5.29.5): whether the drive is out of it, and its answers."""
    cdb = scsi.sanitize_cdb(SanitizeAction.EXIT_FAILURE_MODE, immediate=False, ause=False)
    answers = []
    try:
        scsi.send(port, "SANITIZE EXIT FAILURE MODE", cdb, timeout=_ACCEPTING)
        answers.append(Answer(name="SANITIZE EXIT FAILURE MODE: accepted, CDB", hex=cdb.hex()))
    except Refused as refused:
        answers.append(refused.answer)
    now = scsi.condition(port)
    return now.readiness is not Readiness.SANITIZE_FAILED, [*answers, *_answers(now)]


def _after(port: ScsiPort) -> list[Answer]:
    """The drive just after it took the command; that an answer fails to come is no error."""
    try:
        return _answers(scsi.condition(port))
    except CommandError as error:
        return [Answer(name=f"REQUEST SENSE after: {error}"[:200], hex="")]


def _answers(now: Condition) -> list[Answer]:
    return [now.answer] if now.answer is not None else []
