"""SCSI / ATA translation (SAT-4) over an AtaDrive: ATA PASS-THROUGH, and SCSI commands of a disk."""

from __future__ import annotations

from dataclasses import dataclass

from lab.drives import ata_words, scsi_data
from lab.drives import scsi_wire as wire
from lab.drives.ata import AtaDrive, Result, TaskFile
from lab.drives.ata_core import ABRT, ERROR, FAULT, IDNF
from lab.drives.eraser import Wait
from lab.drives.scsi import READS, SYNCS, VERIFIES, WRITES, Check
from lab.drives.scsi_wire import CHECK_CONDITION, Completion

DESCRIPTOR = "descriptor"
"""Registers in an ATA Status Return descriptor (09h), as SAT wants it."""
FIXED = "fixed"
"""Fixed-format sense with registers in the INFORMATION and COMMAND-SPECIFIC INFORMATION fields (SAT-4 §12.2.2.7)."""
FIXED_ERRORS = "fixed-errors"
"""Descriptors after success, FIXED after an error: Linux' libata today."""
FIXED_AT_8 = "fixed-at-8"
"""The same, with the registers of an error from byte 8 on, against every standard: libata up to 6.1 at least."""
VARIANTS = (DESCRIPTOR, FIXED, FIXED_ERRORS, FIXED_AT_8)

PASS_THROUGH = {0xA1: 12, 0x85: 16}
NON_DATA, PIO_IN, PIO_OUT, DMA, UDMA_IN, UDMA_OUT = 3, 4, 5, 6, 10, 11
INFORMATION = (wire.RECOVERED, 0x00, 0x1D)
"""ATA PASS-THROUGH INFORMATION AVAILABLE."""


@dataclass(frozen=True)
class _Asked:
    """What a pass-through CDB asks for beside the task file."""

    task: TaskFile
    report: bool
    data_in: bool
    length: int


class SatDrive:
    """An AtaDrive as a SCSI disk. `command` and `resume` like those of ScsiDrive.

    `sense`: how registers come back (VARIANTS). `pass_through` False: a bridge that knows neither of the two
    commands. `short`: it knows only the 12 byte one. `libata`: it knows nothing of sanitizing, as Linux'
    libata; a read in the middle of it is then ABORTED COMMAND instead of NOT READY.
    """

    def __init__(
        self,
        ata: AtaDrive,
        *,
        sense: str = DESCRIPTOR,
        pass_through: bool = True,
        short: bool = False,
        libata: bool = False,
    ) -> None:
        if sense not in VARIANTS:
            raise ValueError(f"sense is one of {', '.join(VARIANTS)}")
        self.ata, self.sense, self._libata = ata, sense, libata
        self._carried = {code for code in PASS_THROUGH if pass_through and not (short and code == 0x85)}
        self._asked: _Asked | None = None
        self._queued: tuple[bytes, bytes] | None = None

    @property
    def store(self):  # type: ignore[no-untyped-def]
        """The medium of the drive."""
        return self.ata.store

    @property
    def sector_size(self) -> int:
        return self.ata.core.model.sector

    @property
    def blocks(self) -> int:
        return self.ata.now().sectors

    def power_cut(self) -> None:
        """The power goes and comes back."""
        self._asked = None
        self.ata.power_cut()

    def command(self, cdb: bytes, data_out: bytes = b"") -> Completion | Wait:
        """Carry out one SCSI command."""
        try:
            return self._dispatch(cdb.ljust(16, b"\0"), data_out)
        except Check as check:
            return self._fail(check.code)

    def resume(self) -> Completion | Wait:
        """What has become of the command that was told to wait."""
        result = self.ata.resume()
        if isinstance(result, Wait):
            return result
        if self._asked is None:
            return self._translated(result)
        return self._passed(result, self._asked)

    def _fail(self, code: wire.Code, *, progress: int | None = None) -> Completion:
        descriptor = self.sense == DESCRIPTOR
        return Completion(CHECK_CONDITION, wire.sense_data(code, descriptor=descriptor, progress=progress))

    # ATA PASS-THROUGH

    def _pass(self, cdb: bytes, data_out: bytes) -> Completion | Wait:
        self._asked = asked = self._parse(cdb)
        result = self.ata.execute(asked.task, b"" if asked.data_in else data_out)
        return result if isinstance(result, Wait) else self._passed(result, asked)

    def _parse(self, cdb: bytes) -> _Asked:
        """The fields of ATA PASS-THROUGH (12) or (16) (SAT-4 §12.2.2, §12.2.3)."""
        protocol, flags = cdb[1] >> 1 & 0x0F, cdb[2]
        if protocol not in (NON_DATA, PIO_IN, PIO_OUT, DMA, UDMA_IN, UDMA_OUT):
            raise Check(wire.INVALID_FIELD_IN_CDB)
        ext = False
        if cdb[0] == 0xA1:
            feature, count, device, command = cdb[3], cdb[4], cdb[8], cdb[9]
            lba = cdb[5] | cdb[6] << 8 | cdb[7] << 16
        else:
            ext = bool(cdb[1] & 1)
            feature, count, device, command = cdb[4], cdb[6], cdb[13], cdb[14]
            lba = cdb[8] | cdb[10] << 8 | cdb[12] << 16
            if ext:
                feature, count = feature | cdb[3] << 8, count | cdb[5] << 8
                lba |= cdb[7] << 24 | cdb[9] << 32 | cdb[11] << 40
        if not ext:
            lba |= (device & 0x0F) << 24
        data_in = bool(flags & 0x08)
        length = self._length(flags, feature, count)
        if protocol == NON_DATA:
            if flags & 0x03:
                raise Check(wire.INVALID_FIELD_IN_CDB)
            length = 0
        elif not flags & 0x03 or data_in != (protocol in (PIO_IN, UDMA_IN) or (protocol == DMA and data_in)):
            raise Check(wire.INVALID_FIELD_IN_CDB)
        task = TaskFile(command, feature, count, lba, device, ext)
        return _Asked(task, bool(flags & 0x20), data_in, length)

    def _length(self, flags: int, feature: int, count: int) -> int:
        """Bytes to move: T_LENGTH says where the number is, BYT_BLOK and T_TYPE its unit."""
        where = flags & 0x03
        number = {0: 0, 1: feature, 2: count, 3: -1}[where]
        if number < 0:
            return 1 << 30  # the transport knows
        if not flags & 0x04:
            return number
        return number * (self.sector_size if flags & 0x10 else 512)

    def _passed(self, result: Result, asked: _Asked) -> Completion:
        data = result.data[: asked.length] if asked.data_in else b""
        if result.status & (ERROR | FAULT):
            return Completion(CHECK_CONDITION, self._registers(_mapped(result), result, asked.task.ext), data)
        if asked.report:
            return Completion(CHECK_CONDITION, self._registers(INFORMATION, result, asked.task.ext), data)
        return Completion(data=data)

    def _registers(self, code: wire.Code, result: Result, ext: bool) -> bytes:
        """Sense data with the registers in it."""
        lba, count = result.lba, result.count
        mixed = self.sense in (FIXED_ERRORS, FIXED_AT_8) and code == INFORMATION
        if self.sense == DESCRIPTOR or mixed:
            high = (count >> 8, lba >> 24 & 0xFF, lba >> 32 & 0xFF, lba >> 40 & 0xFF) if ext else (0, 0, 0, 0)
            low = (count & 0xFF, lba & 0xFF, lba >> 8 & 0xFF, lba >> 16 & 0xFF)
            pairs = bytes(value for pair in zip(high, low, strict=True) for value in pair)
            back = bytes([0x09, 0x0C, int(ext), result.error]) + pairs + bytes([result.device, result.status])
            return wire.sense_data(code, descriptor=True, more=back)
        upper = (0x80 if ext else 0) | (0x40 if count >> 8 else 0) | (0x20 if lba >> 24 else 0)
        first = bytes([result.error, result.status, result.device, count & 0xFF])
        second = bytes([upper, lba & 0xFF, lba >> 8 & 0xFF, lba >> 16 & 0xFF])
        fixed = bytearray(wire.sense_data(code).ljust(20, b"\0"))
        if self.sense != FIXED_AT_8:
            fixed[0] |= 0x80
            fixed[3:7], fixed[8:12] = first, second
            return bytes(fixed[:18])
        fixed[8:12], fixed[16:20] = first, second  # bytes 12 to 15 keep the sense code
        return bytes(fixed)

    # The commands of a disk

    def _dispatch(self, cdb: bytes, data_out: bytes) -> Completion | Wait:
        op = cdb[0]
        if op in self._carried:
            return self._pass(cdb, data_out)
        if op in READS | WRITES | VERIFIES | SYNCS:
            return self._media(cdb, data_out)
        if op == 0x00:
            if code := self._condition():
                return self._fail(code, progress=self._progress())
            return Completion()
        if op == 0x03:
            sense = wire.sense_data(
                self._condition() or wire.NONE, descriptor=bool(cdb[1] & 1), progress=self._progress()
            )
            return Completion(data=sense[: cdb[4]])
        if op == 0x12:
            return self._inquiry(cdb)
        if op == 0x25:
            last = (self.blocks or 1 << 64) - 1
            return Completion(data=wire.capacity_10(last, self.sector_size))
        if op == 0x9E and cdb[1] & 0x1F == 0x10:
            return self._capacity_16(cdb)
        if op in (0x1A, 0x5A):
            return self._mode_sense(cdb)
        if op == 0xA0:
            return Completion(data=(bytes([0, 0, 0, 8]) + bytes(12))[: int.from_bytes(cdb[6:10], "big")])
        if op == 0x1B:
            return Completion()
        if op == 0x93 and cdb[1] & 0x08:
            return self._write_same(cdb)
        raise Check(wire.INVALID_OPCODE)

    def _condition(self) -> wire.Code | None:
        """SAT-4 §8.12: a sanitize that runs or failed shows in TEST UNIT READY."""
        self.ata.settle()
        if self._libata:
            return None
        if self.ata.sanitize.running:
            return wire.SANITIZE_RUNS
        return wire.SANITIZE_FAILED if self.ata.sanitize.failed else None

    def _progress(self) -> int | None:
        running = self.ata.sanitize.running and not self._libata
        return int(self.ata.core.eraser.fraction * 65536) if running else None

    def _identity(self) -> ata_words.Now:
        return self.ata.now()

    def _inquiry(self, cdb: bytes) -> Completion:
        model, length = self.ata.core.model, int.from_bytes(cdb[3:5], "big")
        if not cdb[1] & 1:
            revision = model.firmware[-4:].strip() or model.firmware[:4]
            data = wire.standard_inquiry("ATA", model.model, revision)
            return Completion(data=data[:length])
        serial = wire.text(self._identity().serial, 20)
        page = cdb[2]
        if page == 0x00:
            pages = [0x00, 0x80, 0x83, 0x89, 0xB0, 0xB1] + ([0xB2] if model.trim else [])
            data = wire.vpd(page, bytes(pages))
        elif page == 0x80:
            data = wire.vpd(page, serial)
        elif page == 0x83:
            named = wire.text("ATA", 8) + wire.text(model.model, 40) + serial
            data = wire.vpd(page, wire.designators(model.naa, text_form=named))
        elif page == 0x89:
            data = wire.vpd(page, self._information())
        elif page == 0xB1:
            data = wire.vpd(page, wire.block_device(model.rotation))
        elif page in (0xB0, 0xB2):
            as_scsi = scsi_data.ScsiModel(thin=model.trim)
            found = scsi_data.vpd_page(as_scsi, page, serial)
            if found is None:
                raise Check(wire.INVALID_FIELD_IN_CDB)
            data = found
            if page == 0xB2:
                data = data[:5] + bytes([0x44]) + data[6:]  # WRITE SAME (16) only: no UNMAP here
        else:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        return Completion(data=data[:length])

    def _information(self) -> bytes:
        """ATA Information (VPD 89h, SAT-4 §10.3.6): who translates, signature, IDENTIFY DEVICE data."""
        head = bytes(4) + wire.text("EXPUNGE", 8) + wire.text("LAB SAT", 16) + wire.text("0001", 4)
        signature = bytes([0x34, 0x00, 0x50, 0x01, 0x01, 0, 0, 0, 0, 0, 0, 0, 0x01] + [0] * 7)
        answer = self.ata.execute(TaskFile(0xEC))
        data = answer.data if isinstance(answer, Result) else b""
        return head + signature + bytes([0xEC, 0, 0, 0]) + data.ljust(512, b"\0")

    def _capacity_16(self, cdb: bytes) -> Completion:
        model = self.ata.core.model
        last = (self.blocks or 1 << 64) - 1
        data = wire.capacity_16(last, self.sector_size, exponent=model.exponent, provisioned=model.trim)
        return Completion(data=data[: int.from_bytes(cdb[10:14], "big")])

    def _mode_sense(self, cdb: bytes) -> Completion:
        pages = scsi_data.mode_pages(
            cdb[2] & 0x3F,
            write_cache=self._identity().write_cache,
            descriptor=self.sense == DESCRIPTOR,
            changeable=cdb[2] >> 6 == 1,
        )
        if not pages or cdb[3] not in (0x00, 0xFF):
            raise Check(wire.INVALID_FIELD_IN_CDB)
        if cdb[2] >> 6 == 3:
            raise Check(wire.SAVING_UNSUPPORTED)
        described = b"" if cdb[1] & 0x08 else wire.capacity_10(self.blocks, self.sector_size)
        if cdb[0] == 0x1A:
            data = bytes([3 + len(described) + len(pages), 0, 0x10, len(described)]) + described + pages
            return Completion(data=data[: cdb[4]])
        head = (6 + len(described) + len(pages)).to_bytes(2, "big") + bytes(
            [0, 0x10, 0, 0, 0, len(described)]
        )
        return Completion(data=(head + described + pages)[: int.from_bytes(cdb[7:9], "big")])

    def _media(self, cdb: bytes, data_out: bytes) -> Completion | Wait:
        if cdb[0] in SYNCS:
            return self._one(TaskFile(0xEA, ext=True))
        lba, count = wire.address(cdb)
        if self.blocks and lba + count > self.blocks:
            raise Check(wire.OUT_OF_RANGE)
        if not count:
            return Completion()
        if count > 65536:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        command = 0x25 if cdb[0] in READS else 0x35 if cdb[0] in WRITES else 0x42
        return self._one(TaskFile(command, count=count & 0xFFFF, lba=lba, ext=True), data_out)

    def _write_same(self, cdb: bytes) -> Completion | Wait:
        """WRITE SAME (16) with UNMAP as DATA SET MANAGEMENT (SAT-4 §9.25): 64 entries in each block of 512."""
        lba, count = wire.address(cdb)
        if not self.ata.core.model.trim or lba + count > self.blocks:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        entries = b""
        while count:
            here = min(count, 0xFFFF)
            entries += (lba | here << 48).to_bytes(8, "little")
            lba, count = lba + here, count - here
        blocks = -(-len(entries) // 512)
        return self._one(
            TaskFile(0x06, feature=1, count=blocks, ext=True), entries.ljust(blocks * 512, b"\0")
        )

    def _one(self, task: TaskFile, data_out: bytes = b"") -> Completion | Wait:
        self._asked = None
        if (code := self._condition()) and self.ata.now().sectors:
            return self._fail(code, progress=self._progress())
        result = self.ata.execute(task, data_out)
        return result if isinstance(result, Wait) else self._translated(result)

    def _translated(self, result: Result) -> Completion:
        if result.status & (ERROR | FAULT):
            return self._fail(_mapped(result))
        return Completion(data=result.data)


def _mapped(result: Result) -> wire.Code:
    """Sense code for an ATA error (SAT-4 §11.7)."""
    if result.status & FAULT:
        return (wire.HARDWARE_ERROR, 0x44, 0x00)
    if result.error & IDNF:
        return wire.OUT_OF_RANGE
    return (wire.ABORTED_COMMAND, 0x00, 0x00) if result.error & ABRT else (wire.MEDIUM_ERROR, 0x11, 0x00)
