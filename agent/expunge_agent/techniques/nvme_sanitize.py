"""NVMe Sanitize (NVM Express Base 2.0 §5.24, §8.21; media verification: 2.1 §5.1.22, §8.1.24): crypto erase, block
erase, overwrite.

It runs in the background, takes the whole NVM subsystem, survives resets and loss of power, and cannot
be stopped. Its end is read from log 81h, which goes on telling of an *old* operation for ever: a DONE of
`poll` counts only for who saw `start` accepted, or RUNNING, before; `renewed` compares two looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from expunge_agent.commands import nvme, nvme_identify, nvme_logs
from expunge_agent.commands.nvme import Log
from expunge_agent.commands.nvme_bytes import BadAnswer
from expunge_agent.commands.nvme_logs import Action, SanitizeLog, Sans, Sos
from expunge_agent.commands.nvme_offers import SANITIZES, keeps_blocks, lacks, shows_cells
from expunge_agent.commands.nvme_status import (
    INVALID_FIELD,
    SANITIZE_FAILED,
    SANITIZE_IN_PROGRESS,
    SUCCESS,
    refused,
    words,
)
from expunge_agent.commands.port import CommandError, NvmePort, NvmeReader, NvmeReply
from expunge_agent.core.drive import Answer
from expunge_agent.core.reach import IDENTIFY_CONTROLLER
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status
from expunge_agent.techniques.nvme_cells import NvmeCells

_HOUR = 3600.0
_ALLOWANCE = 3
"""Times the declared time, which is an estimate of an idle drive's."""
_UNDECLARED = {Action.CRYPTO_ERASE: 24 * _HOUR, Action.BLOCK_ERASE: 24 * _HOUR, Action.OVERWRITE: 72 * _HOUR}
"""Where no time is declared; for overwrite: each pass."""
_DEALLOCATION_SECONDS = 300.0
"""How long the deallocation after a media verification is waited for, whatever is declared for it."""
_EXIT_SECONDS = 10.0
"""How long a drive may go on reporting the state after it took the exit."""
_LOOK_EVERY = 0.5


@dataclass(frozen=True)
class Eye:
    """How the cells of namespace `nsid` can be read once the drive is in its media verification state."""

    reader: NvmeReader
    nsid: int


class NvmeSanitize:
    """A `Hand`. Asks the drive for its times when it is made, and may raise CommandError then; it may be
    made while an operation runs, even of a drive that refuses to identify itself meanwhile.

    `passes` (1 to 16) and the 32-bit `pattern` are for overwrite. Without an `eye` no media verification is asked
    for. `pause` waits for so many seconds. Raises KeyError for another technique.
    """

    waits = False

    def __init__(
        self,
        port: NvmePort,
        technique: Technique,
        *,
        passes: int = 1,
        pattern: int = 0,
        invert: bool = False,
        eye: Eye | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.technique = technique
        self._action = SANITIZES[technique]
        self._port, self._eye, self._pause = port, eye, pause
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
        if log.verifying or log.deallocating:
            answers += self._end_verification(log)
        elif log.sos == Sos.RUNNING:
            raise Rejected(f"a sanitize operation is already running ({describe(log)})", answers)
        return answers

    def start(self) -> list[Answer]:
        """See `Hand`: the log before, each command with its end, the log after.

        With AUSE, so that a failure can be left, except after a failure that was itself begun
        without: then only a command without is accepted (Base 2.0 §8.21.2). With media verification where the
        drive has it, else with no-deallocate where it honours that (they exclude each other); where it refuses
        just that, with the next, and at last plainly.
        """
        controller, _ = _identify(self._port)
        before, raw = _look(self._port)
        answers = [_log_answer("Sanitize Status log (81h) before", raw)]
        ause = not (before.sos == Sos.FAILED and not before.ause)
        for verify, keep in self._ways(controller):
            status, answer = self._send(ause=ause, keep=keep, verify=verify)
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
        if log.verifying and log.action == self._action:
            return Status(State.DONE, 1_000_000, -1, detail, answers)  # the processing itself succeeded
        if log.sos == Sos.RUNNING:
            seconds = log.seconds(self._action, passes=self._passes, no_deallocate=log.kept)
            left = -1 if seconds < 0 else seconds * (1_000_000 - log.ppm) // 1_000_000
            if log.action != self._action or log.deallocating:
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
        if log.verifying or log.deallocating:
            return [*answers, *self._end_verification(log)]
        if log.sos == Sos.RUNNING:
            raise Rejected(f"the operation still runs ({describe(log)})", answers)
        if log.sos != Sos.FAILED:
            return answers
        if not log.ause:
            why = "the failed operation was begun without AUSE: only a sanitize operation that succeeds ends the failure mode"
            raise Rejected(why, answers)
        return [*answers, _leave(self._port, Action.EXIT_FAILURE)]

    def cells(self) -> NvmeCells | None:
        """See `ShowsCells`."""
        if self._eye is None:
            return None
        log, _ = _look(self._port)
        space = self._space()
        if not log.verifying or log.action != self._action or space is None or not space.sector:
            return None
        return NvmeCells(self._eye.reader, self._eye.nsid, space.size, space.sector)

    def _ways(self, controller: nvme_identify.Controller) -> list[tuple[bool, bool]]:
        """(media verification, no-deallocate) in the order in which they are tried."""
        ways, space = [(False, False)], self._space()
        if keeps_blocks(controller, self._action):
            ways.insert(0, (False, True))
        if space is not None and shows_cells(controller, self._action, space):
            ways.insert(0, (True, False))
        return ways

    def _space(self) -> nvme_identify.Namespace | None:
        """The namespace whose cells could be looked at; None without an eye, or where it is not told."""
        if self._eye is None:
            return None
        command = nvme.identify(nvme.Cns.NAMESPACE, self._eye.nsid)
        reply = self._port.admin(command, data_in=nvme_identify.IDENTIFY_BYTES)
        return None if reply.status else nvme_identify.namespace(reply.data)

    def _end_verification(self, log: SanitizeLog) -> list[Answer]:
        """Leave the state and see the deallocation that follows to its end (Base 2.1 §8.1.24.3.7). Raises Rejected."""
        answers = [_leave(self._port, Action.EXIT_VERIFICATION)] if log.verifying else []
        waited = 0.0
        while True:
            now, raw = _look(self._port)
            limit = _EXIT_SECONDS if now.verifying else _DEALLOCATION_SECONDS
            if not (now.verifying or now.sos == Sos.RUNNING) or waited >= limit:
                break
            self._pause(_LOOK_EVERY)
            waited += _LOOK_EVERY
        answers.append(_log_answer("Sanitize Status log (81h) after media verification", raw))
        if now.verifying:
            raise Rejected("the drive stays in its media verification state", answers)
        if now.sos == Sos.RUNNING:
            raise Rejected(f"the drive had not left it after {waited:.0f} s: {describe(now)}", answers)
        if now.sos == Sos.FAILED:
            if now.ause:
                answers.append(_leave(self._port, Action.EXIT_FAILURE))
            raise Rejected(f"the deallocation after the media verification failed: {describe(now)}", answers)
        return answers

    def _send(self, *, ause: bool, keep: bool, verify: bool) -> tuple[int, Answer]:
        command = nvme.sanitize(
            self._action,
            ause=ause,
            no_deallocate=keep,
            verify=verify,
            passes=self._passes,
            invert=self._invert,
            pattern=self._pattern,
        )
        reply = self._port.admin(command, timeout=60.0)
        how = "media verification" if verify else "no-deallocate" if keep else "deallocating"
        how = f"{'with' if ause else 'without'} AUSE, {how}"
        return reply.status, nvme.completion(f"Sanitize {self._action.title} {how}", command, reply)

    def _patience(self) -> float:
        fallback = _UNDECLARED[self._action] * (self._passes if self._action is Action.OVERWRITE else 1)
        try:
            log, _ = _look(self._port)
            verify, keep = self._ways(_identify(self._port)[0])[0]
        except BadAnswer:
            return fallback
        seconds = log.seconds(self._action, passes=self._passes, no_deallocate=keep)
        if verify and seconds >= 0:
            seconds += max(log.deallocation, 0)
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
    if log.verifying:
        ends[Sos.RUNNING] = f"{kind} is completed, and the cells can be read"
    if log.deallocating:
        ends[Sos.RUNNING] = f"{kind} is completed, and the drive deallocates"
    parts = [ends.get(Sos(log.sos), "") if log.sos in list(Sos) else f"reserved status {log.sos}"]
    parts.append(f"SSTAT {log.sstat:04X}h, SCDW10 {log.scdw10:08X}h")
    if log.action == Action.OVERWRITE and log.sos != Sos.NEVER:
        parts.append(f"{log.passes} passes completed")
    if log.state in list(Sans) and log.state != Sans.IDLE:
        parts.append(f"state: {Sans(log.state).name.lower().replace('_', ' ')}")
    if log.verification_cancelled:
        parts.append("media verification was cancelled by a reset")
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
