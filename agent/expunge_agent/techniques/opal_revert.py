"""PSID revert of an Opal drive: its media encryption keys are eradicated (Opal SSC 2.30 §5.1.2, PSID feature set 1.00)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from expunge_agent.commands import kernel_opal, opal
from expunge_agent.commands.port import NoPassThrough
from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status


class OpalKernel(Protocol):
    """What the kernel's sed-opal does for us; `KernelOpal` is it."""

    def status(self) -> kernel_opal.OpalFlags: ...

    def psid_revert(self, psid: bytes) -> int: ...


@dataclass(frozen=True)
class KernelOpal:
    """The ioctls on `fd`, an open block device (a whole drive)."""

    fd: int

    def status(self) -> kernel_opal.OpalFlags:
        """See `kernel_opal.status`."""
        return kernel_opal.status(self.fd)

    def psid_revert(self, psid: bytes) -> int:
        """See `kernel_opal.psid_revert`."""
        return kernel_opal.psid_revert(self.fd, psid)


@dataclass
class OpalRevert:
    """A `Hand`. `discover` sends level 0 discovery (`expunge_agent.commands.opal.discover_…` with its port).

    `psid` is what is printed on the drive's label. The status of the revert says that it was taken,
    not that the data is gone (Opal SSC 2.30 §5.1.2): the drive goes on in the background and says so
    in its discovery.
    """

    kernel: OpalKernel
    discover: Callable[[], bytes]
    psid: str
    technique: Technique = Technique.OPAL_REVERT
    waits: bool = False
    timeout: float = 600.0
    _accepted: bool = False

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
        psid = self.psid.strip().encode("ascii", "replace")
        if not 0 < len(psid) <= 32:
            raise Rejected("a PSID has up to 32 characters, as printed on the drive's label", answers)
        try:
            status = self.kernel.psid_revert(psid)
        except NoPassThrough as error:
            raise Rejected(f"the kernel cannot revert this drive ({error})", answers) from error
        answers.append(Answer(name="TCG status of the PSID revert", hex=f"{status & 0xFF:02x}"))
        if status:
            raise Rejected(opal.STATUS.get(status, f"TCG status {status:#x}"), answers)
        self._accepted = True
        return answers

    def poll(self) -> Status:
        """Whether data removal still runs; done only after this very object's revert was accepted."""
        raw, seen = self._look()
        answers = [opal.answer(raw)]
        if seen.removing:
            return Status(State.RUNNING, detail="the drive removes data", answers=answers)
        if seen.removal_interrupted:
            return Status(State.FAILED, detail="a data removal operation was interrupted", answers=answers)
        if not self._accepted:
            return Status(State.IDLE, answers=answers)
        if seen.locking_enabled and "Enterprise" not in seen.ssc:
            return Status(State.FAILED, detail="the Locking SP is still active", answers=answers)
        return Status(State.DONE, ppm=1_000_000, detail="the Locking SP is inactive", answers=answers)

    def settle(self) -> list[Answer]:
        """A revert leaves the drive in its factory state: nothing to do."""
        return []

    def _look(self) -> tuple[bytes, opal.Discovery]:
        raw = self.discover()
        try:
            return raw, opal.parse(raw)
        except opal.NotDiscovery as error:
            raise Rejected(
                f"level 0 discovery: {error}", [Answer(name="no discovery", hex=raw.hex())]
            ) from error
