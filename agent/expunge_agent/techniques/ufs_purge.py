"""UFS: everything is unmapped, then the device is told to purge what is unmapped (JESD220G §14.2, §14.3).

A purge removes data from physical memory that no logical unit maps, of all of them; what is mapped stays. The
device tells of its end once: the read that says *done* sets the status back to idle. Whoever else reads it (sysfs
has it too) takes the word away, and the end is then not known.
"""

from __future__ import annotations

from collections.abc import Callable

from expunge_agent.commands import ufs
from expunge_agent.commands.port import CommandError
from expunge_agent.commands.ufs import PurgeStatus
from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status

_SECONDS = 4 * 3600.0
"""No time is declared for it."""
_STATES = {
    PurgeStatus.IDLE: (State.IDLE, "the device tells of no purge"),
    PurgeStatus.RUNNING: (State.RUNNING, "purge in progress"),
    PurgeStatus.STOPPED: (State.FAILED, "purge stopped prematurely"),
    PurgeStatus.DONE: (State.DONE, "purge completed"),
    PurgeStatus.QUEUE_NOT_EMPTY: (State.FAILED, "purge failed: the queue of a logical unit was not empty"),
    PurgeStatus.FAILED: (State.FAILED, "purge failed"),
}


class UfsPurge:
    """A `Hand`. `unmap` discards all of the logical unit, and raises CommandError or Rejected where it cannot."""

    technique = Technique.UFS_PURGE
    waits = False
    timeout = _SECONDS

    def __init__(self, port: ufs.UfsPort, unmap: Callable[[], list[Answer]]) -> None:
        self._port, self._unmap = port, unmap
        self._refused: list[Answer] = []

    def prepare(self) -> list[Answer]:
        """See `Hand`. Takes the word of an old purge, so that it is not taken for that of the one to come."""
        answers = []
        for _ in range(2):
            reply = ufs.read_purge_status(self._port)
            answers.append(_told("bPurgeStatus before", reply))
            if reply.response:
                raise Rejected(f"the device has no purge status: {reply.words}", answers)
            if reply.value == PurgeStatus.RUNNING:
                raise Rejected("the device is purging already", answers)
        if reply.value != PurgeStatus.IDLE:
            raise Rejected(f"its purge status stays {reply.value:02X}h, read or not", answers)
        return answers

    def start(self) -> list[Answer]:
        """See `Hand`. What was unmapped before a purge is refused is gone for the host, and this says so."""
        answers = self._unmap()
        reply = ufs.enable_purge(self._port)
        answers.append(_told("fPurgeEnable set", reply))
        if reply.response:
            self._refused = answers
            raise CommandError(f"everything was unmapped, and the device refused to purge: {reply.words}")
        return answers

    def poll(self) -> Status:
        """See `Hand`."""
        reply = ufs.read_purge_status(self._port)
        answers = [_told("bPurgeStatus", reply)]
        if reply.response:
            raise CommandError(f"the purge status is not told: {reply.words}")
        if reply.value not in list(PurgeStatus):
            return Status(State.IDLE, detail=f"reserved purge status {reply.value:02X}h", answers=answers)
        state, detail = _STATES[PurgeStatus(reply.value)]
        if self._refused and state is State.IDLE:
            return Status(State.FAILED, detail=detail, answers=[*self._refused, *answers])
        return Status(state, 1_000_000 if state is State.DONE else -1, -1, detail, answers)

    def settle(self) -> list[Answer]:
        """See `Hand`: nothing is left behind."""
        return []


def _told(name: str, reply: ufs.QueryReply) -> Answer:
    return Answer(name=f"{name}: {reply.words}", hex=reply.raw.hex())
