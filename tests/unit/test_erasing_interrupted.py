"""Drive commands that are interrupted: crashes after every record, power cuts, stops, a drive that stays away."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from expunge_agent.core.technique import Technique as T
from expunge_agent.journal import Journal
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.base import Outcome
from lab import bench as b
from lab.bench import MARK, Bench, Book, Crash, Device, Order, Stop
from lab.drives import faults as fault

ONE_OF_EACH = [
    (T.NVME_SANITIZE_BLOCK, b.NVME),
    (T.NVME_FORMAT_USER_DATA, b.NVME),
    (T.ATA_SANITIZE_BLOCK, b.SATA_SSD),
    (T.ATA_SECURITY_ERASE, b.SATA_HDD),
    (T.SCSI_SANITIZE_BLOCK, b.SAS_SSD),
    (T.SCSI_FORMAT_UNIT, b.SAS_HDD),
    (T.OPAL_REVERT, b.NVME_OPAL),
    (T.NVME_SANITIZE_BLOCK, b.NVME_VERS),
]
"""One technique of each hand."""
IN_BACKGROUND = [one for one in ONE_OF_EACH if one[0] not in (T.NVME_FORMAT_USER_DATA, T.ATA_SECURITY_ERASE)]
GOES_ON = (T.NVME_SANITIZE_BLOCK, T.ATA_SANITIZE_BLOCK, T.SCSI_SANITIZE_BLOCK)
"""A power cut does not end these."""
EXPECTED = {
    "canaries-placing",
    "canaries-placed",
    "erase-starting",
    "erase-sending",
    "erase-accepted",
    "erase-seen",
    "erase-ended",
    "erase-settled",
    "erase-checked",
}


class Lab:
    """Makes benches in folders of their own, and closes them."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, list[Bench]()

    def __call__(self, technique: T, device: Device, *faults: str) -> Bench:
        folder = self._folder / str(len(self._made))
        folder.mkdir()
        self._made.append(Bench(folder, technique, device, *faults))
        return self._made[-1]

    def close(self) -> None:
        for one in self._made:
            one.close()


@pytest.fixture
def lab(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Lab(tmp_path)
    yield made
    made.close()


def ids(what: object) -> str | None:
    return what.name if isinstance(what, Device) else str(what) if isinstance(what, T) else None


@pytest.mark.parametrize("meanwhile", ["5 s", "1000 s", "power cut"])
@pytest.mark.parametrize(("technique", "device"), ONE_OF_EACH, ids=ids)
def test_a_crash_at_any_record_ends_truthfully(
    lab: Lab, technique: T, device: Device, meanwhile: str
) -> None:
    """Before each record (the step is done, the journal does not know) and after (it is announced, not done)."""
    whole = Book()
    Order(lab(technique, device)).carry_out(whole)
    assert EXPECTED - {"erase-seen"} <= set(whole.kinds) <= EXPECTED | {"erase-cells"}
    assert ("erase-cells" in whole.kinds) is (device is b.NVME_VERS)
    for number in range(len(whole.kinds)):
        for written in (False, True):
            bench, book = lab(technique, device), Book()
            order, book.crash = Order(bench), (number, written)
            with pytest.raises(Crash):
                order.carry_out(book)
            bench.clock.pause(1000.0 if meanwhile == "1000 s" else 5.0)
            if meanwhile == "power cut":
                bench.power_cut()
            again = book.reopened()
            verdict = order.carry_out(again)
            where = f"record {number} ({whole.kinds[number]}), {'written' if written else 'not written'}"
            if technique is T.ATA_SANITIZE_BLOCK and again.kinds.count("erase-accepted") == 0:
                assert verdict.outcome is Outcome.UNKNOWN, where  # whose it is, an ATA drive does not tell
                continue
            assert again.target(0).erasure.evidence is not None, where
            unseen = where == "record 4 (erase-accepted), not written" and meanwhile == "1000 s"
            if unseen and technique is T.OPAL_REVERT:  # it is reverted, and nobody saw by whom
                assert verdict.outcome is Outcome.UNKNOWN
                continue
            if verdict.outcome is Outcome.SANITIZED:
                assert bench.left() == 0, where
            if meanwhile != "power cut" or technique in GOES_ON:
                assert verdict.outcome is Outcome.SANITIZED, f"{where}: {verdict.failure} {again.kinds}"


@pytest.mark.parametrize("cut", [False, True], ids=["", "and a power cut"])
@pytest.mark.parametrize(("technique", "device"), IN_BACKGROUND, ids=ids)
def test_a_crash_while_the_drive_is_watched(lab: Lab, technique: T, device: Device, cut: bool) -> None:
    def die(number: int) -> None:
        if number == 4:
            raise Crash

    bench, book = lab(technique, device), Book()
    order = Order(bench)
    with pytest.raises(Crash):
        order.carry_out(book, Stop(bench.clock, die))
    assert book.kinds[-1] == "erase-seen"
    assert bench.busy
    if cut:
        bench.power_cut()
    again = book.reopened()
    verdict = order.carry_out(again)
    if cut and technique is T.SCSI_FORMAT_UNIT:  # a format that lost power leaves the medium corrupted
        assert verdict.outcome is Outcome.FAILED
        assert "corrupted" in verdict.failure
    elif cut and technique is T.OPAL_REVERT:  # nor is it told whether the new key was kept
        assert verdict.outcome is Outcome.FAILED
        assert "interrupted" in verdict.failure
    else:
        assert verdict.outcome is Outcome.SANITIZED, verdict.failure
        assert again.kinds.count("erase-starting") == 1, "the drive was at work: nothing is begun again"
        assert bench.left() == 0


@pytest.mark.parametrize(
    ("technique", "device"), [one for one in ONE_OF_EACH if one not in IN_BACKGROUND], ids=ids
)
def test_a_crash_while_the_drive_is_waited_for(lab: Lab, technique: T, device: Device) -> None:
    """Nobody learns how that one ended, so it is begun again; what runs meanwhile is not disturbed."""

    def die() -> None:
        if bench.busy:
            bench.clock.told = None
            raise Crash

    bench, book = lab(technique, device), Book()
    order, bench.clock.told = Order(bench), die
    with pytest.raises(Crash):
        order.carry_out(book)
    assert (book.kinds[-1], bench.busy) == ("erase-sending", True)
    again, order.patience = book.reopened(), 600.0  # an ATA drive answers nothing until it is through
    verdict = order.carry_out(again)
    assert verdict.outcome is Outcome.SANITIZED, verdict.failure
    assert again.kinds.count("erase-starting") == 2
    assert bench.left() == 0


def test_a_drive_that_is_too_busy_to_answer_is_given_up(lab: Lab) -> None:
    """After a restart; or stopped while it is waited for, and then nothing is known yet."""

    def die() -> None:
        if bench.busy:
            bench.clock.told = None
            raise Crash

    bench, book = lab(T.ATA_SECURITY_ERASE, b.SATA_HDD, fault.STUCK_AT_99), Book()
    order, bench.clock.told = Order(bench), die
    with pytest.raises(Crash):
        order.carry_out(book)
    stopped = book.reopened()
    stop = Stop(bench.clock, lambda number: stop.set() if number == 2 else None)
    assert order.carry_out(stopped, stop).outcome is Outcome.INTERRUPTED
    assert stopped.target(0).erasure.ended is None
    verdict = order.carry_out(stopped.reopened())
    assert verdict.outcome is Outcome.UNKNOWN
    assert bench.left()


@pytest.mark.parametrize("factor", [0.5, 0.7])
def test_canaries_are_looked_for_where_they_were_put(lab: Lab, factor: float) -> None:
    """The drive lies and has shrunk since: the places follow from the size it had."""
    bench, book = lab(T.NVME_SANITIZE_BLOCK, b.NVME, "lies-success"), Book()
    order, book.crash = Order(bench), (7, True)
    with pytest.raises(Crash):
        order.carry_out(book)
    assert book.kinds[-1] == "erase-settled"
    bench.size = int(bench.size * factor) // 4096 * 4096
    again = book.reopened()
    assert order.carry_out(again).outcome is Outcome.FAILED
    seen = again.target(0).erasure.evidence.canaries
    assert seen.found + seen.unreadable == seen.planned == seen.looked_for
    assert seen.found > seen.planned * factor * 0.8


@pytest.mark.parametrize(("technique", "device"), ONE_OF_EACH, ids=ids)
def test_a_drive_that_forgets_it_is_given_the_command_again(lab: Lab, technique: T, device: Device) -> None:
    """The agent and the drive lose power together, again and again; the fourth time it is given up."""
    bench, book = lab(technique, device, fault.FORGETS), Book()
    order = Order(bench)
    for _ in range(3):
        book.crash = (len(book.entries) + (2 if not book.entries else 0), True)
        while True:  # up to and with erase-starting
            with pytest.raises(Crash):
                order.carry_out(book)
            if book.kinds[-1] == "erase-starting":
                break
            book = book.reopened()
            book.crash = (len(book.entries), True)
        bench.power_cut()
        book = book.reopened()
    verdict = order.carry_out(book)
    assert book.kinds.count("erase-starting") == 3
    assert verdict.outcome is Outcome.FAILED
    assert bench.left()


@pytest.mark.parametrize(("technique", "device"), IN_BACKGROUND, ids=ids)
def test_a_stop_leaves_the_drive_at_work(lab: Lab, technique: T, device: Device) -> None:
    bench, book = lab(technique, device), Book()
    order = Order(bench)
    stop = Stop(bench.clock, lambda number: stop.set() if number == 3 else None)
    verdict = order.carry_out(book, stop)
    assert verdict.outcome is Outcome.INTERRUPTED
    assert "may still be at work" in verdict.failure
    assert bench.busy
    again = book.reopened()  # it was a pause, and the order goes on
    verdict = order.carry_out(again)
    assert verdict.outcome is Outcome.SANITIZED, verdict.failure
    assert again.kinds.count("erase-starting") == 1
    assert bench.left() == 0


@pytest.mark.parametrize(("technique", "device"), ONE_OF_EACH, ids=ids)
def test_a_stop_before_the_beginning_begins_nothing(lab: Lab, technique: T, device: Device) -> None:
    bench, book = lab(technique, device), Book()
    stop = Stop(bench.clock)
    stop.set()
    verdict = Order(bench).carry_out(book, stop)
    assert verdict.outcome is Outcome.INTERRUPTED
    assert "erase-starting" not in book.kinds
    assert bench.left() == bench.image.read_bytes().count(MARK) > 200_000


@pytest.mark.parametrize(("technique", "device"), ONE_OF_EACH, ids=ids)
def test_a_drive_that_goes_away_ends_as_unknown(lab: Lab, technique: T, device: Device) -> None:
    bench, book = lab(technique, device, fault.DISAPPEARS), Book()
    verdict = Order(bench).carry_out(book)
    assert verdict.outcome is Outcome.UNKNOWN
    assert bench.left()


@pytest.mark.parametrize(("technique", "device"), IN_BACKGROUND, ids=ids)
def test_a_drive_that_never_ends_is_given_up(lab: Lab, technique: T, device: Device) -> None:
    bench, book = lab(technique, device, fault.STUCK_AT_99), Book()
    order = Order(bench)
    order.timeout = 200.0
    verdict = order.carry_out(book)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "200 s" in verdict.failure
    assert "erase-checked" not in book.kinds, "nothing can be read from a drive that is at work"


@pytest.mark.parametrize(("technique", "device"), IN_BACKGROUND, ids=ids)
def test_another_order_meanwhile_is_not_begun(lab: Lab, technique: T, device: Device) -> None:
    def die(number: int) -> None:
        if number == 2:
            raise Crash

    bench, first, second = lab(technique, device), Book(), Book()
    order = Order(bench)
    with pytest.raises(Crash):
        order.carry_out(first, Stop(bench.clock, die))
    verdict = order.carry_out(second)
    assert verdict.outcome is Outcome.FAILED
    assert second.target(0).erasure.ended.end == "not-begun"
    verdict = order.carry_out(first.reopened())
    if (
        technique is T.OPAL_REVERT
    ):  # it takes writes all the while: the canaries of the second, by the same key
        assert "can still be read" in verdict.failure
        return
    assert verdict.outcome is Outcome.SANITIZED, verdict.failure


@pytest.mark.parametrize(("technique", "device"), ONE_OF_EACH, ids=ids)
def test_the_same_drive_twice(lab: Lab, technique: T, device: Device) -> None:
    """The second time the drive still says *completed* of the first; it has to be erased all the same."""
    bench = lab(technique, device)
    for _ in range(2):
        book = Book()
        verdict = Order(bench).carry_out(book)
        assert verdict.outcome is Outcome.SANITIZED, verdict.failure
        assert bench.left() == 0
        assert "erase-accepted" in book.kinds
        bench.refill()
        assert bench.left() > 200_000


def test_an_old_completed_is_not_taken_for_it(lab: Lab) -> None:
    """NVMe: the drive has done one, and does nothing the next time, saying *completed* as before."""
    bench = lab(T.NVME_SANITIZE_BLOCK, b.NVME)
    assert Order(bench).carry_out(Book()).outcome is Outcome.SANITIZED
    bench.refill()
    bench.drive.switch("stale-status", True)
    verdict = Order(bench).carry_out(Book())
    assert verdict.outcome is Outcome.FAILED
    assert bench.left()


def test_an_old_completed_after_a_forgotten_one_is_not_taken_for_it(lab: Lab) -> None:
    """The same, with a command that was seen at work and then forgotten over a loss of power."""

    def die(number: int) -> None:
        if number == 3:
            raise Crash

    bench, book = lab(T.NVME_SANITIZE_BLOCK, b.NVME), Book()
    assert Order(bench).carry_out(Book()).outcome is Outcome.SANITIZED
    bench.refill()
    bench.drive.switch(fault.FORGETS, True)
    order = Order(bench)
    with pytest.raises(Crash):
        order.carry_out(book, Stop(bench.clock, die))
    bench.power_cut()
    verdict = order.carry_out(book.reopened())
    assert verdict.outcome is Outcome.FAILED
    assert "can still be read" in verdict.failure


def test_a_drive_that_is_silent_for_too_long(lab: Lab) -> None:
    bench, book = lab(T.SCSI_SANITIZE_BLOCK, b.SAS_SSD, fault.REFUSES_WHILE_BUSY), Book()
    order = Order(bench)
    order.patience, order.timeout = 30.0, 100.0
    verdict = order.carry_out(book)
    assert verdict.outcome is Outcome.UNKNOWN, "it answered, but never said how far it was"
    assert "100 s" in verdict.failure


def test_it_is_told_from_a_real_journal(lab: Lab, tmp_path: Path) -> None:
    """The same over the ledger and the journal on disk, with a crash in between."""
    now: Callable[[], datetime] = lambda: datetime(2026, 3, 2, tzinfo=UTC)  # noqa: E731

    def die(number: int) -> None:
        if number == 2:
            raise Crash

    bench = lab(T.NVME_SANITIZE_CRYPTO, b.NVME)
    order = Order(bench)
    with Journal(tmp_path / "journal", "boot") as journal, pytest.raises(Crash):
        order.carry_out(Ledger(journal, now), Stop(bench.clock, die))  # type: ignore[arg-type]
    with Journal(tmp_path / "journal", "boot") as journal:
        ledger = Ledger(journal, now)
        assert ledger.target(0).erasure.under_way
        verdict = order.carry_out(ledger)  # type: ignore[arg-type]
        assert verdict.outcome is Outcome.SANITIZED, verdict.failure
        assert ledger.target(0).erasure.attempts == 1
