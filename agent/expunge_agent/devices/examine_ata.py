"""An ATA drive by its own answers, through whatever translates: identity, hidden areas, abilities, health, doubts."""

from __future__ import annotations

from typing import Literal

from expunge_agent.commands import ata_areas, ata_features, scsi, scsi_pages
from expunge_agent.commands.ata import Ata, AtaCommand, AtaReply
from expunge_agent.commands.ata_areas import Areas
from expunge_agent.commands.ata_features import SanitizeStatus
from expunge_agent.commands.ata_identify import Identify, identify
from expunge_agent.commands.port import CommandError, DriveGone, ScsiPort
from expunge_agent.commands.scsi import Refused
from expunge_agent.commands.scsi_pages import Inquiry, SatInformation
from expunge_agent.commands.sense import Garbled
from expunge_agent.core.drive import Ability, Answer, AtaSecurity, Drive, Health
from expunge_agent.core.technique import Technique
from expunge_agent.devices.roots import clean
from expunge_agent.protocol.canonical import U64

_MOST = 2**64 - 1
_SCSI = (
    Technique.SCSI_SANITIZE_CRYPTO,
    Technique.SCSI_SANITIZE_BLOCK,
    Technique.SCSI_SANITIZE_OVERWRITE,
    Technique.SCSI_FORMAT_UNIT,
)
_KERNEL = (b"linux", b"libata")


def examine_ata(port: ScsiPort) -> Drive:
    """Ask the drive, and what stands before it, for everything; changes nothing.

    Raises CommandError when it does not identify itself.
    """
    look = _Look(port)
    identity, reply = identify(look.ata)
    look.answers.append(reply.answer())
    inquiry, sat = look.translator()
    status = look.sanitize(identity)
    security = identity.security
    busy = status is not None and (status.running or status.failed)
    areas = Areas(identity.logical_sector, identity.sectors)
    if not busy:  # else the drive aborts every other command
        areas = ata_areas.look(look.ata, identity)
    look.answers += areas.answers
    health = Health() if busy else look.health(identity)
    apparent = identity.sectors * identity.logical_sector
    largest = max(areas.largest, identity.sectors) * identity.logical_sector if areas.largest > 0 else 0
    look.compare(identity, sat, 0 if busy else apparent)
    return Drive(
        protocol="ata",
        bridge=_bridge(inquiry, sat, identity),
        model=clean(identity.model),
        serial=clean(identity.serial),
        firmware=clean(identity.firmware),
        names=[identity.wwn] if identity.wwn else [],
        rotation=identity.rotation,
        logical_sector=identity.logical_sector,
        physical_sector=identity.physical_sector,
        apparent=U64(min(apparent, _MOST)),
        native=U64(min(largest, _MOST)),
        hidden=areas.hidden(),
        abilities=abilities(identity, status),
        security=security if security.supported else None,
        sanitize_frozen=status is not None and status.frozen,
        sanitize_state=_state(status),
        health=health,
        doubtful=[text[:4000] for text in (*look.doubtful, *look.names, *areas.notes)],
        doubtful_names=[text[:4000] for text in look.names],
        doubtful_areas=[text[:4000] for text in areas.notes],
        answers=look.answers,
    )


class _Look:
    """One examination: asks, and keeps what came and what was strange about it."""

    def __init__(self, port: ScsiPort) -> None:
        self.port = port
        self.ata = Ata(port)
        self.answers: list[Answer] = []
        self.doubtful: list[str] = []
        self.names: list[str] = []

    def translator(self) -> tuple[Inquiry | None, SatInformation | None]:
        """INQUIRY and the ATA Information page of what stands between; None where there is none."""
        inquiry = sat = None
        try:
            raw = scsi.inquiry(self.port)
            inquiry = scsi_pages.read_inquiry(raw)
            self.answers.append(Answer(name="INQUIRY", hex=raw.hex()))
            raw = scsi.vpd(self.port, 0x89, 572)
            sat = scsi_pages.read_sat(scsi_pages.read_vpd(raw, 0x89))
            self.answers.append(Answer(name="VPD page 89h", hex=raw.hex()))
        except DriveGone:
            raise
        except (Refused, CommandError):
            pass  # bridges without it are common
        return inquiry, sat

    def sanitize(self, identity: Identify) -> SanitizeStatus | None:
        """The status of the sanitize feature set; None where it has none or does not tell."""
        if not identity.sanitize.supported:
            return None
        try:
            reply = self.ata.run(ata_features.sanitize_status())
            self.answers.append(reply.answer())
            return ata_features.read_sanitize_status(reply)
        except DriveGone:
            raise
        except CommandError as error:
            self.doubtful.append(f"the state of sanitize is not known: {error}")
            return None

    def health(self, identity: Identify) -> Health:
        """SMART, where it is switched on."""
        if not identity.smart:
            return Health()
        passed, seen = None, ata_features.SmartAttributes()
        status = self._try(ata_features.SMART_RETURN_STATUS)
        if status is not None:
            passed = ata_features.read_smart_status(status)
        data = self._try(ata_features.SMART_READ_DATA)
        if data is not None and data.ok:
            try:
                seen = ata_features.read_smart(data.data)
            except Garbled as error:
                self.doubtful.append(str(error))
        return Health(
            passed=passed,
            celsius=seen.celsius,
            power_on_hours=seen.power_on_hours,
            reallocated=seen.reallocated,
        )

    def _try(self, command: AtaCommand) -> AtaReply | None:
        try:
            reply = self.ata.run(command)
        except DriveGone:
            raise
        except CommandError:
            return None
        self.answers.append(reply.answer())
        return reply

    def compare(self, identity: Identify, sat: SatInformation | None, apparent: int) -> None:
        """Everything in which the drive's word and the translation's differ (`apparent` 0: sizes not compared)."""
        if identity.checksum is False:
            self.doubtful.append("IDENTIFY DEVICE: the checksum is wrong, so a bridge changed it on its way")
        if not identity.printable:
            self.doubtful.append("IDENTIFY DEVICE: serial, model or firmware hold characters that are none")
        if not identity.serial:
            self.doubtful.append("IDENTIFY DEVICE: no serial number")
        self._compare_identity(identity, sat)
        self._compare_serial(identity)
        if apparent:
            self._compare_size(identity, apparent)

    def _compare_identity(self, identity: Identify, sat: SatInformation | None) -> None:
        try:
            again, _ = identify(self.ata)
            if _who(again) != _who(identity):
                self.doubtful.append("IDENTIFY DEVICE: asked twice, the drive gave two identities")
            if sat is not None and sat.identify and _who(Identify(sat.identify)) != _who(identity):
                self.doubtful.append("VPD page 89h and IDENTIFY DEVICE name different drives")
        except DriveGone:
            raise
        except CommandError as error:
            self.doubtful.append(f"its identity was told once only: {error}")

    def _compare_serial(self, identity: Identify) -> None:
        try:
            unit = clean(scsi_pages.read_vpd(scsi.vpd(self.port, 0x80), 0x80))
        except DriveGone:
            raise
        except (Refused, CommandError):
            return
        own = clean(identity.serial)
        if unit and own and unit != own:
            self.names.append(f"the bridge gives the serial number {unit!r}, the drive {own!r}")

    def _compare_size(self, identity: Identify, apparent: int) -> None:
        try:
            capacity = capacity_of(self.port, self.answers)
        except DriveGone:
            raise
        except (Refused, CommandError) as error:
            self.doubtful.append(f"the capacity is not told: {error}")
            return
        if capacity.size != apparent:
            self.doubtful.append(
                f"READ CAPACITY says {capacity.size} bytes, the drive itself {apparent}: the bridge hides "
                "a part, or garbles"
            )
        elif capacity.block != identity.logical_sector:
            self.doubtful.append(
                f"the bridge shows sectors of {capacity.block} bytes, the drive has {identity.logical_sector}"
            )


def capacity_of(port: ScsiPort, answers: list[Answer]) -> scsi_pages.Capacity:
    """READ CAPACITY(16), or (10) where the drive has only that. Raises Refused, CommandError."""
    try:
        raw = scsi.read_capacity16(port)
        answers.append(Answer(name="READ CAPACITY(16)", hex=raw.hex()))
        return scsi_pages.read_capacity16(raw)
    except (Refused, Garbled) as error:
        raw = scsi.read_capacity10(port)
        answers.append(Answer(name="READ CAPACITY(10)", hex=raw.hex()))
        small = scsi_pages.read_capacity10(raw)
        if small is None:
            raise Garbled("READ CAPACITY(10): larger than it can say") from error
        return small


def abilities(identity: Identify, status: SanitizeStatus | None) -> list[Ability]:
    """Each technique of an ATA drive: whether words 59, 82 and 128 claim it, and the time they declare."""
    word, security = identity.sanitize, identity.security
    frozen = "sanitize is frozen" if status is not None and status.frozen else ""
    found = [
        _sanitize(Technique.ATA_SANITIZE_CRYPTO, word.crypto, frozen),
        _sanitize(Technique.ATA_SANITIZE_BLOCK, word.block, frozen),
        _sanitize(Technique.ATA_SANITIZE_OVERWRITE, word.overwrite, frozen),
        _erase(Technique.ATA_SECURITY_ERASE_ENHANCED, security, security.enhanced, security.enhanced_minutes),
        _erase(Technique.ATA_SECURITY_ERASE, security, security.supported, security.minutes),
    ]
    why = "an ATA drive: its own commands are used"
    return found + [Ability(technique=one, offered=False, why=why) for one in _SCSI]


def _sanitize(technique: Technique, claimed: bool, frozen: str) -> Ability:
    if not claimed:
        return Ability(technique=technique, offered=False, why="not claimed in IDENTIFY DEVICE word 59")
    return Ability(technique=technique, offered=True, why=frozen)


def _erase(technique: Technique, security: AtaSecurity, claimed: bool, minutes: int) -> Ability:
    if not claimed:
        return Ability(technique=technique, offered=False, why="not claimed in IDENTIFY DEVICE word 128")
    state = "security is frozen" if security.frozen else "locked with a password" if security.locked else ""
    return Ability(technique=technique, offered=True, why=state, seconds=minutes * 60 or -1)


def _state(status: SanitizeStatus | None) -> Literal["", "idle", "running", "failed", "done"]:
    if status is None:
        return ""
    if status.running:
        return "running"
    if status.failed:
        return "failed"
    return "done" if status.completed else "idle"


def _bridge(inquiry: Inquiry | None, sat: SatInformation | None, identity: Identify) -> str:
    """Who translates: the page 89h's own name unless it is the kernel, or an INQUIRY that is not SAT's form
    (SAT-4 §8.1: vendor "ATA", product the model's first 16 characters)."""
    if (
        sat is not None
        and (sat.vendor.lower(), sat.product.lower()) != _KERNEL
        and (sat.vendor or sat.product)
    ):
        return f"{clean(sat.vendor)} {clean(sat.product)}".strip()
    if inquiry is None or inquiry.vendor == b"ATA" or identity.model.startswith(inquiry.product or b"\0"):
        return ""
    return f"{clean(inquiry.vendor)} {clean(inquiry.product)}".strip()


def _who(identity: Identify) -> tuple[bytes, bytes]:
    return identity.serial, identity.model
