"""UFS query requests put together and taken apart (JESD220, QUERY REQUEST UPIU; include/uapi/scsi/scsi_bsg_ufs.h of Linux).

Only what a purge needs: the flag fPurgeEnable and the attribute bPurgeStatus (JESD220G §14.2, §14.3).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from expunge_agent.commands.port import CommandError

QUERY_REQUEST, QUERY_RESPONSE = 0x16, 0x36
"""UPIU transaction codes."""
READ_ATTRIBUTE, SET_FLAG = 0x03, 0x06
"""Query opcodes."""
_READ_FUNCTION, _WRITE_FUNCTION = 0x01, 0x81
PURGE_ENABLE = 0x06
"""Flag fPurgeEnable, write only."""
PURGE_STATUS = 0x06
"""Attribute bPurgeStatus, read only."""
# transaction code, flags, LUN, tag; reserved, query function, response code, device information; two lengths
_HEADER = struct.Struct(">BBBB BBBB BBH")
# opcode, IDN, index, selector, reserved, length, value, reserved
_QUERY = struct.Struct(">BBBB HH I 8x")
UPIU_BYTES = _HEADER.size + _QUERY.size
REQUEST = struct.Struct(f"=I{UPIU_BYTES}s")
"""``struct ufs_bsg_request``: message code and UPIU."""
REPLY = struct.Struct(f"=iI{UPIU_BYTES}s")
"""``struct ufs_bsg_reply``: result, bytes of payload received, and UPIU."""
_RESPONSES = {
    0x00: "success",
    0xF6: "parameter not readable",
    0xF7: "parameter not writeable",
    0xF8: "parameter already written",
    0xF9: "invalid length",
    0xFA: "invalid value",
    0xFB: "invalid selector",
    0xFC: "invalid index",
    0xFD: "invalid IDN",
    0xFE: "invalid opcode",
    0xFF: "general failure",
}


class PurgeStatus(IntEnum):
    """bPurgeStatus (JESD220G table 14.28). The first read of what is above RUNNING sets it back to IDLE."""

    IDLE = 0
    RUNNING = 1
    STOPPED = 2
    DONE = 3
    QUEUE_NOT_EMPTY = 4
    FAILED = 5


@dataclass(frozen=True)
class QueryReply:
    """``response``: the query response code, 0 for success; ``value`` of an attribute; ``raw``: the UPIU."""

    response: int
    value: int
    raw: bytes

    @property
    def words(self) -> str:
        """The response code as a person reads it."""
        return f"{_RESPONSES.get(self.response, 'reserved')} ({self.response:02X}h)"


class UfsPort(Protocol):
    """The UFS device behind a host adapter, whichever of its logical units is meant."""

    def exchange(self, request: bytes) -> bytes:
        """Send a ``struct ufs_bsg_request``; the ``struct ufs_bsg_reply``. Raises CommandError."""
        ...


def read_purge_status(port: UfsPort) -> QueryReply:
    """Ask for bPurgeStatus. Raises CommandError."""
    return _query(port, _READ_FUNCTION, READ_ATTRIBUTE, PURGE_STATUS)


def enable_purge(port: UfsPort) -> QueryReply:
    """Set fPurgeEnable: the device begins to purge what no logical unit maps. Raises CommandError."""
    return _query(port, _WRITE_FUNCTION, SET_FLAG, PURGE_ENABLE)


def _query(port: UfsPort, function: int, opcode: int, idn: int) -> QueryReply:
    header = _HEADER.pack(QUERY_REQUEST, 0, 0, 0, 0, function, 0, 0, 0, 0, 0)
    upiu = header + _QUERY.pack(opcode, idn, 0, 0, 0, 0, 0)
    answer = port.exchange(REQUEST.pack(QUERY_REQUEST, upiu))
    if len(answer) < REPLY.size:
        raise CommandError(f"a UFS query was answered with {len(answer)} of {REPLY.size} bytes")
    result, _, reply = REPLY.unpack(answer[: REPLY.size])
    if result:
        raise CommandError(f"the driver did not carry the UFS query out (result {result})")
    head, told = _HEADER.unpack(reply[: _HEADER.size]), _QUERY.unpack(reply[_HEADER.size :])
    if head[0] != QUERY_RESPONSE or told[:2] != (opcode, idn):
        raise CommandError("what came back is no answer to the UFS query that was sent")
    return QueryReply(response=head[6], value=told[6], raw=reply)
