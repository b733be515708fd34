"""TCG Storage: level 0 discovery, and what a revert really erases.

Sources: TCG Storage Architecture Core 2.01 §3.3.6 (level 0 discovery), §5.1.5 (status codes); Opal SSC
2.30 §3.1.1 (feature descriptors, among them Supported Data Removal Mechanism) and §5.1.2 (Revert);
Pyrite SSC 2.01 §3.1.1; SPC-5 §6.39 SECURITY PROTOCOL IN; ACS-4 §7.54 TRUSTED RECEIVE; NVM Express Base 2.0
§5.27 Security Receive.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from expunge_agent.commands.port import CommandError, NvmeCommand, NvmePort, ScsiPort
from expunge_agent.core.drive import Ability, Answer, Opal
from expunge_agent.core.technique import Technique

DISCOVERY_BYTES = 2048
DISCOVERY_COMID = 0x0001
TCG_PROTOCOL = 0x01
_HEADER = 48
_DESCRIPTOR = 4

STATUS = {
    0x00: "success",
    0x01: "not authorized: the PSID is wrong",
    0x03: "the security provider is busy",
    0x04: "the security provider has failed",
    0x05: "the security provider is disabled",
    0x06: "the security provider is frozen",
    0x07: "no session is available",
    0x0C: "invalid parameter",
    0x0F: "the drive's security part is out of order",
    0x10: "the transaction failed",
    0x12: "locked out after too many wrong attempts: a power cycle resets the counter",
    0x3F: "failed",
}
"""TCG method status codes in words (Core 2.01 §5.1.5)."""

_CLASSES = {
    0x0100: "Enterprise",
    0x0200: "Opal 1",
    0x0203: "Opal 2",
    0x0301: "Opalite",
    0x0302: "Pyrite 1",
    0x0303: "Pyrite 2",
    0x0304: "Ruby",
    0x0305: "Key Per I/O",
}
_KERNEL_SPEAKS = ("Opal 1", "Opal 2")
"""Classes whose ComID block/sed-opal.c looks up."""


class Removal(IntFlag):
    """Supported Data Removal Mechanism, byte 6 (Opal SSC 2.30 §3.1.1.6)."""

    OVERWRITE = 0x01
    BLOCK_ERASE = 0x02
    CRYPTO_ERASE = 0x04
    UNMAP = 0x08
    RESET_WRITE_POINTERS = 0x10
    VENDOR = 0x20


class NotDiscovery(Exception):  # noqa: N818 - what the bytes are
    """The bytes are no level 0 discovery response."""


@dataclass(frozen=True)
class Discovery:
    """A level 0 discovery response. ``removal`` None: the drive does not list data removal mechanisms.

    ``locking_enabled`` is false while the Locking SP is Manufactured-Inactive. ``removing``: a data
    removal operation runs; ``removal_interrupted``: one was cut short (Opal SSC 2.30 §3.1.1.6).
    ``removal_seconds``: by mechanism, −1 where none is reported.
    """

    ssc: tuple[str, ...]
    locking_supported: bool = False
    locking_enabled: bool = False
    locked: bool = False
    media_encryption: bool = False
    mbr_enabled: bool = False
    mbr_done: bool = False
    block_sid: bool = False
    removal: Removal | None = None
    removing: bool = False
    removal_interrupted: bool = False
    removal_seconds: tuple[int, ...] = ()
    features: tuple[int, ...] = ()

    def opal(self) -> Opal | None:
        """The part that describes the drive; None when it has no security subsystem class."""
        if not self.ssc:
            return None
        return Opal(
            ssc=", ".join(self.ssc),
            locking_enabled=self.locking_enabled,
            locked=self.locked,
            mbr_enabled=self.mbr_enabled,
            media_encryption=self.media_encryption,
            block_sid=self.block_sid,
        )


def parse(data: bytes) -> Discovery:
    """Read a level 0 discovery response. Raises NotDiscovery; a descriptor cut off at the end is left out."""
    if len(data) < _HEADER:
        raise NotDiscovery(f"{len(data)} bytes are less than the header of {_HEADER}")
    end = int.from_bytes(data[:4], "big") + 4
    if end <= _HEADER:
        raise NotDiscovery("the drive returned no feature descriptors")
    features = dict(_descriptors(data[_HEADER : min(end, len(data))]))
    if not features:
        raise NotDiscovery("the drive returned no whole feature descriptor")
    locking = _first_byte(features.get(0x0002, b""))
    removal = features.get(0x0404, b"")
    known = len(removal) >= 4
    return Discovery(
        ssc=tuple(name for code, name in _CLASSES.items() if code in features),
        locking_supported=bool(locking & 0x01),
        locking_enabled=bool(locking & 0x02),
        locked=bool(locking & 0x04),
        media_encryption=bool(locking & 0x08),
        mbr_enabled=bool(locking & 0x10),
        mbr_done=bool(locking & 0x20),
        block_sid=bool(_first_byte(features.get(0x0402, b"")) & 0x02),
        removal=Removal(removal[2] & 0x3F) if known else None,
        removing=known and bool(removal[1] & 0x01),
        removal_interrupted=known and bool(removal[1] & 0x02),
        removal_seconds=_seconds(removal) if known else (),
        features=tuple(features),
    )


def discover_scsi(port: ScsiPort, timeout: float = 5.0) -> bytes:
    """Level 0 discovery of a SCSI drive, by SECURITY PROTOCOL IN (A2h).

    Raises CommandError when there is no reply, NotDiscovery when the drive has no security protocols.
    """
    cdb = bytes([0xA2, TCG_PROTOCOL]) + DISCOVERY_COMID.to_bytes(2, "big") + bytes(2)
    cdb += DISCOVERY_BYTES.to_bytes(4, "big") + bytes(2)
    return _data(port, cdb, timeout)


def discover_ata(port: ScsiPort, timeout: float = 5.0) -> bytes:
    """The same of an ATA drive: TRUSTED RECEIVE (5Ch, PIO) by ATA PASS-THROUGH (16) (SAT-4 §12.2.2).

    COUNT is the transfer length in blocks of 512 bytes, FEATURE the protocol, LBA (23:8) the ComID.
    Raises as `discover_scsi` does.
    """
    cdb = bytearray(16)
    cdb[0], cdb[1], cdb[2] = 0x85, 4 << 1, 0x0E  # PIO data-in; T_DIR in, BYT_BLOK, length in COUNT
    cdb[4], cdb[6] = TCG_PROTOCOL, DISCOVERY_BYTES // 512
    cdb[10], cdb[12] = DISCOVERY_COMID & 0xFF, DISCOVERY_COMID >> 8
    cdb[14] = 0x5C
    return _data(port, bytes(cdb), timeout)


def discover_nvme(port: NvmePort, timeout: float = 5.0) -> bytes:
    """The same of an NVMe controller, by Security Receive (82h). Raises as `discover_scsi` does."""
    command = NvmeCommand(opcode=0x82, cdw10=TCG_PROTOCOL << 24 | DISCOVERY_COMID << 8, cdw11=DISCOVERY_BYTES)
    reply = port.admin(command, data_in=DISCOVERY_BYTES, timeout=timeout)
    if reply.status:
        raise NotDiscovery(f"Security Receive ended with status {reply.status:#x}")
    return reply.data


def answer(data: bytes) -> Answer:
    """The response as evidence, without the zeros after its end."""
    end = min(len(data), int.from_bytes(data[:4], "big") + 4)
    return Answer(name="TCG level 0 discovery", hex=data[:end].hex())


def revert_erases(seen: Discovery) -> str:
    """Why a revert would *not* be a cryptographic erase of the user's data; empty when it is one.

    Reverting the Admin SP eradicates the media encryption keys only where the Locking SP is not
    Manufactured-Inactive; from that state it leaves user data alone (Opal SSC 2.30 §5.1.2). Without
    media encryption the active data removal mechanism acts, which discovery does not name: it counts
    only where cryptographic erase is the single one supported.
    """
    if not seen.ssc:
        return "the drive has no TCG security subsystem"
    if not seen.locking_enabled and "Enterprise" not in seen.ssc:
        return "the Locking SP was never activated: a revert then leaves the user's data as it is"
    if seen.removal is not None and seen.removal != Removal.CRYPTO_ERASE and not seen.media_encryption:
        return f"a revert removes data by one of: {_listed(seen.removal)}; which one is not told"
    if not seen.media_encryption and seen.removal is None:
        return "the drive does not encrypt its media and does not say how a revert removes data"
    return ""


def ability(seen: Discovery) -> Ability:
    """What Technique.OPAL_REVERT can do here, through the kernel."""
    why = revert_erases(seen)
    if not why and not any(name in _KERNEL_SPEAKS for name in seen.ssc):
        why = f"the kernel opens sessions to Opal drives only, this one is {', '.join(seen.ssc)}"
    return Ability(technique=Technique.OPAL_REVERT, offered=not why, why=why)


def _data(port: ScsiPort, cdb: bytes, timeout: float) -> bytes:
    reply = port.scsi(cdb, data_in=DISCOVERY_BYTES, timeout=timeout)
    if reply.host:
        raise CommandError(f"the driver did not carry the command (host status {reply.host:#x})")
    if reply.status and not any(reply.data):
        raise NotDiscovery(f"the drive refused it (status {reply.status:#x}, sense {reply.sense.hex()})")
    return reply.data


def _descriptors(data: bytes) -> list[tuple[int, bytes]]:
    """(feature code, bytes after the four of the descriptor's head) of each whole descriptor."""
    found = []
    while len(data) >= _DESCRIPTOR:
        code, length = int.from_bytes(data[:2], "big"), data[3]
        if len(data) < _DESCRIPTOR + length:
            break
        if code:
            found.append((code, data[_DESCRIPTOR : _DESCRIPTOR + length]))
        data = data[_DESCRIPTOR + length :]
    return found


def _first_byte(data: bytes) -> int:
    return data[0] if data else 0


def _seconds(removal: bytes) -> tuple[int, ...]:
    """Seconds by mechanism: the format bit says units of 2 seconds (0) or 2 minutes (1); 0 is not reported."""
    found = []
    for bit in range(6):
        raw = removal[4 + 2 * bit : 6 + 2 * bit]
        value = int.from_bytes(raw, "big") if len(raw) == 2 else 0
        found.append(value * (120 if removal[3] >> bit & 1 else 2) if value else -1)
    return tuple(found)


def _listed(removal: Removal) -> str:
    return (
        ", ".join((one.name or "").lower().replace("_", " ") for one in Removal if one in removal) or "none"
    )
