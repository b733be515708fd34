"""The ATA commands of this program: sanitize, security, hidden areas, SMART (ACS-3 §7, ATA8-ACS §7).

Builders give an `AtaCommand`; readers take a reply or data apart and raise Garbled when it does not have
its form.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from expunge_agent.commands.ata import AtaCommand, AtaReply, Protocol
from expunge_agent.commands.port import NoPassThrough
from expunge_agent.commands.sense import Garbled

_LBA_MODE = 0x40
"""DEVICE register bit 6, which ATA-7 and before demand with an address."""

# --- Sanitize device feature set (ACS-3 §4.17, §7.36) ---

FAILURE_MODE = 1 << 4
"""COUNT bit 4: a failed operation may be left by SANITIZE STATUS EXT, not by another sanitize alone."""


def sanitize_status(*, clear_failed: bool = False) -> AtaCommand:
    """SANITIZE STATUS EXT, 0000h; COUNT bit 0 leaves the failed state."""
    return _sanitize(0x0000, "SANITIZE STATUS EXT", count=int(clear_failed))


def sanitize_crypto(*, failure_mode: bool = True) -> AtaCommand:
    """CRYPTO SCRAMBLE EXT, 0011h, key "Cryp"."""
    count = FAILURE_MODE if failure_mode else 0
    return _sanitize(0x0011, "CRYPTO SCRAMBLE EXT", count=count, lba=0x43727970)


def sanitize_block(*, failure_mode: bool = True) -> AtaCommand:
    """BLOCK ERASE EXT, 0012h, key "BkEr"."""
    count = FAILURE_MODE if failure_mode else 0
    return _sanitize(0x0012, "BLOCK ERASE EXT", count=count, lba=0x426B4572)


def sanitize_overwrite(
    *, pattern: int, passes: int = 1, invert: bool = False, failure_mode: bool = True
) -> AtaCommand:
    """OVERWRITE EXT, 0014h, key "OW" in LBA 47:32, the 32-bit pattern below; 1 to 16 passes (16 is 0)."""
    count = (FAILURE_MODE if failure_mode else 0) | passes & 0x0F | invert << 7
    return _sanitize(0x0014, "OVERWRITE EXT", count=count, lba=0x4F57 << 32 | pattern & 0xFFFFFFFF)


def sanitize_antifreeze() -> AtaCommand:
    """SANITIZE ANTIFREEZE LOCK EXT, 0040h, key "Anti": no freeze lock is taken until the next power cycle."""
    return _sanitize(0x0040, "SANITIZE ANTIFREEZE LOCK EXT", lba=0x416E7469)


def _sanitize(features: int, name: str, *, count: int = 0, lba: int = 0) -> AtaCommand:
    return AtaCommand(0xB4, name, features=features, count=count, lba=lba, device=_LBA_MODE, extended=True)


SANITIZE_REASONS = {
    0: "no reason given",
    1: "the last sanitize operation failed",
    2: "not supported",
    3: "sanitize is frozen",
    4: "the antifreeze lock is set",
}


@dataclass(frozen=True)
class SanitizeStatus:
    """SANITIZE STATUS EXT's outputs (ACS-3 §7.36.6). ``completed``: the last operation ended without error,
    whoever started it. ``progress`` in 65,536ths, −1 when none runs."""

    completed: bool = False
    running: bool = False
    frozen: bool = False
    antifreeze: bool = False
    failed: bool = False
    progress: int = -1


def read_sanitize_status(reply: AtaReply) -> SanitizeStatus:
    """What `reply` to a SANITIZE DEVICE command says.

    Raises NoPassThrough where the registers, or the upper half of COUNT, were not handed on, and Garbled
    when the command was refused for another reason than a failed operation.
    """
    registers = reply.need()
    if not reply.ok:
        if registers.aborted and registers.lba & 0xFF == 1:
            return SanitizeStatus(failed=True)
        # Frozen, busy, unsupported: not a state of the last operation.
        raise Garbled(f"{reply.words}: {sanitize_reason(reply)}")
    if not registers.count_known:
        raise NoPassThrough(f"{reply.name}: the bridge hands on only half of the COUNT register")
    running = bool(registers.count >> 14 & 1)
    return SanitizeStatus(
        completed=bool(registers.count >> 15 & 1),
        running=running,
        frozen=bool(registers.count >> 13 & 1),
        antifreeze=bool(registers.count >> 12 & 1),
        progress=registers.lba & 0xFFFF if running else -1,
    )


def sanitize_reason(reply: AtaReply) -> str:
    """SANITIZE DEVICE ERROR REASON, LBA 7:0 of a refused command, in words (ACS-3 §7.36)."""
    if reply.registers is None:
        return reply.words
    return SANITIZE_REASONS.get(reply.registers.lba & 0xFF, "reason not known")


# --- Security feature set (ACS-3 §4.18, §7.37 to §7.42) ---

PASSWORD_BYTES = 32

SECURITY_SET_PASSWORD = AtaCommand(0xF1, "SECURITY SET PASSWORD", Protocol.PIO_OUT, blocks=1)
SECURITY_UNLOCK = AtaCommand(0xF2, "SECURITY UNLOCK", Protocol.PIO_OUT, blocks=1)
SECURITY_ERASE_PREPARE = AtaCommand(0xF3, "SECURITY ERASE PREPARE")
SECURITY_ERASE_UNIT = AtaCommand(0xF4, "SECURITY ERASE UNIT", Protocol.PIO_OUT, blocks=1)
SECURITY_DISABLE_PASSWORD = AtaCommand(0xF6, "SECURITY DISABLE PASSWORD", Protocol.PIO_OUT, blocks=1)


def user_password_data(password: bytes, *, enhanced: bool = False) -> bytes:
    """The block sent with SET PASSWORD, UNLOCK, ERASE UNIT and DISABLE PASSWORD, for the user password.

    Word 0: bit 0 zero (user), bit 1 enhanced (ERASE UNIT only), bit 8 zero (master password capability
    *high*: a master password the owner knows can still unlock the drive); words 1 to 16 the password.
    Raises ValueError for a password longer than 32 bytes.
    """
    if len(password) > PASSWORD_BYTES:
        raise ValueError("an ATA password has 32 bytes")
    return (struct.pack("<H", enhanced << 1) + password).ljust(512, b"\0")


# --- Hidden areas ---

READ_NATIVE_MAX = AtaCommand(0xF8, "READ NATIVE MAX ADDRESS", device=_LBA_MODE)
READ_NATIVE_MAX_EXT = AtaCommand(0x27, "READ NATIVE MAX ADDRESS EXT", device=_LBA_MODE, extended=True)
DCO_RESTORE = AtaCommand(0xB1, "DEVICE CONFIGURATION RESTORE", features=0xC0)
DCO_IDENTIFY = AtaCommand(0xB1, "DEVICE CONFIGURATION IDENTIFY", Protocol.PIO_IN, features=0xC2, blocks=1)
AMA_NATIVE = AtaCommand(0x78, "GET NATIVE MAX ADDRESS EXT", features=0x0000, device=_LBA_MODE, extended=True)


def read_sectors(lba: int, count: int, *, extended: bool) -> AtaCommand:
    """READ SECTOR(S) (EXT), 20h/24h (ACS-3 §7.28, §7.29): `count` (1 to 255) of 512 bytes from `lba`."""
    if extended:
        return _sectors(0x24, "READ SECTOR(S) EXT", Protocol.PIO_IN, lba, count, extended=True)
    return _sectors(0x20, "READ SECTOR(S)", Protocol.PIO_IN, lba, count)


def write_sectors(lba: int, count: int, *, extended: bool) -> AtaCommand:
    """WRITE SECTOR(S) (EXT), 30h/34h (ACS-3 §7.67, §7.68): as `read_sectors`."""
    if extended:
        return _sectors(0x34, "WRITE SECTOR(S) EXT", Protocol.PIO_OUT, lba, count, extended=True)
    return _sectors(0x30, "WRITE SECTOR(S)", Protocol.PIO_OUT, lba, count)


def _sectors(
    command: int, name: str, protocol: Protocol, lba: int, count: int, *, extended: bool = False
) -> AtaCommand:
    """With 28-bit addresses the upper four bits stand in DEVICE."""
    low, device = (lba, _LBA_MODE) if extended else (lba & 0xFFFFFF, _LBA_MODE | lba >> 24 & 0x0F)
    return AtaCommand(command, name, protocol, lba=low, device=device, extended=extended, blocks=count)


def set_max(last: int, *, extended: bool, lasting: bool) -> AtaCommand:
    """SET MAX ADDRESS (EXT), F9h/37h (ATA8-ACS §7.49, §7.50): `last` addressable sector; COUNT bit 0 keeps it
    over a power cycle, which a drive takes once after each. READ NATIVE MAX must be the command before."""
    if extended:
        return AtaCommand(
            0x37, "SET MAX ADDRESS EXT", count=int(lasting), lba=last, device=_LBA_MODE, extended=True
        )
    device = _LBA_MODE | last >> 24 & 0x0F
    return AtaCommand(0xF9, "SET MAX ADDRESS", count=int(lasting), lba=last & 0xFFFFFF, device=device)


def set_accessible_max(last: int) -> AtaCommand:
    """SET ACCESSIBLE MAX ADDRESS EXT, 78h/0001h (ACS-3 §7.2.4): taken once after each power-on."""
    return AtaCommand(
        0x78,
        "SET ACCESSIBLE MAX ADDRESS EXT",
        features=0x0001,
        lba=last,
        device=_LBA_MODE,
        extended=True,
    )


def read_address(reply: AtaReply, *, extended: bool) -> int:
    """The address in `reply`'s registers: 48 bits, or 28 with the upper four in DEVICE.

    Raises NoPassThrough where the upper half was not handed on.
    """
    registers = reply.need()
    if not registers.lba_known:
        raise NoPassThrough(f"{reply.name}: the bridge hands on only half of the address")
    if not extended:
        return registers.lba & 0xFFFFFF | (registers.device & 0x0F) << 24
    return registers.lba


def read_dco(data: bytes) -> int:
    """The last sector the drive was made with: words 3 to 6 (ATA8-ACS §7.11.4, table 24).

    Raises Garbled for a wrong signature or sum.
    """
    if len(data) != 512 or data[510] != 0xA5 or sum(data) & 0xFF:
        raise Garbled("DEVICE CONFIGURATION IDENTIFY: signature or checksum wrong")
    return int.from_bytes(data[6:14], "little")


# --- SMART (ACS-3 §7.48; attributes are the vendors' own, these three by common usage) ---

_SMART_KEY = 0xC24F00
SMART_READ_DATA = AtaCommand(
    0xB0, "SMART READ DATA", Protocol.PIO_IN, features=0xD0, lba=_SMART_KEY, blocks=1
)
SMART_RETURN_STATUS = AtaCommand(0xB0, "SMART RETURN STATUS", features=0xDA, lba=_SMART_KEY)


def read_smart_status(reply: AtaReply) -> bool | None:
    """True: no threshold exceeded (LBA 23:8 C24Fh); False: exceeded (2CF4h); None: not told."""
    if reply.registers is None or not reply.ok:
        return None
    return {0xC24F: True, 0x2CF4: False}.get(reply.registers.lba >> 8 & 0xFFFF)


@dataclass(frozen=True)
class SmartAttributes:
    """None or −1: no such attribute."""

    celsius: int | None = None
    power_on_hours: int = -1
    reallocated: int = -1


def read_smart(data: bytes) -> SmartAttributes:
    """Attributes 5, 9 and 194 (or 190) of SMART READ DATA: 30 entries of 12 bytes from byte 2.

    Raises Garbled for a wrong size or sum.
    """
    if len(data) != 512 or sum(data) & 0xFF:
        raise Garbled("SMART READ DATA: checksum wrong")
    raw = {data[at]: data[at + 5 : at + 11] for at in range(2, 362, 12) if data[at]}
    warm = raw.get(194, raw.get(190, b""))
    celsius = int.from_bytes(warm[:1], "little", signed=True) if warm else None
    return SmartAttributes(
        celsius=celsius,
        power_on_hours=int.from_bytes(raw[9][:4], "little") if 9 in raw else -1,
        reallocated=int.from_bytes(raw[5][:4], "little") if 5 in raw else -1,
    )
