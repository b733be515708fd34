"""ATA security erase: SECURITY ERASE UNIT, enhanced or normal (ACS-3 §4.18, §7.37 to §7.42).

A password has to be set first; an erase that is broken off leaves the drive locked with it. So the
password comes from the caller, who has written it down before; here it is set, used, and taken off again.
The erase must never be killed: the kernel would reset the drive in the middle.
"""

from __future__ import annotations

from expunge_agent.commands import ata_features as features
from expunge_agent.commands.ata import Ata, AtaCommand, AtaReply
from expunge_agent.commands.ata_identify import Identify, identify
from expunge_agent.commands.port import CommandError, ScsiPort
from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status
from expunge_agent.techniques.hidden_areas import restored

_ENHANCED = {Technique.ATA_SECURITY_ERASE_ENHANCED: True, Technique.ATA_SECURITY_ERASE: False}
_ALLOWANCE = 2
"""Times the declared time."""
_DAY = 86_400.0
_SLOWEST = 20_000_000
"""Bytes a second that any drive erases, where it declares no time or only *more than 508 minutes*."""
_MOST_OF_EIGHT_BITS = 510
_FROZEN = (
    "the security feature set is frozen, most likely by the machine's firmware: power-cycle the drive "
    "(unplug and plug its power while the machine runs) or suspend and resume the machine, which thaws it"
)


class AtaSecurityErase:
    """A `Hand`. Identifies the drive once when it is made, and may raise CommandError then.

    `password`: 1 to 32 bytes, journalled by the caller before `prepare`. Raises KeyError for another
    technique, ValueError for such a password.
    """

    waits = True

    def __init__(self, port: ScsiPort, technique: Technique, password: bytes) -> None:
        if not 1 <= len(password) <= features.PASSWORD_BYTES:
            raise ValueError("an ATA password has 1 to 32 bytes")
        self.technique = technique
        self._enhanced = _ENHANCED[technique]
        self._port, self._ata, self._password = port, Ata(port), password
        self.timeout = self._patience(identify(self._ata)[0])

    def prepare(self) -> list[Answer]:
        """See `Hand`: unlocked (with our password, if it was left locked), hidden areas restored, our
        password set and seen to be set. One that is not ours is never replaced."""
        identity, answers = self._look("before")
        self._refuse(identity, answers)
        if identity.security.locked:
            identity = self._unlock(answers)
        elif identity.security.enabled:
            self._take_off(answers)
        answers += restored(self._port).answers
        reply = self._send(features.SECURITY_SET_PASSWORD, answers)
        if not reply.ok:
            raise Rejected(f"the drive does not take a password: {reply.words}", answers)
        identity, more = self._look("with the password set")
        answers += more
        if not identity.security.enabled:
            raise Rejected(
                "setting the password was reported as done, but the drive has none: the drive or a bridge "
                "drops security commands",
                answers,
            )
        return answers

    def start(self) -> list[Answer]:
        """See `Hand`: waits for the whole erase, hours on a large disk.

        Raises CommandError where the erase was sent and did not end well: data can be partly gone, and
        the drive is locked or has the password set until `settle`.
        """
        identity, answers = self._look("before the erase")
        self._refuse(identity, answers)
        if identity.security.locked or not identity.security.enabled:
            raise Rejected("the drive is not prepared: it is locked or our password is not set", answers)
        reply = self._ata.run(features.SECURITY_ERASE_PREPARE)
        answers.append(reply.answer())
        if not reply.ok:
            raise Rejected(f"the drive refused {reply.words}", answers)
        reply = self._send(features.SECURITY_ERASE_UNIT, answers, timeout=self.timeout)
        if not reply.ok:
            raise CommandError(f"the erase did not end well, perhaps half way: {reply.words}")
        identity, more = self._look("after the erase")
        if identity.security.enabled:  # an erase that ended well takes the password off (ACS-3 §7.40)
            raise CommandError(
                f"{reply.name} was reported as done, but its password is still set: it did not take place"
            )
        return [*answers, *more]

    def poll(self) -> Status:
        """See `Hand`: FAILED while the password is set, as no erase has ended well since it was; without a
        password IDLE, because taking it off by hand leaves the same state as an erase."""
        identity, answers = self._look("")
        security = identity.security
        if security.enabled:
            detail = "its password is still set: no erase has ended well since it was set"
            return Status(State.FAILED, detail=f"{detail}; {describe(identity)}", answers=answers)
        return Status(State.IDLE, detail="no password is set", answers=answers)

    def settle(self) -> list[Answer]:
        """See `Hand`: unlocked and without a password."""
        identity, answers = self._look("before settling")
        if not identity.security.enabled:
            return answers
        if identity.security.frozen:
            raise Rejected(f"the drive keeps the password written down for it: {_FROZEN}", answers)
        if identity.security.locked:
            self._unlock(answers)
        reply = self._send(features.SECURITY_DISABLE_PASSWORD, answers)
        identity, more = self._look("settled")
        answers += more
        if identity.security.enabled:
            raise Rejected(
                f"the drive keeps a password that ours does not take off ({reply.words}); "
                f"{describe(identity)}",
                answers,
            )
        return answers

    def _refuse(self, identity: Identify, answers: list[Answer]) -> None:
        security = identity.security
        if not security.supported:
            raise Rejected("the drive has no security feature set (word 128)", answers)
        if self._enhanced and not security.enhanced:
            raise Rejected("the drive has no enhanced security erase (word 128)", answers)
        if security.frozen:
            raise Rejected(_FROZEN, answers)

    def _unlock(self, answers: list[Answer]) -> Identify:
        """Unlock with our password, tried once: after five wrong ones a drive takes none until power-off."""
        if self._look("")[0].security.expired:
            raise Rejected(
                "the drive is locked and takes no more passwords: switch its power off and on", answers
            )
        reply = self._send(features.SECURITY_UNLOCK, answers)
        identity, more = self._look("unlocked")
        answers += more
        if identity.security.locked:
            raise Rejected(f"the drive is locked with a password that is not ours ({reply.words})", answers)
        return identity

    def _take_off(self, answers: list[Answer]) -> None:
        """Only who knows it can disable a password: so one that is set is ours, as after an interruption, or
        somebody else's, who has set it since the drive was last looked at (ACS-3 §7.37)."""
        reply = self._send(features.SECURITY_DISABLE_PASSWORD, answers)
        identity, more = self._look("without the password")
        answers += more
        if identity.security.enabled:
            raise Rejected(
                f"a password is set on the drive that is not this order's ({reply.words}); disable it first",
                answers,
            )

    def _send(self, command: AtaCommand, answers: list[Answer], timeout: float = 60.0) -> AtaReply:
        """Send `command` with the password; only the reply is kept as an answer."""
        enhanced = self._enhanced and command is features.SECURITY_ERASE_UNIT
        block = features.user_password_data(self._password, enhanced=enhanced)
        reply = self._ata.run(command, data_out=block, timeout=timeout)
        answers.append(reply.answer())
        return reply

    def _look(self, when: str) -> tuple[Identify, list[Answer]]:
        identity, reply = identify(self._ata)
        answer = reply.answer()
        return identity, [Answer(name=f"{answer.name} {when}".strip(), hex=answer.hex)]

    def _patience(self, identity: Identify) -> float:
        security = identity.security
        minutes = security.enhanced_minutes if self._enhanced else security.minutes
        undeclared = max(_DAY, identity.sectors * identity.logical_sector / _SLOWEST)
        declared = _ALLOWANCE * minutes * 60.0
        return max(declared, undeclared) if minutes in (0, _MOST_OF_EIGHT_BITS) else max(3600.0, declared)


def describe(identity: Identify) -> str:
    """The state of the security feature set, in words."""
    security = identity.security
    words = [
        "password set" if security.enabled else "no password",
        "locked" if security.locked else "not locked",
        "frozen" if security.frozen else "not frozen",
    ]
    return ", ".join(words + (["no more tries until power-off"] if security.expired else []))
