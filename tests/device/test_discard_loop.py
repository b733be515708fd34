"""Discard, secure discard and zero-out on loop devices: what they do to the file below, and how they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from expunge_agent.commands.port import CommandError
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.discard import RangeHand, Stopped
from expunge_agent.techniques.hand import Rejected, State

pytestmark = pytest.mark.device
MIB = 1 << 20


@contextmanager
def opened(device: str, flags: int = os.O_RDWR) -> Iterator[int]:
    fd = os.open(device, flags | os.O_EXCL | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def is_zero(path: Path, start: int = 0, end: int = -1) -> bool:
    data = path.read_bytes()[start : end if end >= 0 else None]
    return not any(data)


def discards(device: str) -> None:
    limit = Path(f"/sys/block/{Path(device).name}/queue/discard_max_bytes").read_text()
    if int(limit) == 0:
        pytest.skip("the file system below the loop device has no holes to punch")


def test_discard_punches_holes_into_the_whole_file(lab) -> None:
    image = lab.image(16 * MIB)
    device = lab.loop(image)
    discards(device)
    with opened(device) as fd:
        hand = RangeHand(Technique.DISCARD, fd, 16 * MIB, step=5 * MIB)
        assert hand.prepare() == []
        answers = hand.start()
        assert hand.poll().state is State.DONE
        assert hand.poll().ppm == 1_000_000
    assert answers[0].name == f"BLKDISCARD of bytes 0 to {16 * MIB}"
    assert is_zero(image)
    assert image.stat().st_blocks == 0


def test_zero_out_of_large_sectors(lab) -> None:
    image = lab.image(16 * MIB)
    device = lab.loop(image, "--sector-size", "4096")
    with opened(device) as fd:
        RangeHand(Technique.ZERO_OUT, fd, 16 * MIB, sector=4096, step=3 * 4096 * 100).start()
    assert is_zero(image)


def test_secure_discard_is_not_there_and_touches_nothing(lab) -> None:
    image = lab.image(MIB)
    with opened(lab.loop(image)) as fd:
        hand = RangeHand(Technique.SECURE_DISCARD, fd, MIB)
        with pytest.raises(Rejected, match="no such operation"):
            hand.start()
        assert hand.poll().state is State.FAILED
    assert image.read_bytes().count(0xA5) == MIB


def test_a_stop_is_heeded_between_ranges_and_it_goes_on_from_there(lab) -> None:
    image = lab.image(16 * MIB)
    with opened(lab.loop(image)) as fd:
        asked: list[int] = []
        hand = RangeHand(
            Technique.ZERO_OUT, fd, 16 * MIB, step=4 * MIB, stop=lambda: asked.append(1) or len(asked) > 2
        )
        with pytest.raises(Stopped) as caught:
            hand.start()
        assert caught.value.done == hand.done == 8 * MIB
        assert hand.poll().ppm == 500_000
        assert is_zero(image, 0, 8 * MIB)
        assert image.read_bytes()[8 * MIB :].count(0xA5) == 8 * MIB
        RangeHand(Technique.ZERO_OUT, fd, 16 * MIB, step=4 * MIB, done=hand.done).start()
    assert is_zero(image)


def test_a_descriptor_for_reading_only_changes_nothing(lab) -> None:
    image = lab.image(MIB)
    with opened(lab.loop(image), os.O_RDONLY) as fd:
        hand = RangeHand(Technique.ZERO_OUT, fd, MIB)
        with pytest.raises(CommandError):
            hand.start()
        assert hand.poll().state is State.FAILED
    assert image.read_bytes().count(0xA5) == MIB


def test_beyond_the_end_is_no_success(lab) -> None:
    image = lab.image(MIB)
    with opened(lab.loop(image)) as fd:
        hand = RangeHand(Technique.ZERO_OUT, fd, 2 * MIB, step=MIB)
        with pytest.raises((CommandError, Rejected)):
            hand.start()
        assert hand.done == MIB
        assert hand.poll().state is State.FAILED


def test_what_is_no_range_operation_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no operation of the block layer"):
        RangeHand(Technique.OVERWRITE, -1, MIB)
    with pytest.raises(ValueError, match="multiple"):
        RangeHand(Technique.DISCARD, -1, MIB, sector=4096, step=512)
