"""Sense data: what a SCSI drive says of a command, and an ATA drive's registers inside it.

SPC-5 §4.4: descriptor format (response codes 72h, 73h) and fixed format (70h, 71h); SAT-4 §12.2.2 for
the registers. Nothing here raises: sense that is cut short is read as if zeros followed.
"""

from __future__ import annotations

from dataclasses import dataclass

from expunge_agent.commands.port import CommandError

FIXED = (0x70, 0x71)
DESCRIPTOR = (0x72, 0x73)
PROGRESS_UNITS = 65536
"""A progress indication counts in 65,536ths (SPC-5 §4.4.2.4.4)."""

NO_SENSE, RECOVERED, NOT_READY, MEDIUM, HARDWARE, ILLEGAL, ATTENTION, PROTECT = range(8)
ABORTED = 0x0B

SANITIZE_RUNNING = (0x04, 0x1B)
FORMAT_RUNNING = (0x04, 0x04)
SANITIZE_FAILED = (0x31, 0x03)
FORMAT_FAILED = ((0x31, 0x01), (0x31, 0x00))

_KEYS = {
    0x0: "no sense",
    0x1: "recovered error",
    0x2: "not ready",
    0x3: "medium error",
    0x4: "hardware error",
    0x5: "illegal request",
    0x6: "unit attention",
    0x7: "data protect",
    0x8: "blank check",
    0x9: "vendor specific",
    0xA: "copy aborted",
    0xB: "aborted command",
    0xD: "volume overflow",
    0xE: "miscompare",
    0xF: "completed",
}
_CODES = {
    (0x00, 0x1D): "ATA pass through information available",
    (0x04, 0x00): "not ready, cause not reportable",
    (0x04, 0x01): "becoming ready",
    (0x04, 0x02): "needs a start command",
    (0x04, 0x03): "needs manual intervention",
    (0x04, 0x04): "format in progress",
    (0x04, 0x07): "operation in progress",
    (0x04, 0x09): "self-test in progress",
    (0x04, 0x1B): "sanitize in progress",
    (0x0C, 0x00): "write error",
    (0x11, 0x00): "unrecovered read error",
    (0x20, 0x00): "invalid command operation code",
    (0x20, 0x02): "access denied",
    (0x21, 0x00): "logical block address out of range",
    (0x21, 0x04): "unaligned write",
    (0x24, 0x00): "invalid field in the command",
    (0x25, 0x00): "logical unit not supported",
    (0x26, 0x00): "invalid field in the parameter list",
    (0x27, 0x00): "write protected",
    (0x28, 0x00): "medium may have changed",
    (0x29, 0x00): "power on, reset, or bus reset occurred",
    (0x2A, 0x09): "capacity data has changed",
    (0x2C, 0x00): "command sequence error",
    (0x31, 0x00): "medium format corrupted",
    (0x31, 0x01): "format command failed",
    (0x31, 0x03): "sanitize command failed",
    (0x3A, 0x00): "no medium",
    (0x44, 0x00): "internal target failure",
    (0x5D, 0x00): "failure prediction threshold exceeded",
    (0x74, 0x71): "logical unit access not authorized",
}


class Garbled(CommandError):  # noqa: N818 - named like the other ends
    """An answer came, but it is too short or does not have the form its specification gives it."""


@dataclass(frozen=True)
class AtaRegisters:
    """An ATA drive's registers when a command ended (ACS-3 §6.2).

    ``count`` and ``lba`` with their upper halves where ``extended``; ``count_known`` and ``lba_known`` are
    false where the fixed format says only that the upper half is not zero (SAT-4 §12.2.2.7).
    """

    error: int
    status: int
    device: int
    count: int
    lba: int
    extended: bool = False
    count_known: bool = True
    lba_known: bool = True

    @property
    def ok(self) -> bool:
        """Ended without ERR (bit 0), DRQ (3), DF (5) or BSY (7) in the status register."""
        return not self.status & 0xA9

    @property
    def aborted(self) -> bool:
        """ABRT, bit 2 of the error register: the drive did not take the command."""
        return bool(self.status & 0x01 and self.error & 0x04)


@dataclass(frozen=True)
class Sense:
    """Sense data. ``information`` is None unless valid; ``progress`` in 65,536ths, −1 where there is none."""

    response: int
    key: int
    asc: int
    ascq: int
    information: int | None = None
    progress: int = -1

    @property
    def code(self) -> tuple[int, int]:
        """Additional sense code and its qualifier."""
        return self.asc, self.ascq

    @property
    def deferred(self) -> bool:
        """Speaks of an earlier command, not of this one (SPC-5 §4.4.4)."""
        return self.response in (0x71, 0x73)

    @property
    def ppm(self) -> int:
        """The progress in parts per million, −1 where there is none."""
        return self.progress * 1_000_000 // PROGRESS_UNITS if self.progress >= 0 else -1

    @property
    def words(self) -> str:
        """One line for a person: ``not ready: sanitize in progress (2/04/1B)``."""
        key = _KEYS.get(self.key, "reserved")
        what = _CODES.get(self.code) or _CODES.get((self.asc, 0), "")
        numbers = f"({self.key:X}/{self.asc:02X}/{self.ascq:02X})"
        return f"{key}: {what} {numbers}" if what else f"{key} {numbers}"


def parse(data: bytes) -> Sense | None:
    """The sense data in `data`, of either format; None when there is none (another response code, empty)."""
    if not data:
        return None
    response = data[0] & 0x7F
    if response in DESCRIPTOR:
        return _descriptor(response, data)
    if response in FIXED:
        return _fixed(response, data)
    return None


def ata_registers(data: bytes) -> AtaRegisters | None:
    """The registers an ATA PASS-THROUGH command's sense data carries; None where it carries none.

    Descriptor format: the ATA Status Return descriptor, 09h (SAT-4 §12.2.2.6). Fixed format (§12.2.2.7):
    the registers stand in the INFORMATION and COMMAND-SPECIFIC INFORMATION fields, bytes 3 to 11. Linux
    before 6.11 put them at byte 8 in a layout of its own; which of the two it is shows the status register,
    which is never zero when a command has ended.
    """
    if not data:
        return None
    response = data[0] & 0x7F
    if response in DESCRIPTOR:
        for one in _descriptors(data):
            if one[0] == 0x09 and len(one) >= 14:
                return _registers_of_descriptor(one)
        return None
    if response not in FIXED:
        return None
    fixed = data.ljust(20, b"\0")
    if _plausible(fixed[4]):
        return _registers_of_fixed(fixed[3:7], fixed[8:12])
    if not any(fixed[3:7]) and _plausible(fixed[9]):
        return _registers_of_fixed(fixed[8:12], fixed[16:20], whole=len(data) >= 20)
    return None


def _plausible(status: int) -> bool:
    """Whether a byte may be the status register of an ended command: DRDY or an error, and not busy."""
    return bool(status & 0x61) and not status & 0x80


def _registers_of_descriptor(one: bytes) -> AtaRegisters:
    extended = bool(one[2] & 1)
    upper = extended or any((one[4], one[6], one[8], one[10]))
    count, lba = one[5], one[7] | one[9] << 8 | one[11] << 16
    if upper:
        count |= one[4] << 8
        lba |= one[6] << 24 | one[8] << 32 | one[10] << 40
    return AtaRegisters(error=one[3], status=one[13], device=one[12], count=count, lba=lba, extended=extended)


def _registers_of_fixed(information: bytes, specific: bytes, *, whole: bool = True) -> AtaRegisters:
    """`whole` false: the sense ended before LBA 23:8, as Linux 6.1 cuts it after 18 bytes."""
    error, status, device, count = information
    flags, low, middle, high = specific
    return AtaRegisters(
        error=error,
        status=status,
        device=device,
        count=count,
        lba=low | middle << 8 | high << 16,
        extended=bool(flags & 0x80),
        count_known=not flags & 0x40,
        lba_known=whole and not flags & 0x20,
    )


def _descriptors(data: bytes) -> list[bytes]:
    """The sense data descriptors (SPC-5 §4.4.2.1): type, additional length, and so many bytes."""
    data = data.ljust(8, b"\0")
    rest = data[8 : 8 + data[7]]
    found = []
    while len(rest) >= 2:
        found.append(rest[: 2 + rest[1]])
        rest = rest[2 + rest[1] :]
    return found


def _descriptor(response: int, data: bytes) -> Sense:
    head = data.ljust(8, b"\0")
    information, progress = None, -1
    for one in _descriptors(head):
        if one[0] == 0x00 and len(one) >= 12 and one[2] & 0x80:
            information = int.from_bytes(one[4:12], "big")
        if one[0] == 0x02 and len(one) >= 8:
            progress = _progress(head[1] & 0x0F, one[4:7])
    return Sense(response, head[1] & 0x0F, head[2], head[3], information, progress)


def _fixed(response: int, data: bytes) -> Sense:
    body = data[: 8 + data[7]] if len(data) > 7 else data
    body = body.ljust(18, b"\0")
    key = body[2] & 0x0F
    information = int.from_bytes(body[3:7], "big") if body[0] & 0x80 else None
    return Sense(response, key, body[12], body[13], information, _progress(key, body[15:18]))


def _progress(key: int, specific: bytes) -> int:
    """The progress indication, where the sense-key specific bytes are valid (SKSV) and mean it."""
    if key not in (NO_SENSE, NOT_READY) or not specific[0] & 0x80:
        return -1
    return int.from_bytes(specific[1:3], "big")
