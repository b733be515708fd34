"""SCSI commands: built, sent, and their ends told apart (SPC-5 §6, SBC-4 §5; statuses SAM-5 §5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from expunge_agent.commands import scsi_pages as pages
from expunge_agent.commands import sense as sensing
from expunge_agent.commands.port import CommandError, ScsiPort, ScsiReply
from expunge_agent.commands.sense import Sense
from expunge_agent.core.drive import Answer

GOOD, CHECK_CONDITION = 0x00, 0x02
_STATUSES = {
    0x08: "busy",
    0x18: "reserved by another host",
    0x28: "task set full",
    0x40: "task aborted",
}


class Refused(Exception):  # noqa: N818 - an end
    """The drive ended a command with CHECK CONDITION; ``sense`` says why."""

    def __init__(self, what: str, sense: Sense, raw: bytes) -> None:
        super().__init__(f"{what}: {sense.words}")
        self.sense = sense
        self.answer = Answer(name=f"{what} sense", hex=raw.hex())

    @property
    def may_have_begun(self) -> bool:
        """Whether the command may have had an effect before it ended: so after a medium or hardware error or
        an abort; not when the drive calls it illegal, is not ready for it, or is protected against it."""
        return self.sense.key not in (sensing.ILLEGAL, sensing.NOT_READY, sensing.PROTECT)


def send(
    port: ScsiPort, what: str, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
) -> ScsiReply:
    """Send `cdb`; return a reply with status GOOD. A unit attention is let pass and the command sent again:
    it was not begun (SAM-5 §5.14). Raises Refused, CommandError."""
    last = ""
    for _ in range(5):
        reply = port.scsi(cdb, data_in=data_in, data_out=data_out, timeout=timeout)
        if reply.status == GOOD:
            return reply
        if reply.status != CHECK_CONDITION:
            raise CommandError(f"{what}: {_STATUSES.get(reply.status, f'status {reply.status:02X}h')}")
        said = sensing.parse(reply.sense)
        if said is None:
            raise CommandError(f"{what}: the drive reports a condition but gives no sense data")
        if said.key == sensing.RECOVERED and not said.deferred:
            return reply
        if said.key != sensing.ATTENTION and not said.deferred:
            raise Refused(what, said, reply.sense)
        last = said.words
    raise CommandError(f"{what}: the drive reports one unit attention after another ({last})")


def fetch(port: ScsiPort, what: str, cdb: bytes, length: int, timeout: float = 20.0) -> bytes:
    """The data of a command that reads `length` bytes at most. Raises Refused, CommandError."""
    reply = send(port, what, cdb, data_in=length, timeout=timeout)
    return reply.data[: length - max(0, reply.residual)]


# --- What describes the drive ---


def inquiry(port: ScsiPort) -> bytes:
    """INQUIRY, 12h (SPC-5 §6.7): standard data, 96 bytes asked."""
    return fetch(port, "INQUIRY", bytes([0x12, 0, 0, 0, 96, 0]), 96)


def vpd(port: ScsiPort, page: int, length: int = 252) -> bytes:
    """INQUIRY with EVPD (SPC-5 §7.7): vital product data `page`."""
    cdb = bytes([0x12, 1, page, *length.to_bytes(2, "big"), 0])
    return fetch(port, f"VPD page {page:02X}h", cdb, length)


def read_capacity16(port: ScsiPort) -> bytes:
    """READ CAPACITY(16), 9Eh/10h (SBC-4 §5.21)."""
    cdb = bytes([0x9E, 0x10, *bytes(8), 0, 0, 0, 32, 0, 0])
    return fetch(port, "READ CAPACITY(16)", cdb, 32)


def read_capacity10(port: ScsiPort) -> bytes:
    """READ CAPACITY(10), 25h (SBC-4 §5.20)."""
    return fetch(port, "READ CAPACITY(10)", bytes([0x25, *bytes(9)]), 8)


def test_unit_ready(port: ScsiPort) -> Sense | None:
    """TEST UNIT READY, 00h (SPC-5 §6.47): None when it is, else why not. Raises CommandError."""
    try:
        send(port, "TEST UNIT READY", bytes(6))
    except Refused as refused:
        return refused.sense
    return None


test_unit_ready.__test__ = False  # type: ignore[attr-defined]  # the name is the standard's, not a test's


def request_sense(port: ScsiPort, *, descriptor: bool = False) -> bytes:
    """REQUEST SENSE, 03h (SPC-5 §6.39): pollable sense data, of the descriptor format where asked.

    Raises Refused, CommandError."""
    return fetch(port, "REQUEST SENSE", bytes([0x03, int(descriptor), 0, 0, 252, 0]), 252)


def mode_sense(port: ScsiPort, page: int = 0x3F) -> bytes:
    """MODE SENSE(6), 1Ah (SPC-5 §6.14), no block descriptors."""
    return fetch(port, "MODE SENSE", bytes([0x1A, 0x08, page, 0, 252, 0]), 252)


def log_sense(port: ScsiPort, page: int) -> bytes:
    """LOG SENSE, 4Dh (SPC-5 §6.8): cumulative values of `page`."""
    cdb = bytes([0x4D, 0, 0x40 | page, 0, 0, 0, 0, 0x02, 0x00, 0])
    return fetch(port, f"LOG SENSE page {page:02X}h", cdb, 512)


def supported_operation(port: ScsiPort, opcode: int, action: int | None = None) -> bytes:
    """REPORT SUPPORTED OPERATION CODES, A3h/0Ch (SPC-5 §6.35): one command, with its timeouts (RCTD)."""
    options = 0x80 | (0x01 if action is None else 0x02)
    cdb = bytes([0xA3, 0x0C, options, opcode, 0, action or 0, 0, 0, 0x01, 0x00, 0, 0])
    return fetch(port, "REPORT SUPPORTED OPERATION CODES", cdb, 256)


def support(port: ScsiPort, opcode: int, action: int | None = None) -> pages.Support:
    """What the drive says of one command; not known where it does not report. Raises CommandError."""
    try:
        return pages.read_support(supported_operation(port, opcode, action))
    except (Refused, sensing.Garbled):
        return pages.Support(known=False, supported=False)


def write_protected(port: ScsiPort) -> bool:
    """Whether MODE SENSE says so; False where the drive does not tell. Raises CommandError."""
    try:
        return pages.read_write_protect(mode_sense(port))
    except (Refused, sensing.Garbled):
        return False


# --- What destroys ---


class SanitizeAction(IntEnum):
    """Service actions of SANITIZE (SBC-4 §5.29)."""

    OVERWRITE = 0x01
    BLOCK_ERASE = 0x02
    CRYPTO_ERASE = 0x03
    EXIT_FAILURE_MODE = 0x1F


def sanitize_cdb(
    action: SanitizeAction,
    *,
    immediate: bool = True,
    ause: bool = True,
    znr: bool = False,
    parameters: int = 0,
) -> bytes:
    """SANITIZE, 48h (SBC-4 §5.29). AUSE: a failed operation may be left by EXIT FAILURE MODE; ZNR: zones
    keep their write pointers."""
    flags = immediate << 7 | znr << 6 | ause << 5 | action
    return bytes([0x48, flags, 0, 0, 0, 0, 0, *parameters.to_bytes(2, "big"), 0])


def overwrite_parameters(pattern: bytes, *, count: int = 1, invert: bool = False) -> bytes:
    """Parameter list of an overwrite (SBC-4 §5.29.2.2): 1 to 31 passes, a pattern of one logical block at most."""
    return bytes([invert << 7 | count & 0x1F, 0, *len(pattern).to_bytes(2, "big")]) + pattern


def format_unit(*, protection: int = 0) -> tuple[bytes, bytes]:
    """FORMAT UNIT, 04h (SBC-4 §5.4): CDB and short parameter list header with IMMED.

    FMTDATA is set so that IMMED can be given; no defect list. `protection`: the type of protection
    information (0 to 3) to keep (SBC-4 §5.4.2, table 48)."""
    info, usage = {0: (0, 0), 1: (2, 0), 2: (3, 0), 3: (3, 1)}[protection]
    return bytes([0x04, info << 6 | 0x10, 0, 0, 0, 0]), bytes([usage, 0x02, 0, 0])


# --- How far it is ---


class Readiness(StrEnum):
    """What the drive is doing."""

    READY = "ready"
    SANITIZING = "sanitizing"
    FORMATTING = "formatting"
    SANITIZE_FAILED = "sanitize failed"
    FORMAT_FAILED = "format failed"
    NOT_READY = "not ready"


@dataclass(frozen=True)
class Condition:
    """``ppm``: progress in parts per million, −1 where not told; ``words``: the drive's reason, or empty."""

    readiness: Readiness
    ppm: int = -1
    words: str = ""
    answer: Answer | None = None


def condition(port: ScsiPort) -> Condition:
    """Ask REQUEST SENSE, then TEST UNIT READY: either alone lets a running or failed operation go unseen on
    some drives. Raises CommandError."""
    polled: Sense | None = None
    answer: Answer | None = None
    try:
        for _ in range(5):
            raw = request_sense(port)
            polled, answer = sensing.parse(raw), Answer(name="REQUEST SENSE", hex=raw.hex())
            if polled is None or polled.key != sensing.ATTENTION:
                break
    except Refused as refused:
        polled, answer = refused.sense, refused.answer
    if polled is not None:
        known = _known(polled)
        if known is not None:
            return Condition(known, polled.ppm, polled.words, answer)
    waits = test_unit_ready(port)
    if waits is None:
        return Condition(Readiness.READY, answer=answer)
    return Condition(_known(waits) or Readiness.NOT_READY, waits.ppm, waits.words, answer)


def _known(said: Sense) -> Readiness | None:
    if said.code == sensing.SANITIZE_RUNNING:
        return Readiness.SANITIZING
    if said.code == sensing.FORMAT_RUNNING:
        return Readiness.FORMATTING
    if said.code == sensing.SANITIZE_FAILED:
        return Readiness.SANITIZE_FAILED
    if said.code in sensing.FORMAT_FAILED:
        return Readiness.FORMAT_FAILED
    return None
