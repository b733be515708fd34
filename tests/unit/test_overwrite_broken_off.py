"""What breaks off in the middle is told as far as it came, and nothing is told twice when it goes on."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from expunge_agent.core.progress import MAX_FRUITLESS_RESUMES
from expunge_agent.engine import writer
from expunge_agent.engine.confidence import drawn
from expunge_agent.engine.problems import Limits
from expunge_agent.engine.ranges import samples
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.journal import Journal
from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.order import ProfileRef
from expunge_agent.protocol.receipt import PassResult, Receipt
from expunge_agent.techniques import pass_watch
from expunge_agent.wipe import run_order
from expunge_profiles.load import builtin
from expunge_profiles.schema import Verification
from support.agents import Bench, Crash, surroundings

BLOCK = 512
CHUNK = 64 * 1024
SIZE = 48 * CHUNK + 777
HALF = 24 * CHUNK
END = 40 * CHUNK // BLOCK - 1
"""The last block of a piece."""
OLD = b"\xa5"
ONE = Tuning(chunk=CHUNK, stripes=1)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(OLD * SIZE)
    return path


def failing(monkeypatch: pytest.MonkeyPatch, bad: set[int], refused: int = -1) -> None:
    """Writes that touch one of the `bad` blocks fail; those that touch `refused`, and no bad one, are forbidden."""
    original = Target.write

    def write(self: Target, view: memoryview, offset: int) -> None:
        touched = range(offset // BLOCK, -(-(offset + len(view)) // BLOCK))
        if not bad.isdisjoint(touched):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if refused in touched:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        original(self, view, offset)

    monkeypatch.setattr(Target, "write", write)
    monkeypatch.setattr(Target, "_ask_block", lambda self: BLOCK)


def crash_when(monkeypatch: pytest.MonkeyPatch, matches: Callable[[str, Any], bool]) -> None:
    """Die right after a record that `matches` is durable."""
    original = Journal.append

    def append(self: Journal, kind: str, at: str, data: dict[str, Any]) -> object:
        record = original(self, kind, at, data)
        if matches(kind, data):
            raise Crash
        return record

    monkeypatch.setattr(Journal, "append", append)


def is_broken_off(kind: str, data: dict[str, Any]) -> bool:
    return kind == "checkpoint" and bool(data["checkpoint"].broken_off)


def go_on(bench: Bench, digest: str, **around: object) -> Receipt:
    sealed = run_order(bench.state, digest, surroundings(tuning=ONE, **around))
    assert sealed is not None
    return bench.checked(sealed)


def blocks(result: PassResult) -> set[int]:
    """The blocks that a pass lists as failed."""
    return {
        number
        for one in result.errors
        for number in range(one.range.start // BLOCK, -(-(one.range.start + one.range.length) // BLOCK))
    }


def test_a_medium_that_breaks_off_has_its_errors_in_the_receipt(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, {3, *range(HALF // BLOCK, END)}, END)
    receipt = bench.run(bench.order(image, policy="zero"), tuning=ONE, checkpoint_seconds=3600)
    assert receipt.outcome is Outcome.FAILED
    assert "could not go on" in receipt.targets[0].failure
    (only,) = receipt.targets[0].passes
    assert not only.complete
    assert blocks(only) == {3, *range(HALF // BLOCK, END)}
    assert int(only.error_bytes) == sum(one.range.length for one in only.errors)
    assert int(only.error_count) == len(only.errors)
    assert int(only.bytes_written) == HALF - BLOCK, "what is durable, without the bad blocks in it"
    assert only.io_mode not in ("", "not known")
    assert image.read_bytes() == bytes(3 * BLOCK) + OLD * BLOCK + bytes(HALF - 4 * BLOCK) + OLD * (
        SIZE - HALF
    )


@pytest.mark.parametrize("still", [set(), {40 * CHUNK // BLOCK - 1}, {39 * CHUNK // BLOCK, SIZE // BLOCK}])
def test_errors_met_again_after_a_crash_count_once(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch, still: set[int]
) -> None:
    """Broken off, written down, killed before the receipt; when it goes on some blocks work again."""
    bad = {3, *range(HALF // BLOCK, END)}
    piece = 39 * CHUNK  # the one that was refused
    digest = bench.hand_in(*bench.sign(bench.order(image, policy="zero")))
    with monkeypatch.context() as patched:
        failing(patched, bad, END)
        crash_when(patched, is_broken_off)
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings(tuning=ONE))
    failing(monkeypatch, still)
    receipt = go_on(bench, digest)
    (only,) = receipt.targets[0].passes
    assert only.complete
    assert [int(one) for one in only.resumed_at] == [piece]
    # What failed below the place it went on from was not tried again; all above was.
    expected = still | {number for number in bad if number * BLOCK < piece}
    lost = sum(min((number + 1) * BLOCK, SIZE) - number * BLOCK for number in expected)
    assert blocks(only) == expected
    assert (int(only.error_count), int(only.error_bytes)) == (len(only.errors), lost)
    assert int(only.bytes_written) == SIZE - lost
    assert image.read_bytes().count(OLD) == lost


def test_a_dead_region_beyond_all_fine_work_leaves_the_rest_written(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again beyond the fine work; the receipt lists neither less nor more than failed."""
    size, dead = 96 * CHUNK, range(20 * CHUNK // BLOCK, 50 * CHUNK // BLOCK)
    image = tmp_path / "large.img"
    image.write_bytes(OLD * size)
    failing(monkeypatch, {3, *dead})
    digest = bench.hand_in(*bench.sign(bench.order(image, policy="zero")))
    write, next_death, deaths = Target.write, 24 * CHUNK, 0

    def slow(self: Target, view: memoryview, offset: int) -> None:
        if len(view) == CHUNK:
            time.sleep(0.01)  # so that there are checkpoints between
        write(self, view, offset)

    def coarse(kind: str, data: dict[str, Any]) -> bool:
        nonlocal next_death
        if kind != "checkpoint" or (durable := int(data["checkpoint"].durable)) < next_death:
            return False
        next_death = durable + 4 * CHUNK  # a new run begins with two chunks of fine work
        return True

    monkeypatch.setattr(Target, "write", slow)
    monkeypatch.setattr(writer, "TICK", 0.0005)
    monkeypatch.setattr(writer, "Limits", lambda: Limits(bad_blocks=2 * CHUNK // BLOCK))
    with monkeypatch.context() as patched:
        crash_when(patched, coarse)
        while True:
            try:
                run_order(bench.state, digest, surroundings(tuning=ONE, checkpoint_seconds=0.0))
                break
            except Crash:
                deaths += 1
    assert deaths >= 2
    receipt = bench.checked(Outbox(bench.state.root).get(1))
    (only,) = receipt.targets[0].passes
    assert only.complete
    assert blocks(only) == {3, *dead}
    assert sum(one.range.length for one in only.errors) == only.error_bytes == (1 + len(dead)) * BLOCK
    assert only.bytes_written == size - only.error_bytes
    assert receipt.outcome is Outcome.EXCEPTIONS
    assert image.read_bytes() == b"".join(
        (OLD if at in (3, *dead) else b"\0") * BLOCK for at in range(size // BLOCK)
    )


def test_a_medium_that_is_mostly_dead_has_failed(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, {*range(HALF // BLOCK, SIZE // BLOCK + 1)})
    receipt = bench.run(bench.order(image, policy="zero"), tuning=ONE)
    assert receipt.outcome is Outcome.FAILED
    assert f"could not write most of it: {SIZE - HALF} of {SIZE} bytes" in receipt.targets[0].failure
    (only,) = receipt.targets[0].passes
    assert (only.complete, only.bytes_written) == (True, HALF)
    assert image.read_bytes() == bytes(HALF) + OLD * (SIZE - HALF)


def test_a_medium_that_is_gone_and_back_again_and_again_gets_no_further(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a broken pass or verification writes down is no gain: the count of fruitless goes stays."""
    original, tries = Target.write, 0

    def write(self: Target, view: memoryview, offset: int) -> None:
        nonlocal tries
        tries += 1
        if tries > 1000:
            raise Crash
        if offset >= HALF:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        original(self, view, offset)

    monkeypatch.setattr(Target, "write", write)
    receipt = bench.run(bench.order(image), tuning=ONE)
    assert receipt.outcome is Outcome.FAILED
    assert MAX_FRUITLESS_RESUMES <= len(receipt.interruptions) < 4 * MAX_FRUITLESS_RESUMES


def reading(monkeypatch: pytest.MonkeyPatch, after: int, then: Callable[[], None]) -> None:
    """Call `then` at each read once `after` bytes were read in chunks, as verifications do."""
    original, read = Target.read_into, 0

    def read_into(self: Target, view: memoryview, offset: int) -> None:
        nonlocal read
        read += len(view)
        if read > after:
            then()
        original(self, view, offset)

    monkeypatch.setattr(Target, "read_into", read_into)
    monkeypatch.setattr(pass_watch, "spots", lambda *_: [])


def test_a_verification_that_breaks_off_is_in_the_receipt(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    reading(monkeypatch, HALF, gone)
    receipt = bench.run(bench.order(image), tuning=ONE)
    assert receipt.outcome is Outcome.FAILED
    (check,) = receipt.targets[0].verifications
    assert (check.of_pass, check.complete, int(check.bytes_read)) == (1, False, HALF)
    assert (check.kind, int(check.bytes_expected), check.finished_at) == ("full", SIZE, "")


def test_a_verification_that_is_stopped_is_in_the_receipt(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    reading(monkeypatch, HALF, stop.set)
    receipt = bench.run(bench.order(image), tuning=ONE, stop=stop)
    assert receipt.outcome is Outcome.INTERRUPTED
    (check,) = receipt.targets[0].verifications
    assert (check.of_pass, check.complete, int(check.mismatched_bytes)) == (1, False, 0)
    assert HALF <= int(check.bytes_read) < SIZE


def test_a_verification_that_was_broken_off_is_taken_again(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one between passes, which a restart otherwise takes as done."""
    digest = bench.hand_in(*bench.sign(bench.order(image, policy="ncsc-tg-025")))
    stop, pause = threading.Event(), threading.Event()

    def halt() -> None:
        pause.set()
        stop.set()

    with monkeypatch.context() as patched:
        reading(patched, HALF, halt)
        assert run_order(bench.state, digest, surroundings(tuning=ONE, stop=stop, pause=pause)) is None
    receipt = go_on(bench, digest)
    assert receipt.outcome is Outcome.SANITIZED
    checks = receipt.targets[0].verifications
    assert [(check.of_pass, check.complete, int(check.bytes_read)) for check in checks] == [
        (index, True, SIZE) for index in range(3)
    ]


def test_a_stopped_pass_tells_how_bytes_travelled(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, original = threading.Event(), Target.write

    def write(self: Target, view: memoryview, offset: int) -> None:
        original(self, view, offset)
        stop.set()

    monkeypatch.setattr(Target, "write", write)
    receipt = bench.run(bench.order(image), tuning=ONE, stop=stop)
    (only,) = receipt.targets[0].passes
    assert only.io_mode not in ("", "not known")
    assert 0 < int(only.bytes_written) < SIZE


@pytest.mark.parametrize("buffered", [False, True])
def test_a_medium_that_lost_what_it_confirmed_is_found_before_a_pass_goes_on(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch, buffered: bool
) -> None:
    if buffered:
        monkeypatch.setattr(Target, "_open_direct", lambda self, block: (-1, self.block))
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    with monkeypatch.context() as patched:
        crash_when(patched, lambda kind, data: kind == "checkpoint")
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings(tuning=ONE))
    with Journal(bench.state.order_folder(digest) / "journal.jsonl", "b") as journal:
        durable = int(journal.records[-1].data["checkpoint"]["durable"])
    assert durable >= CHUNK
    with image.open("r+b") as file:
        file.write(OLD * durable)
    receipt = go_on(bench, digest)
    assert receipt.outcome is Outcome.FAILED
    assert "what came back is not what was written: another medium" in receipt.targets[0].failure
    (only,) = receipt.targets[0].passes
    assert only.resumed_at == []
    assert int(only.error_count) > 0
    assert only.errors[0].what.startswith("spot check: ")
    assert int(only.bytes_written) == max(0, durable - int(only.error_bytes))
    assert int(only.conduct.spot_checked) > 0
    assert image.read_bytes() == OLD * durable + image.read_bytes()[durable:]


def test_bad_blocks_below_are_no_lie_when_a_pass_goes_on(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = set(range(5))
    digest = bench.hand_in(*bench.sign(bench.order(image, policy="zero")))
    failing(monkeypatch, bad)
    with monkeypatch.context() as patched:
        crash_when(patched, lambda kind, data: kind == "checkpoint")
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings(tuning=ONE))
    receipt = go_on(bench, digest)
    assert receipt.targets[0].passes[0].complete
    assert blocks(receipt.targets[0].passes[0]) == bad


@pytest.mark.parametrize(
    "rule",
    [
        Verification(kind="sampled", after="last", rule="nist-800-88r1"),
        Verification(kind="sampled", after="last", confidence_ppm=990_000, max_unsanitized_ppm=10_000),
    ],
    ids=["nist", "confidence"],
)
@pytest.mark.parametrize("block", [512, 4096])
def test_sampled_places_are_found_again_from_the_receipt_alone(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Verification, block: int
) -> None:
    image = tmp_path / "large.img"
    size = 40_000 * 4096 + 100
    with image.open("wb") as file:
        file.truncate(size)
    read: set[int] = set()
    original, passes = Target.read_into, 0

    def read_into(self: Target, view: memoryview, offset: int) -> None:
        original(self, view, offset)
        if passes:
            read.update(range(offset // BLOCK, -(-(offset + len(view)) // BLOCK)))

    def started(self: Any, of_pass: int) -> None:
        nonlocal passes
        passes += 1

    monkeypatch.setattr(Target, "read_into", read_into)
    monkeypatch.setattr("expunge_agent.steps.Steps.verify_started", started)
    monkeypatch.setattr(Target, "_open_direct", lambda self, asked: (-1, block))
    policy = msgspec.structs.replace(builtin()["zero"], verification=rule)
    wanted = ProfileRef(id=policy.id, version=policy.version, digest=policy.digest)
    order = bench.order(image, profile=wanted)
    receipt = bench.run(order, profiles={policy.id: policy}, tuning=Tuning(), checkpoint_seconds=3600)
    (result,) = receipt.targets
    (check,) = result.verifications
    assert check.block == block
    where = int(result.target.identity.size), check.block, bytes.fromhex(check.seed)
    again = list(drawn(*where, 10_000, 990_000)) if "ppm" in check.rule else list(samples(*where))
    assert sum(place.length for place in again) == check.bytes_read < size
    assert read == {
        number for place in again for number in range(place.start // BLOCK, -(-place.end // BLOCK))
    }


def test_nothing_since_the_last_checkpoint_is_believed_of_a_medium_that_lied(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It confirms all writes and drops those of the second half; the spot check reads other bytes there."""
    original, kept = Target.write, 0

    def write(self: Target, view: memoryview, offset: int) -> None:
        nonlocal kept
        if not self.direct:
            pytest.skip("no direct I/O here, so nothing is read back on the way")
        if offset < HALF:
            original(self, view, offset)
            kept = offset + len(view)

    monkeypatch.setattr(Target, "write", write)
    receipt = bench.run(bench.order(image, policy="zero"), tuning=ONE, checkpoint_seconds=3600)
    assert receipt.outcome is Outcome.FAILED
    (only,) = receipt.targets[0].passes
    assert int(only.bytes_written) == 0, "no checkpoint was kept before"
    assert int(only.error_count) == len(only.errors) > 0
    assert all(one.what == "spot check: byte 0xa5 throughout" for one in only.errors)
    assert all(one.range.start >= HALF == kept for one in only.errors)
    assert 0 < int(only.error_bytes) < int(only.conduct.spot_checked)
