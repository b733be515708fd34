"""The simulated ATA drive does what ACS-3, ATA8-ACS and SAT-4 say, and each fault what its name says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from expunge_agent.commands.port import CommandTimeout, DriveGone, ScsiReply
from lab.drives import faults as fault
from lab.drives import sat
from lab.drives.ata import AtaDrive, AtaModel, Result, TaskFile, hdd, ssd
from lab.drives.clock import VirtualClock
from lab.drives.eraser import Wait
from lab.drives.ports import SimulatedPort
from lab.drives.store import StateFile, Store

SIZE = 4 << 20
SECTORS = SIZE // 512
CRYPTO, BLOCK = (0x11, 0x43727970), (0x12, 0x426B4572)


class Bench:
    """A drive full of 0x4B, with its clock."""

    def __init__(self, folder: Path, *faults: str, model: AtaModel | None = None) -> None:
        self.clock = VirtualClock()
        self.store = Store(folder / "medium", SIZE)
        self.store.put(0, b"K" * SIZE)
        self.notes = folder / "state"
        self.model = model or ssd()
        self.faults = faults
        self.drive = self.again()

    def again(self) -> AtaDrive:
        """The same drive in a new process."""
        return AtaDrive(
            self.store, StateFile(self.notes), model=self.model, clock=self.clock, faults=self.faults
        )

    def __call__(self, command: int, data: bytes = b"", **fields: Any) -> Result:
        result = self.drive.execute(TaskFile(command, **fields), data)
        assert isinstance(result, Result)
        return result

    def sanitize(self, feature: int, lba: int = 0, count: int = 0) -> Result:
        return self(0xB4, feature=feature, lba=lba, count=count, ext=True)

    def word(self, number: int) -> int:
        return int.from_bytes(self(0xEC).data[2 * number : 2 * number + 2], "little")

    def left(self) -> int:
        """Bytes of the medium that are as they were."""
        return self.store.physical(0, SIZE).count(b"K" * 512) * 512

    def erase(
        self, password: bytes = b"pw", *, enhanced: bool = False, master: bool = False
    ) -> Result | Wait:
        assert not self(0xF3).error
        return self.drive.execute(TaskFile(0xF4), secret(password, master | enhanced << 1))


def secret(password: bytes, flags: int = 0) -> bytes:
    return (bytes([flags, 0]) + password.ljust(32, b"\0")).ljust(512, b"\0")


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *faults, **how: Bench(tmp_path, *faults, **how)


def test_identify_device(bench: Callable[..., Bench]) -> None:
    made = bench()
    data = made(0xEC).data
    assert (len(data), sum(data) & 0xFF, data[510]) == (512, 0, 0xA5)
    assert data[20:40] == b"5SSSXNR0214365      "
    assert made.word(100) | made.word(101) << 16 == SECTORS
    assert made.word(59) & 0xFC00 == 0xBC00  # block, crypto, the set, ACS-3 rules, antifreeze
    assert made.word(128) == 0x0021
    assert made.word(217) == 1
    assert (made.word(82) & 0x0402, made.word(119) & 0x0100) == (0x0402, 0)


def test_a_rotating_drive_has_overwrite_and_accessible_max_address(bench: Callable[..., Bench]) -> None:
    made = bench(model=hdd())
    assert made.word(59) & 0xF000 == 0x5000
    assert (made.word(217), made.word(119) & 0x0100, made.word(82) & 0x0400) == (7200, 0x0100, 0)


def test_reads_and_writes(bench: Callable[..., Bench]) -> None:
    made = bench()
    assert not made(0x35, b"A" * 1024, count=2, lba=SECTORS - 2, ext=True).error
    assert made(0x25, count=1, lba=SECTORS - 1, ext=True).data == b"A" * 512
    assert made(0xC8, count=1, lba=0).data == b"K" * 512
    assert made(0x25, count=2, lba=SECTORS - 1, ext=True).error == 0x10
    made(0x06, ((4 << 48) | 8).to_bytes(8, "little").ljust(512, b"\0"), feature=1, count=1, ext=True)
    assert made(0x25, count=4, lba=8, ext=True).data == bytes(2048)
    assert made.left() == SIZE - 1024  # TRIM erases nothing


def test_a_sanitize_goes_on_in_the_background(bench: Callable[..., Bench]) -> None:
    made = bench()
    idle = made.sanitize(0)
    assert (idle.count, idle.lba) == (0, 0xFFFF)
    assert made.sanitize(*BLOCK).count == 0x4000
    made.clock.pause(30)
    half = made.sanitize(0)
    assert (half.count, half.lba) == (0x4000, 0x4000)
    assert made.left() == SIZE * 3 // 4
    assert made(0x25, count=1, ext=True).error == 0x04
    assert not made(0xEC).error
    made.clock.pause(90)
    assert (made.sanitize(0).count, made.left()) == (0x8000, 0)
    assert made.store.physical(0, SIZE) == bytes(SIZE)


def test_a_crypto_scramble_leaves_noise(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.sanitize(*CRYPTO)
    made.clock.pause(120)
    assert made.sanitize(0).count == 0x8000
    assert (made.left(), made.store.physical(0, 4096).count(0) < 64) == (0, True)


@pytest.mark.parametrize(
    ("count", "ends"), [(0x01, 0x44), (0x82, 0xBB), (0xC2, 0x44), (0x83, 0x44), (0x00, 0x44), (0x80, 0xBB)]
)
def test_an_overwrite_ends_with_its_pattern_or_the_inverted_one(
    bench: Callable[..., Bench], count: int, ends: int
) -> None:
    made = bench(model=hdd())
    made.sanitize(0x14, lba=0x4F57 << 32 | 0x11223344, count=count)
    made.clock.pause(1200)
    assert (made.sanitize(0).count, made.left()) == (0x8000, 0)
    assert made.store.physical(SIZE - 512, 1)[0] == ends


@pytest.mark.parametrize("feature", [0x11, 0x12, 0x14, 0x20, 0x40])
def test_a_sanitize_command_without_its_key_is_aborted(bench: Callable[..., Bench], feature: int) -> None:
    made = bench(model=ssd(sanitize=frozenset({"crypto", "block", "overwrite"})))
    assert made.sanitize(feature, lba=0x12345678).error == 0x04
    assert made.left() == SIZE


def test_the_sanitize_freeze_lock(bench: Callable[..., Bench]) -> None:
    made = bench()
    assert made.sanitize(0x20, lba=0x46724C6B).count == 0x2000
    refused = made.sanitize(*BLOCK)
    assert (refused.error, refused.lba) == (0x04, 0x03)
    assert made.sanitize(0x40, lba=0x416E7469).lba == 0x03
    made.drive.power_cut()
    assert made.sanitize(0x40, lba=0x416E7469).count == 0x1000
    refused = made.sanitize(0x20, lba=0x46724C6B)
    assert (refused.error, refused.lba) == (0x04, 0x04)


@pytest.mark.parametrize("mode", [0, 0x10])
def test_a_failed_sanitize_is_left_by_the_failure_mode_policy_only(
    bench: Callable[..., Bench], mode: int
) -> None:
    made = bench(fault.FAILS_AT_40)
    made.sanitize(*BLOCK, count=mode)
    made.clock.pause(60)
    status = made.sanitize(0)
    assert (status.error, status.lba) == (0x04, 0x01)
    assert 0.5 < made.left() / SIZE < 0.7
    assert made(0x25, count=1, ext=True).error == 0x04
    made.drive.power_cut()
    assert made.sanitize(0).lba == 0x01
    cleared = made.sanitize(0, count=1)
    assert cleared.error == (0 if mode else 0x04)
    assert made(0x25, count=1, lba=SECTORS - 1, ext=True).error == (0 if mode else 0x04)
    assert made.sanitize(*BLOCK, count=0x10).error == (0 if mode else 0x04)


@pytest.mark.parametrize("restart", ["cut", "process"])
def test_a_sanitize_survives_a_power_cut(bench: Callable[..., Bench], restart: str) -> None:
    made = bench()
    made.sanitize(*BLOCK)
    made.clock.pause(60)
    if restart == "cut":
        made.drive.power_cut()
    else:
        made.sanitize(0)
        made.drive = made.again()
    assert made.sanitize(0).lba == 0x8000
    made.clock.pause(60)
    assert (made.sanitize(0).count, made.left()) == (0x8000, 0)
    made.drive.power_cut()
    assert made.sanitize(0).count == 0x8000


# Security


def test_the_security_states(bench: Callable[..., Bench]) -> None:
    made = bench()
    security = made.drive.security
    assert security.state == "SEC1"
    made(0xF1, secret(b"pw"))
    assert (security.state, made.word(128) & 0x07) == ("SEC5", 0x03)
    made(0xF5)
    assert (security.state, made(0xF6, secret(b"pw")).error) == ("SEC6", 0x04)
    made.drive.power_cut()
    assert (security.state, made(0x25, count=1, ext=True).error) == ("SEC4", 0x04)
    assert made(0x35, bytes(512), count=1, ext=True).error == 0x04
    assert made(0xF5).error == 0x04
    for _ in range(4):
        assert made(0xF2, secret(b"no")).error == 0x04
    assert made(0xF2, secret(b"pw")).error == 0
    assert (security.state, made(0xF6, secret(b"pw")).error) == ("SEC5", 0)
    assert (security.state, made.word(128) & 0x07) == ("SEC1", 0x01)


def test_five_wrong_passwords_close_the_drive_until_the_next_power_on(bench: Callable[..., Bench]) -> None:
    made = bench()
    made(0xF1, secret(b"pw"))
    made.drive.power_cut()
    for _ in range(5):
        made(0xF2, secret(b"no"))
    assert made.word(128) & 0x10
    assert made(0xF2, secret(b"pw")).error == 0x04
    assert isinstance(made.erase(), Result)
    made.drive.power_cut()
    assert made(0xF2, secret(b"pw")).error == 0


def test_the_master_password_unlocks_in_high_mode_only(bench: Callable[..., Bench]) -> None:
    made = bench()
    made(0xF1, secret(b"ma", 1))
    for maximum, error in ((0, 0), (1, 0x04)):
        data = bytearray(secret(b"pw"))
        data[1] = maximum
        made(0xF1, bytes(data))
        made.drive.power_cut()
        assert made(0xF2, secret(b"ma", 1)).error == error
    assert isinstance(made.erase(b"ma", master=True), Wait)  # an erase it may do


def test_security_erase_keeps_the_drive_busy_and_ends_unlocked(bench: Callable[..., Bench]) -> None:
    made = bench()
    made(0xF1, secret(b"pw"))
    assert made(0xF4, secret(b"pw")).error == 0x04  # not prepared
    waiting = made.erase()
    assert waiting == Wait(240)
    made.clock.pause(100)
    assert made.drive.execute(TaskFile(0xEC)) == Wait(140)
    made.clock.pause(140)
    assert isinstance(made.drive.resume(), Result)
    assert (made.drive.security.state, made.left()) == ("SEC1", 0)


@pytest.mark.parametrize("how", ["power", "fails"])
def test_a_security_erase_that_does_not_end_leaves_the_drive_locked(
    bench: Callable[..., Bench], how: str
) -> None:
    made = bench(*([fault.FAILS_AT_40] if how == "fails" else []))
    made(0xF1, secret(b"pw"))
    made.erase()
    made.clock.pause(120)
    if how == "power":
        made.drive.power_cut()
    else:
        result = made.drive.resume()
        assert isinstance(result, Result)
        assert (result.status & 1, result.error) == (1, 0x04)
    assert made.drive.security.state == "SEC4"
    assert 0 < made.left() < SIZE
    assert made(0x25, count=1, ext=True).error == 0x04
    assert made(0xF2, secret(b"pw")).error == 0


def test_a_frozen_drive_takes_no_password_until_it_slept(bench: Callable[..., Bench]) -> None:
    made = bench(fault.FROZEN)
    assert made.word(128) & 0x08
    assert made(0xF1, secret(b"pw")).error == 0x04
    made.drive.power_cut()
    assert made(0xF1, secret(b"pw")).error == 0x04
    made.drive.sleep()
    assert made(0xF1, secret(b"pw")).error == 0


def test_a_locked_drive_gives_nothing(bench: Callable[..., Bench]) -> None:
    made = bench(fault.LOCKED)
    assert made.word(128) & 0x07 == 0x07
    assert made(0x25, count=1, ext=True).error == made.sanitize(*CRYPTO).error == 0x04
    assert made(0xF2, secret(bytes(32))).error == 0x04
    assert made(0xB1, feature=0xC0).error == 0x04


# Hidden areas


def test_a_host_protected_area_is_left_right_after_asking_for_the_native_maximum(
    bench: Callable[..., Bench],
) -> None:
    made = bench()
    made.drive.hide(accessible=SECTORS - 100)
    assert made.word(100) == SECTORS - 100
    assert made(0x25, count=1, lba=SECTORS - 1, ext=True).error == 0x10
    assert made(0x37, lba=SECTORS - 1, count=1, ext=True).error == 0x04
    assert made(0xB1, feature=0xC0).error == 0x04  # DCO RESTORE: not with an HPA
    assert made(0x27, ext=True).lba == SECTORS - 1
    assert made(0x37, lba=SECTORS - 1, count=1, ext=True).error == 0
    assert made.word(100) == SECTORS
    made.drive.power_cut()
    assert made(0x25, count=1, lba=SECTORS - 1, ext=True).data == b"K" * 512


def test_a_volatile_maximum_is_forgotten(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.drive.hide(accessible=SECTORS - 100)
    made(0x27, ext=True)
    made(0x37, lba=SECTORS - 1, ext=True)
    assert made.word(100) == SECTORS
    made.drive.power_cut()
    assert made.word(100) == SECTORS - 100


def test_a_configuration_overlay_hides_from_the_native_maximum(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.drive.hide(configured=SECTORS - 64)
    assert made(0x27, ext=True).lba == SECTORS - 65
    data = made(0xB1, feature=0xC2).data
    assert (int.from_bytes(data[6:14], "little"), sum(data) & 0xFF) == (SECTORS - 1, 0)
    made(0xF1, secret(b"pw"))
    made.erase()
    made.clock.pause(240)
    assert isinstance(made.drive.resume(), Result)
    assert made.left() == 64 * 512  # a normal erase does not reach it
    assert made(0xB1, feature=0xC0).error == 0
    assert made(0x27, ext=True).lba == SECTORS - 1


def test_the_accessible_maximum_is_set_once_in_a_power_cycle(bench: Callable[..., Bench]) -> None:
    made = bench(model=hdd())
    made.drive.hide(accessible=1000)
    assert made(0x78, ext=True).lba == SECTORS - 1
    assert made(0x78, feature=1, lba=SECTORS - 1, ext=True).error == 0
    assert made.word(100) == SECTORS
    assert made(0x78, feature=1, lba=SECTORS - 1, ext=True).error == 0x04
    assert made(0x27, ext=True).error == 0x04  # no HPA here


@pytest.mark.parametrize(("name", "shown"), [(fault.HPA_LIES, SECTORS - 100), (fault.HPA_LIES_DEEP, SECTORS)])
def test_a_hidden_area_that_stays(bench: Callable[..., Bench], name: str, shown: int) -> None:
    made = bench(name)
    made.drive.hide(accessible=SECTORS - 100)
    made(0x27, ext=True)
    assert made(0x37, lba=SECTORS - 1, count=1, ext=True).error == 0
    assert made.word(100) == shown
    assert made(0x25, count=1, lba=SECTORS - 1, ext=True).error == 0x10


# Logs


def test_smart_and_logs(bench: Callable[..., Bench]) -> None:
    made = bench()
    assert made(0xB0, feature=0xDA, lba=0xC24F00).lba == 0xC24F00
    assert made(0xB0, feature=0xDA).error == 0x04
    data = made(0xB0, feature=0xD0, lba=0xC24F00, count=1).data
    rows = {data[at]: int.from_bytes(data[at + 5 : at + 11], "little") for at in range(2, 362, 12)}
    assert (rows[5], rows[194], sum(data) & 0xFF) == (3, 34, 0)
    listed = made(0x2F, lba=0x30, count=1, ext=True).data
    assert listed[8 : 9 + listed[8]] == bytes([5, 0, 1, 2, 5, 6])
    assert made(0x2F, lba=0x30 | 1 << 8, count=1, ext=True).data == made(0xEC).data
    capacity = made(0x2F, lba=0x30 | 2 << 8, count=1, ext=True).data
    assert int.from_bytes(capacity[8:16], "little") == 1 << 63 | SECTORS
    assert made(0x2F, lba=0x77, count=1, ext=True).error == 0x04


# Faults


@pytest.mark.parametrize(
    ("name", "status", "left"),
    [
        (fault.LIES_SUCCESS, 0x8000, SIZE),
        (fault.DOES_NOTHING, 0x0000, SIZE),
        (fault.STALE_STATUS, 0x8000, SIZE),
        (fault.LEAVES_TAIL, 0x8000, SIZE // 16),
        (fault.STUCK_AT_99, 0x4000, SIZE // 64),
    ],
)
def test_faulty_sanitizes(bench: Callable[..., Bench], name: str, status: int, left: int) -> None:
    made = bench(name)
    assert not made.sanitize(*BLOCK).error
    made.clock.pause(1000)
    assert made.sanitize(0).count == status
    assert left // 2 < made.left() <= left


def test_what_a_fault_says_of_capabilities_and_names(bench: Callable[..., Bench]) -> None:
    made = bench(fault.WRONG_CAPABILITIES, fault.GARBLED_SERIAL, fault.GARBLED_IDENTIFY)
    assert made.word(59) & 0x2000
    assert made.sanitize(*CRYPTO).error == 0x04
    data = made(0xEC).data
    assert sum(data) & 0xFF
    assert not data[20:40].decode("latin-1").isprintable()


def test_a_serial_that_changes(bench: Callable[..., Bench]) -> None:
    made = bench(fault.CHANGES_SERIAL)
    before = made(0xEC).data[20:40]
    made.sanitize(*BLOCK)
    assert made(0xEC).data[20:40] != before


def test_a_drive_that_forgets(bench: Callable[..., Bench]) -> None:
    made = bench(fault.FORGETS)
    made.sanitize(*BLOCK)
    made.clock.pause(60)
    made.drive.power_cut()
    assert made.sanitize(0).count == 0
    assert made.left() == SIZE // 2
    made(0xF1, secret(b"pw"))
    made.erase()
    made.drive.power_cut()
    assert made.drive.security.state == "SEC1"


def test_a_drive_that_refuses_while_busy(bench: Callable[..., Bench]) -> None:
    made = bench(fault.REFUSES_WHILE_BUSY)
    made.sanitize(*BLOCK)
    assert made.sanitize(0).error == made(0xEC).error == 0x04
    made.clock.pause(120)
    assert made.sanitize(0).count == 0x8000


def test_writes_that_vanish_and_addresses_that_wrap(bench: Callable[..., Bench]) -> None:
    made = bench(fault.WRAPS_CAPACITY)
    assert made.word(100) == SECTORS * 4
    made(0x35, b"A" * 1024, count=2, lba=SECTORS * 2 - 1, ext=True)
    assert (made.store.physical(0, 1), made.store.physical(SIZE - 1, 1)) == (b"A", b"A")
    made.faults = (fault.DROPS_WRITES,)
    made.drive = made.again()
    assert not made(0x35, b"B" * 512, count=1, lba=0, ext=True).error
    assert made.store.physical(0, 1) == b"A"


def test_a_fault_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such fault"):
        Bench(tmp_path, "locked-up")


# SCSI / ATA translation


def through(made: Bench, **how: Any) -> SimulatedPort:
    return SimulatedPort(sat.SatDrive(made.drive, **how), made.clock)


def pass_16(
    command: int, *, feature: int = 0, count: int = 0, lba: int = 0, how: int = 3, ck: bool = True
) -> bytes:
    way = {3: 0x00, 4: 0x0E, 5: 0x06}[how] | (0x20 if ck else 0)
    octets = lba.to_bytes(6, "little")
    cdb = [0x85, how << 1 | 1, way, feature >> 8, feature & 0xFF, count >> 8, count & 0xFF]
    for low in range(3):
        cdb += [octets[low + 3], octets[low]]
    return bytes([*cdb, 0x40, command, 0])


def test_registers_come_back_in_each_form(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.sanitize(*BLOCK)
    made.clock.pause(30)
    ask = pass_16(0xB4)
    sense = through(made).scsi(ask).sense
    assert (sense[0], sense[1], sense[2:4]) == (0x72, 0x01, b"\x00\x1d")
    assert sense[8:].hex() == "090c010040000000004000004050"
    fixed = through(made, sense=sat.FIXED).scsi(ask).sense
    assert (fixed[0], fixed[2], fixed[12:14]) == (0xF0, 0x01, b"\x00\x1d")
    assert (fixed[3:7].hex(), fixed[8:12].hex()) == ("00504000", "c0004000")
    for mixed in (sat.FIXED_ERRORS, sat.FIXED_AT_8):
        assert through(made, sense=mixed).scsi(ask).sense == sense
    wrong = pass_16(0xB4, feature=0x99)
    now = through(made, sense=sat.FIXED_ERRORS).scsi(wrong).sense
    assert (now[0], now[2], now[3:7].hex(), now[8:12].hex()) == (0xF0, 0x0B, "04514000", "80020000")
    old = through(made, sense=sat.FIXED_AT_8).scsi(wrong).sense
    assert (old[0], old[8:12].hex(), old[16:20].hex(), old[12:14]) == (0x70, "04514000", "80020000", b"\0\0")


def test_an_abort_is_an_aborted_command_with_its_registers(bench: Callable[..., Bench]) -> None:
    reply = through(bench()).scsi(pass_16(0xB4, feature=0x99, ck=False))
    assert (reply.status, reply.sense[1], reply.sense[8 + 3], reply.sense[8 + 7]) == (2, 0x0B, 0x04, 0x02)


def test_identify_through_both_lengths(bench: Callable[..., Bench]) -> None:
    made = bench()
    port = through(made)
    long = port.scsi(pass_16(0xEC, how=4, count=1, ck=False), data_in=512)
    short = port.scsi(bytes([0xA1, 4 << 1, 0x0E, 0, 1, 0, 0, 0, 0x40, 0xEC, 0, 0]), data_in=512)
    assert long.data == short.data == made(0xEC).data
    assert (long.status, long.sense) == (0, b"")
    assert (
        through(made, short=True).scsi(pass_16(0xEC, how=4, count=1), data_in=512).sense[1:3] == b"\x05\x20"
    )
    assert through(made, pass_through=False).scsi(pass_16(0xEC, how=4, count=1)).sense[1:3] == b"\x05\x20"


def test_the_disk_commands_of_the_translation(bench: Callable[..., Bench]) -> None:
    made = bench()
    port = through(made)
    assert port.scsi(bytes([0x12, 0, 0, 0, 96, 0]), data_in=96).data[8:16] == b"ATA     "
    page = port.scsi(bytes([0x12, 1, 0x89, 2, 60, 0]), data_in=572).data
    assert (len(page), page[60:572]) == (572, made(0xEC).data)
    assert (
        port.scsi(bytes([0x25]) + bytes(9), data_in=8).data == (SECTORS - 1).to_bytes(4, "big") + b"\0\0\2\0"
    )
    write = bytes([0x8A, 0]) + (5).to_bytes(8, "big") + (1).to_bytes(4, "big") + bytes(2)
    assert port.scsi(write, data_out=b"S" * 512).status == 0
    read = bytes([0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0])
    assert port.scsi(read, data_in=512).data == b"S" * 512
    made.sanitize(*BLOCK)
    assert port.scsi(read, data_in=512).sense[1:4] == b"\x02\x04\x1b"
    assert through(made, libata=True).scsi(read, data_in=512).sense[1:4] == b"\x0b\x00\x00"


def test_capacity_zero_reads_nothing_and_says_so_to_nobody(bench: Callable[..., Bench]) -> None:
    made = bench(fault.CAPACITY_ZERO)
    made.sanitize(*BLOCK)
    reply = through(made).scsi(bytes([0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0]), data_in=512)
    assert (reply.status, reply.data, reply.residual) == (0, b"", 512)
    assert made.word(100) == 0


def test_the_port_waits_times_out_and_loses_the_drive(bench: Callable[..., Bench], tmp_path: Path) -> None:
    made = bench()
    port = through(made)
    erase = [
        (pass_16(0xF1, how=5, count=1, ck=False), secret(b"pw")),
        (pass_16(0xF3, ck=False), b""),
        (pass_16(0xF4, how=5, count=1, ck=False), secret(b"pw")),
    ]

    def all_of(timeout: float) -> ScsiReply:
        for cdb, data in erase:
            reply = port.scsi(cdb, data_out=data, timeout=timeout)
        return reply

    with pytest.raises(CommandTimeout):
        all_of(60)
    made.clock.pause(300)
    assert all_of(1000).status == 0
    assert made.left() == 0
    other = tmp_path / "other"
    other.mkdir()
    made = Bench(other, fault.DISAPPEARS)
    port = through(made)
    assert port.scsi(pass_16(0xB4, feature=0x12, lba=0x426B4572)).status == 2
    made.clock.pause(100)
    for _ in range(2):
        with pytest.raises(DriveGone):
            port.scsi(pass_16(0xB4))
    assert made.left() == SIZE // 2
