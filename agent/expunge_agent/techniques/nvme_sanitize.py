"""NVMe Sanitize (NVM Express Base 2.0 §5.24, §8.21): crypto erase, block erase, overwrite.

It runs in the background, takes the whole NVM subsystem, survives resets and loss of power, and cannot
be stopped. Its end is read from log 81h, which goes on telling of an *old* operation for ever: a DONE of
`poll` counts only for who saw `start` accepted, or RUNNING, before; `renewed` compares two looks.
"""

from __future__ import annotations

from expunge_agent.commands import nvme, nvme_identify, nvme_logs
from expunge_agent.commands.nvme import Log
from expunge_agent.commands.nvme_bytes import BadAnswer
from expunge_agent.commands.nvme_logs import Action, SanitizeLog, Sans, Sos
from expunge_agent.commands.nvme_offers import SANITIZES, keeps_blocks, lacks
from expunge_agent.commands.nvme_status import (
    INVALID_FIELD,
    SANITIZE_FAILED,
    SANITIZE_IN_PROGRESS,
    SUCCESS,
    refused,
    words,
)
from expunge_agent.commands.port import CommandError, NvmePort, NvmeReply
from expunge_agent.core.drive import Answer
from expunge_agent.core.reach import IDENTIFY_CONTROLLER
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status

_HOUR = 3600.0
_ALLOWANCE = 3
"""Times the declared time, which is an estimate of an idle drive's."""
_UNDECLARED = {Action.CRYPTO_ERASE: 24 * _HOUR, Action.BLOCK_ERASE: 24 * _HOUR, Action.OVERWRITE: 72 * _HOUR}
"""Where no time is declared; for overwrite: each pass."""


class NvmeSanitize:
    """A `Hand`. Asks the drive for its times when it is made, and may raise CommandError then; it may be
    made while an operation runs, even of a drive that refuses to identify itself meanwhile.

    `passes` (1 to 16) and the 32-bit `pattern` are for overwrite. Raises KeyError for another technique.
    """

    waits = False

    def __init__(
        self, port: NvmePort, technique: Technique, *, passes: int = 1, pattern: int = 0, invert: bool = False
    ) -> None:
        self.technique = technique
        self._action = SANITIZES[technique]
        self._port = port
        self._passes, self._pattern, self._invert = passes, pattern, invert
        self.timeout = self._patience()

    def prepare(self) -> list[Answer]:
        """See `Hand`. Leaves a media verification state that stands in the way."""
        controller, identity = _identify(self._port)
        answers = [Answer(name=IDENTIFY_CONTROLLER, hex=identity.hex())]
        why = lacks(controller, self.technique)
        if why:
            raise Rejected(why, answers)
        try:
            log, raw = _look(self._port)
        except BadAnswer as error:
            raise Rejected(f"how the operation ends could not be seen: {error}", answers) from error
        answers.append(_log_answer("Sanitize Status log (81h)", raw))
        if _verifying(log):
            answers.append(_leave(self._port, Action.EXIT_VERIFICATION))
        elif log.sos == Sos.RUNNING:
            raise Rejected(f"a sanitize operation is already running ({describe(log)})", answers)
        return answers

    def start(self) -> list[Answer]:
        """See `Hand`: the log before, each command with its end, the log after.

        With AUSE, so that a failure can be left, except after a failure that was itself begun
        without: then only a command without is accepted (Base 2.0 §8.21.2). With no-deallocate where
        the drive honours it; where it refuses just that, without.
        """
        controller, _ = _identify(self._port)
        before, raw = _look(self._port)
        answers = [_log_answer("Sanitize Status log (81h) before", raw)]
        ause = not (before.sos == Sos.FAILED and not before.ause)
        for keep in (True, False) if keeps_blocks(controller, self._action) else (False,):
            status, answer = self._send(ause=ause, keep=keep)
            answers.append(answer)
            if status != INVALID_FIELD:
                break
        if status != SUCCESS:
            if refused(status):
                raise Rejected(f"the drive refused {self._action.title}: {words(status)}", answers)
            raise CommandError(f"Sanitize ({self._action.title}) ended with {words(status)}.")
        try:
            answers.append(_log_answer("Sanitize Status log (81h) after", _look(self._port)[1]))
        except CommandError as error:  # it was accepted all the same
            answers.append(Answer(name=f"Sanitize Status log (81h) after: {error}"[:200], hex=""))
        return answers

    def poll(self) -> Status:
        """See `Hand`. DONE and FAILED only if the last operation was of this kind.

        A drive that refuses its log because a sanitize operation runs, or failed, has said so by that.
        """
        reply = _ask_log(self._port)
        if reply.status in (SANITIZE_IN_PROGRESS, SANITIZE_FAILED):
            state = State.RUNNING if reply.status == SANITIZE_IN_PROGRESS else State.FAILED
            return Status(state, detail=f"the log is refused: {words(reply.status)}")
        log, raw = _read_log(reply)
        answers = [_log_answer("Sanitize Status log (81h)", raw)]
        detail = describe(log)
        if log.sos == Sos.RUNNING:
            seconds = log.seconds(self._action, passes=self._passes, no_deallocate=log.kept)
            left = -1 if seconds < 0 else seconds * (1_000_000 - log.ppm) // 1_000_000
            if log.action != self._action:
                left = -1
            return Status(State.RUNNING, log.ppm, left, detail, answers)
        state = State.DONE if log.done else State.FAILED if log.sos == Sos.FAILED else State.IDLE
        if state is not State.IDLE and log.action != self._action:
            return Status(State.IDLE, detail=f"not of this kind: {detail}", answers=answers)
        return Status(state, 1_000_000 if state is State.DONE else -1, -1, detail, answers)

    def settle(self) -> list[Answer]:
        """See `Hand`: out of failure mode where the failed operation allows it, or of media verification."""
        log, raw = _look(self._port)
        answers = [_log_answer("Sanitize Status log (81h)", raw)]
        if _verifying(log):
            return [*answers, _leave(self._port, Action.EXIT_VERIFICATION)]
        if log.sos == Sos.RUNNING:
            raise Rejected(f"the operation still runs ({describe(log)})", answers)
        if log.sos != Sos.FAILED:
            return answers
        if not log.ause:
            why = "the failed operation was begun without AUSE: only a sanitize operation that succeeds ends the failure mode"
            raise Rejected(why, answers)
        return [*answers, _leave(self._port, Action.EXIT_FAILURE)]

    def _send(self, *, ause: bool, keep: bool) -> tuple[int, Answer]:
        command = nvme.sanitize(
            self._action,
            ause=ause,
            no_deallocate=keep,
            passes=self._passes,
            invert=self._invert,
            pattern=self._pattern,
        )
        reply = self._port.admin(command, timeout=60.0)
        how = f"{'with' if ause else 'without'} AUSE, {'no-deallocate' if keep else 'deallocating'}"
        return reply.status, nvme.completion(f"Sanitize {self._action.title} {how}", command, reply)

    def _patience(self) -> float:
        fallback = _UNDECLARED[self._action] * (self._passes if self._action is Action.OVERWRITE else 1)
        try:
            log, _ = _look(self._port)
            keep = keeps_blocks(_identify(self._port)[0], self._action)
        except BadAnswer:
            return fallback
        seconds = log.seconds(self._action, passes=self._passes, no_deallocate=keep)
        return max(_HOUR, float(_ALLOWANCE * seconds)) if seconds >= 0 else fallback


def renewed(before: SanitizeLog, now: SanitizeLog) -> bool:
    """Whether `now` cannot be the old news of `before`: it runs, was begun by another command, ended
    otherwise, or nothing counts as written since although something did before."""
    if now.sos == Sos.RUNNING:
        return True
    return now.scdw10 != before.scdw10 or now.sos != before.sos or (now.erased and not before.erased)


def describe(log: SanitizeLog) -> str:
    """What log 81h says, in a sentence."""
    kind = Action(log.action).title if log.action in list(Action) else f"action {log.action}"
    ends = {
        Sos.NEVER: "never sanitized",
        Sos.DONE: f"last operation: {kind}, completed",
        Sos.RUNNING: f"{kind} is running",
        Sos.FAILED: f"last operation: {kind}, failed",
        Sos.DONE_DEALLOCATED: f"last operation: {kind}, completed and deallocated although that was not asked for",
    }
    parts = [ends.get(Sos(log.sos), "") if log.sos in list(Sos) else f"reserved status {log.sos}"]
    parts.append(f"SSTAT {log.sstat:04X}h, SCDW10 {log.scdw10:08X}h")
    if log.action == Action.OVERWRITE and log.sos != Sos.NEVER:
        parts.append(f"{log.passes} passes completed")
    if log.state in list(Sans) and log.state != Sans.IDLE:
        parts.append(f"state: {Sans(log.state).name.lower().replace('_', ' ')}")
    parts.append("nothing written since" if log.erased else "written since, or not told")
    return "; ".join(parts)


def _identify(port: NvmePort) -> tuple[nvme_identify.Controller, bytes]:
    reply = port.admin(nvme.identify(nvme.Cns.CONTROLLER), data_in=nvme_identify.IDENTIFY_BYTES)
    raw = nvme.read(reply, nvme_identify.IDENTIFY_BYTES, IDENTIFY_CONTROLLER)
    return nvme_identify.controller(raw), raw


def _ask_log(port: NvmePort) -> NvmeReply:
    return port.admin(nvme.log_page(Log.SANITIZE, retain=True), data_in=nvme_logs.LOG_BYTES)


def _read_log(reply: NvmeReply) -> tuple[SanitizeLog, bytes]:
    raw = nvme.read(reply, nvme_logs.LOG_BYTES, "Sanitize Status log (81h)")
    return nvme_logs.sanitize_log(raw), raw


def _look(port: NvmePort) -> tuple[SanitizeLog, bytes]:
    return _read_log(_ask_log(port))


def _verifying(log: SanitizeLog) -> bool:
    """A media verification state; what is older than Base 2.1 has zeros there."""
    return log.sos in (Sos.RUNNING, Sos.DONE) and log.state == Sans.MEDIA_VERIFICATION


def _log_answer(name: str, raw: bytes) -> Answer:
    return Answer(name=name, hex=raw.hex())


def _leave(port: NvmePort, action: Action) -> Answer:
    """Send one of the two exits. Raises Rejected when it is not taken."""
    command = nvme.sanitize(action)
    reply = port.admin(command, timeout=60.0)
    answer = nvme.completion(f"Sanitize {action.title}", command, reply)
    if reply.status:
        raise Rejected(f"the drive refused {action.title}: {words(reply.status)}", [answer])
    return answer
