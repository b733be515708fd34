"""A SCSI drive by its own answers, and whether an ATA drive stands behind the SCSI face."""

from __future__ import annotations

from typing import Literal

from expunge_agent.commands import scsi, scsi_pages
from expunge_agent.commands.ata import Ata
from expunge_agent.commands.ata_identify import identify
from expunge_agent.commands.port import CommandError, DriveGone, ScsiPort
from expunge_agent.commands.scsi import Condition, Readiness, Refused, SanitizeAction
from expunge_agent.commands.scsi_pages import Capacity
from expunge_agent.core.drive import Ability, Answer, Drive, Health
from expunge_agent.core.technique import Technique
from expunge_agent.devices.examine_ata import capacity_of, examine_ata
from expunge_agent.devices.roots import clean
from expunge_agent.protocol.canonical import U64

__all__ = ["examine_ata", "examine_scsi", "speaks_ata"]

_DISKS = (0x00, 0x14)
"""Peripheral device types: direct access block device, host managed zoned block device (SPC-5 §6.7.2)."""
_COMMANDS: dict[Technique, tuple[int, int | None]] = {
    Technique.SCSI_SANITIZE_CRYPTO: (0x48, SanitizeAction.CRYPTO_ERASE),
    Technique.SCSI_SANITIZE_BLOCK: (0x48, SanitizeAction.BLOCK_ERASE),
    Technique.SCSI_SANITIZE_OVERWRITE: (0x48, SanitizeAction.OVERWRITE),
    Technique.SCSI_FORMAT_UNIT: (0x04, None),
}
_ATA = (
    Technique.ATA_SANITIZE_CRYPTO,
    Technique.ATA_SANITIZE_BLOCK,
    Technique.ATA_SANITIZE_OVERWRITE,
    Technique.ATA_SECURITY_ERASE_ENHANCED,
    Technique.ATA_SECURITY_ERASE,
)


def speaks_ata(port: ScsiPort) -> bool:
    """Whether an ATA disk answers: IDENTIFY DEVICE through pass-through. Page 89h alone is not enough, as
    no command of ours would reach the drive. Raises DriveGone.

    Only a disk is asked: A1h, the short pass-through, means BLANK to an optical drive (MMC-6 §6.2).
    """
    try:
        about = scsi_pages.read_inquiry(scsi.inquiry(port))
        if about.kind not in _DISKS or not about.connected:
            return False
        return identify(Ata(port))[0].ata
    except DriveGone:
        raise
    except (Refused, CommandError):
        return False


def examine_scsi(port: ScsiPort) -> Drive:
    """Ask the drive for everything; changes nothing. Raises CommandError when not even INQUIRY is answered."""
    look = _Look(port)
    about = look.inquiry()
    now = look.condition()
    pages = look.pages()
    # While it sanitizes or formats, a drive tells no capacity, or zero: that is not its size.
    busy = now is not None and now.readiness is not Readiness.READY
    capacity = look.capacity(now) if not busy else None
    if now is not None and busy:
        look.doubtful.append(f"the capacity is not known: {now.words or now.readiness}")
    return Drive(
        protocol="scsi",
        vendor=clean(about.vendor),
        model=clean(about.product),
        serial=clean(look.page(0x80, pages)),
        firmware=clean(about.revision),
        names=scsi_pages.read_names(look.page(0x83, pages)),
        rotation=scsi_pages.read_rotation(look.page(0xB1, pages)),
        logical_sector=capacity.block if capacity is not None and capacity.block else -1,
        physical_sector=capacity.physical if capacity is not None and capacity.physical else -1,
        apparent=U64(min(capacity.size, 2**64 - 1) if capacity is not None else 0),
        abilities=look.abilities(),
        sanitize_state=_state(now),
        health=look.health(),
        doubtful=look.doubts(),
        answers=look.answers,
    )


class _Look:
    """One examination: asks, and keeps what came and what was strange about it."""

    def __init__(self, port: ScsiPort) -> None:
        self.port = port
        self.answers: list[Answer] = []
        self.doubtful: list[str] = []

    def inquiry(self) -> scsi_pages.Inquiry:
        """Raises CommandError."""
        try:
            raw = scsi.inquiry(self.port)
        except Refused as refused:
            raise CommandError(str(refused)) from refused
        self.answers.append(Answer(name="INQUIRY", hex=raw.hex()))
        about = scsi_pages.read_inquiry(raw)
        if not all(32 <= byte < 127 for byte in about.vendor + about.product + about.revision):
            self.doubtful.append("INQUIRY: vendor, product or revision hold characters that are none")
        return about

    def condition(self) -> Condition | None:
        """What it is doing; None where it does not tell."""
        try:
            now = scsi.condition(self.port)
        except DriveGone:
            raise
        except CommandError as error:
            self.doubtful.append(f"its condition is not told: {error}")
            return None
        if now.answer is not None:
            self.answers.append(now.answer)
        return now

    def pages(self) -> set[int]:
        """The pages of vital product data it lists in page 00h."""
        return set(self.page(0x00, {0x00}))

    def page(self, page: int, listed: set[int]) -> bytes:
        """The body of a page, empty where the drive has none."""
        if page not in listed:
            return b""
        try:
            raw = scsi.vpd(self.port, page)
            body = scsi_pages.read_vpd(raw, page)
        except DriveGone:
            raise
        except (Refused, CommandError) as error:
            self.doubtful.append(str(error))
            return b""
        self.answers.append(Answer(name=f"VPD page {page:02X}h", hex=raw.hex()))
        return body

    def capacity(self, now: Condition | None) -> Capacity | None:
        """None where it is not told, or told to be nothing."""
        try:
            capacity = capacity_of(self.port, self.answers)
        except DriveGone:
            raise
        except (Refused, CommandError) as error:
            self.doubtful.append(f"the capacity is not told: {error}")
            return None
        if not capacity.size:
            words = now.words if now is not None else ""
            self.doubtful.append(f"READ CAPACITY says zero {words}".strip())
            return None
        return capacity

    def abilities(self) -> list[Ability]:
        """Each technique, by REPORT SUPPORTED OPERATION CODES."""
        found = [self._ability(technique) for technique in _COMMANDS]
        why = "a SCSI drive, or a bridge without ATA pass-through"
        return found + [Ability(technique=one, offered=False, why=why) for one in _ATA]

    def _ability(self, technique: Technique) -> Ability:
        opcode, action = _COMMANDS[technique]
        try:
            support = scsi.support(self.port, opcode, action)
        except DriveGone:
            raise
        except CommandError:
            support = scsi_pages.Support(known=False, supported=False)
        if not support.known:
            why = "the drive does not report which commands it supports"
            return Ability(technique=technique, offered=False, why=why)
        if not support.supported:
            return Ability(technique=technique, offered=False, why="the drive reports it as not supported")
        return Ability(technique=technique, offered=True, seconds=support.seconds)

    def health(self) -> Health:
        """Log pages 0Dh and 2Fh, as far as it has them."""
        celsius = passed = None
        raw = self._log(0x0D)
        if raw:
            celsius = scsi_pages.read_temperature(raw)
        raw = self._log(0x2F)
        if raw:
            passed = scsi_pages.read_exceptions(raw)
        return Health(passed=passed, celsius=celsius)

    def _log(self, page: int) -> bytes:
        try:
            raw = scsi.log_sense(self.port, page)
            scsi_pages.read_parameters(raw, page)
        except DriveGone:
            raise
        except (Refused, CommandError):
            return b""
        self.answers.append(Answer(name=f"LOG SENSE page {page:02X}h", hex=raw.hex()))
        return raw

    def doubts(self) -> list[str]:
        """What was strange, each within what a document holds."""
        return [text[:4000] for text in self.doubtful]


def _state(now: Condition | None) -> Literal["", "idle", "running", "failed", "done"]:
    """Of a sanitize operation; an ended one leaves no record (so never ``done``)."""
    if now is None:
        return ""
    if now.readiness is Readiness.SANITIZING:
        return "running"
    return "failed" if now.readiness is Readiness.SANITIZE_FAILED else "idle"
