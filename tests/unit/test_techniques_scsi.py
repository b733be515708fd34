"""SCSI sanitize, format and examination against a simulated drive with its faults."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.commands import scsi
from expunge_agent.commands.port import CommandError, DriveGone, ScsiReply
from expunge_agent.commands.scsi import SanitizeAction
from expunge_agent.core.drive import Drive
from expunge_agent.core.technique import Technique
from expunge_agent.devices.examine_scsi import examine_ata, examine_scsi, speaks_ata
from expunge_agent.protocol.canonical import dumps, loads
from expunge_agent.techniques.hand import Rejected, State
from expunge_agent.techniques.scsi_format import ScsiFormat
from expunge_agent.techniques.scsi_sanitize import ScsiSanitize
from lab.drives import faults as fault
from lab.drives.clock import VirtualClock
from lab.drives.ports import SimulatedPort
from lab.drives.scsi import ScsiDrive
from lab.drives.scsi_data import ScsiModel, sas_hdd, sas_ssd
from lab.drives.store import StateFile, Store

SIZE = 4096 * 512
MARK = b"secret customer data "
ALL = (Technique.SCSI_SANITIZE_CRYPTO, Technique.SCSI_SANITIZE_BLOCK, Technique.SCSI_SANITIZE_OVERWRITE)


class Bench:
    """A simulated drive on its own clock, full of marks."""

    def __init__(self, folder: Path, *faults: str, model: ScsiModel | None = None) -> None:
        self.clock = VirtualClock()
        self.drive = ScsiDrive(
            Store(folder / "disk", SIZE),
            StateFile(folder / "notes"),
            model=model or sas_ssd(),
            clock=self.clock,
            faults=faults,
        )
        self.port = SimulatedPort(self.drive, self.clock)
        self.path = folder / "disk"
        self.path.write_bytes((MARK * (SIZE // len(MARK) + 1))[:SIZE])

    def marks(self) -> int:
        return self.path.read_bytes().count(MARK)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    return lambda *faults, **how: Bench(tmp_path, *faults, **how)


@pytest.mark.parametrize("technique", ALL)
def test_a_sanitize_runs_to_its_end(bench: Callable[..., Bench], technique: Technique) -> None:
    one = bench()
    hand = ScsiSanitize(one.port, technique, size=SIZE)
    hand.prepare()
    hand.start()
    one.clock.pause(sas_ssd().sanitize_seconds / 4)
    seen = ScsiSanitize(one.port, technique).poll()  # after a restart of the agent
    assert (seen.state, seen.ppm) == (State.RUNNING, pytest.approx(250_000, abs=1000))
    one.clock.pause(sas_ssd().sanitize_seconds)
    assert hand.poll().state is State.IDLE  # never DONE: no record is kept
    hand.settle()
    assert one.marks() == 0


def test_it_goes_on_after_a_power_cut(bench: Callable[..., Bench]) -> None:
    one = bench()
    hand = ScsiSanitize(one.port, Technique.SCSI_SANITIZE_BLOCK)
    hand.prepare()
    hand.start()
    one.clock.pause(30)
    one.drive.power_cut()
    assert hand.poll().state is State.RUNNING
    with pytest.raises(Rejected, match="still runs"):
        hand.settle()
    with pytest.raises(Rejected, match="busy"):
        hand.prepare()


def test_a_failed_sanitize_is_left(bench: Callable[..., Bench]) -> None:
    one = bench(fault.FAILS_AT_40)
    hand = ScsiSanitize(one.port, Technique.SCSI_SANITIZE_BLOCK)
    hand.prepare()
    hand.start()
    one.clock.pause(1000)
    assert hand.poll().state is State.FAILED
    assert examine_scsi(one.port).sanitize_state == "failed"
    hand.settle()
    assert hand.poll().state is State.IDLE


def test_a_failure_without_ause_is_repaired_only_by_another(bench: Callable[..., Bench]) -> None:
    one = bench(fault.FAILS_AT_40)
    scsi.send(one.port, "x", scsi.sanitize_cdb(SanitizeAction.BLOCK_ERASE, ause=False))
    one.clock.pause(1000)
    hand = ScsiSanitize(one.port, Technique.SCSI_SANITIZE_BLOCK)
    with pytest.raises(Rejected, match="stays in failure mode"):
        hand.settle()
    hand.prepare()
    answers = hand.start()
    assert any("without AUSE" in answer.name for answer in answers)
    assert hand.poll().state is State.RUNNING


def test_what_is_not_supported_is_refused(bench: Callable[..., Bench]) -> None:
    one = bench(model=sas_hdd())
    with pytest.raises(Rejected, match="does not support"):
        ScsiSanitize(one.port, Technique.SCSI_SANITIZE_CRYPTO).prepare()


def test_a_claim_that_is_refused_is_rejected(bench: Callable[..., Bench]) -> None:
    one = bench(fault.WRONG_CAPABILITIES)
    hand = ScsiSanitize(one.port, Technique.SCSI_SANITIZE_CRYPTO)
    hand.prepare()
    with pytest.raises(Rejected, match="invalid field"):
        hand.start()
    assert one.marks()


def test_no_access_rights(bench: Callable[..., Bench]) -> None:
    hand = ScsiSanitize(bench(fault.LOCKED).port, Technique.SCSI_SANITIZE_BLOCK)
    hand.prepare()
    with pytest.raises(Rejected):
        hand.start()


def test_silence_while_busy_is_not_the_end(bench: Callable[..., Bench]) -> None:
    one = bench(fault.REFUSES_WHILE_BUSY)
    hand = ScsiSanitize(one.port, Technique.SCSI_SANITIZE_BLOCK)
    hand.prepare()
    hand.start()
    with pytest.raises(CommandError, match="does not tell"):
        hand.poll()


def test_a_drive_that_vanishes(bench: Callable[..., Bench]) -> None:
    one = bench(fault.DISAPPEARS)
    hand = ScsiSanitize(one.port, Technique.SCSI_SANITIZE_BLOCK)
    hand.prepare()
    hand.start()
    one.clock.pause(1000)
    with pytest.raises(DriveGone):
        hand.poll()


def test_a_format(bench: Callable[..., Bench]) -> None:
    one = bench()
    hand = ScsiFormat(one.port, size=SIZE)
    hand.prepare()
    hand.start()
    one.clock.pause(sas_ssd().format_seconds / 2)
    seen = hand.poll()
    assert (seen.state, seen.ppm) == (State.RUNNING, pytest.approx(500_000, abs=1000))
    with pytest.raises(Rejected, match="still runs"):
        hand.settle()
    one.clock.pause(sas_ssd().format_seconds)
    assert hand.poll().state is State.IDLE
    hand.settle()
    assert one.marks() == 0


def test_a_format_that_is_cut_off_has_failed(bench: Callable[..., Bench]) -> None:
    one = bench()
    hand = ScsiFormat(one.port)
    hand.prepare()
    hand.start()
    one.clock.pause(10)
    one.drive.power_cut()
    assert hand.poll().state is State.FAILED
    with pytest.raises(Rejected, match="unformatted"):
        hand.settle()
    hand.prepare()
    hand.start()


def test_examination(bench: Callable[..., Bench]) -> None:
    one = bench()
    assert not speaks_ata(one.port)
    seen = examine_scsi(one.port)
    assert (seen.protocol, seen.vendor, seen.model, seen.serial, seen.firmware) == (
        "scsi",
        "EXPUNGE",
        "LAB SAS SSD",
        "ZC1LAB000042",
        "0107",
    )
    (name,) = seen.names
    assert re.fullmatch("naa.[0-9a-f]{16}", name)
    assert (seen.rotation, seen.logical_sector, seen.physical_sector) == (1, 512, 4096)
    assert int(seen.apparent) == SIZE
    assert seen.health.celsius == 34
    assert all(seen.ability(technique).offered for technique in (*ALL, Technique.SCSI_FORMAT_UNIT))
    assert not seen.ability(Technique.ATA_SANITIZE_BLOCK).offered
    assert seen.sanitize_state == "idle"
    assert seen.doubtful == []
    dumps(seen)


def test_a_capacity_of_zero_while_it_sanitizes_is_not_its_size(bench: Callable[..., Bench]) -> None:
    one = bench(fault.CAPACITY_ZERO)
    scsi.send(one.port, "x", scsi.sanitize_cdb(SanitizeAction.BLOCK_ERASE))
    seen = examine_scsi(one.port)
    assert seen.sanitize_state == "running"
    assert int(seen.apparent) == 0
    assert any("capacity is not known" in text for text in seen.doubtful)
    assert seen.serial == "ZC1LAB000042"


def test_a_capacity_of_zero_is_doubtful_at_any_time(bench: Callable[..., Bench]) -> None:
    one = bench()

    class Zero(SimulatedPort):
        def scsi(
            self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
        ) -> ScsiReply:
            if cdb[0] in (0x9E, 0x25):
                return ScsiReply(0, data=bytes(data_in))
            return super().scsi(cdb, data_in=data_in, data_out=data_out, timeout=timeout)

    seen = examine_scsi(Zero(one.drive, one.clock))
    assert int(seen.apparent) == 0
    assert any("zero" in text for text in seen.doubtful)
    assert seen.logical_sector == -1


def test_write_protection_is_refused(bench: Callable[..., Bench]) -> None:
    one = bench()

    class Protected(SimulatedPort):
        def scsi(
            self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
        ) -> ScsiReply:
            if cdb[0] == 0x1A:
                return ScsiReply(0, data=bytes([3, 0, 0x80, 0]))
            return super().scsi(cdb, data_in=data_in, data_out=data_out, timeout=timeout)

    port = Protected(one.drive, one.clock)
    for hand in (ScsiSanitize(port, Technique.SCSI_SANITIZE_BLOCK), ScsiFormat(port)):
        with pytest.raises(Rejected, match="write-protected"):
            hand.prepare()


def test_a_drive_that_failed_half_way_may_have_begun(bench: Callable[..., Bench]) -> None:
    one = bench()

    class Breaking(SimulatedPort):
        def scsi(
            self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
        ) -> ScsiReply:
            if cdb[0] in (0x48, 0x04):
                return ScsiReply(2, bytes.fromhex("7204440000000000"))
            return super().scsi(cdb, data_in=data_in, data_out=data_out, timeout=timeout)

    port = Breaking(one.drive, one.clock)
    for hand in (ScsiSanitize(port, Technique.SCSI_SANITIZE_BLOCK), ScsiFormat(port)):
        hand.prepare()
        with pytest.raises(CommandError, match="not known"):
            hand.start()


def _any_reply() -> st.SearchStrategy[ScsiReply]:
    head = st.sampled_from(["70", "72", "7200041b", "70000200000000", "00", ""]).map(bytes.fromhex)
    sense = st.tuples(head, st.binary(max_size=32)).map(b"".join)
    data = st.binary(max_size=64) | st.binary(min_size=512, max_size=600)
    return st.builds(ScsiReply, status=st.sampled_from([0, 0, 0, 2, 8]), sense=sense, data=data)


@given(st.lists(_any_reply(), min_size=1, max_size=12), st.sampled_from(["ata", "scsi", "speaks"]))
def test_whatever_comes_back_an_examination_ends_in_a_drive_or_a_command_error(
    replies: list[ScsiReply], kind: str
) -> None:
    class Anything:
        def __init__(self) -> None:
            self.turn = 0

        def scsi(
            self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
        ) -> ScsiReply:
            self.turn += 1
            return replies[self.turn % len(replies)]

    if kind == "speaks":
        assert speaks_ata(Anything()) in (True, False)
        return
    try:
        drive = examine_ata(Anything()) if kind == "ata" else examine_scsi(Anything())
    except CommandError:
        return
    text = dumps(drive)
    assert loads(text, Drive) == drive


HOUR, DAY = 3600, 86_400
BIG = 16_000_000_000_000


@pytest.mark.parametrize(
    ("technique", "nominal", "recommended", "size", "limit"),
    [
        (Technique.SCSI_SANITIZE_CRYPTO, 30, 0, BIG, HOUR),  # it was a day, whatever the drive declares
        (Technique.SCSI_SANITIZE_CRYPTO, 30, 5400, BIG, 5400),
        (Technique.SCSI_SANITIZE_BLOCK, 4000, 5400, BIG, 12_000),
        (Technique.SCSI_SANITIZE_BLOCK, 0, 200_000, BIG, 200_000),
        (Technique.SCSI_SANITIZE_BLOCK, 0, 0, BIG, DAY),
        (Technique.SCSI_SANITIZE_OVERWRITE, 30, 60, BIG, BIG / 20_000_000),  # the time of its acceptance only
        (Technique.SCSI_SANITIZE_OVERWRITE, 30, 60, SIZE, HOUR),
        (Technique.SCSI_SANITIZE_OVERWRITE, 0, 0, SIZE, DAY),
        (Technique.SCSI_FORMAT_UNIT, 30, 900_000, BIG, 900_000),
        (Technique.SCSI_FORMAT_UNIT, 30, 0, SIZE, HOUR),
    ],
)
def test_how_long_it_is_waited_for(
    bench: Callable[..., Bench], technique: Technique, nominal: int, recommended: int, size: int, limit: float
) -> None:
    port = bench(model=sas_ssd(nominal=nominal, recommended=recommended)).port
    hand = (
        ScsiFormat(port, size=size)
        if technique is Technique.SCSI_FORMAT_UNIT
        else ScsiSanitize(port, technique, size=size)
    )
    assert hand.timeout == limit
    offered = examine_scsi(port).ability(technique)
    assert (offered.offered, offered.seconds) == (True, nominal or -1)
