"""What an ATA drive keeps from the host: HPA, DCO and AMA, found by asking (ATA8-ACS §4.11, §4.8; ACS-3 §4.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from expunge_agent.commands import ata_features as features
from expunge_agent.commands.ata import Ata, AtaReply
from expunge_agent.commands.ata_identify import Identify
from expunge_agent.commands.port import NoPassThrough
from expunge_agent.commands.sense import Garbled
from expunge_agent.core.drive import Answer, HiddenArea
from expunge_agent.protocol.canonical import U64


@dataclass(frozen=True)
class Areas:
    """Sizes in sectors of ``sector`` bytes; −1: the drive has no such area, or did not tell (then see ``notes``).

    ``native``: what READ NATIVE MAX ADDRESS allows; ``made``: what the device configuration overlay is cut
    from; ``ama``: what GET NATIVE MAX ADDRESS EXT allows.
    """

    sector: int
    accessible: int
    native: int = -1
    made: int = -1
    ama: int = -1
    notes: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def largest(self) -> int:
        """Sectors the drive has without hidden areas; −1 when it told nothing."""
        return max(self.native, self.made, self.ama)

    def hidden(self) -> list[HiddenArea]:
        """Each area that really hides something."""
        found = []
        if self.native > self.accessible:
            found.append(self._area("hpa", self.native - self.accessible))
        if self.ama > self.accessible:
            found.append(self._area("ama", self.ama - self.accessible))
        if self.made > max(self.native, self.accessible):
            found.append(self._area("dco", self.made - max(self.native, self.accessible)))
        return found

    def _area(self, kind: str, sectors: int) -> HiddenArea:
        size = U64(min(sectors * self.sector, 2**64 - 1))
        restorable = not any(note.startswith(kind.upper()) for note in self.notes)
        if kind == "hpa":
            return HiddenArea(kind="hpa", size=size, restorable=restorable)
        if kind == "dco":
            return HiddenArea(kind="dco", size=size, restorable=restorable)
        return HiddenArea(kind="ama", size=size, restorable=restorable)


def look(ata: Ata, identity: Identify) -> Areas:
    """Ask for every hidden area the drive may have; changes nothing. Raises DriveGone, CommandTimeout."""
    notes: list[str] = []
    answers: list[Answer] = []
    native = _native(ata, identity, notes, answers) if identity.hpa else -1
    made = _made(ata, notes, answers) if identity.dco else -1
    ama = _ama(ata, notes, answers) if identity.ama else -1
    return Areas(
        sector=identity.logical_sector,
        accessible=identity.sectors,
        native=native,
        made=made,
        ama=ama,
        notes=notes,
        answers=answers,
    )


def _native(ata: Ata, identity: Identify, notes: list[str], answers: list[Answer]) -> int:
    command = features.READ_NATIVE_MAX_EXT if identity.lba48 else features.READ_NATIVE_MAX
    try:
        reply = ata.run(command)
        if reply.ok:
            last = features.read_address(reply, extended=command.extended)
            answers.append(reply.answer())
            return last + 1
        notes.append(f"HPA: {reply.words}")
    except (NoPassThrough, Garbled) as error:
        notes.append(f"HPA: {error}")
    return -1


def _made(ata: Ata, notes: list[str], answers: list[Answer]) -> int:
    try:
        reply = ata.run(features.DCO_IDENTIFY)
        if reply.ok:
            last = features.read_dco(reply.data)
            answers.append(reply.answer())
            return last + 1
        notes.append(_frozen_dco(reply))
    except (NoPassThrough, Garbled) as error:
        notes.append(f"DCO: {error}")
    return -1


def _frozen_dco(reply: AtaReply) -> str:
    return f"DCO: {reply.words}; most likely frozen by the firmware of the machine"


def _ama(ata: Ata, notes: list[str], answers: list[Answer]) -> int:
    try:
        reply = ata.run(features.AMA_NATIVE)
        if reply.ok:
            last = features.read_address(reply, extended=True)
            answers.append(reply.answer())
            return last + 1
        notes.append(f"AMA: {reply.words}")
    except (NoPassThrough, Garbled) as error:
        notes.append(f"AMA: {error}")
    return -1
