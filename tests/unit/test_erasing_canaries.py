"""Canaries: where they lie, that a single sector of one is found, what a false medium does to them; surveys count."""

from __future__ import annotations

import errno
import hashlib
import hmac
import math
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.engine import canaries
from expunge_agent.engine.canaries import BLOCK, look_for, places, plant, sampled_places
from expunge_agent.engine.problems import TargetGone, TargetRefused
from expunge_agent.engine.ranges import Range, whole
from expunge_agent.engine.sources import KeyedStream
from expunge_agent.engine.survey import UNIT, survey
from lab.drives.target import DriveTarget

MIB = 1 << 20
KEY = bytes(range(32))
SIZES = st.integers(0, 64 * MIB) | st.integers(0, 1 << 48)
KEYS = st.binary(min_size=32, max_size=32)


class Memory:
    """A disk in memory. ``real``: bytes it has (others wrap), ``bad``: blocks that fail, ``drops`` writes."""

    block = 512

    def __init__(self, size: int, *, real: int = 0, drops: bool = False) -> None:
        self._size, self.drops, self.gone = size, drops, False
        self.data = bytearray(real or size)
        self.bad: set[int] = set()
        self.number = errno.EIO

    def capacity(self) -> int:
        """See Disk."""
        if self.gone:
            raise OSError(errno.ENODEV, "gone")
        return self._size

    def read(self, lba: int, count: int) -> bytes:
        """See Disk."""
        self._meets(lba, count)
        return b"".join(self.data[self._at(one) : self._at(one) + 512] for one in range(lba, lba + count))

    def write(self, lba: int, data: bytes) -> None:
        """See Disk."""
        self._meets(lba, len(data) // 512)
        for one in range(0 if self.drops else len(data) // 512):
            self.data[self._at(lba + one) : self._at(lba + one) + 512] = data[512 * one : 512 * one + 512]

    def flush(self) -> None:
        """See Disk."""

    def _at(self, lba: int) -> int:
        return lba * 512 % len(self.data)

    def _meets(self, lba: int, count: int) -> None:
        if self.gone or self.bad & set(range(lba, lba + count)):
            raise OSError(errno.ENODEV if self.gone else self.number, "bad")


def engine(disk: Memory):  # type: ignore[no-untyped-def]
    return DriveTarget(disk)


# Places


@settings(max_examples=50, deadline=None)
@given(SIZES, KEYS)
def test_places_are_ascending_whole_blocks_of_the_medium(size: int, key: bytes) -> None:
    found, sampled = places(size, key), sampled_places(size, key)
    for one in (found, sampled):
        assert one == sorted(set(one))
        assert all(place % BLOCK == 0 and place >= 0 and place + BLOCK <= size for place in one)
    assert not set(found) & set(sampled)
    blocks = size // BLOCK
    if blocks:
        assert {0, (blocks - 1) * BLOCK} <= set(found)
    assert min(1000, math.ceil(blocks / 4)) <= len(found) <= 1002


@settings(max_examples=50, deadline=None)
@given(st.integers(BLOCK, 1 << 48), KEYS)
def test_every_section_has_one(size: int, key: bytes) -> None:
    blocks = size // BLOCK
    sections = min(1000, math.ceil(blocks / 4))
    found = {place // BLOCK for place in places(size, key)}
    for section in range(sections):
        first, after = section * blocks // sections, (section + 1) * blocks // sections
        drawn = hmac.new(key, b"expunge canary v1 %d" % section, hashlib.sha256).hexdigest()
        assert first + int(drawn, 16) % (after - first) in found
    assert len(found - {0, blocks - 1}) <= sections


@settings(max_examples=50, deadline=None)
@given(st.integers(4096 * BLOCK, 1 << 44))
def test_another_key_gives_other_places(size: int) -> None:
    assert places(size, KEY) != places(size, KEY[::-1])


# What is found


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_one_sector_of_one_canary_is_enough(data: st.DataObject) -> None:
    disk = Memory(MIB)
    planted = plant(engine(disk), KEY)
    place = data.draw(st.sampled_from(planted.written))
    sector = data.draw(st.integers(0, 7)) * 512
    left = bytes(disk.data[place + sector : place + sector + 512])
    disk.data[:] = bytes(len(disk.data))
    disk.data[place + sector : place + sector + 512] = left
    remains = look_for(engine(disk), KEY, planted.written, planted.samples)
    assert remains.found == [place]
    assert remains.looked_for == len(planted.written) == len(places(MIB, KEY)) > 60


def test_less_than_a_sector_is_none() -> None:
    disk = Memory(MIB)
    planted = plant(engine(disk), KEY)
    place = planted.written[3]
    left = bytes(disk.data[place : place + 511])
    disk.data[:] = bytes(len(disk.data))
    disk.data[place : place + 511] = left
    assert look_for(engine(disk), KEY, planted.written, []).found == []


def test_a_canary_elsewhere_is_none() -> None:
    """Another place, or another key: what a drive moved about is not taken for its own."""
    disk = Memory(MIB)
    planted = plant(engine(disk), KEY)
    assert look_for(engine(disk), KEY[::-1], planted.written, []).found == []
    disk.data[:] = disk.data[BLOCK:] + disk.data[:BLOCK]
    assert look_for(engine(disk), KEY, planted.written, []).found == []


def test_what_cannot_be_read_is_counted_and_is_not_gone() -> None:
    disk = Memory(MIB)
    planted = plant(engine(disk), KEY)
    disk.bad = {planted.written[5] // 512 + 2}
    remains = look_for(engine(disk), KEY, planted.written, [])
    assert remains.unreadable == 1
    bad = (planted.written[5], "0" * 64)
    assert look_for(engine(disk), KEY, [], [bad]).unreadable_samples == 1
    assert len(remains.found) == len(planted.written) - 1


def test_samples_tell_only_what_is_no_single_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canaries, "SECTIONS", 8)
    disk = Memory(4 * MIB)
    sampled = sampled_places(4 * MIB, KEY)
    for place in sampled[:10]:
        disk.data[place : place + BLOCK] = b"old data of %8d" % place * 170 + bytes(BLOCK - 20 * 170)
    planted = plant(engine(disk), KEY)
    assert planted.sampled == len(sampled)
    assert [place for place, _ in planted.samples] == sampled[:10]
    disk.data[sampled[0] : sampled[0] + BLOCK] = bytes(BLOCK)
    disk.data[sampled[1]] ^= 1
    assert look_for(engine(disk), KEY, [], planted.samples).kept == sampled[2:10]


def test_places_that_cannot_be_written_are_left_out() -> None:
    disk = Memory(MIB)
    bad = places(MIB, KEY)[7]
    disk.bad = {bad // 512}
    planted = plant(engine(disk), KEY)
    assert planted.written == [one for one in places(MIB, KEY) if one != bad]
    assert planted.lost == 0


def test_a_medium_that_gives_out_is_no_bad_place() -> None:
    disk = Memory(MIB)
    target = engine(disk)
    planted = plant(target, KEY)
    disk.gone = True
    with pytest.raises(TargetGone):
        look_for(target, KEY, planted.written, [])
    with pytest.raises(TargetGone):
        plant(target, KEY)


def test_a_write_protected_medium_is_refused() -> None:
    disk = Memory(MIB)
    target = engine(disk)
    disk.bad, disk.number = set(range(MIB // 512)), errno.EPERM
    with pytest.raises(TargetRefused):
        plant(target, KEY)


# Media that are not what they say


def test_dropped_writes_are_seen_before_the_erase() -> None:
    planted = plant(engine(Memory(MIB, drops=True)), KEY)
    assert planted.written == []
    assert planted.lost == len(places(MIB, KEY))


@pytest.mark.parametrize(("size", "real"), [(8, 4), (8, 2), (15, 5), (10, 8), (8, 1), (12, 8)])
def test_a_wrapped_capacity_is_seen_before_the_erase(
    monkeypatch: pytest.MonkeyPatch, size: int, real: int
) -> None:
    """With so few canaries hardly two ever meet; it is the first block that gives it away."""
    monkeypatch.setattr(canaries, "SECTIONS", 5)
    planted = plant(engine(Memory(size * MIB, real=real * MIB)), KEY)
    assert planted.lost
    assert all(place < real * MIB for place in planted.written)


@pytest.mark.parametrize("size", [BLOCK, 2 * BLOCK, 3 * BLOCK + 512, MIB, 5 * MIB])
def test_an_honest_medium_holds_them_all(size: int) -> None:
    planted = plant(engine(Memory(size)), KEY)
    assert (planted.written, planted.lost) == (places(size, KEY), 0)


def test_a_stop_is_heard() -> None:
    disk = Memory(MIB)
    planted = plant(engine(disk), KEY, lambda: True)
    assert planted.written == []
    assert not any(disk.data)


def test_canaries_are_the_keyed_stream_of_their_place() -> None:
    disk = Memory(MIB)
    plant(engine(disk), KEY)
    made = bytearray(BLOCK)
    wrong = []
    for place in places(MIB, KEY):
        KeyedStream(canaries.CIPHER, KEY).fill(memoryview(made), place)
        if disk.data[place : place + BLOCK] != made:
            wrong.append(place)
    assert not wrong


# Surveys


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("01cx!"), min_size=1, max_size=600), st.randoms())
def test_a_survey_counts_every_byte_once(units: list[str], random) -> None:  # type: ignore[no-untyped-def]
    """0 zeros, 1 ones, c another byte, x other, ! zeros with a bad sector."""
    disk = Memory(len(units) * UNIT)
    for number, kind in enumerate(units):
        byte = {"0": 0, "1": 0xFF, "c": 0x5A, "x": 0, "!": 0}[kind]
        at = number * UNIT
        disk.data[at : at + UNIT] = bytes([byte]) * UNIT
        if kind == "x":
            disk.data[at + random.randrange(UNIT)] ^= 0x10
    disk.bad = {number * 8 + 3 for number, kind in enumerate(units) if kind == "!"}
    seen = survey(engine(disk), whole(len(disk.data)))
    count = {kind: units.count(kind) * UNIT for kind in "01cx!"}
    bad = len(disk.bad) * 512
    assert (seen.ones, seen.constant) == (count["1"], count["c"])
    assert seen.zeros + seen.other == count["0"] + count["x"] + count["!"] - bad
    if not bad:  # beside bad sectors a unit may be read in pieces, some of one byte throughout
        assert seen.other == count["x"]
    else:
        assert seen.other <= count["x"]
    assert seen.unreadable_bytes == bad
    assert seen.read + bad == seen.expected == len(disk.data)


def test_a_survey_reads_only_what_it_is_asked_for() -> None:
    disk = Memory(MIB)
    disk.data[:] = b"\xff" * MIB
    disk.data[2 * BLOCK : 3 * BLOCK] = bytes(BLOCK)
    disk.bad = {8 * BLOCK // 512}
    seen = survey(engine(disk), [Range(BLOCK, 3 * BLOCK), Range(5 * BLOCK, BLOCK)])
    assert (seen.expected, seen.read, seen.zeros, seen.ones) == (4 * BLOCK, 4 * BLOCK, BLOCK, 3 * BLOCK)
    assert not seen.unreadable


def test_a_stopped_survey_says_so() -> None:
    stop = threading.Event()
    stop.set()
    seen = survey(engine(Memory(MIB)), whole(MIB), stop=stop)
    assert seen.stopped
    assert seen.read == 0
