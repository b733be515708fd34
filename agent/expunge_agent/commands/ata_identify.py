"""IDENTIFY DEVICE: what an ATA drive says of itself (ACS-3 §7.12, ACS-4 §7.13; older words: ATA8-ACS §7.16)."""

from __future__ import annotations

import string
import struct
from dataclasses import dataclass

from expunge_agent.commands.ata import Ata, AtaCommand, AtaReply, Protocol
from expunge_agent.commands.sense import Garbled
from expunge_agent.core.drive import AtaSecurity

IDENTIFY = AtaCommand(0xEC, "IDENTIFY DEVICE", Protocol.PIO_IN, blocks=1)
_PRINTABLE = set(string.printable.encode()) - set(b"\t\n\r\v\f")


@dataclass(frozen=True)
class Sanitize:
    """The sanitize device feature set in word 59 (ACS-3 §7.12.7.27)."""

    supported: bool
    crypto: bool
    block: bool
    overwrite: bool
    antifreeze: bool


class Identify:
    """The 512 bytes of IDENTIFY DEVICE data. Raises Garbled when they are not 512 or say nothing."""

    def __init__(self, data: bytes) -> None:
        if len(data) != 512:
            raise Garbled(f"IDENTIFY DEVICE data of {len(data)} bytes")
        if len(set(data)) == 1:
            raise Garbled("IDENTIFY DEVICE data is one byte repeated")
        self.data = data
        self._words: tuple[int, ...] = struct.unpack("<256H", data)

    def word(self, number: int) -> int:
        """Word `number`, 0 to 255."""
        return self._words[number]

    def text(self, first: int, last: int) -> bytes:
        """The ATA string in words `first` to `last`: in each word the first character is the upper byte
        (ACS-3 §3.4.9); padding spaces taken off."""
        return struct.pack(f">{last - first + 1}H", *self._words[first : last + 1]).strip(b" \0")

    @property
    def serial(self) -> bytes:
        """Words 10 to 19."""
        return self.text(10, 19)

    @property
    def firmware(self) -> bytes:
        """Words 23 to 26."""
        return self.text(23, 26)

    @property
    def model(self) -> bytes:
        """Words 27 to 46."""
        return self.text(27, 46)

    @property
    def printable(self) -> bool:
        """Whether serial, firmware and model hold printable ASCII only, as ACS demands."""
        return all(set(text) <= _PRINTABLE for text in (self.serial, self.firmware, self.model))

    @property
    def ata(self) -> bool:
        """Word 0 bit 15 zero: an ATA device, not ATAPI."""
        return not self.word(0) & 0x8000

    @property
    def checksum(self) -> bool | None:
        """Whether all bytes add up to zero; None where word 255 has no signature A5h (ACS-3 §7.12.7.86)."""
        return sum(self.data) & 0xFF == 0 if self.data[510] == 0xA5 else None

    def _claims(self, word: int, bit: int, valid: int | None = None) -> bool:
        """Whether bit `bit` of `word` is set, in a word that is valid: bits 15:14 of `valid` are 01b, or
        without it the word is neither 0000h nor FFFFh (ACS-3 §7.12.7.40)."""
        if valid is not None:
            return self.word(valid) >> 14 == 1 and bool(self.word(word) >> bit & 1)
        return self.word(word) not in (0, 0xFFFF) and bool(self.word(word) >> bit & 1)

    @property
    def lba48(self) -> bool:
        """The 48-bit address feature set: word 83 bit 10."""
        return self._claims(83, 10, 83)

    @property
    def sectors(self) -> int:
        """Addressable logical sectors: words 230 to 233 where word 69 bit 3 says so, 100 to 103 with 48-bit
        addresses, else 60 and 61 (ACS-3 §4.1.2)."""
        if self.lba48:
            if self._claims(69, 3):
                return self._quad(230)
            return self._quad(100) or self._double(60)
        return self._double(60)

    @property
    def logical_sector(self) -> int:
        """Bytes of a logical sector: words 117 and 118 count words of 2 bytes, where word 106 bit 12 is set."""
        size = self._double(117) * 2 if self._claims(106, 12, 106) else 512
        return size or 512

    @property
    def physical_sector(self) -> int:
        """Bytes of a physical sector: 2^n logical ones with n in word 106 bits 3:0, where its bit 13 is set."""
        return self.logical_sector << (self.word(106) & 0x0F if self._claims(106, 13, 106) else 0)

    @property
    def rotation(self) -> int:
        """Word 217: turns a minute, 1 does not rotate, 0 not told (or a reserved value)."""
        rate = self.word(217)
        return rate if rate == 1 or 0x0401 <= rate <= 0xFFFE else 0

    @property
    def wwn(self) -> str:
        """``naa.`` and 16 digits of words 108 to 111, where word 87 bit 8 says they are there; else empty."""
        number = b"".join(struct.pack(">H", self.word(n)) for n in range(108, 112))
        return f"naa.{number.hex()}" if self._claims(87, 8, 87) and any(number) else ""

    @property
    def sanitize(self) -> Sanitize:
        """Word 59."""
        word = self.word(59) if self.word(59) != 0xFFFF else 0
        supported = bool(word >> 12 & 1)
        return Sanitize(
            supported=supported,
            crypto=supported and bool(word >> 13 & 1),
            overwrite=supported and bool(word >> 14 & 1),
            block=supported and bool(word >> 15 & 1),
            antifreeze=supported and bool(word >> 10 & 1),
        )

    @property
    def security(self) -> AtaSecurity:
        """Word 128, and the declared times in words 89 and 90 (ACS-3 §7.12.7.61, §7.12.7.45)."""
        word = self.word(128) if self.word(128) != 0xFFFF else 0
        supported = bool(word & 1)
        return AtaSecurity(
            supported=supported,
            enabled=supported and bool(word & 2),
            locked=supported and bool(word & 4),
            frozen=supported and bool(word & 8),
            expired=supported and bool(word & 0x10),
            enhanced=supported and bool(word & 0x20),
            minutes=_minutes(self.word(89)),
            enhanced_minutes=_minutes(self.word(90)),
        )

    @property
    def hpa(self) -> bool:
        """The host protected area feature set: word 82 bit 10 (ATA8-ACS; obsolete since ACS-3)."""
        return self._claims(82, 10, 83)

    @property
    def dco(self) -> bool:
        """The device configuration overlay feature set: word 83 bit 11 (ATA8-ACS; obsolete since ACS-3)."""
        return self._claims(83, 11, 83)

    @property
    def ama(self) -> bool:
        """The accessible max address configuration feature set: word 119 bit 8 (ACS-3 §7.12.7.40)."""
        return self._claims(119, 8, 119)

    @property
    def smart(self) -> bool:
        """SMART supported (word 82 bit 0) and enabled (word 85 bit 0)."""
        return self._claims(82, 0, 83) and self._claims(85, 0, 87)

    @property
    def trusted(self) -> bool:
        """Trusted computing: word 48 bit 0 with bits 15:14 = 01b."""
        return self._claims(48, 0, 48)

    @property
    def trim(self) -> bool:
        """DATA SET MANAGEMENT with TRIM: word 169 bit 0."""
        return self._claims(169, 0)

    @property
    def after_trim(self) -> str:
        """What a trimmed sector reads as: ``zeros`` (RZAT, word 69 bit 5), ``the same`` (DRAT, bit 14), or
        empty: nothing is promised."""
        if not self._claims(69, 14):
            return ""
        return "zeros" if self._claims(69, 5) else "the same"

    def _double(self, word: int) -> int:
        return self.word(word) | self.word(word + 1) << 16

    def _quad(self, word: int) -> int:
        return self._double(word) | self._double(word + 2) << 32


def _minutes(word: int) -> int:
    """A declared erase time: 15 bits of two minutes where bit 15 is set, else 8 bits (ACS-3 §7.12.7.45).

    0: not told. The largest value of either form means *more than that*, so it is the least there is.
    """
    if word == 0xFFFF or word & 0x8000:
        return (word & 0x7FFF) * 2
    return (word & 0xFF) * 2


def identify(ata: Ata) -> tuple[Identify, AtaReply]:
    """Ask the drive. Raises NoPassThrough, CommandError, Garbled."""
    reply = ata.run(IDENTIFY)
    if not reply.ok:
        raise Garbled(f"the drive does not identify itself: {reply.words}")
    return Identify(reply.data), reply
