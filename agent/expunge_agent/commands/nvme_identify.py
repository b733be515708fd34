"""NVMe identify data taken apart (NVM Express Base 2.0: "Base"; NVM Command Set 1.0: "NVM").

Every parser here and in `nvme_logs` raises `BadAnswer` for data too short for its structure, and nothing
else: a value that makes no sense is handed out as it is.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from expunge_agent.commands.nvme_bytes import enough, number
from expunge_agent.commands.nvme_logs import Action

IDENTIFY_BYTES = 4096
_LIST_ENTRIES = IDENTIFY_BYTES // 4
_MAX_FORMATS = 64


@dataclass(frozen=True)
class Controller:
    """Identify Controller (Base figure 275). Texts are printable; ``garbled`` names those that were not.

    ``capacity`` and ``unallocated`` in bytes, 0 where namespace management is not known.
    """

    vendor: int
    serial: str
    model: str
    firmware: str
    garbled: tuple[str, ...]
    cmic: int
    number: int
    version: int
    kind: int
    fguid: str
    oacs: int
    sanicap: int
    fna: int
    vwc: int
    namespaces: int
    capacity: int
    unallocated: int
    nqn: str

    @property
    def in_company(self) -> bool:
        """The NVM subsystem may have further controllers, with namespaces of their own (CMIC bit 1)."""
        return bool(self.cmic & 0x2)

    @property
    def formats(self) -> bool:
        """Format NVM is there (OACS bit 1)."""
        return bool(self.oacs & 0x2)

    @property
    def manages_namespaces(self) -> bool:
        """Namespaces can be made, taken away, attached and detached (OACS bit 3)."""
        return bool(self.oacs & 0x8)

    @property
    def format_reaches_all(self) -> bool:
        """A format, or its secure erase, of one namespace is one of all (FNA bits 0 and 1)."""
        return bool(self.fna & 0x3)

    @property
    def format_crypto(self) -> bool:
        """Format NVM can erase cryptographically (FNA bit 2)."""
        return bool(self.fna & 0x4)

    @property
    def write_cache(self) -> bool:
        """There is a volatile write cache (VWC bit 0)."""
        return bool(self.vwc & 0x1)

    def sanitizes(self, action: Action) -> bool:
        """SANICAP offers `action` (CES, BES, OWS: bits 0, 1, 2)."""
        bit = {Action.CRYPTO_ERASE: 0x1, Action.BLOCK_ERASE: 0x2, Action.OVERWRITE: 0x4}.get(action, 0)
        return bool(self.sanicap & bit)

    @property
    def media_verification(self) -> bool:
        """VERS: a media verification state can follow a sanitize operation (SANICAP bit 3, Base 2.1)."""
        return bool(self.sanicap & 0x8)

    @property
    def no_deallocate_inhibited(self) -> bool:
        """NDI: no-deallocate is not honoured (SANICAP bit 29)."""
        return bool(self.sanicap & 1 << 29)

    @property
    def media_modified(self) -> int:
        """NODMMAS, SANICAP bits 31:30: after a no-deallocate operation the media is 1 left as it is,
        2 written once more; 0: not defined."""
        return self.sanicap >> 30 & 3


@dataclass(frozen=True)
class Namespace:
    """Identify Namespace (NVM figure 97). ``blocks``, ``capacity`` and ``used`` in logical blocks;
    ``sector`` and ``metadata`` in bytes a block, ``sector`` 0 where the formatted one is not in the table.

    ``protection``: PI type and place as in DPS bits 3:0. ``format_left``: per cent of a format still to
    go, −1 where it is not reported.
    """

    blocks: int
    capacity: int
    used: int
    format_index: int
    formats: int
    sector: int
    metadata: int
    extended: bool
    protection: int
    format_left: int
    dlfeat: int
    write_protected: bool
    shared: bool
    granule: int
    """Preferred write granularity in logical blocks (NPWG), 0 where it is not told."""
    nguid: str
    eui64: str

    @property
    def size(self) -> int:
        """Bytes of user data the namespace addresses."""
        return self.blocks * self.sector

    @property
    def deallocated_reads(self) -> str:
        """What a deallocated block reads as, in words (DLFEAT bits 2:0)."""
        return {1: "00h", 2: "FFh"}.get(self.dlfeat & 7, "not reported")


@dataclass(frozen=True)
class Descriptors:
    """Namespace Identification Descriptor list (Base figure 277): lower-case hexadecimal, empty when absent.

    ``csi``: the I/O command set, 0 NVM, −1 not told.
    """

    eui64: str = ""
    nguid: str = ""
    uuid: str = ""
    csi: int = -1


def controller(data: bytes) -> Controller:
    """Take Identify Controller apart. Raises BadAnswer."""
    enough(data, IDENTIFY_BYTES, "Identify Controller")
    texts = {"serial number": data[4:24], "model number": data[24:64], "firmware revision": data[64:72]}
    serial, model, firmware = (_text(raw)[0] for raw in texts.values())
    return Controller(
        vendor=number(data, 0, 2),
        serial=serial,
        model=model,
        firmware=firmware,
        garbled=tuple(name for name, raw in texts.items() if _text(raw)[1]),
        cmic=data[76],
        number=number(data, 78, 2),
        version=number(data, 80, 4),
        kind=data[111],
        fguid=_name(data[112:128]),
        oacs=number(data, 256, 2),
        sanicap=number(data, 328, 4),
        fna=data[524],
        vwc=data[525],
        namespaces=number(data, 516, 4),
        capacity=number(data, 280, 16),
        unallocated=number(data, 296, 16),
        nqn=_text(data[768:1024].split(b"\0")[0])[0],
    )


def namespace(data: bytes) -> Namespace:
    """Take Identify Namespace apart. Raises BadAnswer."""
    enough(data, IDENTIFY_BYTES, "Identify Namespace")
    formats, flbas = data[25] + 1, data[26]
    index = flbas & 0xF | ((flbas >> 5 & 3) << 4 if formats > 16 else 0)
    entry = number(data, 128 + 4 * index, 4) if index < min(formats, _MAX_FORMATS) else 0
    exponent = entry >> 16 & 0xFF
    return Namespace(
        blocks=number(data, 0, 8),
        capacity=number(data, 8, 8),
        used=number(data, 16, 8),
        format_index=index,
        formats=formats,
        sector=1 << exponent if 9 <= exponent < 32 else 0,  # below 9 is not allowed, 0 not available
        metadata=entry & 0xFFFF,
        extended=bool(flbas & 0x10),
        protection=data[29] & 0xF,
        format_left=data[32] & 0x7F if data[32] & 0x80 else -1,
        dlfeat=data[33],
        write_protected=bool(data[99] & 1),
        shared=bool(data[30] & 1),
        granule=number(data, 64, 2) + 1 if data[24] & 0x10 else 0,
        nguid=_name(data[104:120]),
        eui64=_name(data[120:128]),
    )


def rotational(data: bytes) -> bool:
    """Whether the namespace lies on rotating media: NSFEAT bit 4 of the I/O Command Set Independent
    Identify Namespace data (Base figure 280). Raises BadAnswer."""
    return bool(enough(data, 1, "Identify Namespace, independent of the command set")[0] & 0x10)


def namespace_list(data: bytes) -> list[int]:
    """The numbers of a namespace list (Base §4.5.2), up to the first zero. Raises BadAnswer."""
    enough(data, IDENTIFY_BYTES, "namespace list")
    numbers = [number(data, at, 4) for at in range(0, IDENTIFY_BYTES, 4)]
    return numbers[: numbers.index(0)] if 0 in numbers else numbers


def full(numbers: list[int]) -> bool:
    """Whether such a list is full, so that more may follow."""
    return len(numbers) == _LIST_ENTRIES


def descriptors(data: bytes) -> Descriptors:
    """Take a descriptor list apart: up to the first of length 0, leaving out those of a wrong length."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data) and data[at + 1]:
        kind, length = data[at], data[at + 1]
        value = data[at + 4 : at + 4 + length]
        if length == {1: 8, 2: 16, 3: 16, 4: 1}.get(kind) and len(value) == length:
            found.setdefault(kind, value)
        at += 4 + length
    unique = found.get(3, b"")
    return Descriptors(
        eui64=_name(found.get(1, b"")),
        nguid=_name(found.get(2, b"")),
        uuid=str(uuid.UUID(bytes=unique)) if any(unique) else "",
        csi=found[4][0] if 4 in found else -1,
    )


def _text(raw: bytes) -> tuple[str, bool]:
    """ASCII, padded with spaces (some pad with NUL); and whether anything else is in it, or nothing at all."""
    body = raw.rstrip(b" \0").lstrip(b" ")
    garbled = not body or any(not 0x20 <= byte <= 0x7E for byte in body)
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02x}" for byte in body), garbled


def _name(raw: bytes) -> str:
    """A world wide name in hexadecimal; all zeros mean that there is none (Base figure 275, NVM figure 97)."""
    return raw.hex() if any(raw) else ""
