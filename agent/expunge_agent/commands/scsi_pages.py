"""What a SCSI drive says of itself: INQUIRY, vital product data, capacity, logs, supported commands.

Readers raise Garbled when data is too short or of another page; a field that is not there is None or −1.
"""

from __future__ import annotations

from dataclasses import dataclass

from expunge_agent.commands.sense import Garbled


@dataclass(frozen=True)
class Inquiry:
    """Standard INQUIRY data (SPC-5 §6.7.2). ``kind``: peripheral device type, 0 a disk."""

    kind: int
    connected: bool
    vendor: bytes
    product: bytes
    revision: bytes


def read_inquiry(data: bytes) -> Inquiry:
    """Bytes 0 to 35. Raises Garbled."""
    if len(data) < 36:
        raise Garbled(f"INQUIRY data of {len(data)} bytes")
    return Inquiry(
        kind=data[0] & 0x1F,
        connected=data[0] >> 5 == 0,
        vendor=_text(data[8:16]),
        product=_text(data[16:32]),
        revision=_text(data[32:36]),
    )


def read_vpd(data: bytes, page: int) -> bytes:
    """The body of vital product data `page` (SPC-5 §7.7.1). Raises Garbled when it is another page."""
    if len(data) < 4 or data[1] != page:
        raise Garbled(f"VPD page {page:02X}h is missing or another came")
    return data[4 : 4 + int.from_bytes(data[2:4], "big")]


def read_names(body: bytes) -> list[str]:
    """World wide names of the logical unit in page 83h (SPC-5 §7.7.6): ``naa.``, ``eui.``, ``uuid.``.

    Designators of a port or the target device (ASSOCIATION not 0) are left out."""
    names = []
    while len(body) >= 4:
        code_set, flags, length = body[0] & 0x0F, body[1], body[3]
        value, body = body[4 : 4 + length], body[4 + length :]
        if flags >> 4 & 3 or len(value) != length or code_set != 1:
            continue
        kind = flags & 0x0F
        if kind == 3 and length in (8, 16):
            names.append(f"naa.{value.hex()}")
        elif kind == 2 and length in (8, 12, 16):
            names.append(f"eui.{value.hex()}")
        elif kind == 0x0A and length == 18 and value[0] == 0x10:
            names.append(f"uuid.{value[2:].hex()}")
    return names


def read_rotation(body: bytes) -> int:
    """MEDIUM ROTATION RATE of page B1h (SBC-4 §6.6.2): turns a minute, 1 does not rotate, 0 not told."""
    rate = int.from_bytes(body[:2], "big") if len(body) >= 2 else 0
    return rate if rate == 1 or 0x0401 <= rate <= 0xFFFE else 0


@dataclass(frozen=True)
class SatInformation:
    """ATA Information page 89h (SAT-4 §12.4.2): who translates, and the IDENTIFY data it has (or empty)."""

    vendor: bytes
    product: bytes
    revision: bytes
    command: int
    identify: bytes


def read_sat(body: bytes) -> SatInformation:
    """Body of page 89h. Raises Garbled when it is shorter than its fixed part."""
    if len(body) < 56:
        raise Garbled(f"ATA Information page of {len(body)} bytes")
    identify = body[56:568]
    return SatInformation(
        vendor=_text(body[4:12]),
        product=_text(body[12:28]),
        revision=_text(body[28:32]),
        command=body[52],
        identify=identify if len(identify) == 512 and any(identify) else b"",
    )


@dataclass(frozen=True)
class Capacity:
    """READ CAPACITY: ``blocks`` of ``block`` bytes; ``physical`` bytes; ``protection`` type 0 to 3."""

    blocks: int
    block: int
    physical: int
    protection: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self.blocks * self.block


def read_capacity16(data: bytes) -> Capacity:
    """READ CAPACITY(16) data (SBC-4 §5.21.2). Raises Garbled."""
    if len(data) < 14:
        raise Garbled(f"READ CAPACITY(16) data of {len(data)} bytes")
    block = int.from_bytes(data[8:12], "big")
    protection = (data[12] >> 1 & 7) + 1 if data[12] & 1 else 0
    return Capacity(
        blocks=int.from_bytes(data[0:8], "big") + 1 if block else 0,
        block=block,
        physical=block << (data[13] & 0x0F),
        protection=protection if protection <= 3 else 0,
    )


def read_capacity10(data: bytes) -> Capacity | None:
    """READ CAPACITY(10) data (SBC-4 §5.20.2); None when the drive has more than it can say. Raises Garbled."""
    if len(data) < 8:
        raise Garbled(f"READ CAPACITY(10) data of {len(data)} bytes")
    last, block = int.from_bytes(data[0:4], "big"), int.from_bytes(data[4:8], "big")
    if last == 0xFFFFFFFF:
        return None
    return Capacity(blocks=last + 1 if block else 0, block=block, physical=block)


def read_write_protect(data: bytes) -> bool:
    """WP of MODE SENSE(6)'s device-specific parameter (SBC-4 §6.5.1). Raises Garbled."""
    if len(data) < 4:
        raise Garbled(f"MODE SENSE data of {len(data)} bytes")
    return bool(data[2] & 0x80)


@dataclass(frozen=True)
class Support:
    """One command in REPORT SUPPORTED OPERATION CODES (SPC-5 §6.35.3). ``seconds``: nominal processing time,
    ``limit``: recommended timeout, both −1 where not told."""

    known: bool
    supported: bool
    seconds: int = -1
    limit: int = -1


def read_support(data: bytes) -> Support:
    """One_command parameter data. Raises Garbled."""
    if len(data) < 4:
        raise Garbled(f"REPORT SUPPORTED OPERATION CODES data of {len(data)} bytes")
    support = data[1] & 0x07
    size = int.from_bytes(data[2:4], "big")
    seconds = limit = -1
    times = data[4 + size : 16 + size]
    if data[1] & 0x80 and len(times) == 12 and times[1] == 0x0A:
        seconds = int.from_bytes(times[4:8], "big") or -1
        limit = int.from_bytes(times[8:12], "big") or -1
    return Support(known=support != 0, supported=support in (3, 5), seconds=seconds, limit=limit)


def read_parameters(data: bytes, page: int) -> dict[int, bytes]:
    """Log page `page` as {parameter code: value} (SPC-5 §7.3.2). Raises Garbled when it is another page."""
    if len(data) < 4 or data[0] & 0x3F != page:
        raise Garbled(f"log page {page:02X}h is missing or another came")
    body = data[4 : 4 + int.from_bytes(data[2:4], "big")]
    found = {}
    while len(body) >= 4:
        found[int.from_bytes(body[:2], "big")] = body[4 : 4 + body[3]]
        body = body[4 + body[3] :]
    return found


def read_temperature(data: bytes) -> int | None:
    """Degrees Celsius of log page 0Dh (SPC-5 §7.3.21): parameter 0 byte 1, FFh: not told. Raises Garbled."""
    value = read_parameters(data, 0x0D).get(0, b"")
    return value[1] if len(value) >= 2 and value[1] != 0xFF else None


def read_exceptions(data: bytes) -> bool | None:
    """Log page 2Fh (SPC-5 §7.3.11): False when a failure is predicted (5Dh) or a warning stands (0Bh), True
    when none; None when not told. Raises Garbled."""
    value = read_parameters(data, 0x2F).get(0, b"")
    return value[0] not in (0x5D, 0x0B) if value else None


def _text(field: bytes) -> bytes:
    return field.strip(b" \0")
