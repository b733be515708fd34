"""PSID revert of an Opal drive: its media encryption keys are eradicated (Opal SSC 2.30 §5.1.2, PSID feature set 1.00)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from expunge_agent.commands import kernel_opal, opal
from expunge_agent.commands.port import CommandError, Evasive, NoPassThrough
from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status


class OpalKernel(Protocol):
    """What the kernel's sed-opal does for us; `KernelOpal` is it."""

    def status(self) -> kernel_opal.OpalFlags: ...

    def psid_revert(self, psid: bytes) -> int: ...


@dataclass(frozen=True)
class KernelOpal:
    """The ioctls on `fd`, an open block device (a whole drive); `gate` is asked before each."""

    fd: int
    gate: Callable[[], None]

    def status(self) -> kernel_opal.OpalFlags:
        """See `kernel_opal.status`."""
        self.gate()
        return kernel_opal.status(self.fd)

    def psid_revert(self, psid: bytes) -> int:
        """See `kernel_opal.psid_revert`."""
        self.gate()
        return kernel_opal.psid_revert(self.fd, psid)


def first_of(*ways: Callable[[], bytes]) -> Callable[[], bytes]:
    """Level 0 discovery by the first of `ways` that brings one; the last one's trouble where none does."""

    def discover() -> bytes:
        for way in ways[:-1]:
            try:
                return way()
            except (CommandError, opal.NotDiscovery):
                continue
        return ways[-1]()

    return discover


_LEAST = 600.0
_ALLOWANCE = 2
"""Times the longest that the drive declares for a data removal."""


@dataclass
class OpalRevert:
    """A `Hand`. `discover` sends level 0 discovery (`expunge_agent.commands.opal.discover_…` with its port).

    `psid` is what is printed on the drive's label. The status of the revert says that it was taken,
    not that the data is gone (Opal SSC 2.30 §5.1.2): the drive goes on in the background and says so
    in its discovery. Asks the drive once when it is made, and may raise CommandError or Rejected then.
    """

    kernel: OpalKernel
    discover: Callable[[], bytes]
    psid: str
    technique: Technique = Technique.OPAL_REVERT
    waits: bool = False
    timeout: float = _LEAST

    def __post_init__(self) -> None:
        declared = max(self._look()[1].removal_seconds, default=0)
        self.timeout = max(_LEAST, _ALLOWANCE * float(declared))

    def prepare(self) -> list[Answer]:
        """Check that a revert would erase, and that the kernel can ask for it. Raises Rejected, CommandError."""
        raw, seen = self._look()
        if why := opal.revert_erases(seen):
            raise Rejected(why, [opal.answer(raw)])
        try:
            known = kernel_opal.OpalFlags.SUPPORTED in self.kernel.status()
        except NoPassThrough:
            known = True  # kernels before 6.1 cannot be asked; the revert itself will tell
        if not known:
            raise Rejected("the kernel does not speak to this drive's security subsystem", [opal.answer(raw)])
        return [opal.answer(raw)]

    def start(self) -> list[Answer]:
        """Revert. Raises Rejected for a wrong PSID and whatever else the drive answers but success."""
        answers = self.prepare()
        try:
            status = self.kernel.psid_revert(self.psid.encode("ascii"))
        except NoPassThrough as error:
            raise Rejected(f"the kernel cannot revert this drive ({error})", answers) from error
        answers.append(Answer(name="TCG status of the PSID revert", hex=f"{status & 0xFF:02x}"))
        if status:
            raise Rejected(opal.STATUS.get(status, f"TCG status {status:#x}"), answers)
        return answers

    def poll(self) -> Status:
        """Whether data removal still runs. DONE where the Locking SP is inactive, whoever reverted it."""
        try:
            raw, seen = self._look()
        except Rejected as error:
            raise Evasive(error.why) from error
        answers = [opal.answer(raw)]
        if seen.removing:
            return Status(State.RUNNING, detail="the drive removes data", answers=answers)
        if seen.removal_interrupted:
            return Status(State.FAILED, detail="a data removal operation was interrupted", answers=answers)
        if seen.locking_enabled:
            return Status(State.FAILED, detail="the Locking SP is still active", answers=answers)
        return Status(State.DONE, ppm=1_000_000, detail="the Locking SP is inactive", answers=answers)

    def settle(self) -> list[Answer]:
        """A revert leaves the drive in its factory state: nothing to do."""
        return []

    def _look(self) -> tuple[bytes, opal.Discovery]:
        raw = b""
        try:
            raw = self.discover()
            return raw, opal.parse(raw)
        except opal.NotDiscovery as error:
            answers = [Answer(name="no discovery", hex=raw.hex())] if raw else []
            raise Rejected(f"level 0 discovery: {error}", answers) from error
