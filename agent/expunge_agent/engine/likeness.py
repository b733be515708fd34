"""What foreign bytes look like: zeros, old data, a shifted stream, stuck bits, noise. Guesses, named as such."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from expunge_agent.engine.buffers import KIB, same
from expunge_agent.engine.sources import Source

SECTOR = 512
NOISE = "noise"
OLD = "old data"
STRUCTURED = "structured data"
OTHER = "other data"
SHORT = 16
"""Fewer bytes than that are not judged."""
SAMPLE = 4 * KIB
"""So many bytes are judged."""
_COMPRESSED = KIB
_FOLDED = 32 * KIB  # what stuck bits are looked for in; they must then hold in all that is examined
_LONGEST_PERIOD = 4 * KIB
_MOST_STUCK = 8
FEWEST = 4
"""Differing bytes that may be called a rule rather than an accident."""


@dataclass(frozen=True, slots=True)
class Look:
    """What bytes seem to be. `shift`: how many bytes further on in the stream they belong, 0 if not known."""

    what: str
    shift: int = 0


UNSURE = Look("")
"""Noise or data."""


def constant(view: memoryview) -> bool:
    """Whether all bytes of a writable `view` are the same; compares without Python's lock."""
    if len(view) < 2 or view[0] != view[1] or view[0] != view[-1]:  # mostly enough, and quick
        return len(view) < 2
    return same(view[:-1], view[1:])


def constant_name(value: int) -> str:
    """The name of a place that holds nothing but the byte `value`."""
    return {0: "zeros", 0xFF: "0xFF"}.get(value, f"byte 0x{value:02x} throughout")


def look(
    found: bytes,
    offset: int,
    source: Source,
    *,
    sectors: bool = False,
    earlier: Sequence[Source] = (),
    quick: bool = False,
) -> Look:
    """What `found` at `offset`, where `source` was expected, seems to be.

    `sectors`: the place begins and ends at sector borders, as a write that never happened does.
    `earlier`: what passes before this one wrote, newest first. `quick`: `UNSURE` where telling noise from
    data would take long. Only the first 4 KiB are judged, except for bytes that are all the same.
    """
    sample = found[:SAMPLE]
    if len(found) >= SHORT:
        before = next((one for one in earlier if _is(sample, offset, one)), None)
        if not found.strip(found[:1]):
            name = constant_name(found[0])
            return Look(f"{name}, as an earlier pass wrote" if before is not None else name)
        if before is not None:
            return Look(f"{OLD}: {before.describe()} of an earlier pass")
        place = source.recognise(found[: 4 * SHORT], offset)
        if place is not None:
            return Look(f"shifted stream: belongs {place - offset:+d} bytes away", place - offset)
    if len(found) < _COMPRESSED and not (sectors and len(found) >= SECTOR - 4):
        return Look(OTHER)
    if quick:
        return UNSURE
    sample = sample[:_COMPRESSED]
    if len(zlib.compress(sample, 1)) >= len(sample) * 15 // 16:
        return Look(NOISE)
    return Look(OLD if sectors else STRUCTURED)


def _is(sample: bytes, offset: int, source: Source) -> bool:
    written = bytearray(len(sample))
    source.fill(memoryview(written), offset)
    return written == sample


@dataclass(frozen=True, slots=True)
class StuckBits:
    """The bits of `rules` read the same in every `period` bytes (a power of two) of the medium."""

    period: int
    rules: tuple[_Rule, ...]

    def explains(self, found: memoryview, xor: bytes | bytearray, total: int, offset: int) -> bool:
        """Whether the rules hold in all of `found`, read at `offset`, and nothing else differs there.

        `xor` is found XOR expected, `total` its non-zero bytes.
        """
        explained = 0
        for place in {rule.place for rule in self.rules}:
            mask = sum(rule.mask for rule in self.rules if rule.place == place)
            first = (place - offset) % self.period
            column, wrong = bytes(found[first :: self.period]), xor[first :: self.period]
            if wrong.translate(None, _without(~mask)):
                return False
            explained += len(wrong) - wrong.count(0)
            for rule in self.rules:
                if rule.place == place and column.translate(None, _always(rule)):
                    return False
        return explained == total

    def explains_byte(self, place: int, found: int, xor: int) -> bool:
        """Whether one byte `found` at `place` of the medium, `xor` off, may be its doing."""
        rules = [rule for rule in self.rules if rule.place == place % self.period]
        kept = all(bool(found & rule.mask) == bool(rule.value) for rule in rules)
        return kept and not xor & ~sum(rule.mask for rule in rules)

    def in_words(self) -> str:
        """The name of the fault."""
        return "stuck bits: " + ", ".join(rule.in_words(self.period) for rule in self.rules)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Of the byte at `place` of each period the bit of `mask` always reads `value` (0 or 1)."""

    place: int
    mask: int
    value: int

    def in_words(self, period: int) -> str:
        where = f"byte {self.place} of every {period}" if period > 1 else "every byte"
        return f"bit {self.mask.bit_length() - 1} of {where} always {self.value}"


def _without(mask: int) -> bytes:
    """All byte values that have none of the bits of `mask`."""
    return bytes(value for value in range(256) if not value & mask)


def _always(rule: _Rule) -> bytes:
    """All byte values that keep the rule."""
    return bytes(value for value in range(256) if bool(value & rule.mask) == bool(rule.value))


def stuck_bits(found: memoryview, xor: bytes | bytearray, total: int, offset: int) -> StuckBits | None:
    """The bits that seem stuck in `found`, read at `offset`; arguments as for `StuckBits.explains`.

    Looked for in a sample of 32 KiB, then checked against all of `found`.
    """
    if total < FEWEST:
        return None
    length = min(_FOLDED, 1 << (len(xor).bit_length() - 1))
    start = min(len(xor) - len(xor.lstrip(b"\0")), len(xor) - length)
    few = min(length, _FOLDED // 8)
    if int.from_bytes(xor[start : start + few], "little").bit_count() > few:
        length = few  # so dense that only a short period can explain it
    sample = bytes(found[start : start + length])
    for period, bits in _candidates(sample, bytes(xor[start : start + length])):
        rules = [
            _Rule((offset + start + bit // 8) % period, 1 << bit % 8, sample[bit // 8] >> bit % 8 & 1)
            for bit in bits
        ]
        stuck = StuckBits(period, tuple(sorted(rules, key=lambda rule: (rule.place, rule.mask))))
        if stuck.explains(found, xor, total, offset):
            return stuck
    return None


def _candidates(found: bytes, xor: bytes) -> Iterator[tuple[int, list[int]]]:
    """Periods in bytes, ascending, with the few bits in them that differ somewhere and never change."""
    differ, ever = int.from_bytes(xor, "little"), int.from_bytes(found, "little")
    always, width, folds = ever, len(xor), []
    while width > 1:
        width //= 2
        mask = (1 << (width * 8)) - 1
        differ = (differ >> (width * 8)) | (differ & mask)
        ever = (ever >> (width * 8)) | (ever & mask)
        always = (always >> (width * 8)) & (always & mask)
        if width <= min(_LONGEST_PERIOD, len(xor) // 8):
            folds.append((width, differ, always | ~ever))
    for width, wrong, steady in reversed(folds):
        if 0 < wrong.bit_count() <= _MOST_STUCK and not wrong & ~steady:
            yield width, [bit for bit in range(wrong.bit_length()) if wrong >> bit & 1]
