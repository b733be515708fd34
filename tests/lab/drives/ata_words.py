"""What an ATA drive says of itself (ACS-3/ACS-4): IDENTIFY DEVICE, logs, SMART data, DCO data."""

from __future__ import annotations

from dataclasses import dataclass

from lab.drives import scsi_wire as wire
from lab.drives.scsi_wire import text

LOG_DIRECTORY, STATISTICS, IDENTIFY_LOG = 0x00, 0x04, 0x30


@dataclass(frozen=True)
class AtaModel:
    """What was built. ``rotation``: nominal rate, 1 for flash; ``exponent``: log2 of logical sectors in a
    physical one; ``wwn`` 0: made from the serial number; ``hidden``: "hpa", "ama" or ""; ``sanitize``: which of crypto, block, overwrite;
    ``encrypts``: everything that is stored; times in seconds."""

    model: str
    serial: str
    firmware: str = "EX10"
    wwn: int = 0
    rotation: int = 1
    sector: int = 512
    exponent: int = 3
    hidden: str = "hpa"
    dco: bool = True
    sanitize: frozenset[str] = frozenset({"crypto", "block"})
    antifreeze: bool = True
    security: bool = True
    enhanced: bool = True
    trim: bool = True
    encrypts: bool = True
    sanitize_seconds: float = 120.0
    security_seconds: float = 240.0
    temperature: int = 34
    reallocated: int = 3

    @property
    def naa(self) -> int:
        """The world wide name, NAA 5."""
        return self.wwn or wire.naa(self.serial)


def ssd(**changes: object) -> AtaModel:
    """A self-encrypting flash drive: crypto scramble, block erase, HPA and DCO."""
    return AtaModel(**{"model": "EXPUNGE LAB SSD 870", "serial": "S5SSNX0R123456", **changes})  # type: ignore[arg-type]


def hdd(**changes: object) -> AtaModel:
    """A rotating drive: overwrite, AMA, no TRIM, no encryption."""
    built: dict[str, object] = {
        "model": "EXPUNGE LAB HDD 7200",
        "serial": "ZL2LAB0042",
        "rotation": 7200,
        "hidden": "ama",
        "dco": False,
        "sanitize": frozenset({"overwrite"}),
        "trim": False,
        "encrypts": False,
        "sanitize_seconds": 1200.0,
        "security_seconds": 1200.0,
    }
    return AtaModel(**{**built, **changes})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Now:
    """What of IDENTIFY DEVICE changes. ``sectors``: accessible; ``serial`` as it is sent."""

    sectors: int
    serial: bytes
    write_cache: bool
    smart: bool
    enabled: bool
    locked: bool
    frozen: bool
    expired: bool
    maximum: bool
    master_id: int
    claims_crypto: bool


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


def ata_text(value: str | bytes, width: int) -> bytes:
    """An ATA string (ACS-3 §3.4.9): two characters a word, the first in the upper byte."""
    padded = text(value, width)
    return b"".join(padded[i : i + 2][::-1] for i in range(0, width, 2))


def checksum(page: bytearray) -> None:
    """Set the last byte so that all 512 add up to 0 modulo 256."""
    page[511] = 0
    page[511] = -sum(page) & 0xFF


def _security_word(model: AtaModel, now: Now) -> int:
    flags = (model.security, now.enabled, now.locked, now.frozen, now.expired, model.enhanced)
    word = sum(1 << bit for bit, on in enumerate(flags) if on)
    return (word | (0x100 if now.maximum else 0)) if model.security else 0


def _sanitize_word(model: AtaModel, now: Now) -> int:
    if not model.sanitize and not now.claims_crypto:
        return 0
    word = _bits(12, 11) | (_bits(10) if model.antifreeze else 0)
    word |= _bits(13) if "crypto" in model.sanitize or now.claims_crypto else 0
    word |= _bits(14) if "overwrite" in model.sanitize else 0
    return word | (_bits(15) if "block" in model.sanitize else 0)


def erase_minutes(seconds: float) -> int:
    """Words 89 and 90 (ACS-3 §7.12.7.43): bit 15 set, bits 14:0 in units of 2 minutes, at least one."""
    return 0x8000 | min(max(int(-(-seconds // 120)), 1), 0x7FFE)


def identify(model: AtaModel, now: Now) -> bytes:
    """IDENTIFY DEVICE data, 256 words (ACS-3 §7.12)."""
    words = [0] * 256
    words[0], words[1], words[3], words[6] = 0x0040, 16383, 16, 63
    words[47], words[48], words[49], words[50], words[53] = 0x8010, 0x4000, 0x2F00, 0x4000, 0x0006
    words[59] = 0x0110 | _sanitize_word(model, now)
    words[63], words[64] = 0x0007, 0x0003
    words[65:69] = [120] * 4
    words[69] = (0x0010 if model.encrypts else 0) | (0x4020 if model.trim else 0)
    words[76], words[78], words[79] = 0x000E, 0x0040, 0x0040
    words[80] = 0x0FF0
    words[82] = _bits(0, 3, 5, 6, 14) | (_bits(1) if model.security else 0)
    words[83] = _bits(10, 12, 13, 14) | (_bits(11) if model.dco else 0)
    if model.hidden == "hpa":
        words[82] |= _bits(10)
        words[83] |= _bits(8)
    words[84] = _bits(14, 8, 5, 1, 0)
    words[85] = words[82] & ~_bits(0, 1, 5)
    words[85] |= (1 if now.smart else 0) | (2 if now.enabled else 0) | (0x20 if now.write_cache else 0)
    words[86] = words[83] & ~_bits(8, 14) | _bits(15)
    words[87] = words[84]
    words[88] = 0x407F
    if model.security:
        words[89] = erase_minutes(model.security_seconds)
        words[90] = words[89] if model.enhanced else 0
        words[92] = now.master_id
    words[105] = 8 if model.trim else 0
    words[106] = (
        0x4000 | (0x2000 | model.exponent if model.exponent else 0) | (0x1000 if model.sector > 512 else 0)
    )
    words[108:112] = [model.naa >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
    if model.sector > 512:
        words[117], words[118] = model.sector // 2 & 0xFFFF, model.sector // 2 >> 16
    words[119] = words[120] = 0x4000 | (0x0100 if model.hidden == "ama" else 0)
    words[128] = _security_word(model, now)
    words[169] = 1 if model.trim else 0
    words[209], words[217], words[222] = 0x4000, model.rotation, 0x10FF
    for start, value, width in ((60, min(now.sectors, 0x0FFFFFFF), 2), (100, now.sectors, 4)):
        words[start : start + width] = [value >> 16 * i & 0xFFFF for i in range(width)]
    page = bytearray(b"".join(word.to_bytes(2, "little") for word in words))
    page[20:40] = ata_text(now.serial, 20)
    page[46:54] = ata_text(model.firmware, 8)
    page[54:94] = ata_text(model.model, 40)
    page[510] = 0xA5
    checksum(page)
    return bytes(page)


def _page(number: int, fields: dict[int, int]) -> bytes:
    """A page of a general purpose log: QWords at byte offsets; the first is the header."""
    page = bytearray(512)
    page[0:8] = (1 << 63 | number << 16 | 1).to_bytes(8, "little")
    for offset, value in fields.items():
        page[offset : offset + 8] = (1 << 63 | value).to_bytes(8, "little")
    return bytes(page)


def identify_log(model: AtaModel, now: Now, number: int) -> bytes | None:
    """Page `number` of the IDENTIFY DEVICE data log 30h (ACS-4 §9.11); None when there is no such page."""
    if number == 0:
        pages = bytes([0, 1, 2, 5, 6])
        return ((1).to_bytes(8, "little") + bytes([len(pages)]) + pages).ljust(512, b"\0")
    if number == 1:
        return identify(model, now)
    if number == 2:
        sizes = (1 << 62) | (1 << 61) | model.exponent << 16
        return _page(2, {8: now.sectors, 16: sizes, 24: model.sector // 2, 32: 0})
    if number == 5:
        page = bytearray(_page(5, {}))
        page[8:28] = ata_text(now.serial, 20)
        page[32:40] = ata_text(model.firmware, 8)
        page[48:88] = ata_text(model.model, 40)
        return bytes(page)
    if number == 6:
        word = _security_word(model, now)
        flags = ((0, 6), (1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (8, 5))
        status = sum(1 << to for bit, to in flags if word >> bit & 1)
        able = _sanitize_word(model, now)
        sanitize = sum(
            1 << to for bit, to in ((12, 0), (13, 1), (14, 2), (15, 3), (10, 4), (11, 5)) if able >> bit & 1
        )
        minutes = erase_minutes(model.security_seconds) & 0x7FFF if model.security else 0
        enhanced = minutes if model.enhanced else 0
        return _page(6, {8: now.master_id, 16: status, 24: enhanced, 32: minutes, 40: 0, 48: sanitize})
    return None


def log_directory(pages: dict[int, int]) -> bytes:
    """General purpose log directory (log 00h): version, and how many pages each log has."""
    page = bytearray(512)
    page[0:2] = (1).to_bytes(2, "little")
    for log, count in pages.items():
        page[2 * log : 2 * log + 2] = count.to_bytes(2, "little")
    return bytes(page)


def statistics(model: AtaModel, number: int) -> bytes | None:
    """Device Statistics log 04h (ACS-4 §9.5): list of pages, general (1), temperature (5)."""
    valid = 0xC0 << 56  # supported, valid
    if number == 0:
        return ((1).to_bytes(8, "little") + bytes([3, 0, 1, 5])).ljust(512, b"\0")
    if number == 1:
        page = bytearray(_page(1, {}))
        page[0:8] = (1 << 16 | 1).to_bytes(8, "little")
        for offset, value in ((8, 17), (16, 4711)):
            page[offset : offset + 8] = (valid | value).to_bytes(8, "little")
        return bytes(page)
    if number == 5:
        page = bytearray((5 << 16 | 1).to_bytes(8, "little").ljust(512, b"\0"))
        page[8:16] = (valid | model.temperature).to_bytes(8, "little")
        return bytes(page)
    return None


def smart_data(model: AtaModel) -> bytes:
    """SMART READ DATA (ACS-3 §7.48.6): attributes 5, 9, 12, 194 and 197, as vendors lay them out."""
    page = bytearray(512)
    page[0:2] = (16).to_bytes(2, "little")
    rows = (
        (5, 0x33, model.reallocated),
        (9, 0x32, 4711),
        (12, 0x32, 17),
        (194, 0x22, model.temperature),
        (197, 0x32, 0),
    )
    for index, (number, flags, raw) in enumerate(rows):
        at = 2 + 12 * index
        page[at] = number
        page[at + 1 : at + 3] = flags.to_bytes(2, "little")
        page[at + 3] = page[at + 4] = 100
        page[at + 5 : at + 11] = raw.to_bytes(6, "little")
    page[362], page[367] = 0x00, 0x51
    page[368:370] = (3).to_bytes(2, "little")
    page[370], page[372] = 1, 1
    checksum(page)
    return bytes(page)


def smart_thresholds() -> bytes:
    """SMART READ THRESHOLDS (as vendors lay them out): the same attributes, threshold 10 for reallocations."""
    page = bytearray(512)
    page[0:2] = (16).to_bytes(2, "little")
    for index, (number, limit) in enumerate(((5, 10), (9, 0), (12, 0), (194, 0), (197, 0))):
        page[2 + 12 * index : 4 + 12 * index] = bytes([number, limit])
    checksum(page)
    return bytes(page)


def smart_log(number: int) -> bytes:
    """SMART READ LOG: the directory (0), and the summary error (1) and self-test (6) logs without entries."""
    if number == 0:
        return log_directory({1: 1, 6: 1})
    page = bytearray(512)
    page[0] = 1
    checksum(page)
    return bytes(page)


def dco_identify(model: AtaModel, last: int) -> bytes:
    """DEVICE CONFIGURATION IDENTIFY data (ATA8-ACS §7.9.3); `last`: the highest address that can be had."""
    words = [0] * 256
    words[0], words[1], words[2] = 0x0002, 0x0007, 0x007F
    words[3:7] = [last >> 16 * i & 0xFFFF for i in range(4)]
    words[7] = (
        _bits(0, 1, 2, 8) | (_bits(3) if model.security else 0) | (_bits(7) if model.hidden == "hpa" else 0)
    )
    page = bytearray(b"".join(word.to_bytes(2, "little") for word in words))
    page[510] = 0xA5
    checksum(page)
    return bytes(page)
