"""The messages of NVMe/TCP (NVM Express TCP Transport 1.0 §3.6) and of NVMe over Fabrics (Base 2.0 §6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lab.drives.nvme_io import Command, Reply

IC_REQ, IC_RESP, H2C_TERM, C2H_TERM = 0x00, 0x01, 0x02, 0x03
CAPSULE_CMD, CAPSULE_RESP, H2C_DATA, C2H_DATA, R2T = 0x04, 0x05, 0x06, 0x07, 0x09
LAST = 1 << 2
IC_LENGTH = 128
MOST = 1 << 20
"""No message is longer (bytes); this is also MAXH2CDATA."""

FABRICS = 0x7F
PROPERTY_SET, CONNECT, PROPERTY_GET, DISCONNECT = 0x00, 0x01, 0x04, 0x08
"""Fabrics command types: byte 4 of the entry."""
CAP, VS, CC, CSTS = 0x00, 0x08, 0x14, 0x1C
IN_CAPSULE = 0x01
"""SGL identifier: data block, address is an offset; 5Ah: transport data block (Base 2.0 §4.1.2)."""

DO_NOT_RETRY = 1 << 14


class ProtocolError(Exception):
    """The other end sent what the transport forbids."""


@dataclass(frozen=True)
class Header:
    """The common header of every message: 8 bytes."""

    kind: int
    flags: int
    hlen: int
    pdo: int
    plen: int

    @classmethod
    def parse(cls, raw: bytes) -> Header:
        header = cls(*struct.unpack("<BBBBI", raw))
        if not 8 <= header.hlen <= header.plen <= MOST + 128:
            raise ProtocolError(f"lengths {header.hlen} and {header.plen}")
        return header


def pdu(kind: int, specific: bytes, data: bytes = b"", flags: int = 0) -> bytes:
    """A message: common header, its own header, data right behind (no digests)."""
    hlen = 8 + len(specific)
    return struct.pack("<BBBBI", kind, flags, hlen, hlen if data else 0, hlen + len(data)) + specific + data


def ic_response() -> bytes:
    """Format 0, data aligned to 4, no digests, MAXH2CDATA."""
    return pdu(IC_RESP, struct.pack("<HBBI", 0, 0, 0, MOST).ljust(IC_LENGTH - 8, b"\0"))


def ready_to_transfer(cid: int, tag: int, length: int) -> bytes:
    return pdu(R2T, struct.pack("<HHII4x", cid, tag, 0, length))


def data_to_host(cid: int, data: bytes) -> bytes:
    return pdu(C2H_DATA, struct.pack("<HHII4x", cid, 0, 0, len(data)), data, LAST)


def response(cid: int, head: int, reply: Reply) -> bytes:
    """A completion queue entry in its capsule (Base 2.0 §3.3.3.2)."""
    status = (reply.status | DO_NOT_RETRY) if reply.status else 0
    return pdu(CAPSULE_RESP, struct.pack("<QHHHH", reply.result, head, 0, cid, status << 1))


@dataclass(frozen=True)
class Entry:
    """A submission queue entry as it came: 64 bytes."""

    raw: bytes

    @property
    def opcode(self) -> int:
        return self.raw[0]

    @property
    def cid(self) -> int:
        return int.from_bytes(self.raw[2:4], "little")

    @property
    def fctype(self) -> int:
        return self.raw[4]

    @property
    def length(self) -> int:
        """Bytes that the data pointer describes."""
        return int.from_bytes(self.raw[32:36], "little")

    @property
    def sgl_kind(self) -> int:
        return self.raw[39]

    @property
    def sends(self) -> bool:
        """Data goes from the host to the controller (bits 1:0 of the opcode, or of the fabrics type)."""
        return bool((self.fctype if self.opcode == FABRICS else self.opcode) & 1) and self.length > 0

    def command(self) -> Command:
        return Command(
            self.opcode, *struct.unpack_from("<I", self.raw, 4), *struct.unpack_from("<6I", self.raw, 40)
        )

    def number(self, start: int, length: int) -> int:
        return int.from_bytes(self.raw[start : start + length], "little")
