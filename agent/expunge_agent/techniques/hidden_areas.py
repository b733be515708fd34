"""Bring back what an ATA drive hides: host protected area, accessible max address, device configuration overlay.

Before any erase: what is hidden is neither overwritten nor read back by the host. Only areas that really
hide something are touched; a device configuration restore resets other settings of the drive too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from expunge_agent.commands import ata_features as features
from expunge_agent.commands.ata import BLOCK, Ata, AtaCommand, AtaReply
from expunge_agent.commands.ata_areas import Areas, look
from expunge_agent.commands.ata_identify import Identify, identify
from expunge_agent.commands.port import ScsiPort
from expunge_agent.core.drive import Answer
from expunge_agent.techniques.hand import Rejected

_PROOFS = 16
"""Places that are read in what was laid open, its first and last sector among them."""
_POWER = "switch the drive's power off and on, then try again"


@dataclass(frozen=True)
class Restored:
    """Sizes before and after, what was done in words, and every answer of the drive."""

    before: Areas
    after: Areas
    done: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


def restored(port: ScsiPort) -> Restored:
    """Make every sector addressable. May be repeated; does nothing where nothing is hidden.

    The kernel learns the new size only when the device is scanned again. Raises Rejected when an area
    stays, with the reason and what to do; CommandError.
    """
    ata = Ata(port)
    identity, reply = identify(ata)
    before = look(ata, identity)
    answers = [reply.answer(), *before.answers]
    if not before.hidden():
        return Restored(before, before, [], answers)
    if identity.security.locked:
        raise Rejected("the drive is locked with a password: hidden areas cannot be restored", answers)
    work = _Restoring(ata, identity, before, answers)
    work.host_protected_area()
    work.accessible_max_address()
    work.configuration_overlay()
    if work.areas.hidden():
        raise Rejected(_still(work.areas), answers)
    if work.done:
        work.prove(before.accessible)
    return Restored(before, work.areas, work.done, answers)


class _Restoring:
    """One restoration: each step leaves `areas` as the drive has them then."""

    def __init__(self, ata: Ata, identity: Identify, areas: Areas, answers: list[Answer]) -> None:
        self.ata, self.identity, self.areas, self.answers = ata, identity, areas, answers
        self.done: list[str] = []

    def host_protected_area(self) -> None:
        """READ NATIVE MAX, then SET MAX to it (ATA8-ACS §4.11.4): lasting, which a drive takes once after
        power-on; where it does not, until the next power cycle."""
        if self.areas.native <= self.areas.accessible:
            return
        reply = self._set_max(lasting=True)
        lasted = reply.ok
        if not lasted:
            reply = self._set_max(lasting=False)
        if not reply.ok:
            raise Rejected(
                f"the drive does not give up its host protected area ({reply.words}), which is frozen or "
                f"was changed since power-on; {_POWER}",
                self.answers,
            )
        until = "for good" if lasted else "until the drive loses power"
        self.done.append(f"HPA of {self.areas.native - self.areas.accessible} sectors removed {until}")
        self._look()

    def _set_max(self, *, lasting: bool) -> AtaReply:
        extended = self.identity.lba48
        native = self.ata.run(features.READ_NATIVE_MAX_EXT if extended else features.READ_NATIVE_MAX)
        if not native.ok:
            return native
        last = features.read_address(native, extended=extended)
        return self._run(features.set_max(last, extended=extended, lasting=lasting))

    def accessible_max_address(self) -> None:
        """SET ACCESSIBLE MAX ADDRESS EXT to the native one (ACS-3 §7.2.4)."""
        if self.areas.ama <= self.areas.accessible:
            return
        reply = self._run(features.set_accessible_max(self.areas.ama - 1))
        if not reply.ok:
            raise Rejected(
                f"the drive does not raise its accessible max address ({reply.words}), which is frozen or "
                f"was changed since power-on; {_POWER}",
                self.answers,
            )
        self.done.append(f"AMA raised by {self.areas.ama - self.areas.accessible} sectors")
        self._look()

    def configuration_overlay(self) -> None:
        """DEVICE CONFIGURATION RESTORE (ATA8-ACS §7.11.5), then what it lays open as host protected area."""
        if self.areas.made <= max(self.areas.native, self.areas.accessible):
            return
        reply = self._run(features.DCO_RESTORE)
        if not reply.ok:
            raise Rejected(
                f"the drive does not give up its device configuration overlay ({reply.words}), which the "
                f"machine's firmware has most likely frozen; {_POWER}, without that firmware in between",
                self.answers,
            )
        self.done.append("DCO restored to what the drive was made with")
        self._look()
        self.host_protected_area()

    def prove(self, first: int) -> None:
        """Read places in what was laid open, from sector `first` on: a drive may claim it and still refuse it.

        Drives with sectors of other than 512 bytes do not transfer by such a command; there nothing is read.
        """
        if self.areas.sector != BLOCK:
            return
        after = self.areas.accessible
        step = max((after - first) // _PROOFS, 1)
        for lba in sorted({*range(first, after, step), after - 1}):
            reply = self.ata.run(features.read_sectors(lba, 1, extended=self.identity.lba48))
            if not reply.ok:
                raise Rejected(
                    f"the drive says that it gave up its hidden areas, but sector {lba} of them cannot be "
                    f"read ({reply.words})",
                    [*self.answers, reply.answer()],
                )

    def _run(self, command: AtaCommand) -> AtaReply:
        reply = self.ata.run(command, timeout=60.0)
        self.answers.append(reply.answer())
        return reply

    def _look(self) -> None:
        self.identity, reply = identify(self.ata)
        self.areas = look(self.ata, self.identity)
        self.answers += [reply.answer(), *self.areas.answers]


def _still(areas: Areas) -> str:
    left = ", ".join(f"{one.kind.upper()} {int(one.size)} bytes" for one in areas.hidden())
    return (
        f"the drive reported that it gave up its hidden areas, but still hides: {left}; it may need to "
        "lose power once before the change takes effect"
    )
