"""TCG streams: the packets and tokens of sessions with a security subsystem (TCG Core 2.01 §3.2).

A ComPacket (20 bytes) holds a packet (24) that holds a subpacket (12) with the tokens, padded to 4 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

START_LIST, END_LIST, START_NAME, END_NAME = 0xF0, 0xF1, 0xF2, 0xF3
CALL, END_OF_DATA, END_OF_SESSION = 0xF8, 0xF9, 0xFA
_COM, _PACKET, _SUB = struct.Struct(">IIIII"), struct.Struct(">IIIHHII"), struct.Struct(">6xHI")
HEADERS = _COM.size + _PACKET.size + _SUB.size

Token = int | bytes | str
"""An unsigned integer, a byte string, or the name of a control token in hexadecimal, such as ``F0``."""


@dataclass(frozen=True)
class Packet:
    """What travels one way: ComID (with its extension in the low half), session numbers, tokens."""

    com_id: int
    tper_session: int
    host_session: int
    tokens: list[Token]


class Malformed(ValueError):
    """The bytes are no such packet."""


def control(byte: int) -> str:
    """A control token."""
    return f"{byte:02X}"


def pack(packet: Packet, room: int = 2048) -> bytes:
    """The bytes of `packet`, filled up with zeros to `room`."""
    body = b"".join(_atom(token) for token in packet.tokens)
    padded = body + bytes(-len(body) % 4)
    sub = _SUB.pack(0, len(body)) + padded
    inner = _PACKET.pack(packet.tper_session, packet.host_session, 0, 0, 0, 0, len(sub)) + sub
    return (_COM.pack(0, packet.com_id, 0, 0, len(inner)) + inner).ljust(room, b"\0")


def unpack(data: bytes) -> Packet:
    """The packet in `data`. Raises Malformed."""
    if len(data) < HEADERS:
        raise Malformed("shorter than the headers")
    _, com_id, _, _, length = _COM.unpack_from(data)
    tper, host, *_, inner = _PACKET.unpack_from(data, _COM.size)
    kind, body = _SUB.unpack_from(data, _COM.size + _PACKET.size)
    if kind or length < _PACKET.size or inner < _SUB.size or HEADERS + body > len(data):
        raise Malformed("its lengths do not fit")
    return Packet(com_id, tper, host, tokens_of(data[HEADERS : HEADERS + body]))


def tokens_of(data: bytes) -> list[Token]:
    """The tokens of a stream; empty atoms are left out. Raises Malformed."""
    found: list[Token] = []
    at = 0
    while at < len(data):
        first, at = data[at], at + 1
        if first >= 0xE4:
            if first != 0xFF:
                found.append(control(first))
            continue
        if first < 0x80:
            found.append(first & 0x3F)
            continue
        extra, text = (0, first & 0x20) if first < 0xC0 else (1, first & 0x10)
        length = first & 0x0F if not extra else (first & 0x07) << 8 | data[at]
        at += extra
        value = data[at : at + length]
        if len(value) < length:
            raise Malformed("an atom is cut off")
        found.append(value if text else int.from_bytes(value, "big"))
        at += length
    return found


def _atom(token: Token) -> bytes:
    if isinstance(token, str):
        return bytes.fromhex(token)
    if isinstance(token, int):
        if token < 0x40:
            return bytes([token])
        raw = token.to_bytes((token.bit_length() + 7) // 8, "big")
        return bytes([0x80 | len(raw)]) + raw
    if len(token) < 16:
        return bytes([0xA0 | len(token)]) + token
    return bytes([0xD0 | len(token) >> 8, len(token) & 0xFF]) + token
