"""Disks that say they did what they did not: the keyed stream finds them out, and the lie is named.

Each lie is told by a real small block layer (support/fuse_disk.py), used as a file and as a loop
device over it, so that every byte goes through the kernel's own path.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from expunge_agent.engine.buffers import KIB, MIB, aligned
from expunge_agent.engine.problems import Problem
from expunge_agent.engine.sources import CIPHERS, KeyedStream, PatternSource, Source
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import VerifyReport, verify
from expunge_agent.engine.writer import write_pass
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt import Receipt
from support.agents import Bench
from support.fuse_lab import FuseDisk, FuseLab, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

SIZE = 8 * MIB
CHUNK = 64 * KIB
ONE = Tuning(chunk=CHUNK, stripes=1)
TWO = Tuning(chunk=CHUNK, stripes=2)
STREAM = KeyedStream("aes-256-ctr", bytes(range(32)))
ZEROS = PatternSource(b"\0")
RECORDS = b"".join(b"record %07d: Jane Example, 1 Main Street;\n" % number for number in range(SIZE // 40))[
    :SIZE
]


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[FuseLab]:
    with FuseLab(tmp_path.resolve()) as lab:
        yield lab


@pytest.fixture(params=["file", "loop"])
def over(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def content(source: Source, size: int = SIZE, offset: int = 0) -> bytes:
    view = aligned(size)
    source.fill(view, offset)
    return bytes(view)


def path_of(disk: FuseDisk, over: str) -> Path:
    return disk.path if over == "file" else Path(disk.loop())


def wiped(
    disk: FuseDisk, over: str, source: Source = STREAM, tuning: Tuning = TWO
) -> tuple[Target, VerifyReport]:
    """One pass of `source`, which the disk confirms, and what reading back finds."""
    target = disk.open(path_of(disk, over))
    report = write_pass(target, source, tuning=tuning)
    assert report.complete, "the disk is to lie, not to fail"
    assert (report.problems, report.bytes_written) == ([], SIZE)
    back = verify(target, source, tuning=tuning)
    assert back.complete
    assert back.reads_medium
    return target, back


def seen(target: Target) -> bytes:
    """What the disk shows to anybody who reads it."""
    view = aligned(target.size)
    target.read_into(view, 0)
    return bytes(view)


def differing(one: bytes, other: bytes) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def covered(problems: list[Problem]) -> int:
    return sum(one.length for one in problems)


def exact(target: Target, back: VerifyReport, source: Source = STREAM) -> None:
    """The count is exact and no difference lies outside the ranges."""
    there, expected = seen(target), content(source)
    assert back.mismatched_bytes == differing(there, expected) > 0
    mended = bytearray(there)
    for one in back.mismatches:
        mended[one.start : one.end] = expected[one.start : one.end]
    assert mended == expected


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (RECORDS, "old data"),
        (bytes(SIZE), "zeros"),
        (b"\xff" * SIZE, "0xFF"),
        (b"\x5a" * SIZE, "byte 0x5a throughout"),
        (random.Random(7).randbytes(SIZE), "noise"),
    ],
    ids=["records", "zeros", "ff", "5a", "noise"],
)
def test_a_disk_that_drops_every_write(disks: FuseLab, over: str, before: bytes, name: str) -> None:
    disk = disks.disk(before)
    disk.set(drop_every=1)
    target, back = wiped(disk, over)
    assert not back.clean
    assert disk.truth() == before
    assert back.mismatched_bytes == differing(before, content(STREAM))
    assert {one.what for one in back.mismatches} == {name}
    assert back.looks == [f"{name} ({covered(back.mismatches)} bytes)"]
    assert SIZE - 4 <= covered(back.mismatches) <= SIZE
    exact(target, back)


def test_a_disk_that_drops_every_seventh_write(disks: FuseLab, over: str) -> None:
    disk = disks.disk(RECORDS)
    disk.set(drop_every=7)
    target, back = wiped(disk, over)
    assert {one.what for one in back.mismatches} == {"old data"}
    assert SIZE // 10 < covered(back.mismatches) < SIZE // 5
    exact(target, back)


def test_what_an_earlier_pass_left_is_told_from_what_was_there_before(disks: FuseLab, over: str) -> None:
    disk = disks.disk(RECORDS)
    first = KeyedStream("aes-256-ctr", bytes(32))
    target, clean = wiped(disk, over, first)
    assert clean.clean
    disk.set(drop_every=3)
    assert write_pass(target, STREAM, tuning=TWO).complete
    back = verify(target, STREAM, tuning=TWO, earlier=[first, ZEROS])
    assert {one.what for one in back.mismatches} == {"old data: keyed stream aes-256-ctr of an earlier pass"}
    exact(target, back)
    assert {one.what for one in verify(target, STREAM, tuning=TWO).mismatches} == {"noise"}


@pytest.mark.parametrize("real", [SIZE // 2, SIZE // 4, 3 * MIB, 5 * MIB + 12 * KIB], ids=str)
def test_wrapped_capacity_is_named_with_its_size(disks: FuseLab, over: str, real: int) -> None:
    disk = disks.disk(RECORDS)
    disk.set(wrap_at=real)
    target, back = wiped(disk, over, tuning=ONE)
    assert back.looks[0] == f"wrapped capacity of {real} bytes"
    whats = {one.what for one in back.mismatches}
    assert f"shifted stream: belongs {real:+d} bytes away; wrapped capacity of {real} bytes" in whats
    assert all("wrapped capacity" in what or what == "various" for what in whats)
    assert SIZE - real - CHUNK <= covered(back.mismatches) <= SIZE - real
    exact(target, back)


def test_several_stripes_do_not_hide_wrapped_capacity(disks: FuseLab) -> None:
    disk = disks.disk(RECORDS)
    disk.set(wrap_at=2 * MIB)
    _, back = wiped(disk, "file", tuning=Tuning(chunk=256 * KIB, stripes=4))
    assert back.looks[0] == f"wrapped capacity of {2 * MIB} bytes"


@pytest.mark.parametrize("real", [SIZE // 2, 3 * MIB + 12 * KIB], ids=str)
@pytest.mark.parametrize("cipher", ["aes-256-xts", "chacha20"])
def test_wrapped_capacity_is_named_under_streams_that_do_not_tell_their_place(
    disks: FuseLab, cipher: str, real: int
) -> None:
    disk = disks.disk(RECORDS)
    disk.set(wrap_at=real)
    source = KeyedStream(cipher, bytes(range(CIPHERS[cipher].key_bytes)))
    target, back = wiped(disk, "file", source, tuning=ONE)
    assert back.looks[0] == f"wrapped capacity of {real} bytes"
    assert f"shifted stream: wrapped capacity of {real} bytes" in {one.what for one in back.mismatches}
    exact(target, back, source)


@pytest.mark.parametrize(
    ("lie", "fixed"),
    [({"wrap_at": SIZE // 2}, ZEROS), ({"distinct": 1}, ZEROS), ({"keeps_first": SIZE // 2}, ZEROS)],
    ids=["wrapped", "deduplicating", "ends early"],
)
def test_fixed_patterns_are_fooled_and_the_keyed_stream_is_not(
    disks: FuseLab, over: str, lie: dict[str, int], fixed: Source
) -> None:
    """The same disk passes a whole zero pass with full verification, though it cannot hold half of it."""
    disk = disks.disk(RECORDS)
    disk.set(**lie)
    target, fooled = wiped(disk, over, fixed)
    assert fooled.clean
    if "distinct" not in lie:
        assert disk.truth()[SIZE // 2 :] == RECORDS[SIZE // 2 :], "half of the records are still there"
    assert write_pass(target, STREAM, tuning=ONE).complete
    back = verify(target, STREAM, tuning=ONE)
    assert not back.clean
    exact(target, back)


def test_a_disk_that_ends_early_is_named_with_its_end(disks: FuseLab, over: str) -> None:
    disk = disks.disk(RECORDS)
    disk.set(keeps_first=3 * MIB)
    target, back = wiped(disk, over)
    assert back.looks[0] == f"nothing is kept from byte {back.mismatches[0].start} on"
    assert 3 * MIB <= back.mismatches[0].start <= 3 * MIB + 2
    assert {one.what for one in back.mismatches} == {"zeros"}
    exact(target, back)


@pytest.mark.parametrize(
    ("stuck", "name"),
    [
        ([[17, 4, 1]], "stuck bits: bit 2 of byte 17 of every 512 always 1"),
        ([[17, 4, 0]], "stuck bits: bit 2 of byte 17 of every 512 always 0"),
        (
            [[3, 0x81, 1], [400, 2, 0]],
            "stuck bits: bit 0 of byte 3 of every 512 always 1, bit 7 of byte 3 of every 512 always 1, "
            "bit 1 of byte 400 of every 512 always 0",
        ),
        ([[place, 8, 1] for place in range(5, 512, 64)], "stuck bits: bit 3 of byte 5 of every 64 always 1"),
        ([[place, 64, 1] for place in range(512)], "stuck bits: bit 6 of every byte always 1"),
    ],
    ids=["one", "zero", "three", "bus", "line"],
)
def test_stuck_bits_are_named(disks: FuseLab, over: str, stuck: list[list[int]], name: str) -> None:
    disk = disks.disk(RECORDS)
    disk.set(stuck=stuck)
    target, back = wiped(disk, over)
    assert {one.what for one in back.mismatches} == {name}
    exact(target, back)


def test_a_bit_stuck_at_one_shows_under_zeros_too(disks: FuseLab) -> None:
    disk = disks.disk(RECORDS)
    disk.set(stuck=[[0, 1, 1]])
    target, back = wiped(disk, "file", ZEROS)
    assert back.mismatched_bytes == SIZE // 512
    assert {one.what for one in back.mismatches} == {"stuck bits: bit 0 of byte 0 of every 512 always 1"}
    exact(target, back, ZEROS)


@pytest.mark.parametrize("keeps_old", [False, True], ids=["zeros", "old data"])
def test_a_deduplicating_disk_runs_out_of_distinct_blocks(disks: FuseLab, over: str, keeps_old: bool) -> None:
    disk = disks.disk(RECORDS)
    disk.set(distinct=500, distinct_keeps_old=keeps_old)
    target, back = wiped(disk, over, tuning=ONE)
    assert {one.what for one in back.mismatches} == {"old data" if keeps_old else "zeros"}
    assert back.looks[0].startswith("nothing is kept from byte")
    assert SIZE - 500 * 4 * KIB - 8 <= covered(back.mismatches) <= SIZE - 500 * 4 * KIB
    exact(target, back)


def test_a_cache_smaller_than_the_disk_is_found_out(disks: FuseLab, over: str) -> None:
    disk = disks.disk(RECORDS)
    disk.set(cache=2 * MIB)
    target, back = wiped(disk, over)
    assert {one.what for one in back.mismatches} == {"old data"}
    assert covered(back.mismatches) >= SIZE - 2 * MIB - 8
    exact(target, back)


def test_a_sector_written_to_the_wrong_place_is_a_shift_but_no_wrapped_capacity(disks: FuseLab) -> None:
    disk = disks.disk(RECORDS)
    with closing(disk.open()) as target:
        assert write_pass(target, STREAM, tuning=TWO).complete
    with disk.backing.open("r+b") as file:
        file.seek(MIB)
        file.write(content(STREAM, 4 * KIB, 3 * MIB))
    back = verify(disk.open(), STREAM, tuning=TWO)
    assert {one.what for one in back.mismatches} == {f"shifted stream: belongs {2 * MIB:+d} bytes away"}
    assert back.looks == [f"shifted stream ({covered(back.mismatches)} bytes)"]


def test_several_lies_at_once_each_get_their_name(disks: FuseLab) -> None:
    disk = disks.disk(RECORDS)
    with closing(disk.open()) as target:
        assert write_pass(target, STREAM, tuning=TWO).complete
    with disk.backing.open("r+b") as file:
        for place, what in (
            (MIB, RECORDS[MIB : MIB + 8 * KIB]),
            (2 * MIB, bytes(512)),
            (3 * MIB, b"\xff" * 4096),
            (4 * MIB, os.urandom(64 * KIB)),
        ):
            file.seek(place)
            file.write(what)
    target = disk.open()
    back = verify(target, STREAM, tuning=TWO)
    assert [one.what for one in back.mismatches] == ["old data", "zeros", "0xFF", "noise"]
    exact(target, back)


# Whole orders: what the receipt says.


def order(disk: FuseDisk, over: str, folder: Path, policy: str = "random-verified", **around: Any) -> Receipt:
    bench = Bench.make(folder / "state")
    path = path_of(disk, over)
    return bench.run(bench.order(path, policy=policy), tuning=ONE, **around)


LIES: list[tuple[dict[str, Any], str]] = [
    ({"drop_every": 1}, "old data"),
    ({"drop_every": 5}, "old data|zeros"),  # what was there before, or what the first pass left
    ({"wrap_at": SIZE // 4}, f"wrapped capacity of {SIZE // 4} bytes"),
    ({"keeps_first": 5 * MIB}, "zeros"),
    ({"stuck": [[100, 16, 1]]}, "stuck bits: bit 4 of byte 100 of every 512 always 1"),
    ({"distinct": 300}, "zeros"),
    ({"distinct": 300, "distinct_keeps_old": True}, "zeros"),  # what the pass before left
    ({"cache": MIB}, "old data"),
]


@pytest.mark.parametrize(("lie", "name"), LIES, ids=[" ".join(map(str, lie)) for lie, _ in LIES])
def test_no_lie_ends_as_sanitized(
    disks: FuseLab, over: str, tmp_path: Path, lie: dict[str, Any], name: str
) -> None:
    disk = disks.disk(RECORDS)
    disk.set(**lie)
    receipt = order(disk, over, tmp_path)
    (result,) = receipt.targets
    assert receipt.outcome is result.outcome is Outcome.FAILED
    assert receipt.level_achieved is result.level_achieved is Level.NONE
    assert result.failure
    told = [result.failure] + [one.what for check in result.verifications for one in check.mismatches]
    assert any(re.search(re.escape(name).replace(r"\|", "|"), one) for one in told), canonical.dumps(
        receipt
    ).decode()


def test_a_disk_that_answers_nothing_is_given_up_when_the_order_s_patience_ends(
    disks: FuseLab, over: str, tmp_path: Path
) -> None:
    disk = disks.disk(RECORDS)
    disk.set(stall_after=SIZE // 2)
    receipt = order(disk, over, tmp_path, patience=1.0)
    (result,) = receipt.targets
    assert result.outcome is Outcome.FAILED
    assert result.failure.startswith("The target stopped answering: ")
    assert "no answer for 1 s" in result.failure
    disk.free()


def test_an_honest_disk_is_overwritten(disks: FuseLab, over: str, tmp_path: Path) -> None:
    """The counter-check: the same path without a lie, but for the one that is always there."""
    disk = disks.disk(RECORDS)
    receipt = order(disk, over, tmp_path)
    (exception,) = receipt.targets[0].exceptions
    assert receipt.outcome is Outcome.EXCEPTIONS, canonical.dumps(receipt).decode()
    assert "does not tell where the file lies" in exception


@pytest.mark.parametrize(
    "when", [SIZE // 2, SIZE + SIZE // 2, 3 * SIZE], ids=["pass 1", "pass 2", "read-back"]
)
def test_a_disk_that_disappears_and_comes_back_is_taken_up_where_it_was(
    disks: FuseLab, tmp_path: Path, when: int
) -> None:
    disk = disks.disk(RECORDS)
    disk.set(vanish_after=when)
    over = threading.Event()

    def come_back() -> None:
        """Half a second after it has gone."""
        while not over.wait(0.2):
            try:
                with disk.path.open("rb", buffering=0) as file:
                    file.read(1)
            except OSError:
                over.wait(0.5)
                disk.set(vanish_after=None)
                return

    back = threading.Thread(target=come_back)
    back.start()
    try:
        receipt = order(disk, "file", tmp_path, absence=20.0)
    finally:
        over.set()
        back.join()
    (result,) = receipt.targets
    assert result.outcome is Outcome.EXCEPTIONS, canonical.dumps(receipt).decode()
    assert [one.of_pass for one in result.verifications if one.complete] == [1]
    (interruption,) = receipt.interruptions
    assert interruption.what.startswith("Target 1 disappeared and came back. The target disappeared: ")
    stream = result.passes[-1].stream
    assert stream is not None
    assert disk.truth() == content(KeyedStream(stream.cipher, bytes.fromhex(stream.key)))


def test_a_disk_that_stays_away_ends_as_failed(disks: FuseLab, tmp_path: Path) -> None:
    disk = disks.disk(RECORDS)
    disk.set(vanish_after=SIZE // 2)
    receipt = order(disk, "file", tmp_path, absence=1.0)
    assert receipt.outcome is Outcome.FAILED
    assert receipt.targets[0].failure.startswith("The target disappeared")
    assert not receipt.interruptions


def test_a_disk_that_comes_and_goes_is_given_up(disks: FuseLab, tmp_path: Path) -> None:
    disk = disks.disk(RECORDS)
    disk.set(vanish_after=SIZE + SIZE // 2)
    stop = threading.Event()

    def flicker() -> None:
        while not stop.wait(0.7):
            disk.set(vanish_after=0)
            disk.set(vanish_after=KIB)

    worker = threading.Thread(target=flicker)
    worker.start()
    try:
        receipt = order(disk, "file", tmp_path, absence=3.0)
    finally:
        stop.set()
        worker.join()
    assert receipt.outcome is Outcome.FAILED
    assert receipt.targets[0].failure.startswith("The target disappeared")
