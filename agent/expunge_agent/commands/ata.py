"""ATA commands through a SCSI port: ATA PASS-THROUGH(16) and (12), and what comes back (SAT-4 §12.2).

Success is what the drive's own registers say where they came back, not that the transport ended well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from expunge_agent.commands import sense as sensing
from expunge_agent.commands.port import CommandError, NoPassThrough, ScsiPort, ScsiReply
from expunge_agent.commands.sense import AtaRegisters, Sense
from expunge_agent.core.drive import Answer

BLOCK = 512
"""Bytes that one of a transfer counts, with T_TYPE zero."""


class Protocol(IntEnum):
    """PROTOCOL field (SAT-4 §12.2.2.2, table 149)."""

    NON_DATA = 3
    PIO_IN = 4
    PIO_OUT = 5
    DMA = 6
    RESPONSE = 15
    """Return the registers of the last command."""


@dataclass(frozen=True)
class AtaCommand:
    """An ATA command's inputs (ACS-3 §7). ``extended``: of the 48-bit kind. ``blocks``: of 512 bytes."""

    command: int
    name: str
    protocol: Protocol = Protocol.NON_DATA
    features: int = 0
    count: int = 0
    lba: int = 0
    device: int = 0
    extended: bool = False
    blocks: int = 0


@dataclass(frozen=True)
class AtaReply:
    """How an ATA command ended. ``registers`` None: the translation did not hand them on.

    ``ok``: ended without an error, as far as the registers tell, or without them the SCSI status.
    """

    name: str
    ok: bool
    registers: AtaRegisters | None
    sense: Sense | None
    raw: bytes
    data: bytes = b""

    @property
    def words(self) -> str:
        """One line for a person: what the drive said."""
        if self.registers is not None and not self.ok:
            bits = [text for bit, text in _ERRORS if self.registers.error & bit]
            fault = ["device fault"] if self.registers.status & 0x20 else []
            why = ", ".join([*fault, *bits]) or "no reason"
            return (
                f"{self.name}: {why} (status {self.registers.status:02X}h, error {self.registers.error:02X}h)"
            )
        if self.sense is not None and not self.ok:
            return f"{self.name}: {self.sense.words}"
        return f"{self.name}: ended well"

    def answer(self) -> Answer:
        """The bytes as they came: the data, or else the sense with the registers."""
        return Answer(name=self.name, hex=(self.data or self.raw).hex())

    def need(self) -> AtaRegisters:
        """The registers. Raises NoPassThrough where the translation keeps them to itself."""
        if self.registers is None:
            raise NoPassThrough(f"{self.name}: the bridge does not hand on the drive's registers")
        return self.registers


_ERRORS = (
    (0x80, "interface error"),
    (0x40, "uncorrectable"),
    (0x10, "address not found"),
    (0x04, "aborted"),
)


class _OpcodeRefused(NoPassThrough):
    """The operation code of the pass-through command itself is not known."""


class Ata:
    """An ATA drive behind `port`, which must be a disk (A1h means BLANK to an optical drive).

    Falls back to the 12-byte command where the 16-byte one is not known and the ATA command fits.
    """

    def __init__(self, port: ScsiPort) -> None:
        self.port = port
        self.short = False

    def run(self, command: AtaCommand, *, data_out: bytes = b"", timeout: float = 20.0) -> AtaReply:
        """Send `command`, with `data_out` (whole blocks) for PIO_OUT; `timeout` in seconds.

        Raises NoPassThrough where the command is not carried, CommandError where there is no answer.
        """
        if not self.short:
            try:
                return self._send(cdb16(command), command, data_out, timeout)
            except _OpcodeRefused:
                if command.extended:
                    raise
                self.short = True
        return self._send(cdb12(command), command, data_out, timeout)

    def _send(self, cdb: bytes, command: AtaCommand, data_out: bytes, timeout: float) -> AtaReply:
        data_in = command.blocks * BLOCK if command.protocol is Protocol.PIO_IN else 0
        for _ in range(4):
            reply = self.port.scsi(cdb, data_in=data_in, data_out=data_out, timeout=timeout)
            said = sensing.parse(reply.sense)
            # A unit attention says that something happened before, and that this command was not begun.
            if not (reply.status == 2 and said is not None and said.key == sensing.ATTENTION):
                break
        return read(reply, command, data_in)


def read(reply: ScsiReply, command: AtaCommand, data_in: int = 0) -> AtaReply:
    """The ATA command's end from the SCSI reply. Raises NoPassThrough, CommandError, Garbled."""
    said = sensing.parse(reply.sense)
    registers = sensing.ata_registers(reply.sense)
    data = reply.data[: max(0, len(reply.data) - reply.residual)] if reply.residual > 0 else reply.data
    if reply.status == 0:
        ok = registers is None or registers.ok
    elif reply.status == 2:
        ok = _ended_well(said, registers, command)
    else:
        raise CommandError(f"{command.name}: SCSI status {reply.status:02X}h")
    if ok and len(data) < data_in:
        raise sensing.Garbled(f"{command.name}: {len(data)} of {data_in} bytes came")
    return AtaReply(command.name, ok, registers, said, reply.sense, data)


def _ended_well(said: Sense | None, registers: AtaRegisters | None, command: AtaCommand) -> bool:
    """What CHECK CONDITION means: with CK_COND it comes after success too."""
    if said is None:
        raise CommandError(f"{command.name}: the drive reports a condition but gives no sense data")
    if registers is not None:
        return registers.ok and said.key in (sensing.NO_SENSE, sensing.RECOVERED)
    if said.key == sensing.ILLEGAL and said.asc == 0x20:
        raise _OpcodeRefused(f"{command.name}: the bridge does not know ATA pass-through ({said.words})")
    if said.key == sensing.ILLEGAL and said.asc in (0x24, 0x26):
        raise NoPassThrough(f"{command.name}: the bridge does not carry this ATA command ({said.words})")
    return said.key in (sensing.NO_SENSE, sensing.RECOVERED)


def cdb16(command: AtaCommand) -> bytes:
    """ATA PASS-THROUGH(16), 85h (SAT-4 §12.2.4). An upper byte stands before its lower one, LBA included."""
    lba = command.lba.to_bytes(6, "little")
    count = _count(command)
    return bytes(
        [
            0x85,
            command.protocol << 1 | command.extended,
            _transfer(command),
            command.features >> 8 & 0xFF,
            command.features & 0xFF,
            count >> 8 & 0xFF,
            count & 0xFF,
            lba[3],
            lba[0],
            lba[4],
            lba[1],
            lba[5],
            lba[2],
            command.device,
            command.command,
            0,
        ]
    )


def cdb12(command: AtaCommand) -> bytes:
    """ATA PASS-THROUGH(12), A1h (SAT-4 §12.2.3). Raises NoPassThrough for a 48-bit command."""
    if command.extended:
        raise NoPassThrough(f"{command.name}: the bridge carries no 48-bit commands")
    lba = command.lba.to_bytes(6, "little")
    return bytes(
        [
            0xA1,
            command.protocol << 1,
            _transfer(command),
            command.features & 0xFF,
            _count(command) & 0xFF,
            lba[0],
            lba[1],
            lba[2],
            command.device,
            command.command,
            0,
            0,
        ]
    )


def _count(command: AtaCommand) -> int:
    """The COUNT field, which with T_LENGTH 2 also tells the translation how much data there is."""
    return command.count or command.blocks


def _transfer(command: AtaCommand) -> int:
    """Byte 2: CK_COND (bit 5), T_DIR (3), BYTE_BLOCK (2), T_LENGTH (1:0) (SAT-4 §12.2.2.2).

    The registers are asked for where no data comes: some bridges lose data asked for with CK_COND.
    """
    if command.protocol in (Protocol.NON_DATA, Protocol.RESPONSE):
        return 0x20
    direction = 0x08 if command.protocol is Protocol.PIO_IN else 0x00
    return direction | 0x04 | 0x02
