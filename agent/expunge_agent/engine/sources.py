"""Sources of bytes: what a pass writes and what a verification expects, at any offset.

A *source* is a function from offset to byte. Patterns and streams therefore run on across chunk,
stripe, sector and resume borders by construction, and any place can be verified by itself.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from expunge_agent.engine.buffers import KIB, MIB, PAGE, aligned

LONGEST_PATTERN = 64
SPAN = 2 * MIB
FEW = 64 * KIB
PIECE = 256 * KIB  # small enough to stay in the processor's cache
XTS_UNIT = PIECE


class Source(Protocol):
    """What is written, and recognised again. One object serves one thread; clone it for each worker."""

    def describe(self) -> str:
        """One line for receipts; never holds a key."""

    def for_worker(self) -> Source:
        """An independent object giving the same bytes, for another thread."""

    def ready(self, offset: int, length: int) -> memoryview | None:
        """Bytes [offset, offset + length) lying ready in memory (not to be changed), aligned to 512 bytes
        where `offset` is a multiple of it; None where they have to be made with `fill`."""

    def fill(self, view: memoryview, offset: int) -> None:
        """Put the bytes from `offset` on into `view` (writable)."""

    def recognise(self, data: bytes, offset: int) -> int | None:
        """Where in this source the bytes `data`, found at `offset`, belong; None if nowhere known."""


class PatternSource:
    """A pattern of 1 to 64 bytes repeated from offset 0: the byte at offset o is ``pattern[o % len]``."""

    def __init__(self, pattern: bytes) -> None:
        if not 1 <= len(pattern) <= LONGEST_PATTERN:
            raise ValueError(f"a pattern has 1 to {LONGEST_PATTERN} bytes, not {len(pattern)}")
        self.pattern = bytes(pattern)
        self._cycle = math.lcm(len(pattern), PAGE)
        self._tile: memoryview | None = None
        self._lock = threading.Lock()

    def _tiled(self) -> memoryview:
        """One tile serves every offset: it holds the pattern at all phases that an aligned offset can have,
        each at an aligned address. Made at first need, as a source that only recognises needs none."""
        with self._lock:
            if self._tile is None:
                length = self._cycle + SPAN
                tile = aligned(length)
                for at in range(0, length, self._cycle):
                    part = tile[at : at + self._cycle]
                    part[:] = self._few(at, len(part))
                self._tile = tile
            return self._tile

    def _few(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length), made from the pattern itself."""
        phase = offset % len(self.pattern)
        return (self.pattern * ((phase + length) // len(self.pattern) + 1))[phase : phase + length]

    def describe(self) -> str:
        """``pattern 0x…``."""
        return f"pattern 0x{self.pattern.hex()}"

    def for_worker(self) -> PatternSource:
        """Itself: nothing it gives changes."""
        return self

    def ready(self, offset: int, length: int) -> memoryview | None:
        """A piece of the tile."""
        start = offset % self._cycle
        return self._tiled()[start : start + length] if length <= SPAN else None

    def fill(self, view: memoryview, offset: int) -> None:
        """Copy from the tile; a few bytes are made without it."""
        if len(view) <= FEW:
            view[:] = self._few(offset, len(view))
            return
        tile = self._tiled()
        for at in range(0, len(view), SPAN):
            start, length = (offset + at) % self._cycle, min(SPAN, len(view) - at)
            view[at : at + length] = tile[start : start + length]

    def recognise(self, data: bytes, offset: int) -> int | None:
        """The nearest phase of the pattern that gives `data`."""
        size = len(self.pattern)
        if len(data) < 2 * size or len(set(self.pattern)) == 1:
            return None
        for shift in range(1, size):
            phase = (offset + shift) % size
            if (self.pattern * (len(data) // size + 2))[phase : phase + len(data)] == data:
                return offset + shift
        return None


@dataclass(frozen=True, slots=True)
class CipherInfo:
    """A keyed stream's key length in bytes, and the stream's definition in words."""

    key_bytes: int
    definition: str


CIPHERS: dict[str, CipherInfo] = {
    "aes-256-ctr": CipherInfo(
        32,
        "AES-256 in counter mode over zeros; the 128-bit big-endian counter block of the byte at offset o "
        "is o ÷ 16. openssl enc -aes-256-ctr -K KEY -iv (o ÷ 16, 32 hex digits) < /dev/zero",
    ),
    "chacha20": CipherInfo(
        32,
        "ChaCha20 (D. J. Bernstein's, 64-bit counter, nonce 0) over zeros; the counter of the byte at "
        "offset o is o ÷ 64. openssl enc -chacha20 -K KEY -iv (o ÷ 64 as 16 hex digits, least significant "
        "byte first, then 16 zeros) < /dev/zero",
    ),
    "aes-256-xts": CipherInfo(
        64,
        "AES-256-XTS (IEEE 1619) over zeros in data units of 262144 bytes; the tweak of the byte at offset "
        "o is o ÷ 262144 as 128 bits, least significant byte first. The target's end cuts the last "
        "unit. (openssl enc has no XTS; any library has.)",
    ),
}
"""The closed table of keyed streams."""


class KeyedStream:
    """The pseudorandom stream of a cipher and a key (`CIPHERS`), from any offset on."""

    def __init__(self, cipher: str, key: bytes) -> None:
        """`key` of `CIPHERS[cipher].key_bytes` bytes, fresh for each pass. Raises ValueError."""
        if cipher not in CIPHERS:
            raise ValueError(f"unknown cipher {cipher!r}; known: {', '.join(CIPHERS)}")
        if len(key) != CIPHERS[cipher].key_bytes:
            raise ValueError(f"{cipher} needs a key of {CIPHERS[cipher].key_bytes} bytes, not {len(key)}")
        self.cipher = cipher
        self._key = bytes(key)
        self._context: CipherContext | None = None

    def describe(self) -> str:
        """The cipher's name; the key is not in it."""
        return f"keyed stream {self.cipher}"

    def for_worker(self) -> KeyedStream:
        """Another with the same key and a cipher context of its own."""
        return KeyedStream(self.cipher, self._key)

    def ready(self, offset: int, length: int) -> memoryview | None:
        """None: a stream is always made."""
        return None

    def fill(self, view: memoryview, offset: int) -> None:
        """Encrypt zeros into `view`."""
        if self.cipher == "aes-256-xts":
            self._fill_units(view, offset)
            return
        at = 0
        while at < len(view):
            # Pieces end at multiples of PIECE, so none crosses 2^32 ChaCha20 blocks, which the library refuses.
            part = view[at : at + PIECE - (offset + at) % PIECE]
            context, skip = self._seek(offset + at)
            if skip:
                context.update(bytes(skip))
            context.update_into(_ZEROS[: len(part)], part)
            at += len(part)

    def recognise(self, data: bytes, offset: int) -> int | None:
        """For AES-CTR: a block of the stream decrypts to its counter, which is its place.

        A wrong guess has the chance 2^-64: the upper half of the block must come out as zero.
        """
        skip = -offset % 16
        block = data[skip : skip + 16]
        if self.cipher != "aes-256-ctr" or len(block) < 16:
            return None
        decryptor = Cipher(algorithms.AES(self._key), modes.ECB()).decryptor()  # noqa: S305 - one raw block
        counter = int.from_bytes(decryptor.update(block), "big")
        return counter * 16 - skip if counter < 1 << 60 else None

    def _seek(self, offset: int) -> tuple[CipherContext, int]:
        """A context at the cipher block that holds `offset`, and the bytes of it to skip."""
        if self.cipher == "chacha20":
            block, skip = divmod(offset, 64)
            nonce = block.to_bytes(8, "little") + bytes(8)
        else:
            block, skip = divmod(offset, 16)
            nonce = block.to_bytes(16, "big")
        if self._context is None:
            self._context = (
                Cipher(algorithms.ChaCha20(self._key, nonce), None).encryptor()
                if self.cipher == "chacha20"
                else Cipher(algorithms.AES(self._key), modes.CTR(nonce)).encryptor()
            )
        else:
            self._context.reset_nonce(nonce)
        return self._context, skip

    def _fill_units(self, view: memoryview, offset: int) -> None:
        """Encrypt data units; a part of a unit is cut from the whole, as XTS cannot be entered midway."""
        at = 0
        while at < len(view):
            unit, skip = divmod(offset + at, XTS_UNIT)
            part = view[at : at + XTS_UNIT - skip]
            context = Cipher(algorithms.AES(self._key), modes.XTS(unit.to_bytes(16, "little"))).encryptor()
            if len(part) == XTS_UNIT:
                context.update_into(_ZEROS, part)
            else:
                whole = bytearray(XTS_UNIT)
                context.update_into(_ZEROS, whole)
                part[:] = memoryview(whole)[skip : skip + len(part)]
            at += len(part)


_ZEROS = aligned(PIECE)
"""Read only, shared by all streams."""
