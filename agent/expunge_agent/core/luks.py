"""LUKS headers, both versions, read from bytes: where wrapped keys lie, and what the header says of the key.

Sources: LUKS1 On-Disk Format Specification 1.2.3, LUKS2 On-Disk Format Specification 1.1.2 (cryptsetup).
Nothing here decrypts anything. Offsets and sizes in bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from typing import Any

import msgspec

from expunge_agent.core import luks_data
from expunge_agent.core.guard import readable
from expunge_agent.protocol.base import Frozen, Name, Text
from expunge_agent.protocol.canonical import U64

MAGIC, SECOND_MAGIC = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
SECOND_OFFSETS = tuple(0x4000 << power for power in range(9))
"""Where the second header of LUKS2 may begin: right after the first, 16 KiB to 4 MiB long (§2.3)."""
HEAD = 8 << 20
"""Bytes from the start that hold both headers of LUKS2, however large."""
_SECTOR = 512
_BINARY = 4096
_LUKS1 = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT1 = struct.Struct(">II32sII")
_LUKS2 = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")
_CHECKSUM = slice(448, 512)
_LUKS1_SLOTS, _LUKS1_ACTIVE = 8, 0x00AC71F3
_MOST_AREA = 1 << 40
_MOST_OF_A_KIND = 32
"""Keyslots, tokens, segments that LUKS2 can have (lib/luks2/luks2.h); with more it is not cryptsetup's."""
_CHECKSUMS = tuple(f"sha{one}" for one in ("1", "224", "256", "384", "512", "3-256", "3-384", "3-512"))
"""Names of hashes that a checksum may have: those with a length of their own (cryptsetup writes sha256)."""
_UUID = re.compile(r"[0-9A-Za-z-]{1,40}")
_ODD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error)
"""What reading bytes that are no header may end in."""


class NotLuksError(ValueError):
    """There is no LUKS header, or none that can be believed; the text is a sentence that says why."""


class Token(Frozen, frozen=True):
    """An entry of LUKS2 that tells how a keyslot may be opened without typing: ``type`` as it says of itself."""

    type: Name
    keyslots: list[Text] = []


class LuksHeader(Frozen, frozen=True):
    """What a header says.

    ``area``: bytes from the start that hold headers and keyslots, up to the data where those are behind it.
    ``payload``: where data begin, 0 where the header stands alone (detached). ``key_bits`` −1 where no
    keyslot is left to tell, or it is not clear how much of one encrypts. ``segments`` are the kinds of data
    (``crypt``, ``linear``, ``hw-opal`` …), ``encrypted`` where those are that are encrypted (first byte, end; 0
    for the end of the medium), ``requirements`` what a program must understand. ``doubts``: what is damaged,
    contradictory or not understood, so that keys may lie where they were not sought.
    """

    version: int
    uuid: Name
    area: U64
    payload: U64
    cipher: Text
    key_bits: int
    keyslots: int
    segments: list[Text] = []
    encrypted: list[tuple[U64, U64]] = []
    tokens: list[Token] = []
    requirements: list[Text] = []
    doubts: list[Text] = []
    label: Text = ""
    digests: list[Text] = []
    """Digests of the volume keys: the same in every copy of the header, whatever its UUID was changed to."""

    @property
    def strength(self) -> int:
        """Bits that an attacker has to guess; −1 unknown, 0 for none: see `luks_data.strength`."""
        return luks_data.strength(self.cipher, self.key_bits)

    @property
    def one_line(self) -> str:
        """The header in a few words, for people."""
        bits = f"{self.key_bits}-bit key" if self.key_bits >= 0 else "key of unknown length"
        return (
            f"LUKS{self.version} {self.uuid}, {self.cipher or 'no cipher'}, {bits}, {self.keyslots} keyslots"
        )


def parse(head: bytes, size: int) -> LuksHeader:
    """The header in `head`, the first bytes (`HEAD`, or all) of something that has `size` bytes.

    Of LUKS2 the newer of the two headers with a right checksum counts. Raises NotLuksError, whatever the bytes.
    """
    try:
        return _version1(head, size) if head[:8] == MAGIC + b"\0\1" else _version2(head, size)
    except NotLuksError:
        raise
    except _ODD as error:
        raise NotLuksError(
            f"It has a damaged LUKS header: what stands in it makes no sense ({type(error).__name__})."
        ) from error


def begins_like_luks(head: bytes) -> bool:
    """Whether one of the places where a LUKS header can stand has its magic; says nothing of its health."""
    return head[:6] == MAGIC or any(head[at : at + 6] == SECOND_MAGIC for at in SECOND_OFFSETS)


def uuid_of(binary: bytes) -> str:
    """The UUID in the first 4096 bytes of any header, damaged or not; empty where there is none."""
    at = 168
    if binary[:6] not in (MAGIC, SECOND_MAGIC) or len(binary) < at + 40:
        return ""
    return _text(binary[at : at + 40])


def _version1(head: bytes, size: int) -> LuksHeader:
    if len(head) < _LUKS1.size + _LUKS1_SLOTS * _SLOT1.size:
        raise NotLuksError("It begins like LUKS1 and ends before the header does.")
    fields = _LUKS1.unpack_from(head)
    name, mode, payload, key_bytes = _text(fields[2]), _text(fields[3]), fields[5] * _SECTOR, fields[6]
    slots = [_SLOT1.unpack_from(head, _LUKS1.size + at * _SLOT1.size) for at in range(_LUKS1_SLOTS)]
    ends = [offset * _SECTOR + key_bytes * stripes for _, _, _, offset, stripes in slots]
    uuid = _text(fields[10])
    if not _UUID.fullmatch(uuid) or not name or not 0 < key_bytes <= 512 or max(ends) > _MOST_AREA:
        raise NotLuksError("It begins like LUKS1, and what follows makes no sense: the header is damaged.")
    area = max(_BINARY, payload, *(_up(end) for end in ends))
    used = [end for end, (active, *_) in zip(ends, slots, strict=True) if active == _LUKS1_ACTIVE]
    return LuksHeader(
        version=1,
        uuid=uuid,
        area=U64(min(area, size)),
        payload=U64(payload),
        cipher=_said(f"{name}-{mode}"),
        key_bits=key_bytes * 8,
        keyslots=sum(active == _LUKS1_ACTIVE for active, *_ in slots),
        segments=["crypt"],
        encrypted=[(U64(payload), U64(0))],
        doubts=_cut_off(used, size),
        digests=[fields[7].hex()],
    )


def _version2(head: bytes, size: int) -> LuksHeader:
    found: list[tuple[int, int, dict[str, Any], tuple[Any, ...]]] = []
    doubts = []
    for place in (0, *SECOND_OFFSETS):
        if head[place : place + 6] != (SECOND_MAGIC if place else MAGIC):
            continue
        try:
            fields, plain = _one_of_two(head, place)
        except NotLuksError as error:
            doubts.append(str(error))
        else:
            found.append((fields[3], -place, plain, fields))
    if not found:
        raise NotLuksError(" ".join(doubts) or "There is no LUKS header at its start.")
    found.sort(key=lambda one: one[:2], reverse=True)
    if len(found) == 1 and not doubts:
        doubts = ["one of the two headers is missing"]
    newest, *others = [_described(fields, plain, size, doubts) for _, _, plain, fields in found]
    if any(one.uuid != newest.uuid or one.area != newest.area for one in others):
        doubts = [*newest.doubts, "its headers are of different volumes, or differ in where keys lie"]
        area = max(one.area for one in (newest, *others))
        return msgspec.structs.replace(newest, area=area, doubts=doubts)
    return newest


def _one_of_two(head: bytes, place: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The binary fields and the JSON area of the header at `place`, if its checksum is right."""
    which = "second" if place else "first"
    if len(head) < place + _BINARY:
        raise NotLuksError(f"The {which} LUKS2 header is cut off.")
    fields = _LUKS2.unpack_from(head, place)
    length, algorithm, offset = fields[2], _text(fields[5]), fields[9]
    if fields[1] != 2 or length not in SECOND_OFFSETS or offset != place or len(head) < place + length:
        raise NotLuksError(f"The {which} LUKS2 header is damaged: its version, size or offset cannot be.")
    area = bytearray(head[place : place + length])
    area[_CHECKSUM] = bytes(64)
    if algorithm not in _CHECKSUMS:
        raise NotLuksError(
            f"The {which} LUKS2 header has a checksum of an unknown kind ({readable(algorithm, 32)})."
        )
    digest = hashlib.new(algorithm, area).digest()
    if fields[11][: len(digest)] != digest:
        raise NotLuksError(f"The {which} LUKS2 header is damaged: its checksum is wrong.")
    try:
        plain = json.loads(bytes(area[_BINARY:]).split(b"\0", 1)[0])
    except (ValueError, RecursionError) as error:
        raise NotLuksError(f"The {which} LUKS2 header holds no JSON.") from error
    if not isinstance(plain, dict):
        raise NotLuksError(f"The {which} LUKS2 header holds no JSON object.")
    return fields, plain


def _described(fields: tuple[Any, ...], plain: dict[str, Any], size: int, doubts: list[str]) -> LuksHeader:
    slots: dict[str, Any] = plain.get("keyslots", {})
    tokens: dict[str, Any] = plain.get("tokens", {})
    segments = [one for _, one in sorted(plain["segments"].items(), key=lambda item: int(item[0]))]
    if max(len(slots), len(tokens), len(segments)) > _MOST_OF_A_KIND:
        raise ValueError("more keyslots, tokens or segments than there can be")
    crypt = [one for one in segments if str(one["type"]) in ("crypt", "hw-opal-crypt")]
    ends = [_count(one["area"]["offset"]) + _count(one["area"]["size"]) for one in slots.values()]
    keyslots_end = 2 * fields[2] + _count(plain["config"]["keyslots_size"])
    payload = min((_count(one["offset"]) for one in segments), default=0)
    area = max(payload, keyslots_end, *ends)
    required = [_said(str(one)) for one in plain["config"].get("requirements", {}).get("mandatory", [])]
    kinds = [_said(str(one["type"])) for one in segments]
    uuid = _text(fields[7])
    if not _UUID.fullmatch(uuid):
        raise ValueError("no UUID")
    return LuksHeader(
        version=2,
        uuid=uuid,
        area=U64(min(area, size)),
        payload=U64(payload),
        cipher=_said(", ".join(dict.fromkeys(str(one["encryption"]) for one in crypt))),
        key_bits=_key_bits(slots, crypt),
        keyslots=len(slots),
        segments=kinds,
        encrypted=[_place(one) for one in segments if str(one["type"]) != "linear" and not _backs_up(one)],
        tokens=[
            Token(
                type=_said(str(one["type"])) or "unnamed",
                keyslots=[_said(str(slot)) for slot in one["keyslots"]][:_MOST_OF_A_KIND],
            )
            for _, one in sorted(tokens.items())
        ],
        requirements=required,
        doubts=[*doubts, *luks_data.strange(kinds, required), *_cut_off(ends, size)],
        label=_said(_text(fields[4])),
        digests=[_said(str(one["digest"])) for one in plain.get("digests", {}).values()][:_MOST_OF_A_KIND],
    )


def _key_bits(slots: dict[str, Any], crypt: list[dict[str, Any]]) -> int:
    """Of the shortest key in a keyslot, what encrypts."""
    bits = [8 * _count(one["key_size"]) for one in slots.values() if one.get("type") != "reencrypt"]
    integrity = [str(one["integrity"]["type"]) for one in crypt if one.get("integrity")]
    return luks_data.key_bits(min(bits), integrity) if bits else -1


def _backs_up(segment: dict[str, Any]) -> bool:
    return luks_data.is_backup(segment.get("flags"))


def _place(segment: dict[str, Any]) -> tuple[U64, U64]:
    """First byte and end of a segment; the end 0 where it reaches as far as the medium does."""
    start = _count(segment["offset"])
    if segment["size"] == "dynamic":
        return U64(start), U64(0)
    return U64(start), U64(start + _count(segment["size"]))


def _cut_off(ends: list[int], size: int) -> list[str]:
    """The doubt where keyslots end beyond the medium: the header is of a larger one, and its keys lie elsewhere too."""
    if max(ends, default=0) <= size:
        return []
    return ["keyslots lie beyond its end: it was cut off, or is a part of something larger"]


def _count(text: object) -> int:
    """A number of bytes as LUKS2 writes it, in decimal digits of a string. Raises ValueError beyond all measure."""
    count = int(str(text))
    if not 0 <= count <= _MOST_AREA:
        raise ValueError("an area before the start or beyond all measure")
    return count


def _text(field: bytes) -> str:
    """A field that ends at its first NUL."""
    return field.split(b"\0", 1)[0].decode("ascii", "backslashreplace")


def _said(text: str) -> str:
    return readable(text, 200)


def _up(count: int) -> int:
    """`count` bytes in whole blocks of 4096, as keyslots are aligned."""
    return -(-count // _BINARY) * _BINARY
