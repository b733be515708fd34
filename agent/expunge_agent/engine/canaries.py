"""Canaries: keyed blocks written before a drive erases itself. Afterwards not one may be readable.

With them old data is sampled. Both together tell a drive that says it erased and did not, that left a part
out, or that forgot the command; a drive cannot know the places before, nor answer from its own log.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from expunge_agent.engine.blocks import Blocks
from expunge_agent.engine.buffers import aligned, same
from expunge_agent.engine.likeness import constant
from expunge_agent.engine.problems import fatal, is_medium_error
from expunge_agent.engine.sources import KeyedStream

BLOCK = 4096
"""Bytes of a canary: the largest sector there is."""
SECTIONS = 1000
SAMPLED = 256
CIPHER = "aes-256-ctr"
_SECTOR = 512


def places(size: int, key: bytes) -> list[int]:
    """Where the canaries of a medium of `size` bytes lie: ascending offsets, multiples of `BLOCK`.

    Of n = size ÷ 4096 (rounded down) whole blocks the first and the last, and one in each of s = min(1000, n ÷ 4
    rounded up) equal sections, so that a small medium still holds what can be sampled: section i begins at block
    i·n ÷ s; in it block HMAC-SHA256(key, "expunge canary v1 i") (big-endian) modulo its length.
    """
    return _drawn(size, key, "canary", min(SECTIONS, (size // BLOCK + 3) // 4), ends=True)


def sampled_places(size: int, key: bytes) -> list[int]:
    """Where old data is sampled: as `places`, with "sample" for "canary" in 256 sections, none that a canary takes."""
    taken = set(places(size, key))
    return [place for place in _drawn(size, key, "sample", SAMPLED, ends=False) if place not in taken]


def _drawn(size: int, key: bytes, what: str, most: int, *, ends: bool) -> list[int]:
    blocks = size // BLOCK
    sections = min(most, blocks)
    found = {0, blocks - 1} if ends and blocks else set()
    for section in range(sections):
        first, after = section * blocks // sections, (section + 1) * blocks // sections
        drawn = hmac.digest(key, f"expunge {what} v1 {section}".encode(), hashlib.sha256)
        found.add(first + int.from_bytes(drawn, "big") % (after - first))
    return [block * BLOCK for block in sorted(found)]


@dataclass(frozen=True)
class Planted:
    """What was put on the medium, and what was there: ``samples`` as (offset, SHA-256 of the block),
    blocks of one byte throughout left out; ``sampled`` counts all that were read. ``written`` are the
    places that hold their canary; ``lost`` counts those that took it and do not."""

    written: list[int]
    sampled: int
    samples: list[tuple[int, str]]
    lost: int = 0


def sample(
    target: Blocks, key: bytes, stopping: Callable[[], bool] = lambda: False
) -> tuple[int, list[tuple[int, str]]]:
    """How many of `sampled_places` could be read, and (offset, SHA-256) of those not of one byte throughout.

    Raises an EngineError where the medium as a whole gives out.
    """
    sampled, samples = 0, []
    view = aligned(BLOCK)
    for place in sampled_places(target.size, key):
        if stopping() or not _tried("read", target.read_into, view, place):
            continue
        sampled += 1
        if not constant(view):
            samples.append((place, hashlib.sha256(view).hexdigest()))
    return sampled, samples


def plant(target: Blocks, key: bytes, stopping: Callable[[], bool] = lambda: False) -> Planted:
    """Sample old data, then write the canaries, flush them and read them again. Places that fail are left out.

    Reading tells a drive that drops writes or wraps its capacity: there a canary that is gone afterwards
    would prove nothing. Raises an EngineError where the medium as a whole gives out.
    """
    sampled, samples = sample(target, key, stopping)
    view = aligned(BLOCK)
    stream, written = KeyedStream(CIPHER, key), []
    for place in places(target.size, key):
        if stopping():
            break
        stream.fill(view, place)
        if _tried("write", target.write, view, place):
            written.append(place)
    if not _tried("flush", target.flush):
        written = []
    if not target.direct and not target.memory:
        _tried("flush", target.drop_cache)
    held, made = [], aligned(BLOCK)
    for place in written:
        stream.fill(made, place)
        if not stopping() and _tried("read", target.read_into, view, place) and same(view, made):
            held.append(place)
    end = _wraps_at(target, stream, held, stopping)
    held = [place for place in held if place < end]
    return Planted(held, sampled, samples, lost=len(written) - len(held))


def _wraps_at(target: Blocks, stream: KeyedStream, held: list[int], stopping: Callable[[], bool]) -> int:
    """Where the first block of the medium shows a second time: all beyond are other names of places before it.
    The size, if nowhere.

    Tried are the ends that a false capacity has: the size divided by 2 to 64, and powers of two.
    """
    if 0 not in held:
        return target.size
    made, view = aligned(BLOCK), aligned(BLOCK)
    stream.fill(made, 0)
    shares = {target.size // parts // BLOCK * BLOCK for parts in range(2, 65)}
    powers = {1 << power for power in range(BLOCK.bit_length() - 1, target.size.bit_length())}
    for place in sorted((shares | powers) - {0}):
        if place + BLOCK > target.size or stopping():
            continue
        if _tried("read", target.read_into, view, place) and same(view, made):
            return place
    return target.size


@dataclass(frozen=True)
class Remains:
    """What of it is still there: offsets of canaries found, of samples kept; how many of each could not be read."""

    looked_for: int
    found: list[int]
    kept: list[int]
    unreadable: int
    unreadable_samples: int = 0


def look_for(
    target: Blocks, key: bytes, written: Iterable[int], samples: Iterable[tuple[int, str]]
) -> Remains:
    """Read the canaries and the sampled places again. 512 bytes of a canary are enough to have found it.

    Raises an EngineError where the medium as a whole gives out.
    """
    if not target.direct and not target.memory:
        _tried("flush", target.drop_cache)
    stream, made, view = KeyedStream(CIPHER, key), aligned(BLOCK), aligned(BLOCK)
    found, kept, unreadable, looked = [], [], 0, 0
    for place in written:
        looked += 1
        if place + BLOCK > target.size or not _tried("read", target.read_into, view, place):
            unreadable += 1
            continue
        stream.fill(made, place)
        if any(same(view[at : at + _SECTOR], made[at : at + _SECTOR]) for at in range(0, BLOCK, _SECTOR)):
            found.append(place)
    lost = 0
    for place, digest in samples:
        if place + BLOCK > target.size or not _tried("read", target.read_into, view, place):
            lost += 1
        elif hashlib.sha256(view).hexdigest() == digest:
            kept.append(place)
    return Remains(looked, found, kept, unreadable, lost)


def _tried(doing: str, work: Callable[..., object], *what: object) -> bool:
    """Whether it worked; errors of single places are no more than that."""
    try:
        work(*what)
    except OSError as error:
        if not is_medium_error(error):
            raise fatal(error, doing) from error
        return False
    return True
