"""Whole orders on real files: what is left behind, what the receipt says, and what a crash costs."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from expunge_agent.core.progress import MAX_FRUITLESS_RESUMES, RunProgress
from expunge_agent.engine.confidence import drawn
from expunge_agent.engine.ranges import samples
from expunge_agent.engine.sources import KeyedStream
from expunge_agent.engine.target import Target
from expunge_agent.errors import BusyError, NoSpaceError, StateError
from expunge_agent.events import EventLog
from expunge_agent.journal import Journal
from expunge_agent.outbox import Outbox
from expunge_agent.protocol import wire
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64, sha256_hex
from expunge_agent.protocol.event import Event
from expunge_agent.protocol.order import MAX_ORDER, ProfileRef
from expunge_agent.protocol.receipt import MAX_RECEIPT, NO_RECEIPT_BEFORE, Reason, Receipt, parse_statement
from expunge_agent.protocol.receipt_parts import ByteRange, RangeProblem
from expunge_agent.sealing import Findings, Place, compose
from expunge_agent.state import State
from expunge_agent.surroundings import Surroundings
from expunge_agent.wipe import run_order
from expunge_profiles.load import builtin
from expunge_profiles.schema import Verification
from support import evidence
from support.agents import Bench, Crash, surroundings

SIZE = 3 * 1024 * 1024 + 777
RECORD = b"RECORD 4711 "


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes((RECORD * (SIZE // len(RECORD) + 1))[:SIZE])
    return path


def left_behind(receipt: Receipt) -> bytes:
    """What the sealed keyed stream of the last pass must have left, from the receipt alone."""
    stream = receipt.targets[0].passes[-1].stream
    assert stream is not None
    data = bytearray(SIZE)
    KeyedStream(stream.cipher, bytes.fromhex(stream.key)).fill(memoryview(data), 0)
    return bytes(data)


def test_the_receipt_describes_what_is_on_the_medium(bench: Bench, image: Path) -> None:
    receipt = bench.run(bench.order(image))
    assert image.read_bytes() == left_behind(receipt)
    (result,) = receipt.targets
    assert receipt.outcome is result.outcome is Outcome.SANITIZED
    assert result.level_achieved is Level.CLEAR
    assert result.identity_before == result.identity_opened == result.identity_after == result.target.identity
    assert [int(one.bytes_written) for one in result.passes] == [SIZE, SIZE]
    (check,) = result.verifications
    assert (check.kind, check.of_pass, check.bytes_read, check.mismatched_bytes) == ("full", 1, SIZE, 0)
    assert receipt.limitations
    assert result.not_covered


def test_a_profile_without_verification_claims_no_level(bench: Bench, image: Path) -> None:
    receipt = bench.run(bench.order(image, policy="zero"))
    assert receipt.outcome is Outcome.EXCEPTIONS
    assert receipt.level_achieved is Level.NONE
    assert "read back" in receipt.targets[0].exceptions[0]
    assert image.read_bytes() == bytes(SIZE)


def test_counters_and_chain(bench: Bench, tmp_path: Path) -> None:
    receipts = []
    for name in "abc":
        path = tmp_path / name
        path.write_bytes(b"data")
        receipts.append(bench.run(bench.order(path)))
    assert [int(receipt.counter) for receipt in receipts] == [1, 2, 3]
    sealed = list(Outbox(bench.state.root).all())
    assert [receipt.previous for receipt in receipts] == [
        NO_RECEIPT_BEFORE,
        sealed[0].digest,
        sealed[1].digest,
    ]


def crash_at(step: int) -> Callable[[Journal], None]:
    """Make the journal crash the process just before or after its `step`-th record is durable."""
    count = 0
    original = Journal.append

    def append(self: Journal, kind: str, at: str, data: dict[str, object]) -> object:
        nonlocal count
        count += 1
        if count == step:
            raise Crash
        record = original(self, kind, at, data)
        if count == -step:
            raise Crash
        return record

    def install(_: object = None) -> None:
        Journal.append = append  # type: ignore[method-assign,assignment]

    install.restore = lambda: setattr(Journal, "append", original)  # type: ignore[attr-defined]
    return install


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_record_loses_nothing(tmp_path: Path, after: bool) -> None:
    """Crash at record 1, 2, 3, … until a run gets through; each time the restart must finish the order."""
    for step in range(1, 200):
        folder = tmp_path / str(step)
        folder.mkdir()
        bench = Bench.make(folder / "state")
        image = folder / "disk.img"
        image.write_bytes((RECORD * (SIZE // len(RECORD) + 1))[:SIZE])
        digest = bench.hand_in(*bench.sign(bench.order(image)))
        patch = crash_at(-step if after else step)
        patch(None)  # type: ignore[arg-type]
        crashed = False
        try:
            run_order(bench.state, digest, surroundings())
        except Crash:
            crashed = True
        finally:
            patch.restore()  # type: ignore[attr-defined]
        sealed = run_order(bench.state, digest, surroundings())
        assert sealed is not None
        receipt = bench.checked(sealed)
        assert receipt.outcome is Outcome.SANITIZED, (step, receipt)
        assert image.read_bytes() == left_behind(receipt), step
        assert [int(one.bytes_written) for one in receipt.targets[0].passes] == [SIZE, SIZE]
        assert bench.state.unfinished() == []
        image.unlink()
        if not crashed:
            assert step > 8, "the crash was hardly ever injected"
            return
    pytest.fail("no run got through")


def test_an_interruption_is_in_the_receipt_with_the_offset_it_went_on_from(bench: Bench, image: Path) -> None:
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    pause = threading.Event()
    stop = threading.Event()
    written = 0
    original = Target.write

    def write(self: Target, view: memoryview, offset: int) -> None:
        nonlocal written
        original(self, view, offset)
        written += len(view)
        if written > SIZE // 2:
            pause.set()
            stop.set()

    Target.write = write  # type: ignore[method-assign]
    try:
        assert run_order(bench.state, digest, surroundings(stop=stop, pause=pause)) is None
    finally:
        Target.write = original  # type: ignore[method-assign]
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    assert receipt.outcome is Outcome.SANITIZED
    assert [one.decision for one in receipt.interruptions] == ["resumed"]
    (resumed_at,) = receipt.targets[0].passes[0].resumed_at
    assert 0 < resumed_at < SIZE
    assert int(receipt.targets[0].passes[0].bytes_written) == SIZE
    assert image.read_bytes() == left_behind(receipt)


def test_a_stop_is_sealed_as_interrupted_and_claims_only_what_was_done(bench: Bench, image: Path) -> None:
    stop = threading.Event()
    original = Target.write

    def write(self: Target, view: memoryview, offset: int) -> None:
        original(self, view, offset)
        stop.set()

    Target.write = write  # type: ignore[method-assign]
    try:
        receipt = bench.run(bench.order(image), stop=stop)
    finally:
        Target.write = original  # type: ignore[method-assign]
    assert receipt.outcome is Outcome.INTERRUPTED
    assert receipt.level_achieved is Level.NONE
    (only,) = receipt.targets[0].passes
    assert not only.complete
    done = int(only.bytes_written)
    assert 0 < done < SIZE
    assert image.read_bytes()[:done] == bytes(done)


def test_an_order_that_breaks_off_again_and_again_is_given_up(bench: Bench, image: Path) -> None:
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    original = Target.write

    def write(self: Target, view: memoryview, offset: int) -> None:
        raise Crash

    Target.write = write  # type: ignore[method-assign]
    try:
        for _ in range(MAX_FRUITLESS_RESUMES + 3):
            try:
                sealed = run_order(bench.state, digest, surroundings())
            except Crash:
                continue
            assert sealed is not None
            receipt = bench.checked(sealed)
            assert receipt.outcome is Outcome.INTERRUPTED
            assert receipt.interruptions[-1].decision == "given-up"
            return
    finally:
        Target.write = original  # type: ignore[method-assign]
    pytest.fail("it went on for ever")


def test_deliberate_pauses_never_end_an_order(bench: Bench, image: Path) -> None:
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    for _ in range(MAX_FRUITLESS_RESUMES + 3):
        around = surroundings()

        def pause(event: Event, around: Surroundings = around) -> None:
            if event.title.startswith("verify"):
                around.pause.set()
                around.stop.set()

        folder = bench.state.order_folder(digest)
        folder.mkdir(parents=True, exist_ok=True)
        events = EventLog(folder / "events.jsonl", digest, around.now, pause)
        assert run_order(bench.state, digest, around, events) is None
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    assert receipt.outcome is Outcome.SANITIZED
    assert len(receipt.interruptions) == MAX_FRUITLESS_RESUMES + 3


def test_a_damaged_journal_ends_as_unknown(bench: Bench, image: Path) -> None:
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    patch = crash_at(8)
    patch(None)  # type: ignore[arg-type]
    try:
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings())
    finally:
        patch.restore()  # type: ignore[attr-defined]
    path = bench.state.order_folder(digest) / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"n":2', b'"n":3', 1))
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    assert receipt.outcome is Outcome.UNKNOWN
    assert receipt.level_achieved is Level.NONE
    assert "damaged" in receipt.targets[0].failure


def test_a_target_that_shrinks_during_the_pass_fails(bench: Bench, image: Path) -> None:
    original = Target.write

    def write(self: Target, view: memoryview, offset: int) -> None:
        original(self, view, offset)
        os.truncate(image, SIZE // 2)

    Target.write = write  # type: ignore[method-assign]
    try:
        receipt = bench.run(bench.order(image))
    finally:
        Target.write = original  # type: ignore[method-assign]
    assert receipt.outcome is Outcome.FAILED
    assert receipt.level_achieved is Level.NONE
    assert "smaller" in receipt.targets[0].failure


def test_a_target_replaced_during_the_run_fails(bench: Bench, image: Path) -> None:
    original = Target.write

    def write(self: Target, view: memoryview, offset: int) -> None:
        original(self, view, offset)
        image.unlink(missing_ok=True)
        image.write_bytes(b"another file")

    Target.write = write  # type: ignore[method-assign]
    try:
        receipt = bench.run(bench.order(image))
    finally:
        Target.write = original  # type: ignore[method-assign]
    assert receipt.outcome is Outcome.FAILED, receipt.targets[0].failure
    assert image.read_bytes() == b"another file"


def test_a_target_exchanged_while_the_agent_was_down_is_left_alone(bench: Bench, image: Path) -> None:
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    patch = crash_at(8)
    patch(None)  # type: ignore[arg-type]
    try:
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings())
    finally:
        patch.restore()  # type: ignore[attr-defined]
    image.rename(image.with_name("old.img"))
    image.write_bytes(b"new life " * 1000)
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    assert receipt.outcome is Outcome.INTERRUPTED
    assert receipt.targets[0].refusal is not None
    assert image.read_bytes() == b"new life " * 1000


def test_a_full_disk_stops_before_anything_that_is_not_journalled(
    bench: Bench, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing, on a small tmpfs, is a device test; here the write of one record fails."""
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    before = image.read_bytes()
    real, calls = os.fdatasync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += os.readlink(f"/proc/self/fd/{descriptor}").endswith("journal.jsonl")
        if calls == 5:  # accepted, planned, opening, opened went through; pass-started does not
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(NoSpaceError):
        run_order(bench.state, digest, surroundings())
    assert image.read_bytes() == before
    monkeypatch.undo()
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    assert bench.checked(sealed).outcome is Outcome.SANITIZED


def test_two_runs_of_one_order_do_not_meet(bench: Bench, image: Path) -> None:
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    with bench.state.order_lock(digest), pytest.raises(BusyError):
        run_order(bench.state, digest, surroundings())


def test_a_copied_state_folder_is_noticed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expunge_agent.devices.host.machine_id", lambda: "ab" * 32)
    with pytest.raises(StateError, match="another machine"):
        State.open(bench.state.root)


def test_a_spooled_order_that_is_not_its_digest_is_not_taken(bench: Bench, image: Path) -> None:
    body, signature = bench.sign(bench.order(image))
    digest = bench.hand_in(body, signature)
    (bench.state.root / "spool" / digest / "order.json").write_bytes(body + b" ")
    with pytest.raises(StateError, match="altered"):
        run_order(bench.state, digest, surroundings())


@pytest.mark.parametrize(
    "rule",
    [
        Verification(kind="sampled", after="last", rule="nist-800-88r1"),
        Verification(kind="sampled", after="last", confidence_ppm=990_000, max_unsanitized_ppm=10_000),
    ],
    ids=["nist", "confidence"],
)
def test_a_sampled_verification_names_its_places(bench: Bench, tmp_path: Path, rule: Verification) -> None:
    """The seed and the rule in the receipt lead to the very bytes that were read."""
    size = 40_000 * 512 * 2 + 100
    image = tmp_path / "large.img"
    image.write_bytes((RECORD * (size // len(RECORD) + 1))[:size])
    policy = msgspec.structs.replace(builtin()["random-verified"], verification=rule)
    wanted = ProfileRef(id=policy.id, version=policy.version, digest=policy.digest)
    receipt = bench.run(bench.order(image, profile=wanted), profiles={policy.id: policy})
    assert receipt.outcome is Outcome.SANITIZED
    (check,) = receipt.targets[0].verifications
    assert check.kind == "sampled"
    seed = bytes.fromhex(check.seed)
    again = list(samples(size, 512, seed)) if rule.rule else list(drawn(size, 512, seed, 10_000, 990_000))
    assert 0 < sum(place.length for place in again) == check.bytes_read < size


def begun_and_broken_off(bench: Bench, *paths: Path, at: int, policy: str = "random-verified") -> str:
    """An order whose run crashed after its record number `at`; its digest."""
    digest = bench.hand_in(*bench.sign(bench.order(*paths, policy=policy)))
    patch = crash_at(-at)
    patch(None)  # type: ignore[arg-type]
    try:
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings(parallel=1))
    finally:
        patch.restore()  # type: ignore[attr-defined]
    return digest


def kinds(bench: Bench, digest: str) -> list[str]:
    with Journal(bench.state.order_folder(digest) / "journal.jsonl", "b") as journal:
        return [record.kind for record in journal.records]


def test_an_order_once_begun_is_never_refused(bench: Bench, image: Path) -> None:
    """Neither a profile that has gone nor a controller that is no longer pinned undoes what was done."""
    digest = begun_and_broken_off(bench, image, at=9)
    bench.state.trust([])
    sealed = run_order(bench.state, digest, surroundings(profiles={}))
    assert sealed is not None
    receipt = bench.checked(sealed)
    assert receipt.outcome is Outcome.SANITIZED
    assert image.read_bytes() == left_behind(receipt)


def test_what_was_read_back_before_an_interruption_is_read_back_again(bench: Bench, image: Path) -> None:
    """Nobody held the medium while the agent was down; here the old data were put back."""
    old = image.read_bytes()
    at = 1
    while True:
        digest = begun_and_broken_off(bench, image, at=at)
        if kinds(bench, digest)[-1] == "verify-finished":
            break
        run_order(bench.state, digest, surroundings())
        at += 1
    with image.open("r+b") as handle:
        handle.write(old)
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    assert receipt.outcome is Outcome.FAILED
    assert receipt.targets[0].verifications[-1].mismatched_bytes > 0


def test_a_lost_journal_ends_as_unknown_not_as_a_second_run(bench: Bench, image: Path) -> None:
    digest = begun_and_broken_off(bench, image, at=9)
    (bench.state.order_folder(digest) / "journal.jsonl").unlink()
    before = image.read_bytes()
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    assert bench.checked(sealed).outcome is Outcome.UNKNOWN
    assert image.read_bytes() == before


def test_a_crash_after_finding_the_journal_damaged_still_ends_as_unknown(bench: Bench, image: Path) -> None:
    digest = begun_and_broken_off(bench, image, at=9)
    path = bench.state.order_folder(digest) / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"n":2', b'"n":3', 1))
    patch = crash_at(2)  # the first record is the damage, the second would announce the receipt
    patch(None)  # type: ignore[arg-type]
    try:
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings())
    finally:
        patch.restore()  # type: ignore[attr-defined]
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    assert bench.checked(sealed).outcome is Outcome.UNKNOWN


def test_a_record_of_another_version_ends_as_unknown(bench: Bench, image: Path) -> None:
    digest = begun_and_broken_off(bench, image, at=9)
    with Journal(bench.state.order_folder(digest) / "journal.jsonl", "b") as journal:
        journal.append("from-the-future", "2030-01-01T00:00:00Z", {})
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    assert bench.checked(sealed).outcome is Outcome.UNKNOWN


def test_several_targets_at_once_and_a_journal_that_fails(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.img" for number in range(4)]
    for path in paths:
        path.write_bytes((RECORD * (SIZE // len(RECORD) + 1))[:SIZE])
    digest = bench.hand_in(*bench.sign(bench.order(*paths)))
    real, calls = os.fdatasync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += os.readlink(f"/proc/self/fd/{descriptor}").endswith("journal.jsonl")
        if calls == 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises((NoSpaceError, StateError)):
        run_order(bench.state, digest, surroundings())
    monkeypatch.undo()
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    assert [result.outcome for result in receipt.targets] == [Outcome.SANITIZED] * 4
    assert [interruption.decision for interruption in receipt.interruptions] == ["resumed"]


def test_a_target_named_twice_is_refused(bench: Bench, image: Path) -> None:
    before = image.read_bytes()
    receipt = bench.run(bench.order(image, image))
    assert receipt.outcome is Outcome.REFUSED
    assert receipt.refusal is not None
    assert receipt.refusal.reason is Reason.MALFORMED_ORDER
    assert image.read_bytes() == before


def test_somebody_who_takes_the_target_between_two_passes_stops_the_run(bench: Bench, image: Path) -> None:
    original = Target.flush

    def flush(self: Target) -> None:
        original(self)
        image.with_name("second name").hardlink_to(image) if not image.with_name(
            "second name"
        ).exists() else None

    Target.flush = flush  # type: ignore[method-assign]
    try:
        receipt = bench.run(bench.order(image))
    finally:
        Target.flush = original  # type: ignore[method-assign]
    assert receipt.outcome is Outcome.FAILED
    assert "names" in receipt.targets[0].failure


def test_a_medium_with_endless_bad_ranges_has_a_receipt_that_can_be_sent(bench: Bench, image: Path) -> None:
    """The list of ranges is shortened until the receipt fits a frame; totals stay."""
    many = [RangeProblem(range=ByteRange(start=U64(n), length=U64(1)), what="x" * 3000) for n in range(1000)]
    result = evidence.target_result(bench.order(image).targets[0])
    bad = msgspec.structs.replace(
        result,
        passes=[msgspec.structs.replace(one, errors=many, error_count=U64(1000)) for one in result.passes]
        * 4,
    )
    line = bench.controller.public_line
    place = Place("ab" * 32, bench.state.machine_id, line, "cd" * 32, 1, NO_RECEIPT_BEFORE)
    body = compose(Findings(None, None, None, [bad], RunProgress()), place, "2026-11-22T12:00:00Z")
    assert len(body) <= MAX_RECEIPT
    told = parse_statement(body).predicate.targets[0].passes[0]
    assert 0 < len(told.errors) < told.error_count == 1000
    assert wire.encode(wire.ReceiptMessage(order="ab" * 32, document=wire.Document.of(body, b"s" * 400)))


class TestSpool:
    """The spool belongs to an unprivileged account."""

    def test_a_link_in_it_is_removed_and_what_it_points_to_is_not(self, bench: Bench, image: Path) -> None:
        victim = begun_and_broken_off(bench, image, at=9)
        for name in (victim, "ab" * 32):
            (bench.state.root / "spool" / name).symlink_to(bench.state.order_folder(victim))
        with pytest.raises(StateError):
            run_order(bench.state, "ab" * 32, surroundings())
        assert (bench.state.order_folder(victim) / "order.json").exists()
        sealed = run_order(bench.state, victim, surroundings())
        assert sealed is not None
        assert bench.checked(sealed).outcome is Outcome.SANITIZED
        assert list((bench.state.root / "spool").iterdir()) == []

    def test_leftovers_of_a_killed_hand_over_do_no_harm(self, bench: Bench, image: Path) -> None:
        body, signature = bench.sign(bench.order(image))
        digest = sha256_hex(body)
        left = bench.state.root / "spool" / f".{digest}.0011"
        left.mkdir()
        (left / "order.json").write_bytes(body[:100])
        assert bench.state.unfinished() == []
        bench.hand_in(body, signature)
        bench.hand_in(body, signature)
        (bench.state.root / "spool" / digest / ".order.json.77.new").write_bytes(b"half")
        sealed = run_order(bench.state, digest, surroundings())
        assert sealed is not None
        assert bench.checked(sealed).outcome is Outcome.SANITIZED
        assert list((bench.state.root / "spool").iterdir()) == []

    def test_an_order_that_is_too_long_is_removed(self, bench: Bench) -> None:
        body = b"x" * (MAX_ORDER + 1)
        digest = bench.hand_in(body, b"signature")
        with pytest.raises(StateError, match="longer"):
            run_order(bench.state, digest, surroundings())
        assert bench.state.unfinished() == []

    def test_a_fifo_in_it_hangs_nobody(self, bench: Bench) -> None:
        folder = bench.state.root / "spool" / ("cd" * 32)
        folder.mkdir()
        os.mkfifo(folder / "order.json")
        with pytest.raises(StateError):
            run_order(bench.state, "cd" * 32, surroundings())


def test_of_two_orders_with_one_nonce_only_one_is_fresh(bench: Bench) -> None:
    """Claims are made in one step of the file system, so that two processes cannot both win."""
    winners = []
    barrier = threading.Barrier(8)

    def claim(number: int) -> None:
        barrier.wait()
        winners.append(bench.state.claim_once("nonce", "ab" * 16, f"{number:064x}"))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(winners) == [False] * 7 + [True]
