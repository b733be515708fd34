"""SCSI replies and the fixed parts of their data (SAM-5, SPC-5), for the simulated drives."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

GOOD, CHECK_CONDITION = 0x00, 0x02

NO_SENSE, RECOVERED, NOT_READY, MEDIUM_ERROR = 0x0, 0x1, 0x2, 0x3
HARDWARE_ERROR, ILLEGAL_REQUEST, DATA_PROTECT, ABORTED_COMMAND = 0x4, 0x5, 0x7, 0xB

INVALID_OPCODE = (ILLEGAL_REQUEST, 0x20, 0x00)
OUT_OF_RANGE = (ILLEGAL_REQUEST, 0x21, 0x00)
INVALID_FIELD_IN_CDB = (ILLEGAL_REQUEST, 0x24, 0x00)
INVALID_FIELD_IN_PARAMETERS = (ILLEGAL_REQUEST, 0x26, 0x00)
PARAMETER_LENGTH = (ILLEGAL_REQUEST, 0x1A, 0x00)
SAVING_UNSUPPORTED = (ILLEGAL_REQUEST, 0x39, 0x00)
SANITIZE_RUNS = (NOT_READY, 0x04, 0x1B)
FORMAT_RUNS = (NOT_READY, 0x04, 0x04)
STOPPED = (NOT_READY, 0x04, 0x02)
SANITIZE_FAILED = (MEDIUM_ERROR, 0x31, 0x03)
FORMAT_CORRUPTED = (MEDIUM_ERROR, 0x31, 0x00)
FORMAT_FAILED = (MEDIUM_ERROR, 0x31, 0x01)
NO_ACCESS_RIGHTS = (DATA_PROTECT, 0x20, 0x02)
NONE = (NO_SENSE, 0x00, 0x00)

Code = tuple[int, int, int]
"""Sense key, additional sense code, its qualifier."""


@dataclass(frozen=True)
class Completion:
    """How a command ended: SAM status, sense data with CHECK CONDITION, and the data for the initiator."""

    status: int = GOOD
    sense: bytes = b""
    data: bytes = b""


def sense_data(
    code: Code, *, descriptor: bool = False, progress: int | None = None, more: bytes = b""
) -> bytes:
    """Sense data (SPC-5 §4.4): fixed format (70h, 18 bytes) or descriptor format (72h).

    `progress` in 1/65536 goes into the sense-key specific part (§4.4.2.4.4); `more` are further
    descriptors, in descriptor format only.
    """
    key, asc, ascq = code
    specific = b"" if progress is None else bytes([0x80, *min(progress, 0xFFFF).to_bytes(2, "big")])
    if descriptor:
        parts = (bytes([0x02, 0x06, 0, 0]) + specific + b"\0" if specific else b"") + more
        return bytes([0x72, key, asc, ascq, 0, 0, 0, len(parts)]) + parts
    fixed = bytearray(18)
    fixed[0], fixed[2], fixed[7], fixed[12], fixed[13] = 0x70, key, 10, asc, ascq
    if specific:
        fixed[15:18] = specific
    return bytes(fixed)


def text(value: str | bytes, width: int) -> bytes:
    """ASCII text, cut or filled with spaces to `width` bytes."""
    raw = value.encode("ascii") if isinstance(value, str) else value
    return raw[:width].ljust(width)


def standard_inquiry(vendor: str, product: str, revision: str) -> bytes:
    """Standard INQUIRY data of a direct-access block device (SPC-5 §6.6.2), 96 bytes, SPC-5 and SBC-4 claimed."""
    versions = b"".join(v.to_bytes(2, "big") for v in (0x00A0, 0x05C0, 0x0600))
    head = bytes([0x00, 0x00, 0x07, 0x12, 91, 0x00, 0x00, 0x02])
    body = head + text(vendor, 8) + text(product, 16) + text(revision, 4) + bytes(22) + versions
    return body.ljust(96, b"\0")


def vpd(page: int, payload: bytes) -> bytes:
    """A vital product data page (SPC-5 §7.7): header with its length, and `payload`."""
    return bytes([0x00, page]) + len(payload).to_bytes(2, "big") + payload


def naa(serial: str) -> int:
    """A world wide name (NAA 5) that is this serial number's own."""
    return 0x5000C500 << 32 | zlib.crc32(serial.encode())


def designators(name: int, *, text_form: bytes) -> bytes:
    """Device identification (VPD 83h): an NAA designator of 8 bytes and a T10 vendor ID based one."""
    first = bytes([0x01, 0x03, 0x00, 8]) + name.to_bytes(8, "big")
    return first + bytes([0x02, 0x01, 0x00, len(text_form)]) + text_form


def block_device(rotation: int) -> bytes:
    """Block device characteristics (VPD B1h, SBC-4 §6.6.3): rotation rate (1: does not rotate), 3,5 or 2,5 inch."""
    payload = bytearray(60)
    payload[0:2] = rotation.to_bytes(2, "big")
    payload[3] = 0x03 if rotation == 1 else 0x02
    return bytes(payload)


def capacity_10(last: int, block: int) -> bytes:
    """READ CAPACITY (10) data (SBC-4 §5.20): FFFFFFFFh says that only the 16 byte form holds it."""
    return min(last, 0xFFFFFFFF).to_bytes(4, "big") + block.to_bytes(4, "big")


def capacity_16(last: int, block: int, *, exponent: int = 0, provisioned: bool = False) -> bytes:
    """READ CAPACITY (16) data (SBC-4 §5.21), 32 bytes; `provisioned` sets LBPME and LBPRZ."""
    tail = bytes([0, exponent & 0x0F, 0xC0 if provisioned else 0x00, 0])
    return (last.to_bytes(8, "big") + block.to_bytes(4, "big") + tail).ljust(32, b"\0")


def address(cdb: bytes) -> tuple[int, int]:
    """Logical block address and number of blocks of a READ, WRITE or VERIFY CDB of 6, 10, 12 or 16 bytes."""
    group = cdb[0] >> 5
    if group == 0:
        return int.from_bytes(cdb[1:4], "big") & 0x1FFFFF, cdb[4] or 256
    if group in (1, 2):
        return int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[7:9], "big")
    if group == 5:
        return int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[6:10], "big")
    return int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")
