"""Any number of bytes as sealed chunks: the STREAM construction with AES-256-GCM.

Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance" (CRYPTO 2015), §7: the nonce of a chunk is a prefix of 7 bytes, its number as 4 bytes
big-endian, and a byte that is 1 for the last chunk alone. A chunk cut off, moved, doubled or put behind
the end does not open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from expunge_agent.errors import VerificationError

PREFIX = 7
"""Bytes of the nonce's prefix."""
TAG = 16
"""Bytes by which a sealed chunk is longer."""
MOST_CHUNKS = 1 << 32
DAMAGED = "Get this object from a backup; what was given out before this place is sound."

Progress = Callable[[int], None]
"""Told after each chunk how many bytes of plaintext are through."""


class Source(Protocol):
    """What can be read from: fewer bytes than asked for, or none at its end."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class Sink(Protocol):
    """What can be written to."""

    def write(self, data: memoryview, /) -> int | None: ...


def seal_stream(
    source: Source, sink: Sink, key: bytes, prefix: bytes, chunk: int, progress: Progress, number: int = 0
) -> int:
    """Seal all of `source` into `sink` in chunks of `chunk` bytes of plaintext; returns bytes of plaintext.

    `number` is that of the first chunk. Raises OverflowError after 2^32 chunks.
    """
    cipher = AESGCM(key)
    here, ahead = bytearray(chunk), bytearray(chunk)
    out = bytearray(chunk + TAG)
    total, length = 0, _fill(source, here)
    last = False
    while not last:
        following = _fill(source, ahead) if length == chunk else 0
        last = following == 0
        nonce = _nonce(prefix, number, last=last)
        sealed = memoryview(out)[: length + TAG]
        cipher.encrypt_into(nonce, memoryview(here)[:length], None, sealed)
        _write(sink, sealed)
        total, number = total + length, number + 1
        progress(total)
        here, ahead, length = ahead, here, following
    return total


def open_stream(
    source: Source, sink: Sink, key: bytes, prefix: bytes, chunk: int, progress: Progress, number: int = 0
) -> int:
    """Open what `seal_stream` made; returns bytes of plaintext.

    Only chunks that were checked reach `sink`. Raises VerificationError where a chunk is altered, and
    where the end is missing: then `sink` holds a beginning.
    """
    cipher = AESGCM(key)
    here, ahead = bytearray(chunk + TAG), bytearray(chunk + TAG)
    out = bytearray(chunk)
    total, length = 0, _fill(source, here)
    last = False
    while not last:
        following = _fill(source, ahead) if length == chunk + TAG else 0
        last = following == 0
        nonce = _nonce(prefix, number, last=last)
        if length < TAG:
            raise _damaged(total)
        plain = memoryview(out)[: length - TAG]
        try:
            cipher.decrypt_into(nonce, memoryview(here)[:length], None, plain)
        except InvalidTag as error:
            raise _damaged(total) from error
        if number and not plain:
            raise _damaged(total)  # an empty chunk stands alone, or not at all
        _write(sink, plain)
        total, number = total + len(plain), number + 1
        progress(total)
        here, ahead, length = ahead, here, following
    return total


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    if number >= MOST_CHUNKS:
        raise OverflowError("a stream has at most 2^32 chunks")
    return prefix + number.to_bytes(4, "big") + (b"\1" if last else b"\0")


def _fill(source: Source, buffer: bytearray) -> int:
    """Read until `buffer` is full or the source ends; how many bytes."""
    view, got = memoryview(buffer), 0
    while got < len(buffer):
        count = source.readinto(view[got:])
        if not count:
            break
        got += count
    return got


def _write(sink: Sink, data: memoryview) -> None:
    while data:
        data = data[sink.write(data) or 0 :]


def _damaged(total: int) -> VerificationError:
    return VerificationError(
        f"The object is altered or cut off behind byte {total} of its contents.", DAMAGED
    )
