"""A drive that hides half of itself: it is laid open first, and then looked at like the rest, before and after."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from expunge_agent.commands.port import CommandTimeout, DriveGone, ScsiReply
from expunge_agent.core.drive import Drive, HiddenArea
from expunge_agent.core.erasure import looked_at, unseen
from expunge_agent.core.technique import Technique as T
from expunge_agent.engine import canaries
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, FileIdentity, resized
from expunge_agent.techniques.beyond import Beyond
from lab import bench as b
from lab.bench import SIZE, Bench, Book, Crash, Device, Order
from lab.drives import faults as fault

HALF = SIZE // 2
EACH = [
    (T.ATA_SANITIZE_BLOCK, b.SATA_SSD),  # behind a host protected area
    (T.ATA_SANITIZE_OVERWRITE, b.SATA_HDD),  # beyond the accessible max address
    (T.ATA_SECURITY_ERASE, b.SATA_HDD),
]


def made(folder: Path, technique: T, device: Device, *faults: str) -> Bench:
    folder.mkdir(exist_ok=True)
    bench = Bench(folder, technique, device, *faults, hidden=True)
    assert bench.size == HALF
    return bench


@pytest.mark.parametrize(("technique", "device"), EACH, ids=str)
def test_what_was_hidden_has_its_canaries_and_is_read_back(
    tmp_path: Path, technique: T, device: Device
) -> None:
    bench, book = made(tmp_path, technique, device), Book()
    order = Order(bench)
    verdict = order.carry_out(book)
    assert (verdict.outcome, verdict.level) == (Outcome.SANITIZED, order.plan.earns), verdict
    assert bench.left() == 0
    told = book.target(0).erasure.result(technique, order.plan.drive)
    assert (int(told.laid_open.before), int(told.laid_open.after)) == (HALF, SIZE)
    assert told.laid_open.done
    assert told.read_back.bytes_expected == told.read_back.bytes_read == SIZE
    assert "by the drive's own commands" in told.read_back.io_mode
    placed = book.target(0).erasure.placed
    assert (int(placed.size), placed.failed) == (SIZE, [])
    assert any(int(at) >= HALF for at, _ in placed.samples), "old data was sampled there as well"
    assert book.kinds.index("laid-open") < book.kinds.index("canaries-placing")
    bench.close()


@pytest.mark.parametrize(("technique", "device"), EACH, ids=str)
@pytest.mark.parametrize("name", [fault.LEAVES_TAIL, fault.LIES_SUCCESS])
def test_an_erase_that_leaves_what_was_hidden_is_found_out(
    tmp_path: Path, technique: T, device: Device, name: str
) -> None:
    bench, book = made(tmp_path, technique, device, name), Book()
    verdict = Order(bench).carry_out(book)
    assert verdict.outcome is Outcome.FAILED
    assert "can still be read" in verdict.failure
    if name == fault.LEAVES_TAIL:
        assert min(int(at) for at in book.target(0).erasure.evidence.canaries.found_at) >= HALF
    bench.close()


@pytest.mark.parametrize("meanwhile", ["nothing", "power cut", "the kernel saw it"])
@pytest.mark.parametrize(("technique", "device"), EACH[:2], ids=str)
def test_a_crash_at_any_record(tmp_path: Path, technique: T, device: Device, meanwhile: str) -> None:
    """What is laid open stays so, and all of it is looked at, however the kernel shows the drive later."""
    whole = Book()
    Order(made(tmp_path / "whole", technique, device)).carry_out(whole)
    for number in range(len(whole.kinds)):
        bench, book = made(tmp_path / str(number), technique, device), Book()
        order, book.crash = Order(bench), (number, True)
        with pytest.raises(Crash):
            order.carry_out(book)
        bench.clock.pause(5.0)
        if meanwhile == "power cut":
            bench.power_cut()
        if meanwhile == "the kernel saw it":
            bench.size = bench.target().size
        again = book.reopened()
        verdict = order.carry_out(again)
        where = f"{whole.kinds[number]}: {verdict.failure or verdict.exceptions}"
        if "erase-accepted" not in again.kinds:
            assert verdict.outcome is Outcome.UNKNOWN, where  # whose it is, an ATA drive does not tell
            continue
        assert verdict.outcome is Outcome.SANITIZED, where
        assert bench.left() == 0, where
        assert int(again.target(0).erasure.laid_open.after) == SIZE
        bench.close()


def test_one_that_does_not_give_it_back_is_not_begun(tmp_path: Path) -> None:
    bench, book = made(tmp_path, T.ATA_SANITIZE_BLOCK, b.SATA_SSD, fault.HPA_LIES), Book()
    verdict = Order(bench).carry_out(book)
    assert verdict.outcome is Outcome.FAILED
    assert "still hides" in verdict.failure
    assert book.kinds == ["erase-ended", "erase-settled"], "not a byte was written"
    bench.close()


def test_sectors_that_no_ata_command_of_ours_reads_stay_an_exception() -> None:
    area = HiddenArea(kind="hpa", size=U64(HALF), restorable=True)
    for sector, seen in ((512, HALF), (4096, 0)):
        drive = Drive(
            protocol="ata", logical_sector=sector, apparent=U64(HALF), native=U64(SIZE), hidden=[area]
        )
        assert looked_at(drive) == seen
        assert bool(unseen(drive)) is not bool(seen)
    assert looked_at(None) == 0


def test_blocks_on_both_sides_of_the_end(tmp_path: Path) -> None:
    bench = made(tmp_path, T.ATA_SANITIZE_BLOCK, b.SATA_SSD)
    bench.drive.hide(accessible=SIZE // 512)
    shown = bench.target(HALF)
    both = Beyond(shown, bench._port, SIZE)
    data = bytes(range(256)) * 1024
    for at in (HALF - 131_072, HALF - 512, HALF, SIZE - len(data)):
        both.write(memoryview(data), at)
        seen = bytearray(len(data))
        both.read_into(memoryview(seen), at)
        assert bytes(seen) == data
        assert bench.image.read_bytes()[at : at + len(data)] == data
    with pytest.raises(ValueError, match="outside"):
        both.read_into(memoryview(bytearray(512)), SIZE)
    assert (both.direct, both.memory, both.reads_medium, both.block) == (True, False, True, 512)
    both.check()
    assert both.answers()
    bench.close()


@pytest.mark.parametrize(
    ("trouble", "number"),
    [(DriveGone("x"), errno.ENODEV), (CommandTimeout("x"), errno.ETIMEDOUT), (None, errno.EIO)],
)
def test_trouble_beyond_comes_as_the_system_would_tell_it(
    tmp_path: Path, trouble: Exception | None, number: int
) -> None:
    class Port:
        def scsi(
            self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
        ) -> ScsiReply:
            if trouble is not None:
                raise trouble
            return ScsiReply(status=2, sense=bytes.fromhex("700003000000000a000000001100000000"))

    bench = made(tmp_path, T.ATA_SANITIZE_BLOCK, b.SATA_SSD)
    both = Beyond(bench.target(), Port(), SIZE)
    with pytest.raises(OSError) as caught:
        both.read_into(memoryview(bytearray(4096)), HALF)
    assert caught.value.errno == number
    bench.close()


def test_only_the_size_that_was_told_before_is_taken() -> None:
    disk = BlockIdentity(bus="ata", model="M", serial="S", wwn="", size=U64(HALF))
    grown = BlockIdentity(bus="ata", model="M", serial="S", wwn="", size=U64(SIZE))
    assert resized(disk, grown, SIZE) == grown
    assert resized(disk, grown, SIZE + 512) == disk
    assert resized(disk, grown, 0) == disk
    file = FileIdentity(path="/x", device="1:1", inode=U64(1), size=U64(HALF))
    assert resized(file, grown, SIZE) == file


def test_places_follow_from_the_whole_capacity() -> None:
    """As docs/receipt-format.md says: whoever looks for them again takes ``after`` for the size."""
    assert max(canaries.places(SIZE, bytes(32))) == SIZE - canaries.BLOCK
