"""ATA sanitize: crypto scramble, block erase, overwrite (ACS-3 §4.17, §7.36).

It runs in the background, survives loss of power, and cannot be stopped. Its status goes on saying that
the last operation *completed* for ever: a DONE of `poll` counts only for who saw `start` accepted, or
RUNNING, before.
"""

from __future__ import annotations

from collections.abc import Callable

from expunge_agent.commands import ata_features as features
from expunge_agent.commands.ata import Ata, AtaCommand, AtaReply
from expunge_agent.commands.ata_features import SanitizeStatus
from expunge_agent.commands.ata_identify import Sanitize, identify
from expunge_agent.commands.port import CommandError, Evasive, NoPassThrough, ScsiPort
from expunge_agent.commands.sense import FIXED, PROGRESS_UNITS, Garbled
from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status
from expunge_agent.techniques.hidden_areas import restored

_DAY = 86_400.0
_SLOWEST = 20_000_000
"""Bytes a second that any drive overwrites; the feature set declares no time."""
_ACCEPTING = 120.0
"""Seconds for a drive to take the command; a crypto scramble may be done by then."""

_OFFERED: dict[Technique, Callable[[Sanitize], bool]] = {
    Technique.ATA_SANITIZE_CRYPTO: lambda word: word.crypto,
    Technique.ATA_SANITIZE_BLOCK: lambda word: word.block,
    Technique.ATA_SANITIZE_OVERWRITE: lambda word: word.overwrite,
}


class AtaSanitize:
    """A `Hand`. Identifies the drive once when it is made, and may raise CommandError then.

    `passes` (1 to 16), the 32-bit `pattern` and `invert` are for overwrite. Raises KeyError for another
    technique.
    """

    waits = False

    def __init__(
        self, port: ScsiPort, technique: Technique, *, passes: int = 1, pattern: int = 0, invert: bool = False
    ) -> None:
        self.technique = technique
        self._offered = _OFFERED[technique]
        self._port, self._ata = port, Ata(port)
        self._passes, self._pattern, self._invert = passes, pattern, invert
        self._identity, self._identified = identify(self._ata)
        size = self._identity.sectors * self._identity.logical_sector
        overwrites = passes if technique is Technique.ATA_SANITIZE_OVERWRITE else 1
        self.timeout = max(_DAY, overwrites * size / _SLOWEST)

    def prepare(self) -> list[Answer]:
        """See `Hand`: not frozen, not locked, none running; nobody can freeze it now; hidden areas restored."""
        self._identity, self._identified = identify(self._ata)
        answers = [self._identified.answer()]
        if not self._offered(self._identity.sanitize):
            raise Rejected(f"the drive does not offer {self.technique} (word 59)", answers)
        if self._identity.security.locked:
            raise Rejected("the drive is locked with a password; unlock it first", answers)
        status, answer = self._look("before")
        answers.append(answer)
        if status.running:
            raise Rejected(f"a sanitize operation is already running ({describe(status)})", answers)
        if status.frozen:
            raise Rejected(
                "sanitize is frozen, most likely by the machine's firmware: switch the drive's power off "
                "and on, or suspend and resume the machine",
                answers,
            )
        if status.failed:
            status, more = self._clear()
            answers += more
        if not status.failed:  # else every other command would be aborted, and only a sanitize helps
            answers += self._antifreeze(status)
            answers += restored(self._port).answers
        return answers

    def start(self) -> list[Answer]:
        """See `Hand`: the status before, the command's end, the status after.

        After a failure that the drive does not let us leave, the failure mode bit may not be set (ACS-3
        §4.17.6). Raises CommandError where the drive may have begun, or where its *completed* may be the
        one that stood there before.
        """
        before, answer = self._look("before")
        answers = [answer]
        if before.frozen or before.running:
            raise Rejected(f"the drive is not ready for it: {describe(before)}", answers)
        reply = self._ata.run(self._command(failure_mode=not before.failed), timeout=_ACCEPTING)
        answers.append(reply.answer())
        if not reply.ok:
            if reply.registers is not None and not reply.registers.aborted:
                raise CommandError(f"{reply.words}: whether it began is not known")
            raise Rejected(f"the drive refused {reply.words}: {features.sanitize_reason(reply)}", answers)
        if reply.registers is None:
            raise CommandError(f"{reply.name}: no registers came back, whether it began is not known")
        try:
            after, answer = self._look("after")
        except NoPassThrough as error:  # it has begun: not to be taken for a command that never left
            raise CommandError(f"{reply.name} was taken, but cannot be followed: {error}") from error
        except (
            CommandError
        ) as error:  # it was taken all the same; the drive may answer only when it is through
            return [*answers, Answer(name=f"SANITIZE STATUS EXT after: {error}"[:200], hex="")]
        answers.append(answer)
        if not (after.running or after.completed or after.failed):
            raise Rejected(
                f"{reply.name} was reported as taken, but the drive says: {describe(after)}", answers
            )
        ran = after.running or features.read_sanitize_status(reply).running
        quick = self.technique is Technique.ATA_SANITIZE_CRYPTO  # may end before it is asked about
        if before.completed and after.completed and not ran and not quick:
            raise CommandError(
                f"{reply.name} was reported as taken, but does not run, and the drive said *completed* before"
            )
        return answers

    def poll(self) -> Status:
        """See `Hand`. Raises Evasive while the drive refuses to tell its state."""
        try:
            status, answer = self._look("")
        except Garbled as error:
            raise Evasive(str(error)) from error
        state = State.IDLE
        if status.failed:
            state = State.FAILED
        elif status.running:
            state = State.RUNNING
        elif status.completed:
            state = State.DONE
        ppm = status.progress * 1_000_000 // PROGRESS_UNITS if status.running else -1
        ppm = 1_000_000 if state is State.DONE else ppm
        return Status(state, ppm, detail=describe(status), answers=[answer])

    def settle(self) -> list[Answer]:
        """See `Hand`: out of the failed state, which the failure mode bit of `start` allows."""
        status, answer = self._look("")
        answers = [answer]
        if status.running:
            raise Rejected(f"the operation still runs ({describe(status)})", answers)
        if status.failed:
            status, more = self._clear()
            answers += more
        if status.failed:
            raise Rejected(
                "the drive stays in the failed state: only a sanitize operation that succeeds ends it",
                answers,
            )
        return answers

    def _antifreeze(self, status: SanitizeStatus) -> list[Answer]:
        """Have the drive refuse a freeze lock until it loses power, from the machine's firmware at a resume or from
        other software (ACS-3 §7.36). That it will not is no obstacle: it is not frozen now."""
        if not self._identity.sanitize.antifreeze or status.antifreeze:
            return []
        return [self._ata.run(features.sanitize_antifreeze()).answer()]

    def _command(self, *, failure_mode: bool) -> AtaCommand:
        if self.technique is Technique.ATA_SANITIZE_CRYPTO:
            return features.sanitize_crypto(failure_mode=failure_mode)
        if self.technique is Technique.ATA_SANITIZE_BLOCK:
            return features.sanitize_block(failure_mode=failure_mode)
        return features.sanitize_overwrite(
            pattern=self._pattern, passes=self._passes, invert=self._invert, failure_mode=failure_mode
        )

    def _look(self, when: str) -> tuple[SanitizeStatus, Answer]:
        reply = self._ata.run(features.sanitize_status())
        if reply.ok and reply.sense is not None and reply.sense.response in FIXED:
            raise NoPassThrough("the bridge gives no upper COUNT register: sanitize could not be followed")
        return features.read_sanitize_status(reply), _named(reply, when)

    def _clear(self) -> tuple[SanitizeStatus, list[Answer]]:
        """Leave the failed state if the drive allows it; the status afterwards."""
        reply = self._ata.run(features.sanitize_status(clear_failed=True))
        status, answer = self._look("after clearing the failure")
        return status, [_named(reply, "clearing the failure"), answer]


def describe(status: SanitizeStatus) -> str:
    """What the status says, in words."""
    if status.failed:
        return "the last sanitize operation failed"
    if status.running:
        return f"a sanitize operation runs, {status.progress * 100 // PROGRESS_UNITS} per cent"
    ended = "the last sanitize operation completed" if status.completed else "no sanitize operation completed"
    return f"{ended}; sanitize is frozen" if status.frozen else ended


def _named(reply: AtaReply, when: str) -> Answer:
    answer = reply.answer()
    return Answer(name=f"{answer.name} {when}".strip(), hex=answer.hex)
