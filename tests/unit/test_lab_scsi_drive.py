"""The simulated SCSI drive does what SPC-5 and SBC-4 say, and each fault what its name says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from expunge_agent.commands.port import CommandTimeout, DriveGone, ScsiReply
from lab.drives import faults as fault
from lab.drives.clock import RealClock, VirtualClock
from lab.drives.eraser import DONE, RUNNING, Eraser
from lab.drives.ports import SimulatedPort
from lab.drives.scsi import ScsiDrive, ScsiModel, sas_hdd, sas_ssd
from lab.drives.store import StateFile, Store

SIZE = 4 << 20
BLOCKS = SIZE // 512
TUR = bytes(6)
SENSE = bytes([0x03, 0, 0, 0, 252, 0])
READ_0 = bytes([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0])


class Bench:
    """A drive full of 0x4B behind a port, with its clock."""

    def __init__(self, folder: Path, *faults: str, model: ScsiModel | None = None) -> None:
        self.clock = VirtualClock()
        self.store = Store(folder / "medium", SIZE)
        self.store.put(0, b"K" * SIZE)
        self.notes, self.model, self.faults = folder / "state", model or sas_ssd(), faults
        self.restart()

    def restart(self) -> None:
        """The same drive in a new process."""
        self.drive = ScsiDrive(
            self.store, StateFile(self.notes), model=self.model, clock=self.clock, faults=self.faults
        )
        self.port = SimulatedPort(self.drive, self.clock)

    def __call__(self, cdb: bytes, data_out: bytes = b"", data_in: int = 0, timeout: float = 20) -> ScsiReply:
        return self.port.scsi(cdb, data_in=data_in, data_out=data_out, timeout=timeout)

    def sanitize(self, action: int, data: bytes = b"", flags: int = 0x80, timeout: float = 20) -> ScsiReply:
        cdb = bytes([0x48, flags | action, 0, 0, 0, 0, 0]) + len(data).to_bytes(2, "big") + b"\0"
        return self(cdb, data, timeout=timeout)

    def code(self, reply: ScsiReply | None = None) -> bytes:
        """Sense key, code and qualifier of a reply in fixed format, or of REQUEST SENSE."""
        sense = reply.sense if reply else self(SENSE, data_in=252).data
        return bytes([sense[2] & 0x0F, sense[12], sense[13]])

    def progress(self) -> int:
        data = self(SENSE, data_in=252).data
        return int.from_bytes(data[16:18], "big") if data[15] & 0x80 else -1

    def left(self) -> int:
        """Bytes of the medium that are as they were."""
        return self.store.physical(0, SIZE).count(b"K" * 512) * 512


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *faults, **how: Bench(tmp_path, *faults, **how)


def test_inquiry_and_pages(bench: Callable[..., Bench]) -> None:
    made = bench()
    data = made(bytes([0x12, 0, 0, 0, 255, 0]), data_in=255).data
    assert (len(data), data[4] + 5, data[8:16], data[2]) == (96, 96, b"EXPUNGE ", 7)
    pages = made(bytes([0x12, 1, 0, 0, 255, 0]), data_in=255).data[4:]
    for page in pages:
        found = made(bytes([0x12, 1, page, 0, 255, 0]), data_in=255).data
        assert (found[1], len(found)) == (page, 4 + int.from_bytes(found[2:4], "big"))
    assert made.code(made(bytes([0x12, 1, 0xCC, 0, 255, 0]), data_in=255)) == b"\x05\x24\x00"
    assert made(bytes([0x12, 1, 0x80, 0, 255, 0]), data_in=255).data[4:] == b"ZC1LAB000042"


def test_capacity_modes_logs(bench: Callable[..., Bench]) -> None:
    made = bench(model=sas_ssd(block=4096))
    long = made(bytes([0x9E, 0x10]) + bytes(8) + bytes([0, 0, 0, 32, 0, 0]), data_in=32).data
    assert (int.from_bytes(long[:8], "big"), int.from_bytes(long[8:12], "big")) == (SIZE // 4096 - 1, 4096)
    assert long[14] & 0xC0 == 0xC0
    caching = made(bytes([0x1A, 8, 0x08, 0, 255, 0]), data_in=255).data
    assert (caching[0] + 1, caching[3], caching[4:7]) == (len(caching), 0, b"\x08\x12\x04")
    assert made(bytes([0x4D, 0, 0x4D, 0, 0, 0, 0, 0, 255, 0]), data_in=255).data[9] == 34
    codes = made(bytes([0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]), data_in=4096).data
    rows = {(codes[at], codes[at + 3]) for at in range(4, len(codes), 8)}
    assert {(0x48, 1), (0x48, 2), (0x48, 3), (0x48, 0x1F)} <= rows
    one = made(bytes([0xA3, 0x0C, 2, 0x48, 0, 3, 0, 0, 1, 0, 0, 0]), data_in=255).data
    assert (one[1] & 7, one[3], one[4]) == (3, 10, 0x48)
    assert (
        bench(model=sas_hdd())(bytes([0xA3, 0x0C, 2, 0x48, 0, 3, 0, 0, 1, 0, 0, 0]), data_in=255).data[1] & 7
        == 1
    )


def test_reads_and_writes_of_every_length(bench: Callable[..., Bench]) -> None:
    made = bench()
    at = {
        6: lambda op: bytes([op, 0, 0, 7, 1, 0]),
        10: lambda op: bytes([op, 0, 0, 0, 0, 7, 0, 0, 1, 0]),
        12: lambda op: bytes([op, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0]),
        16: lambda op: bytes([op, 0]) + (7).to_bytes(8, "big") + bytes([0, 0, 0, 1, 0, 0]),
    }
    for length, write, read in ((6, 0x0A, 0x08), (10, 0x2A, 0x28), (12, 0xAA, 0xA8), (16, 0x8A, 0x88)):
        data = bytes([length]) * 512
        assert made(at[length](write), data).status == 0
        assert made(at[length](read), data_in=512).data == data
    beyond = bytes([0x28, 0]) + BLOCKS.to_bytes(4, "big") + bytes([0, 0, 1, 0])
    assert made.code(made(beyond, data_in=512)) == b"\x05\x21\x00"


def test_unmap_and_write_same(bench: Callable[..., Bench]) -> None:
    made = bench()
    parameters = (
        bytes([0, 22, 0, 16, 0, 0, 0, 0]) + (8).to_bytes(8, "big") + (8).to_bytes(4, "big") + bytes(4)
    )
    assert made(bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]), parameters).status == 0
    assert made(bytes([0x28, 0, 0, 0, 0, 8, 0, 0, 1, 0]), data_in=512).data == bytes(512)
    assert made.left() == SIZE  # UNMAP erases nothing
    assert made(bytes([0x93, 0]) + bytes(14), b"W" * 512).status == 0  # 0 blocks: all of them
    assert made.store.physical(0, SIZE).count(b"W") == SIZE


@pytest.mark.parametrize(("action", "data"), [(2, b""), (3, b""), (1, bytes([1, 0, 0, 1, 0x5A]))])
def test_a_sanitize_goes_on_in_the_background(bench: Callable[..., Bench], action: int, data: bytes) -> None:
    made = bench()
    assert made.sanitize(action, data).status == 0
    made.clock.pause(30)
    assert made.code() == b"\x02\x04\x1b"
    assert (made.progress(), made.left()) == (0x4000, SIZE * 3 // 4)
    for cdb in (
        TUR,
        READ_0,
        bytes([0x25]) + bytes(9),
        bytes([0x04]) + bytes(5),
        bytes([0x48, 0x83]) + bytes(8),
    ):
        assert made.code(made(cdb, data_in=512)) == b"\x02\x04\x1b"
    made.clock.pause(90)
    assert (made.code(), made(TUR).status, made.left()) == (b"\0\0\0", 0, 0)
    first = made(READ_0, data_in=512).data
    assert first == {1: b"\x5a" * 512, 2: bytes(512)}.get(action, first)


def test_progress_in_descriptor_format(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.sanitize(2)
    made.clock.pause(60)
    data = made(bytes([0x03, 1, 0, 0, 252, 0]), data_in=252).data
    assert (data[0], data[1:4], data[8:].hex()) == (0x72, b"\x02\x04\x1b", "0206000080800000")


@pytest.mark.parametrize(
    ("count", "last"), [(1, 0x5A), (0x82, 0x5A), (0x83, 0x5A)]
)  # SBC-4: the last pass is the pattern
def test_an_overwrite_with_several_passes(bench: Callable[..., Bench], count: int, last: int) -> None:
    made = bench()
    assert made.sanitize(1, bytes([count, 0, 0, 1, 0x5A])).status == 0
    made.clock.pause(120)
    assert made(READ_0, data_in=512).data == bytes([last]) * 512


@pytest.mark.parametrize(
    "data", [b"", bytes([0, 0, 0, 1, 0]), bytes([1, 0, 0, 9, 0]), bytes([1, 0, 0, 0, 0])]
)
def test_bad_overwrite_parameters(bench: Callable[..., Bench], data: bytes) -> None:
    made = bench()
    assert made.code(made.sanitize(1, data))[0] == 5
    assert made.left() == SIZE


def test_a_sanitize_without_immed_is_waited_for(bench: Callable[..., Bench]) -> None:
    made = bench()
    assert made.sanitize(2, flags=0, timeout=1000).status == 0
    assert (made.clock.now(), made.left()) == (120, 0)
    with pytest.raises(CommandTimeout):
        made.sanitize(2, flags=0, timeout=60)
    assert made.code() == b"\x02\x04\x1b"


@pytest.mark.parametrize("ause", [0, 0x20])
def test_a_failed_sanitize_is_left_as_ause_says(bench: Callable[..., Bench], ause: int) -> None:
    made = bench(fault.FAILS_AT_40)
    made.sanitize(2, flags=0x80 | ause)
    made.clock.pause(60)
    for _ in range(2):
        assert made.code() == made.code(made(TUR)) == made.code(made(READ_0, data_in=512)) == b"\x03\x31\x03"
        made.drive.power_cut()
    assert 0.5 < made.left() / SIZE < 0.7
    out = made.sanitize(0x1F, flags=0)
    assert (out.status, made.code()) == ((0, b"\0\0\0") if ause else (2, b"\x03\x31\x03"))
    if not ause:
        assert made.code(out) == b"\x05\x24\x00"
        assert made.code(made.sanitize(2, flags=0xA0)) == b"\x05\x24\x00"


@pytest.mark.parametrize("restart", ["cut", "process"])
def test_a_sanitize_survives_a_power_cut(bench: Callable[..., Bench], restart: str) -> None:
    made = bench()
    made.sanitize(3)
    made.clock.pause(60)
    made(TUR)
    if restart == "cut":
        made.drive.power_cut()
    else:
        made.restart()
    assert made.progress() == 0x8000
    made.clock.pause(60)
    assert (made(TUR).status, made.left()) == (0, 0)


def test_format_unit(bench: Callable[..., Bench]) -> None:
    made = bench()
    select = bytes([0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x10, 0])
    assert made(bytes([0x15, 0x10, 0, 0, 12, 0]), select).status == 0
    assert made(bytes([0x04, 0x10, 0, 0, 0, 0]), bytes([0, 2, 0, 0])).status == 0
    made.clock.pause(150)
    assert (made.code(), made.progress(), made.left()) == (b"\x02\x04\x04", 0x8000, SIZE // 2)
    made.clock.pause(150)
    assert (made(TUR).status, made.left()) == (0, 0)
    assert made(bytes([0x25]) + bytes(9), data_in=8).data[4:] == (4096).to_bytes(4, "big")


def test_a_format_that_is_cut_leaves_the_medium_corrupted(bench: Callable[..., Bench]) -> None:
    made = bench()
    made(bytes([0x04, 0x10, 0, 0, 0, 0]), bytes([0, 2, 0, 0]))
    made.clock.pause(150)
    made.drive.power_cut()
    assert made.code(made(READ_0, data_in=512)) == made.code() == b"\x03\x31\x00"
    assert made(bytes([0x04, 0, 0, 0, 0, 0]), timeout=1000).status == 0
    assert (made(TUR).status, made.left()) == (0, 0)


@pytest.mark.parametrize(
    ("name", "left"),
    [(fault.LIES_SUCCESS, SIZE), (fault.DOES_NOTHING, SIZE), (fault.LEAVES_TAIL, SIZE // 16)],
)
def test_erases_that_are_not(bench: Callable[..., Bench], name: str, left: int) -> None:
    made = bench(name)
    assert made.sanitize(2).status == 0
    assert made.code() == (b"\0\0\0" if name == fault.DOES_NOTHING else b"\x02\x04\x1b")
    made.clock.pause(120)
    assert (made.code(), made(TUR).status, made.left()) == (b"\0\0\0", 0, left)


def test_a_stale_status_says_idle_at_once(bench: Callable[..., Bench]) -> None:
    made = bench(fault.STALE_STATUS)
    made.sanitize(2)
    made.clock.pause(60)
    assert (made.code(), made(TUR).status, made.left()) == (b"\0\0\0", 0, SIZE // 2)


def test_a_drive_that_never_ends_and_one_that_forgets(bench: Callable[..., Bench]) -> None:
    made = bench(fault.STUCK_AT_99)
    made.sanitize(2)
    made.clock.pause(9999)
    assert (made.code(), made.progress()) == (b"\x02\x04\x1b", int(0.99 * 65536))
    made = bench(fault.FORGETS)
    made.clock.pause(9999)
    made.drive.power_cut()
    assert (made.code(), made(TUR).status) == (b"\0\0\0", 0)


def test_refusals(bench: Callable[..., Bench], tmp_path: Path) -> None:
    made = bench(fault.REFUSES_WHILE_BUSY)
    made.sanitize(2)
    assert made.code(made(SENSE, data_in=252)) == made.code(made(TUR)) == b"\x02\x04\x07"
    folder = tmp_path / "locked"
    folder.mkdir()
    made = Bench(folder, fault.LOCKED)
    assert made.code(made(READ_0, data_in=512)) == made.code(made.sanitize(3)) == b"\x07\x20\x02"


def test_wrong_capabilities_and_serials(bench: Callable[..., Bench]) -> None:
    made = bench(fault.WRONG_CAPABILITIES, fault.GARBLED_SERIAL, fault.CHANGES_SERIAL, model=sas_hdd())
    one = made(bytes([0xA3, 0x0C, 2, 0x48, 0, 3, 0, 0, 1, 0, 0, 0]), data_in=255).data
    assert one[1] & 7 == 3
    assert made.code(made.sanitize(3)) == b"\x05\x24\x00"
    before = made(bytes([0x12, 1, 0x80, 0, 255, 0]), data_in=255).data[4:]
    assert not before.decode("latin-1").isprintable()
    made.sanitize(1, bytes([1, 0, 0, 1, 0]))
    assert made(bytes([0x12, 1, 0x80, 0, 255, 0]), data_in=255).data[4:] != before


def test_writes_that_vanish_and_addresses_that_wrap(bench: Callable[..., Bench]) -> None:
    made = bench(fault.WRAPS_CAPACITY, fault.DROPS_WRITES)
    assert made(bytes([0x25]) + bytes(9), data_in=8).data[:4] == (4 * BLOCKS - 1).to_bytes(4, "big")
    last = bytes([0x28, 0]) + (4 * BLOCKS - 1).to_bytes(4, "big") + bytes([0, 0, 1, 0])
    assert made(last, data_in=512).data == b"K" * 512
    assert made(bytes([0x2A]) + last[1:], b"A" * 512).status == 0
    assert made.left() == SIZE


def test_capacity_zero_and_a_drive_that_vanishes(bench: Callable[..., Bench], tmp_path: Path) -> None:
    made = bench(fault.CAPACITY_ZERO)
    made.sanitize(2)
    long = made(bytes([0x9E, 0x10]) + bytes(8) + bytes([0, 0, 0, 32, 0, 0]), data_in=32).data
    assert int.from_bytes(long[:8], "big") + 1 == 1 << 64
    reply = made(READ_0, data_in=512)
    assert (reply.status, reply.residual) == (0, 512)
    folder = tmp_path / "gone"
    folder.mkdir()
    made = Bench(folder, fault.DISAPPEARS)
    made.sanitize(2)
    made.clock.pause(61)
    with pytest.raises(DriveGone):
        made(TUR)
    assert made.left() == SIZE // 2


def test_an_erase_is_on_the_medium_before_it_is_over(tmp_path: Path) -> None:
    """Else a crash of the machine that runs the simulator could bring old data back after the drive said "done"."""
    settled = []

    class Watched(Store):
        def sync(self) -> None:
            settled.append(self.physical(0, 4))
            super().sync()

    store, clock = Watched(tmp_path / "medium", SIZE), VirtualClock()
    store.put(0, b"data" * (SIZE // 4))
    eraser = Eraser(store, clock, frozenset(), durable=True)
    eraser.begin("block", seconds=10, end=SIZE)
    assert eraser.advance() == RUNNING and not settled
    clock.pause(10)
    assert eraser.advance() == DONE
    assert settled == [bytes(4)] and eraser.kept() is None
    store.close()


def test_a_drives_clock_can_be_hastened() -> None:
    clock = RealClock()
    before = clock.now()
    clock.go(1e6)
    clock.pause(10)
    assert clock.now() - before >= 10
