"""The simulated NVMe drive does what the specifications say, and its faults do what their names say.

Offsets are those of NVM Express Base 2.0 and NVM Command Set 1.0, written here once more by hand.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from expunge_agent.commands.port import CommandTimeout, DriveGone, NvmeCommand, NvmePort, NvmeReply
from lab.drives.clock import VirtualClock
from lab.drives.nvme import FAULTS, Command, Gone, Make, NvmeDrive, Pending, Reply
from lab.drives.nvme_port import SimulatedNvmePort
from lab.drives.nvme_tcp import Target
from lab.drives.spans import Spans

MIB = 1 << 20
MARK = b"something that must not be found" * 16  # 512 bytes
CRYPTO, BLOCK, OVERWRITE, EXIT = 4, 2, 3, 1
AUSE, NDAS, OIPBP = 1 << 3, 1 << 9, 1 << 8
ALL = 0xFFFFFFFF


class Lab:
    """A drive of 4 MiB under a virtual clock, and short ways to speak to it."""

    def __init__(self, folder: Path, **given: object) -> None:
        self.folder, self.clock = folder, VirtualClock()
        self.given = {"size": 4 * MIB, "clock": self.clock} | given
        self.drive = self.make()
        self.port: NvmePort = SimulatedNvmePort(self.drive)

    def make(self) -> NvmeDrive:
        return NvmeDrive(self.folder / "image", self.folder / "state", **self.given)  # type: ignore[arg-type]

    def restart(self, **changed: object) -> None:
        """Another process opens the same files after a power cut."""
        self.drive.power_cut()
        self.given |= changed
        self.drive = self.make()
        self.port = SimulatedNvmePort(self.drive)

    def admin(self, opcode: int, *, data_in: int = 0, data_out: bytes = b"", **dwords: int) -> NvmeReply:
        return self.port.admin(NvmeCommand(opcode, **dwords), data_in=data_in, data_out=data_out)

    def sanitize(self, cdw10: int, cdw11: int = 0) -> int:
        return self.admin(0x84, cdw10=cdw10, cdw11=cdw11).status

    def format(self, nsid: int, ses: int, lbaf: int = 0) -> int:
        return self.admin(0x80, nsid=nsid, cdw10=ses << 9 | lbaf).status

    def identify(self, cns: int = 1, nsid: int = 0) -> bytes:
        reply = self.admin(0x06, nsid=nsid, cdw10=cns, data_in=4096)
        assert reply.status == 0
        return reply.data

    def log(self) -> tuple[int, int, int]:
        """SPROG, SSTAT without global data erased, SCDW10."""
        reply = self.admin(0x02, nsid=ALL, cdw10=0x81 | 127 << 16, data_in=512)
        assert reply.status == 0
        sprog, sstat, scdw10 = struct.unpack_from("<HHI", reply.data)
        return sprog, sstat & 0xFF, scdw10

    def read(self, lba: int = 0, count: int = 1, nsid: int = 1) -> Reply:
        return self.drive.io(Command(2, nsid, lba, 0, count - 1))

    def write(self, lba: int, data: bytes, nsid: int = 1, size: int = 512) -> int:
        return self.drive.io(Command(1, nsid, lba, 0, len(data) // size - 1), data).status

    def image(self) -> bytes:
        return (self.folder / "image").read_bytes()

    def kept(self, lba: int = 0, nsid: int = 1) -> bool:
        """Whether the host can still read the mark."""
        return self.read(lba, 1, nsid).data == MARK

    @property
    def serial(self) -> bytes:
        return self.identify()[4:24]


MakeLab = Callable[..., Lab]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[MakeLab]:
    labs: list[Lab] = []

    def make(**given: object) -> Lab:
        labs.append(Lab(tmp_path, **given))
        return labs[-1]

    yield make
    for each in labs:
        each.drive.close()


def test_spans_are_a_set_of_bytes() -> None:
    dice = random.Random(1)
    for _ in range(200):
        spans, plain = Spans(), set[int]()
        for _ in range(12):
            start, end = sorted(dice.choices(range(40), k=2))
            if dice.random() < 0.6:
                spans.add(start, end)
                plain.update(range(start, end))
            else:
                spans.remove(start, end)
                plain.difference_update(range(start, end))
            assert {i for a, b in spans.as_list() for i in range(a, b)} == plain
            assert all(a[1] < b[0] for a, b in zip(spans.as_list(), spans.as_list()[1:], strict=False))
            low, high = sorted(dice.choices(range(40), k=2))
            assert {i for a, b in spans.within(low, high) for i in range(a, b)} == plain & set(
                range(low, high)
            )


def test_identify_says_what_it_is(lab: MakeLab) -> None:
    it = lab(namespaces=2)
    page = it.identify()
    assert page[4:24] == b"SIM0001             "
    assert page[24:64].rstrip() == b"EXPUNGE SIMULATED NVME"
    assert struct.unpack_from("<I", page, 80)[0] >> 16 == 2
    assert struct.unpack_from("<I", page, 328)[0] == 0b111 | 1 << 30
    assert page[524] == 0b100
    assert struct.unpack_from("<4I", it.identify(2)) == (1, 2, 0, 0)
    namespace = it.identify(0, 2)
    assert struct.unpack_from("<QQ", namespace) == (2 * MIB // 512, 2 * MIB // 512)
    assert (namespace[25], namespace[26], namespace[130], namespace[134]) == (1, 0, 9, 12)
    descriptors = it.identify(3, 2)
    assert descriptors[:2] == b"\x01\x08" and descriptors[4:12] == namespace[120:128]
    assert descriptors[12:14] == b"\x02\x10" and descriptors[16:32] == namespace[104:120]
    assert not any(it.identify(0, 3))
    assert it.admin(0x06, nsid=17, cdw10=0, data_in=4096).status == 0x0B


def test_a_buffer_too_small_and_unknown_things_are_refused(lab: MakeLab) -> None:
    it = lab()
    assert it.admin(0x06, cdw10=1, data_in=512).status == 0x0F
    assert it.admin(0x02, nsid=ALL, cdw10=0x0D | 127 << 16, data_in=512).status == 0x109
    assert it.admin(0xC0).status == 0x01
    assert it.admin(0x06, cdw10=0x77, data_in=4096).status == 0x02


def test_blocks_are_kept_over_a_power_cut(lab: MakeLab) -> None:
    it = lab(namespaces=2)
    assert it.write(7, MARK, 2) == 0
    assert not it.kept(7, 1) and it.kept(7, 2)
    assert it.image()[2 * MIB + 7 * 512 :].startswith(MARK)
    assert it.read(4096, 1).status == 0x80
    assert it.read(0, 1, 3).status == 0x02
    it.drive.power_cut()
    with pytest.raises(Gone):
        it.read()
    it.drive.power_on()
    assert it.kept(7, 2)


def test_other_io_commands(lab: MakeLab) -> None:
    it = lab()
    for lba in range(16):
        it.write(lba, MARK)
    assert it.drive.io(Command(5, 1, 3, 0, 0), MARK).status == 0
    assert it.drive.io(Command(5, 1, 3, 0, 0), bytes(512)).status == 0x285
    assert it.drive.io(Command(4, 1, 2, 0, 1)).status == 0
    it.restart()
    assert [it.read(lba).status for lba in (1, 2, 3, 4)] == [0, 0x281, 0x281, 0]
    assert it.write(2, MARK) == 0 and it.kept(2)
    assert it.drive.io(Command(9, 1, 0, 4), struct.pack("<IIQ", 0, 2, 4)).status == 0
    assert it.read(4, 2).data == bytes(1024)
    assert it.image()[4 * 512 :].startswith(MARK), "deallocated is not erased"
    assert it.drive.io(Command(8, 1, 6, 0, 0)).status == 0
    assert it.image()[6 * 512 : 7 * 512] == bytes(512)
    it.write(4, MARK)
    it.restart()
    assert it.kept(4) and not it.kept(5)


@pytest.mark.parametrize(("action", "seconds"), [(CRYPTO, 4), (BLOCK, 8)])
def test_sanitize_runs_in_the_background(lab: MakeLab, action: int, seconds: int) -> None:
    it = lab(namespaces=2)
    it.write(0, MARK)
    it.write(4095, MARK, 2)
    assert it.log() == (0xFFFF, 0, 0)
    assert it.sanitize(action) == 0
    assert it.log() == (0, 2, action)
    it.clock.pause(seconds / 2)
    assert it.log() == (0x8000, 2, action)
    assert it.read().status == 0x1D
    assert it.sanitize(action) == 0x1D
    assert it.format(1, 1) == 0x1D
    assert it.identify()
    it.clock.pause(seconds / 2)
    assert it.log() == (0xFFFF, 1, action)
    assert it.read().data == bytes(512), "deallocated"
    assert MARK not in it.image()
    if action == CRYPTO:
        assert len(set(it.image()[:512])) > 100
    before = it.image()[:512]
    it.sanitize(action)
    it.clock.pause(seconds)
    assert it.log()[1] == 1
    assert (it.image()[:512] == before) == (action == BLOCK), "a new key each time"


def test_sanitize_has_no_namespace(lab: MakeLab) -> None:
    it = lab()
    assert it.admin(0x84, nsid=1, cdw10=CRYPTO).status == 0x02
    assert it.sanitize(0) == it.sanitize(5) == 0x02


def test_overwrite_ends_with_the_pattern(lab: MakeLab) -> None:
    it = lab()
    assert it.sanitize(OVERWRITE | 2 << 4 | OIPBP | NDAS, 0x01020304) == 0
    it.clock.pause(9)
    assert it.log()[1] == 2
    assert it.image()[:4] == b"\xfb\xfc\xfd\xfe"
    it.clock.pause(2)
    assert it.log()[1] == 2 | 1 << 3, "one pass is done"
    it.clock.pause(9)
    assert it.log() == (0xFFFF, 1 | 2 << 3, OVERWRITE | 2 << 4 | OIPBP | NDAS)
    assert it.read().data == b"\x04\x03\x02\x01" * 128
    it.sanitize(OVERWRITE)
    it.clock.pause(159)
    assert it.log()[1] == 2 | 15 << 3, "0 means 16 passes"


def test_no_deallocate_inhibited(lab: MakeLab) -> None:
    it = lab(make=Make(ndi=True))
    assert struct.unpack_from("<I", it.identify(), 328)[0] & 1 << 29
    assert it.sanitize(BLOCK | NDAS) == 0x02
    assert it.admin(0x09, cdw10=0x17, cdw11=1).status == 0
    assert it.sanitize(BLOCK | NDAS) == 0
    it.clock.pause(8)
    assert it.log()[1] == 4


def test_failure_modes(lab: MakeLab) -> None:
    it = lab(faults={"fails-at-40"})
    it.write(0, MARK)
    it.write(8000, MARK)
    it.sanitize(BLOCK)
    it.clock.pause(8)
    assert it.log() == (0xFFFF, 3, BLOCK)
    assert MARK in it.image()[8000 * 512 :] and not any(it.image()[:512])
    assert it.read().status == 0x1C
    assert it.admin(0x80, nsid=1).status == 0x1C
    assert it.sanitize(EXIT) == 0x1C, "a restricted failure has no way out"
    assert it.sanitize(BLOCK | AUSE) == 0x1C
    it.restart()
    assert it.read().status == 0x1C, "a power cycle is no way out either"
    it.drive.switch("fails-at-40", False)
    assert it.sanitize(BLOCK) == 0
    it.clock.pause(8)
    assert it.log()[1] == 1 and it.read().status == 0
    it.drive.switch("fails-at-40", True)
    it.sanitize(BLOCK | AUSE)
    it.clock.pause(8)
    assert it.read().status == 0x1C
    assert it.sanitize(EXIT) == 0
    assert it.read().status == 0 and it.log()[1] == 3


def test_sanitize_goes_on_after_a_power_cut(lab: MakeLab) -> None:
    it = lab()
    it.write(8191, MARK)
    it.sanitize(BLOCK)
    it.clock.pause(4)
    it.restart()
    it.clock.pause(0)
    assert it.log() == (0x8000, 2, BLOCK)
    it.drive.power_cut()
    it.clock.pause(1000)  # without power nothing is erased
    it.drive.power_on()
    assert it.log() == (0x8000, 2, BLOCK)
    it.clock.pause(4)
    assert it.log() == (0xFFFF, 1, BLOCK) and MARK not in it.image()


def test_format_erases_what_its_setting_says(lab: MakeLab) -> None:
    it = lab(namespaces=2)
    for ses, physical in ((0, True), (1, False), (2, False)):
        it.write(0, MARK)
        it.write(0, MARK, 2)
        begun = it.clock.now()
        assert it.format(1, ses) == 0
        assert 2 <= it.clock.now() - begun < 2.1
        assert it.read().data == bytes(512)
        assert (MARK in it.image()[: 2 * MIB]) == physical, "SES 0 erases nothing"
        assert it.kept(0, 2)
    assert it.format(2, 1, 1) == 0
    assert struct.unpack_from("<Q", it.identify(0, 2))[0] == 2 * MIB // 4096
    assert len(it.read(0, 1, 2).data) == 4096
    assert it.format(1, 3) == 0x02 and it.format(1, 1, 2) == 0x10A and it.format(0, 1) == 0x0B
    assert it.format(3, 1) == 0x02 and it.format(ALL, 1) == 0


def test_format_scope_by_fna(lab: MakeLab) -> None:
    it = lab(namespaces=2, make=Make(fna=0b1010))
    it.write(0, MARK, 2)
    assert it.format(1, 2) == 0x02, "no crypto erase"
    assert it.format(ALL, 1) == 0x02, "no broadcast"
    assert it.format(1, 0) == 0 and it.kept(0, 2)
    assert it.format(1, 1) == 0 and not it.kept(0, 2), "erases reach all namespaces"


def test_format_takes_its_time_and_does_not_outlive_power(lab: MakeLab) -> None:
    it = lab(namespaces=2, make=Make(format_seconds=100))
    it.write(4095, MARK)
    with pytest.raises(CommandTimeout):
        it.port.admin(NvmeCommand(0x80, nsid=1, cdw10=1 << 9), timeout=50)
    assert it.read().status == 0x84 and it.read(0, 1, 2).status == 0
    assert it.identify(0, 1)[32] in (0x80 | 50, 0x80 | 51)
    assert it.sanitize(CRYPTO) == it.format(2, 1) == 0x84
    it.restart()
    it.clock.pause(200)
    assert it.kept(4095)


def test_namespaces_come_and_go(lab: MakeLab) -> None:
    it = lab(namespaces=2)
    it.write(0, MARK, 2)
    only_us = struct.pack("<HH", 1, 1).ljust(4096, b"\0")
    assert it.admin(0x15, nsid=2, cdw10=1, data_out=only_us).status == 0
    assert it.admin(0x15, nsid=2, cdw10=1, data_out=only_us).status == 0x11A
    assert struct.unpack_from("<2I", it.identify(2)) == (1, 0)
    assert struct.unpack_from("<2I", it.identify(0x10)) == (1, 2)
    assert it.read(0, 1, 2).status == 0x02
    it.sanitize(BLOCK)
    it.clock.pause(8)
    assert it.log()[1] == 1 and MARK not in it.image(), "a sanitize reaches what is not attached"
    assert it.admin(0x0D, nsid=1, cdw10=1).status == 0
    wanted = bytearray(4096)
    struct.pack_into("<QQ", wanted, 0, 256, 256)
    wanted[26] = 1
    made = it.admin(0x0D, cdw10=0, data_out=bytes(wanted))
    assert (made.status, made.result) == (0, 1)
    assert it.admin(0x15, nsid=1, cdw10=0, data_out=only_us).status == 0
    assert it.read(255, 1).status == 0 and it.read(256, 1).status == 0x80


def test_an_event_says_that_a_sanitize_ended(lab: MakeLab) -> None:
    it = lab()
    waiting = it.drive.admin(Command(0x0C))
    assert isinstance(waiting, Pending) and waiting.poll() is None
    it.sanitize(CRYPTO)
    assert waiting.poll() is None
    it.clock.pause(4)
    reply = waiting.poll()
    assert reply is not None and reply.result == 0x810106


LIES = [
    # fault, SSTAT after the time of a sanitize, whether the mark at the front and at the end can be read
    ("", 1, False, False),
    ("stale-status", 1, True, True),
    ("lies-instantly", 1, True, True),
    ("lies-success", 1, True, True),
    ("leaves-tail", 1, False, True),
    ("stuck-at-99", 2, None, None),
    ("changes-serial", 1, False, False),
]


@pytest.mark.parametrize(("fault", "sstat", "front", "end"), LIES)
@pytest.mark.parametrize("action", [CRYPTO, BLOCK, OVERWRITE | 1 << 4])
def test_what_a_lying_sanitize_leaves(
    lab: MakeLab, fault: str, sstat: int, front: bool | None, end: bool | None, action: int
) -> None:
    it = lab(faults={fault} - {""})
    it.write(0, MARK)
    it.write(8191, MARK)
    assert it.sanitize(action) == 0
    it.clock.pause(100)
    assert it.log()[1] & 7 == sstat
    if front is not None:
        assert (it.kept(0), it.kept(8191)) == (front, end)
        assert (MARK in it.image()) == (front or end)


def test_stale_status_shows_nothing_running_and_the_old_command(lab: MakeLab) -> None:
    it = lab()
    it.sanitize(CRYPTO)
    it.clock.pause(4)
    it.drive.switch("stale-status", True)
    it.write(0, MARK)
    assert it.sanitize(BLOCK) == 0
    assert it.log() == (0xFFFF, 1, CRYPTO) and it.kept()


def test_lies_success_shows_progress(lab: MakeLab) -> None:
    it = lab(faults={"lies-success"})
    it.sanitize(BLOCK)
    it.clock.pause(2)
    assert it.log() == (0x4000, 2, BLOCK)


def test_stuck_at_99(lab: MakeLab) -> None:
    it = lab(faults={"stuck-at-99"})
    it.sanitize(BLOCK)
    it.clock.pause(100_000)
    sprog, sstat, _ = it.log()
    assert sstat == 2 and 0.98 < sprog / 65536 <= 0.99


def test_forgets_after_power_loss(lab: MakeLab) -> None:
    it = lab(faults={"forgets-after-power-loss"})
    it.write(8191, MARK)
    it.sanitize(BLOCK)
    it.clock.pause(4)
    it.restart()
    it.clock.pause(100)
    assert it.log() == (0xFFFF, 0, 0) and it.kept(8191)


def test_forgets_also_when_its_process_was_killed(lab: MakeLab) -> None:
    it = lab(faults={"forgets-after-power-loss"})
    it.sanitize(BLOCK)
    it.drive.store.close()  # no power_cut: only the state file is left
    it.drive.on = False
    it.drive = it.make()
    it.port = SimulatedNvmePort(it.drive)
    assert it.log() == (0xFFFF, 0, 0)


def test_disappears_midway(lab: MakeLab) -> None:
    it = lab(faults={"disappears-midway"})
    it.sanitize(BLOCK)
    it.clock.pause(3.9)
    assert it.log()[1] == 2
    it.clock.pause(0.2)
    with pytest.raises(DriveGone):
        it.log()
    it.restart(faults=set())
    assert it.log() == (0x8000, 2, BLOCK)


def test_wrong_sanicap(lab: MakeLab) -> None:
    it = lab(faults={"wrong-sanicap"}, make=Make(actions=frozenset()))
    assert struct.unpack_from("<I", it.identify(), 328)[0] & 7 == 1
    assert it.sanitize(CRYPTO) == 0x02
    it.drive.switch("wrong-sanicap", False)
    assert it.sanitize(CRYPTO) == 0x01


def test_serial_numbers_that_lie(lab: MakeLab) -> None:
    it = lab(faults={"changes-serial"})
    before = it.serial
    it.sanitize(CRYPTO)
    it.clock.pause(4)
    assert it.log()[1] == 1 and it.serial != before
    it.drive.switch("garbled-serial", True)
    assert not it.serial.isascii()


def test_refuses_while_busy(lab: MakeLab) -> None:
    it = lab(faults={"refuses-while-busy"})
    it.sanitize(CRYPTO)
    assert it.admin(0x02, nsid=ALL, cdw10=0x81 | 127 << 16, data_in=512).status == 0x1D
    assert it.admin(0x06, cdw10=1, data_in=4096).status == 0x1D
    it.clock.pause(4)
    assert it.log()[1] == 1


def test_writes_that_are_lost(lab: MakeLab) -> None:
    it = lab(faults={"drops-writes"})
    assert it.write(0, MARK) == 0 and not it.kept()
    it.drive.switch("drops-writes", False)
    it.drive.switch("wraps-capacity", True)
    assert it.write(4096 + 9, MARK) == 0
    assert it.kept(9) and it.kept(4096 + 9)
    it.drive.switch("wraps-capacity", False)
    assert it.kept(9) and not it.kept(4096 + 9)


def test_loses_cache(lab: MakeLab) -> None:
    it = lab(faults={"loses-cache"})
    it.write(0, MARK)
    assert it.drive.io(Command(0, 1)).status == 0
    it.write(1, MARK)
    it.restart()
    assert it.kept(0) and not it.kept(1)


@pytest.mark.parametrize(
    ("fault", "status", "kept", "other_kept"),
    [
        ("format-ses0-only", 0, True, True),
        ("format-hits-all-namespaces", 0, False, False),
        ("lies-success", 0, True, True),
        ("fails-at-40", 0x06, True, True),
    ],
)
@pytest.mark.parametrize("ses", [1, 2])
def test_what_a_lying_format_leaves(
    lab: MakeLab, fault: str, status: int, kept: bool, other_kept: bool, ses: int
) -> None:
    it = lab(namespaces=2, faults={fault})
    it.write(4095, MARK)
    it.write(4095, MARK, 2)
    assert it.format(1, ses) == status
    assert (it.kept(4095), it.kept(4095, 2)) == (kept, other_kept)


def test_every_fault_is_known_by_name(lab: MakeLab) -> None:
    it = lab(faults=FAULTS)
    assert it.drive.faults == set(FAULTS)
    with pytest.raises(ValueError, match="no such fault"):
        it.drive.switch("no-such", True)


# NVMe/TCP


class Host:
    """As much of an NVMe/TCP host as the tests need: one queue."""

    def __init__(self, port: int, nqn: str, queue: int = 0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.cid = 0
        self.socket.sendall(struct.pack("<BBBBI", 0, 0, 128, 0, 128).ljust(128, b"\0"))
        kind, body = self.receive()
        assert kind == 1 and len(body) == 120
        data = bytearray(1024)
        struct.pack_into("<H", data, 16, 1 if queue else 0xFFFF)
        data[256 : 256 + len(nqn)] = nqn.encode()
        fields = struct.pack("<HHHBxI", 0, queue, 31, 0, 0)
        self.connected = self.command(0x7F, nsid=1, tail=fields, out=bytes(data))[0]

    def exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                raise ConnectionError("closed")
            data += more
        return data

    def receive(self) -> tuple[int, bytes]:
        kind, _, _, _, length = struct.unpack("<BBBBI", self.exactly(8))
        return kind, self.exactly(length - 8)

    def send(self, opcode: int, *, nsid: int = 0, tail: bytes = b"", out: bytes = b"", room: int = 0) -> None:
        self.cid += 1
        inside = bool(out) and len(out) <= 8192
        entry = struct.pack("<BBHI", opcode, 0x40, self.cid, nsid).ljust(24, b"\0")
        entry += struct.pack("<QI3xB", 0, len(out) or room, 0x01 if inside else 0x5A) + tail
        capsule = out if inside else b""
        head = struct.pack("<BBBBI", 4, 0, 72, 72 if inside else 0, 72 + len(capsule))
        self.socket.sendall(head + entry.ljust(64, b"\0") + capsule)

    def command(
        self, opcode: int, *, nsid: int = 0, tail: bytes = b"", out: bytes = b"", room: int = 0
    ) -> tuple[int, int, bytes]:
        """Status without "do not retry", result, data."""
        self.send(opcode, nsid=nsid, tail=tail, out=out, room=room)
        return self.finish(out)

    def finish(self, out: bytes = b"") -> tuple[int, int, bytes]:
        data = b""
        while True:
            kind, body = self.receive()
            if kind == 9:  # ready to transfer: in two pieces
                cid, tag, offset, length = struct.unpack_from("<HHII", body)
                assert (cid, offset, length) == (self.cid, 0, len(out))
                for start, end, flags in ((0, 4096, 0), (4096, length, 4)):
                    head = struct.pack("<BBBBI", 6, flags, 24, 24, 24 + end - start)
                    part = struct.pack("<HHII4x", cid, tag, start, end - start)
                    self.socket.sendall(head + part + out[start:end])
            elif kind == 7:
                data += body[16:]
            else:
                assert kind == 5
                result, _, _, cid, status = struct.unpack("<QHHHH", body)
                assert cid == self.cid
                return status >> 1 & 0x7FF, result, data

    def enable(self) -> None:
        tail = struct.pack("<B3xIQ", 0, 0x14, 1 | 6 << 16 | 4 << 20)
        assert self.command(0x7F, nsid=0, tail=tail)[0] == 0

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@contextmanager
def served(drive: NvmeDrive) -> Iterator[tuple[int, Callable[[str], dict[str, object]]]]:
    """The drive behind a port, served by another thread; and a way to give it a line of control."""
    loop, target = asyncio.new_event_loop(), Target(drive)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def control(line: str) -> dict[str, object]:
        return target.control(line)

    try:
        port = asyncio.run_coroutine_threadsafe(target.start("127.0.0.1", 0), loop).result(10)
        yield port, lambda line: asyncio.run_coroutine_threadsafe(control(line), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(target.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_nvme_tcp(lab: MakeLab) -> None:
    it = lab()
    with served(it.drive) as (port, control):
        with Host(port, it.drive.nqn) as admin:
            assert admin.connected == 0
            assert admin.command(0x06, tail=struct.pack("<I", 1), room=4096)[0] == 0x0C, "not enabled yet"
            admin.enable()
            status, _, page = admin.command(0x06, tail=struct.pack("<I", 1), room=4096)
            assert status == 0 and page[4:11] == b"SIM0001" and page[768:].startswith(it.drive.nqn.encode())
            with Host(port, it.drive.nqn, 1) as queue:
                data = MARK * 64  # 32 KiB: by R2T
                assert queue.command(1, nsid=1, tail=struct.pack("<III", 8, 0, 63), out=data)[0] == 0
                status, _, seen = queue.command(2, nsid=1, tail=struct.pack("<III", 8, 0, 63), room=len(data))
                assert status == 0 and seen == data
                assert queue.command(1, nsid=1, tail=struct.pack("<III", 0, 0, 0), out=MARK)[0] == 0
                assert admin.command(0x84, tail=struct.pack("<I", BLOCK))[0] == 0
                assert queue.command(2, nsid=1, tail=struct.pack("<III", 0, 0, 0), room=512)[0] == 0x1D
                it.clock.pause(2)
                assert control("power cut")["on"] is False
                for lost in (admin, queue):
                    with pytest.raises(ConnectionError):
                        lost.receive()
        assert control("power on")["sstat"] == 2
        assert "error" in control("fault no-such on")
        assert "error" in control("pace 60"), "this clock stands still"
        assert control("fault drops-writes on")["faults"] == ["drops-writes"]
        with Host(port, it.drive.nqn) as admin:
            admin.enable()
            admin.send(0x0C)
            it.clock.pause(6)
            assert admin.finish() == (0, 0x810106, b""), "the event is sent unasked"
            tail = struct.pack("<I", 0x81 | 127 << 16)
            assert struct.unpack_from("<HH", admin.command(2, nsid=ALL, tail=tail, room=512)[2])[1] & 7 == 1
            format_1 = struct.pack("<I", 1 << 9)
            admin.send(0x80, nsid=1, tail=format_1)
            while not control("status")["formatting"]:
                pass
            it.clock.pause(3)
            assert admin.finish()[0] == 0
    assert MARK not in it.image()


def test_a_verification_read_over_nvme_tcp_has_its_data_and_its_status(lab: MakeLab) -> None:
    it = lab(make=VERS)
    with served(it.drive) as (port, _), Host(port, it.drive.nqn) as admin:
        admin.enable()
        with Host(port, it.drive.nqn, 1) as queue:
            block = struct.pack("<III", 0, 0, 0)
            assert queue.command(1, nsid=1, tail=block, out=MARK)[0] == 0
            assert admin.command(0x84, tail=struct.pack("<I", EMVS | CRYPTO))[0] == 0
            it.clock.pause(5)
            status, _, seen = queue.command(2, nsid=1, tail=block, room=512)
            assert status == 0x19C and len(seen) == 512 and seen != MARK
            assert admin.command(0x84, tail=struct.pack("<I", LEAVE))[0] == 0
            it.clock.pause(3)
            assert queue.command(2, nsid=1, tail=block, room=512)[::2] == (0, bytes(512))


def test_nvme_tcp_refuses_what_is_not_its_own(lab: MakeLab) -> None:
    it = lab()
    with served(it.drive) as (port, _):
        with Host(port, "nqn.2014-08.example:another") as stranger:
            assert stranger.connected == 0x182
        with Host(port, it.drive.nqn, 1) as early:
            assert early.connected == 0x182, "no admin queue yet"
    with pytest.raises(ValueError, match="loopback"):
        asyncio.run(Target(it.drive).start("192.0.2.1", 0))


# Media verification (Base 2.1 §5.1.22, §8.1.24.3; NVM Command Set 1.1 §5.10.1)

EMVS, LEAVE = 1 << 10, 5
VERS = Make(block_seconds=8.0, vers=True, ndi=True)


def state(it: Lab) -> int:
    reply = it.admin(0x02, nsid=ALL, cdw10=0x81 | 127 << 16, data_in=512)
    return reply.data[36]


def test_media_verification_from_its_beginning_to_its_end(lab: MakeLab) -> None:
    it = lab(make=VERS)
    assert it.identify()[328] & 1 << 3
    it.write(0, MARK)
    assert it.sanitize(LEAVE) == 0x002  # there is nothing to leave
    assert it.sanitize(EMVS | NDAS | BLOCK) == 0x002
    assert it.sanitize(EMVS | OVERWRITE | 1 << 4) == 0x002
    assert it.sanitize(EMVS | AUSE | BLOCK) == 0
    assert state(it) == 3
    it.clock.pause(9.0)
    assert (state(it), it.log()) == (5, (0xFFFF, 2, EMVS | AUSE | BLOCK))
    reply = it.read()
    assert (reply.status, reply.data) == (0x19C, bytes(512))
    assert it.drive.io(Command(2, 1, 0, 0, 1 << 26)).status == 0x002  # a check of the guard
    assert it.write(0, MARK) == 0x01D
    assert it.sanitize(AUSE | BLOCK) == 0x002
    assert it.sanitize(LEAVE) == 0
    assert (state(it), it.read().status) == (6, 0x01D)
    it.clock.pause(3.0)
    assert (state(it), it.log()[1]) == (0, 1)
    assert it.read().status == 0


def test_a_drive_without_media_verification_refuses_it(lab: MakeLab) -> None:
    it = lab()
    assert it.sanitize(EMVS | BLOCK) == 0x002


def test_a_power_cut_ends_media_verification_and_is_told(lab: MakeLab) -> None:
    it = lab(make=VERS)
    it.sanitize(EMVS | BLOCK)
    it.clock.pause(9.0)
    it.restart()
    it.clock.pause(3.0)
    reply = it.admin(0x02, nsid=ALL, cdw10=0x81 | 127 << 16, data_in=512)
    assert struct.unpack_from("<H", reply.data, 2)[0] & 0x207 == 0x201


def test_only_media_verification_shows_cells_that_were_kept(lab: MakeLab) -> None:
    it = lab(make=VERS, faults=["keeps-cells"])
    it.write(0, MARK)
    it.sanitize(EMVS | BLOCK)
    it.clock.pause(9.0)
    assert it.read().data == MARK
    it.sanitize(LEAVE)
    it.clock.pause(3.0)
    assert it.read().data == bytes(512)
