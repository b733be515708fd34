"""A SCSI block device (SPC-5, SBC-4) with SANITIZE and FORMAT UNIT that take their time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lab.drives import faults as fault
from lab.drives import scsi_data as data_of
from lab.drives import scsi_wire as wire
from lab.drives.clock import Clock, RealClock
from lab.drives.eraser import DONE, FAILED, Eraser, Gone, Wait
from lab.drives.scsi_data import ScsiModel, sas_hdd, sas_ssd
from lab.drives.scsi_wire import CHECK_CONDITION, Completion
from lab.drives.store import StateFile, Store

__all__ = ["ScsiDrive", "ScsiModel", "sas_hdd", "sas_ssd"]

SANITIZE, FORMAT = 0x48, 0x04
READS, WRITES = frozenset({0x08, 0x28, 0xA8, 0x88}), frozenset({0x0A, 0x2A, 0xAA, 0x8A})
VERIFIES, SYNCS, WRITE_SAMES = frozenset({0x2F, 0x8F}), frozenset({0x35, 0x91}), frozenset({0x41, 0x93})
UNMAP, READ_CAPACITY_10, SERVICE_ACTION_IN = 0x42, 0x25, 0x9E
INQUIRY, REQUEST_SENSE, TEST_UNIT_READY, START_STOP = 0x12, 0x03, 0x00, 0x1B
MODE_SENSE_6, MODE_SENSE_10, MODE_SELECT_6, MODE_SELECT_10 = 0x1A, 0x5A, 0x15, 0x55
LOG_SENSE, REPORT_LUNS, MAINTENANCE_IN = 0x4D, 0xA0, 0xA3
MEDIA = READS | WRITES | VERIFIES | WRITE_SAMES | SYNCS | {UNMAP}
ALWAYS = frozenset(
    {
        INQUIRY,
        REQUEST_SENSE,
        REPORT_LUNS,
        MAINTENANCE_IN,
        LOG_SENSE,
        MODE_SENSE_6,
        MODE_SENSE_10,
        MODE_SELECT_6,
    }
)
"""Answered while a sanitize runs or after it failed (SBC-4 §4.11.2); everything else meets NOT READY."""
BLOCKS = (512, 520, 524, 528, 4096, 4160, 4224)
"""Logical block lengths that MODE SELECT followed by FORMAT UNIT can set."""


class Check(Exception):
    """The command ends with CHECK CONDITION and this code."""

    def __init__(self, code: wire.Code) -> None:
        super().__init__(str(code))
        self.code = code


class ScsiDrive:
    """A drive in the image `store`, remembering in `notes`, living by `clock`, with `faults` (names of faults.py).

    `command` ends a command or returns Wait (SANITIZE and FORMAT UNIT without IMMED); then `resume`. Both
    raise Gone when the drive vanished. `power_cut` is a cut and a restart; so is a new object over the same
    `store` and `notes`.
    """

    def __init__(
        self,
        store: Store,
        notes: StateFile,
        *,
        model: ScsiModel | None = None,
        clock: Clock | None = None,
        faults: Iterable[str] = (),
        durable: bool = False,
    ) -> None:
        self.model, self.store = model or sas_ssd(), store
        self.faults = fault.checked(faults, fault.SCSI)
        self.clock = clock or RealClock()
        self._notes, self._durable = notes, durable
        self.eraser = Eraser(store, self.clock, self.faults, durable=durable)
        self.kept = notes.load() or {}
        first = {"failed": None, "corrupt": False, "block": self.model.block, "next_block": self.model.block}
        for name, value in {**first, "descriptor": False, "write_cache": True}.items():
            self.kept.setdefault(name, value)
        for start, end in self.kept.get("unmapped", []):
            store.unmap(start, end - start)
        self._power_on()

    @property
    def sector_size(self) -> int:
        """Bytes in a logical block."""
        return int(self.kept["block"])

    @property
    def blocks(self) -> int:
        """Logical blocks that the drive says it has."""
        real = self.store.size // self.sector_size
        return real * 4 if fault.WRAPS_CAPACITY in self.faults else real

    @property
    def running(self) -> str:
        """ "sanitize", "format" or ""."""
        if not self.eraser.runs:
            return ""
        return "format" if self.eraser.kind == "format" else "sanitize"

    def power_cut(self) -> None:
        """The power goes and comes back: a sanitize goes on, a format leaves the medium corrupted."""
        self._settle()
        self.store.lose_cache()
        self._power_on()

    def _power_on(self) -> None:
        kept = self.kept.get("erase")
        if kept and fault.FORGETS in self.faults:
            kept = None
        elif kept and kept["kind"] == "format":
            self.kept["corrupt"], kept = True, None
        self.eraser.load(kept)
        self._stopped = False
        self._waiting = False
        self._result: Completion | None = None
        self._queued: tuple[bytes, bytes] | None = None
        self._save()

    def _save(self) -> None:
        self.kept["erase"] = self.eraser.kept()
        self.kept["unmapped"] = self.store.unmapped.as_list()
        self._notes.save(self.kept, durable=self._durable)

    # How a command goes through

    def command(self, cdb: bytes, data_out: bytes = b"") -> Completion | Wait:
        """Carry out one command; `data_out` is what the initiator sends with it."""
        self._settle()
        quick = cdb[0] in (REQUEST_SENSE, INQUIRY, TEST_UNIT_READY)
        if self._waiting and self.eraser.runs and not quick:
            self._queued = (cdb, data_out)
            return Wait(self.eraser.left())
        result = self._guarded(cdb.ljust(16, b"\0"), data_out)
        self._save()
        return Wait(self.eraser.left()) if self._waiting and self.eraser.runs and not quick else result

    def resume(self) -> Completion | Wait:
        """What has become of the command that was told to wait."""
        self._settle()
        if self.eraser.runs and self._waiting:
            return Wait(self.eraser.left())
        self._waiting = False
        if self._queued is not None:
            queued, self._queued = self._queued, None
            return self.command(*queued)
        ended, self._result = self._result, None
        return ended or Completion()

    def _guarded(self, cdb: bytes, data_out: bytes) -> Completion:
        try:
            self._admit(cdb)
            return self._dispatch(cdb, data_out)
        except Check as check:
            return self._fail(check.code)

    def _fail(self, code: wire.Code) -> Completion:
        busy = code in (wire.SANITIZE_RUNS, wire.FORMAT_RUNS)
        progress = int(self.eraser.fraction * 65536) if busy else None
        sense = wire.sense_data(code, descriptor=self.kept["descriptor"], progress=progress)
        return Completion(CHECK_CONDITION, sense)

    def _settle(self) -> None:
        if self.kept.get("gone"):
            raise Gone
        kind, what = self.eraser.kind, self.running
        try:
            ended = self.eraser.advance()
        except Gone:
            self.kept["gone"] = True
            self._save()
            raise
        if ended == DONE:
            self.kept.update(failed=None, corrupt=False)
            if kind == "format":
                self.kept["block"] = self.kept["next_block"]
        elif ended == FAILED:
            if what == "sanitize":
                self.kept["failed"] = {"ause": self.eraser.options["ause"]}
            else:
                self.kept["corrupt"] = True
            self._result = self._fail(wire.SANITIZE_FAILED if what == "sanitize" else wire.FORMAT_FAILED)
        if ended:
            self._save()

    def _condition(self) -> wire.Code | None:
        """Why the drive is not ready, if it is not."""
        if self.running:
            return wire.SANITIZE_RUNS if self.running == "sanitize" else wire.FORMAT_RUNS
        if self.kept["failed"] is not None:
            return wire.SANITIZE_FAILED
        if self.kept["corrupt"]:
            return wire.FORMAT_CORRUPTED
        return wire.STOPPED if self._stopped else None

    def _admit(self, cdb: bytes) -> None:
        """Raise Check for what the state of the drive does not let through."""
        op, code = cdb[0], self._condition()
        if self.running and fault.REFUSES_WHILE_BUSY in self.faults and op not in (INQUIRY, REPORT_LUNS):
            raise Check((wire.NOT_READY, 0x04, 0x07))
        if fault.LOCKED in self.faults and op in MEDIA | {SANITIZE, FORMAT}:
            raise Check(wire.NO_ACCESS_RIGHTS)
        if code is None or op in ALWAYS:
            return
        if fault.STALE_STATUS in self.faults and self.running and op != SANITIZE:
            return
        capacity = op == READ_CAPACITY_10 or (op == SERVICE_ACTION_IN and cdb[1] & 0x1F == 0x10)
        if fault.CAPACITY_ZERO in self.faults and self.running and (capacity or op in READS | SYNCS):
            return
        leave = {
            wire.SANITIZE_FAILED: {SANITIZE},
            wire.FORMAT_CORRUPTED: {
                SANITIZE,
                FORMAT,
                MODE_SELECT_10,
                START_STOP,
                READ_CAPACITY_10,
                SERVICE_ACTION_IN,
            },
            wire.STOPPED: {START_STOP, READ_CAPACITY_10, SERVICE_ACTION_IN, MODE_SELECT_10},
        }
        if op not in leave.get(code, set()):
            raise Check(code)

    def _dispatch(self, cdb: bytes, data_out: bytes) -> Completion:
        op = cdb[0]
        simple: dict[int, Callable[[bytes], Completion]] = {
            TEST_UNIT_READY: lambda _: Completion(),
            REQUEST_SENSE: self._request_sense,
            INQUIRY: self._inquiry,
            READ_CAPACITY_10: self._capacity,
            SERVICE_ACTION_IN: self._capacity,
            MODE_SENSE_6: self._mode_sense,
            MODE_SENSE_10: self._mode_sense,
            START_STOP: self._start_stop,
            LOG_SENSE: self._log_sense,
            MAINTENANCE_IN: self._maintenance_in,
            REPORT_LUNS: lambda c: Completion(
                data=_cut(bytes([0, 0, 0, 8]) + bytes(12), int.from_bytes(c[6:10], "big"))
            ),
        }
        if op in simple:
            return simple[op](cdb)
        if op in READS | WRITES | VERIFIES:
            return self._read_write(cdb, data_out)
        if op in SYNCS:
            self.store.flush()
            if self._durable:
                self.store.sync()
            return Completion()
        if op in WRITE_SAMES:
            return self._write_same(cdb, data_out)
        if op == UNMAP and self.model.thin:
            return self._unmap(data_out[: int.from_bytes(cdb[7:9], "big")])
        if op in (MODE_SELECT_6, MODE_SELECT_10):
            return self._mode_select(cdb, data_out)
        if op == SANITIZE:
            return self._sanitize(cdb, data_out)
        if op == FORMAT:
            return self._format(cdb, data_out)
        raise Check(wire.INVALID_OPCODE)

    # What the drive says of itself

    def _serial(self) -> bytes:
        serial = fault.other(self.model.serial) if self.kept.get("renamed") else self.model.serial
        return fault.garble(serial) if fault.GARBLED_SERIAL in self.faults else serial.encode()

    def _inquiry(self, cdb: bytes) -> Completion:
        length = int.from_bytes(cdb[3:5], "big")
        if not cdb[1] & 1:
            if cdb[2]:
                raise Check(wire.INVALID_FIELD_IN_CDB)
            model = self.model
            return Completion(
                data=_cut(wire.standard_inquiry(model.vendor, model.product, model.revision), length)
            )
        page = data_of.vpd_page(self.model, cdb[2], self._serial())
        if page is None:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        return Completion(data=_cut(page, length))

    def _request_sense(self, cdb: bytes) -> Completion:
        """The state as sense data with GOOD status (SPC-5 §6.39): progress while something runs."""
        if self.running and fault.REFUSES_WHILE_BUSY in self.faults:
            raise Check((wire.NOT_READY, 0x04, 0x07))
        code = self._condition() or wire.NONE
        if self.running and fault.STALE_STATUS in self.faults:
            code = wire.NONE
        progress = (
            int(self.eraser.fraction * 65536) if code in (wire.SANITIZE_RUNS, wire.FORMAT_RUNS) else None
        )
        return Completion(
            data=_cut(wire.sense_data(code, descriptor=bool(cdb[1] & 1), progress=progress), cdb[4])
        )

    def _capacity(self, cdb: bytes) -> Completion:
        last = self.blocks - 1
        if fault.CAPACITY_ZERO in self.faults and self.running:
            last = (1 << 64) - 1  # and one more is 0
        if cdb[0] == READ_CAPACITY_10:
            return Completion(data=wire.capacity_10(last, self.sector_size))
        if cdb[1] & 0x1F != 0x10:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        model = self.model
        data = wire.capacity_16(last, self.sector_size, exponent=model.exponent, provisioned=model.thin)
        return Completion(data=_cut(data, int.from_bytes(cdb[10:14], "big")))

    def _mode_sense(self, cdb: bytes) -> Completion:
        """Mode data (SPC-5 §6.14): header, one short block descriptor unless DBD, pages."""
        control, page = cdb[2] >> 6, cdb[2] & 0x3F
        if control == 3:
            raise Check(wire.SAVING_UNSUPPORTED)
        pages = b""
        if cdb[3] in (0x00, 0xFF):
            changed = {"write_cache": self.kept["write_cache"], "descriptor": self.kept["descriptor"]}
            chosen = changed if control == 0 else {"write_cache": True, "descriptor": False}
            pages = data_of.mode_pages(page, **chosen, changeable=control == 1)
        if not pages:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        described = b"" if cdb[1] & 0x08 else wire.capacity_10(self.blocks, self.sector_size)
        if cdb[0] == MODE_SENSE_6:
            head = bytes([3 + len(described) + len(pages), 0, 0x10, len(described)])
            return Completion(data=_cut(head + described + pages, cdb[4]))
        head = (6 + len(described) + len(pages)).to_bytes(2, "big") + bytes([0, 0x10, 0, 0])
        head += len(described).to_bytes(2, "big")
        return Completion(data=_cut(head + described + pages, int.from_bytes(cdb[7:9], "big")))

    def _mode_select(self, cdb: bytes, data_out: bytes) -> Completion:
        """Block length for the next FORMAT UNIT, write cache, format of sense data (SPC-5 §6.12)."""
        six = cdb[0] == MODE_SELECT_6
        if not data_out:
            return Completion()
        described = data_out[3] if six else int.from_bytes(data_out[6:8], "big")
        at = 4 if six else 8
        if described >= 8:
            block = int.from_bytes(data_out[at + 5 : at + 8], "big")
            if block and block not in BLOCKS:
                raise Check(wire.INVALID_FIELD_IN_PARAMETERS)
            self.kept["next_block"] = block or self.sector_size
        at += described
        while at + 2 <= len(data_out):
            page, length = data_out[at] & 0x3F, data_out[at + 1]
            if page == 0x08 and length >= 1:
                self.kept["write_cache"] = bool(data_out[at + 2] & 0x04)
            elif page == 0x0A and length >= 1:
                self.kept["descriptor"] = bool(data_out[at + 2] & 0x04)
            elif page not in (0x01, 0x1C):
                raise Check(wire.INVALID_FIELD_IN_PARAMETERS)
            at += 2 + length
        return Completion()

    def _log_sense(self, cdb: bytes) -> Completion:
        page = data_of.log_page(self.model, cdb[2] & 0x3F) if not cdb[3] else None
        if page is None:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        return Completion(data=_cut(page, int.from_bytes(cdb[7:9], "big")))

    def _maintenance_in(self, cdb: bytes) -> Completion:
        if cdb[1] & 0x1F != 0x0C:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        claimed = self.model.sanitize | ({"crypto"} if fault.WRONG_CAPABILITIES in self.faults else set())
        table = data_of.commands(self.model, frozenset(claimed))
        data = data_of.supported_operation_codes(self.model, table, cdb)
        if data is None:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        return Completion(data=_cut(data, int.from_bytes(cdb[6:10], "big")))

    def _start_stop(self, cdb: bytes) -> Completion:
        if not cdb[4] >> 4:
            self._stopped = not cdb[4] & 0x01
        return Completion()

    # The medium

    def _places(self, lba: int, count: int) -> list[tuple[int, int]]:
        """Where blocks lie: (offset, length) in bytes; more than one piece when addresses wrap."""
        if lba + count > self.blocks:
            raise Check(wire.OUT_OF_RANGE)
        size, real, pieces = self.sector_size, self.store.size // self.sector_size, []
        while count:
            at = lba % real
            here = min(count, real - at)
            pieces.append((at * size, here * size))
            lba, count = lba + here, count - here
        return pieces

    def _read_write(self, cdb: bytes, data_out: bytes) -> Completion:
        if cdb[0] in READS and self.running and fault.CAPACITY_ZERO in self.faults:
            return Completion()
        places = self._places(*wire.address(cdb))
        if cdb[0] in VERIFIES:
            if cdb[1] & 0x06:
                raise Check(wire.INVALID_FIELD_IN_CDB)
            return Completion()
        if cdb[0] in READS:
            return Completion(data=b"".join(self.store.read(at, length) for at, length in places))
        if len(data_out) < sum(length for _, length in places):
            raise Check(wire.PARAMETER_LENGTH)
        self._write(places, data_out)
        return Completion()

    def _write(self, places: list[tuple[int, int]], data_out: bytes) -> None:
        if fault.DROPS_WRITES in self.faults:
            return
        done = 0
        for at, length in places:
            self.store.write(at, data_out[done : done + length])
            done += length

    def _write_same(self, cdb: bytes, data_out: bytes) -> Completion:
        """WRITE SAME (10) and (16) (SBC-4 §5.49): 0 blocks mean up to the end; UNMAP deallocates."""
        lba, count = wire.address(cdb)
        places = self._places(lba, count or self.blocks - lba)
        unit = bytes(self.sector_size)
        if not (cdb[0] == 0x93 and cdb[1] & 0x01):
            unit = data_out[: self.sector_size]
        if len(unit) != self.sector_size:
            raise Check(wire.PARAMETER_LENGTH)
        if fault.DROPS_WRITES in self.faults:
            return Completion()
        for at, length in places:
            if cdb[1] & 0x08 and self.model.thin and not any(unit):
                self.store.unmap(at, length)
                continue
            for piece in range(at, at + length, self.sector_size * 2048):
                self.store.write(piece, unit * min(2048, (at + length - piece) // self.sector_size))
        return Completion()

    def _unmap(self, parameters: bytes) -> Completion:
        """UNMAP (SBC-4 §5.35): descriptors of 16 bytes after a header of 8."""
        places = []
        for at in range(8, len(parameters) - 15, 16):
            lba = int.from_bytes(parameters[at : at + 8], "big")
            places += self._places(lba, int.from_bytes(parameters[at + 8 : at + 12], "big"))
        if fault.DROPS_WRITES not in self.faults:
            for offset, length in places:
                self.store.unmap(offset, length)
        return Completion()

    # Erases

    def _begin(self, kind: str, *, immediate: bool, **how: object) -> Completion:
        if fault.CHANGES_SERIAL in self.faults:
            self.kept["renamed"] = True
        if fault.DOES_NOTHING in self.faults:
            return Completion()
        self.eraser.begin(kind, end=self.store.size, **how)  # type: ignore[arg-type]
        self._waiting, self._result = not immediate, None
        return Completion()

    def _sanitize(self, cdb: bytes, data_out: bytes) -> Completion:
        """SANITIZE (SBC-4 §5.30): IMMED byte 1 bit 7, AUSE bit 5, service action bits 4:0."""
        action, ause = cdb[1] & 0x1F, bool(cdb[1] & 0x20)
        length = int.from_bytes(cdb[7:9], "big")
        failed = self.kept["failed"]
        if action == data_of.EXIT_FAILURE_MODE and self.model.sanitize:
            if length or (failed is not None and not failed["ause"]):
                raise Check(wire.INVALID_FIELD_IN_CDB)
            self.kept["failed"] = None
            return Completion()
        names = {number: name for name, number in data_of.SANITIZE_ACTIONS.items()}
        name = names.get(action, "")
        if not self.model.sanitize and fault.WRONG_CAPABILITIES not in self.faults:
            raise Check(wire.INVALID_OPCODE)
        if name not in self.model.sanitize or (name == "crypto" and fault.WRONG_CAPABILITIES in self.faults):
            raise Check(wire.INVALID_FIELD_IN_CDB)
        if failed is not None and not failed["ause"] and ause:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        patterns = None
        if name == "overwrite":
            patterns = self._passes(data_out[:length], length)
        elif length:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        self.kept["failed"] = None if fault.DOES_NOTHING not in self.faults else failed
        return self._begin(
            name,
            immediate=bool(cdb[1] & 0x80),
            seconds=self.model.sanitize_seconds,
            patterns=patterns,
            crypto=name == "crypto",
            options={"ause": ause},
        )

    def _passes(self, parameters: bytes, length: int) -> list[bytes]:
        """The pattern of each pass (SBC-4 §5.30.2): with INVERT every other one is turned, the last is not."""
        if not 4 < length <= self.sector_size + 4 or len(parameters) < length:
            raise Check(wire.INVALID_FIELD_IN_CDB)
        passes, invert = parameters[0] & 0x1F, bool(parameters[0] & 0x80)
        wanted = int.from_bytes(parameters[2:4], "big")
        pattern = parameters[4 : 4 + wanted]
        if not passes or not pattern or len(pattern) != wanted or parameters[0] & 0x60:
            raise Check(wire.INVALID_FIELD_IN_PARAMETERS)
        unit = (pattern * -(-self.sector_size // len(pattern)))[: self.sector_size]
        turned = bytes(byte ^ 0xFF for byte in unit)
        return [turned if invert and (passes - 1 - number) % 2 else unit for number in range(passes)]

    def _format(self, cdb: bytes, data_out: bytes) -> Completion:
        """FORMAT UNIT (SBC-4 §5.4): without an initialization pattern every block is filled with zeros."""
        immediate, pattern = False, b""
        if cdb[1] & 0x10:
            wide = bool(cdb[1] & 0x20)
            if len(data_out) < (8 if wide else 4):
                raise Check(wire.PARAMETER_LENGTH)
            flags = data_out[1]
            immediate = bool(flags & 0x02)
            if flags & 0x08:
                described = data_out[8:] if wide else data_out[4:]
                wanted = int.from_bytes(described[2:4], "big")
                pattern = described[4 : 4 + wanted]
                if described[1:2] not in (b"\x00", b"\x01") or len(pattern) != wanted:
                    raise Check(wire.INVALID_FIELD_IN_PARAMETERS)
        size = self.kept["next_block"]
        patterns = [(pattern * -(-size // len(pattern)))[:size]] if pattern else None
        return self._begin(
            "format", immediate=immediate, seconds=self.model.format_seconds, patterns=patterns
        )


def _cut(data: bytes, length: int) -> bytes:
    """No more than the allocation length."""
    return data[:length]
