"""The structures an NVMe controller shows of itself, byte by byte (NVM Express Base 2.0 §5.16, §5.17)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

VERSION = 0x00020000
"""2.0.0 (Base 2.0 §3.1.3.2)."""
LBA_SHIFTS = (9, 12)
"""The LBA formats offered: 512 and 4096 bytes, no metadata."""
MDTS = 5
"""Largest transfer: 2^5 pages of 4 KiB."""
UNKNOWN_TIME = 0xFFFFFFFF
PAGE = 4096

ADMIN_EFFECTS = {
    0x02: 0x1,
    0x06: 0x1,
    0x08: 0x1,
    0x09: 0x1,
    0x0A: 0x1,
    0x0C: 0x1,
    0x0D: 0x1 | 1 << 3,
    0x15: 0x1 | 1 << 3,
    0x18: 0x1,
    0x80: 0x1 | 1 << 1 | 1 << 2 | 1 << 16,
    0x84: 0x1 | 1 << 1 | 2 << 16,
}
"""Opcode → supported, LBA contents change, namespace capabilities, inventory; alone in its namespace,
alone in the subsystem (Commands Supported and Effects, Base 2.0 figure 211)."""
IO_EFFECTS = {0x00: 0x1, 0x01: 0x3, 0x02: 0x1, 0x04: 0x3, 0x05: 0x1, 0x08: 0x3, 0x09: 0x3}


@dataclass
class Namespace:
    """A namespace and where its blocks are on the medium (bytes)."""

    nsid: int
    base: int
    size: int
    shift: int
    attached: bool = True
    bad: list[list[int]] = field(default_factory=list)
    """Ranges of the medium that were made uncorrectable."""

    @property
    def blocks(self) -> int:
        return self.size >> self.shift

    def nguid(self, serial: str) -> bytes:
        return b"\x02XPLAB" + serial.encode()[-6:].rjust(6, b"\0") + struct.pack(">I", self.nsid)

    def eui64(self, serial: str) -> bytes:
        return b"\x02XP" + serial.encode()[-4:].rjust(4, b"\0") + bytes([self.nsid])


@dataclass(frozen=True)
class Make:
    """How the drive was made; what a firmware would have burnt in."""

    model: str = "EXPUNGE SIMULATED NVME"
    firmware: str = "SIM1"
    actions: frozenset[str] = frozenset({"crypto", "block", "overwrite"})
    """Sanitize actions it has."""
    ndi: bool = False
    """No-deallocate inhibited (SANICAP bit 29)."""
    vers: bool = False
    """Media verification is supported (SANICAP bit 3, Base 2.1)."""
    nodmmas: int = 1
    """SANICAP bits 31:30: 1, the medium is not modified further after a sanitize."""
    fna: int = 0b0100
    """Format NVM attributes: bit 0 formats reach all namespaces, bit 1 erases too, bit 2 crypto erase, bit 3
    no broadcast namespace."""
    format_nvm: bool = True
    volatile_cache: bool = True
    block_seconds: float = 8.0
    crypto_seconds: float = 4.0
    overwrite_seconds: float = 10.0
    """One pass."""
    deallocate_seconds: float = 2.0
    """The deallocation after a media verification."""
    format_seconds: float = 2.0
    psid: str = ""
    """What is on the label of a self-encrypting drive with Opal 2; empty: it is none."""
    revert_seconds: float = 4.0

    @property
    def sanicap(self) -> int:
        """Identify Controller bytes 331:328."""
        bits = {"crypto": 1, "block": 2, "overwrite": 4}
        return (
            sum(bits[a] for a in self.actions)
            | self.vers << 3
            | self.ndi << 29
            | (self.nodmmas << 30 if self.actions else 0)
        )


def text(value: bytes, length: int) -> bytes:
    """An ASCII field: left-justified, padded with spaces (Base 2.0 §1.5)."""
    return value[:length].ljust(length, b" ")


def identify_controller(
    make: Make, *, serial: bytes, sanicap: int, nqn: str, capacity: int, free: int, namespaces: int
) -> bytes:
    """CNS 01h, 4096 bytes."""
    page = bytearray(PAGE)

    def put(offset: int, layout: str, *values: int) -> None:
        struct.pack_into("<" + layout, page, offset, *values)

    page[4:24] = text(serial, 20)
    page[24:64] = text(make.model.encode(), 40)
    page[64:72] = text(make.firmware.encode(), 8)
    put(77, "B", MDTS)
    put(78, "H", 1)  # CNTLID
    put(80, "I", VERSION)
    put(92, "I", 1 << 8)  # OAES: namespace attribute notices
    put(96, "I", 1)  # CTRATT: 128-bit host identifier
    put(111, "B", 1)  # I/O controller
    put(256, "H", 1 << 3 | (1 << 1 if make.format_nvm else 0) | bool(make.psid))  # OACS
    put(258, "B", 3)  # ACL
    put(259, "B", 3)  # AERL, 0's based
    put(260, "B", 0x03)  # FRMW: one slot, read-only
    put(261, "B", 1 << 1 | 1 << 2)  # LPA: effects, extended data
    put(262, "B", 3)  # ELPE
    put(266, "HH", 343, 353)  # WCTEMP, CCTEMP in kelvins
    page[280:296] = capacity.to_bytes(16, "little")
    page[296:312] = free.to_bytes(16, "little")
    put(320, "H", 10)  # KAS: keep-alive in units of 1 s
    put(328, "I", sanicap)
    put(512, "BB", 0x66, 0x44)
    put(514, "H", 128)  # MAXCMD
    put(516, "I", namespaces)  # NN
    put(520, "H", 0b1111)  # ONCS: compare, write uncorrectable, dataset management, write zeroes
    put(524, "B", make.fna if make.format_nvm else 0)
    put(525, "B", 0b110 | make.volatile_cache)
    put(536, "I", 1 | 1 << 20 | 1 << 21)  # SGLS: data block, offset, transport data block
    page[768 : 768 + len(nqn)] = nqn.encode()
    put(1792, "II", (64 + 8192) // 16, 1)  # IOCCSZ with 8 KiB in the capsule, IORCSZ
    put(1802, "BB", 0, 1)  # FCATT: dynamic controllers; MSDBD
    put(2048, "H", 1000)  # power state 0: 10 W
    return bytes(page)


def identify_namespace(make: Make, ns: Namespace, serial: str, *, used: int, format_left: int) -> bytes:
    """CNS 00h, 4096 bytes; `format_left` in percent (NVM Command Set 1.0 §4.1.5.1)."""
    page = bytearray(PAGE)
    struct.pack_into("<QQQ", page, 0, ns.blocks, ns.blocks, used >> ns.shift)
    page[24] = 0  # NSFEAT: not thin
    page[25] = len(LBA_SHIFTS) - 1
    page[26] = LBA_SHIFTS.index(ns.shift)
    page[32] = 0x80 | format_left
    page[33] = 1 | 1 << 3  # DLFEAT: deallocated blocks read as 00h; write zeroes can deallocate
    page[48:64] = ns.size.to_bytes(16, "little")
    page[104:120] = ns.nguid(serial)
    page[120:128] = ns.eui64(serial)
    for i, shift in enumerate(LBA_SHIFTS):
        struct.pack_into("<HBB", page, 128 + 4 * i, 0, shift, 0 if shift == 12 else 2)
    return bytes(page)


def namespace_descriptors(ns: Namespace, serial: str) -> bytes:
    """CNS 03h: EUI-64, NGUID, command set NVM."""
    entries = ((1, ns.eui64(serial)), (2, ns.nguid(serial)), (4, b"\0"))
    return b"".join(struct.pack("<BBH", kind, len(v), 0) + v for kind, v in entries).ljust(PAGE, b"\0")


def namespace_list(nsids: list[int]) -> bytes:
    """CNS 02h, 10h: up to 1024 identifiers, ascending."""
    return struct.pack(f"<{len(nsids)}I", *nsids).ljust(PAGE, b"\0")


def effects_log() -> bytes:
    """Log page 05h, 4096 bytes."""
    page = bytearray(PAGE)
    for base, effects in ((0, ADMIN_EFFECTS), (1024, IO_EFFECTS)):
        for opcode, bits in effects.items():
            struct.pack_into("<I", page, base + 4 * opcode, bits)
    return bytes(page)


def supported_logs(pages: tuple[int, ...]) -> bytes:
    """Log page 00h: a dword for each page, bit 0 says that it is there."""
    log = bytearray(1024)
    for page in pages:
        struct.pack_into("<I", log, 4 * page, 1)
    return bytes(log)


def smart_log(counts: dict[str, int]) -> bytes:
    """Log page 02h, 512 bytes; `counts` by the names used below."""
    page = bytearray(512)
    struct.pack_into("<BHBBB", page, 0, 0, 308, 100, 10, 1)
    for offset, name in ((64, "reads"), (80, "writes"), (112, "power_cycles"), (144, "unsafe_shutdowns")):
        page[offset : offset + 16] = counts.get(name, 0).to_bytes(16, "little")
    page[160:176] = counts.get("media_errors", 0).to_bytes(16, "little")
    units = {32: counts.get("bytes_read", 0), 48: counts.get("bytes_written", 0)}
    for offset, count in units.items():  # in thousands of 512 bytes, rounded up
        page[offset : offset + 16] = (-(-count // 512_000)).to_bytes(16, "little")
    return bytes(page)


def firmware_log(make: Make) -> bytes:
    """Log page 03h, 512 bytes: slot 1 is active."""
    page = bytearray(512)
    page[0] = 1
    page[8:16] = text(make.firmware.encode(), 8)
    return bytes(page)


def sanitize_log(make: Make, *, sprog: int, sstat: int, scdw10: int, state: int) -> bytes:
    """Log page 81h, 512 bytes (Base 2.1 §5.1.12.1.33): estimates are seconds, the overwrite's for 16 passes; `state`
    is SANS, which only a drive with media verification has."""
    estimates = [
        round(seconds) if action in make.actions else UNKNOWN_TIME
        for action, seconds in (
            ("overwrite", 16 * make.overwrite_seconds),
            ("block", make.block_seconds),
            ("crypto", make.crypto_seconds),
        )
    ]
    after = round(make.deallocate_seconds) if make.vers else 0
    times = (*estimates, *[UNKNOWN_TIME] * 3, after)
    return struct.pack("<HHI7IB", sprog, sstat, scdw10, *times, state if make.vers else 0).ljust(512, b"\0")
