"""STREAM: every size comes back, and nothing that was cut, moved or altered opens."""

from __future__ import annotations

import io

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.errors import VerificationError
from expunge_agent.vault.stream import MOST_CHUNKS, TAG, open_stream, seal_stream

KEY, PREFIX = bytes(range(32)), b"1234567"
CHUNK = 16


def quiet(_done: int) -> None:
    """Nobody watches."""


def seal(data: bytes, chunk: int = CHUNK, key: bytes = KEY, prefix: bytes = PREFIX) -> bytes:
    sink = io.BytesIO()
    assert seal_stream(io.BytesIO(data), sink, key, prefix, chunk, quiet) == len(data)
    return sink.getvalue()


def opened(sealed: bytes, chunk: int = CHUNK, key: bytes = KEY, prefix: bytes = PREFIX) -> bytes:
    sink = io.BytesIO()
    open_stream(io.BytesIO(sealed), sink, key, prefix, chunk, quiet)
    return sink.getvalue()


@given(st.binary(max_size=200), st.integers(min_value=1, max_value=70))
def test_every_size_comes_back(data: bytes, chunk: int) -> None:
    sealed = seal(data, chunk)
    assert len(sealed) == len(data) + TAG * max(1, -(-len(data) // chunk))
    assert opened(sealed, chunk) == data


def test_the_format_is_as_written_down() -> None:
    """Another program's view: nonce = prefix, chunk number, mark of the last chunk."""
    data = b"a" * 16 + b"b" * 16 + b"c"
    cipher = AESGCM(KEY)
    due = b"".join(
        cipher.encrypt(PREFIX + number.to_bytes(4, "big") + last, piece, None)
        for number, (piece, last) in enumerate([(data[:16], b"\0"), (data[16:32], b"\0"), (data[32:], b"\1")])
    )
    assert seal(data) == due


def test_every_byte_counts() -> None:
    sealed = seal(b"x" * 40)
    for at in range(len(sealed)):
        for flip in (1, 0x80):
            altered = bytearray(sealed)
            altered[at] ^= flip
            with pytest.raises(VerificationError):
                opened(bytes(altered))


@pytest.mark.parametrize("size", [0, 1, 16, 17, 32, 40])
def test_no_beginning_opens_as_the_whole(size: int) -> None:
    sealed = seal(b"y" * size)
    for end in range(len(sealed)):
        with pytest.raises(VerificationError):
            opened(sealed[:end])


def test_only_checked_chunks_are_given_out() -> None:
    data = b"a" * 16 + b"b" * 16 + b"c" * 16
    sealed = bytearray(seal(data))
    sealed[40] ^= 1  # in the second chunk
    sink = io.BytesIO()
    with pytest.raises(VerificationError, match="behind byte 16 "):
        open_stream(io.BytesIO(bytes(sealed)), sink, KEY, PREFIX, CHUNK, quiet)
    assert sink.getvalue() == b"a" * 16


def test_chunks_cannot_change_places_or_streams() -> None:
    one, other = seal(b"a" * 16 + b"b" * 16 + b"c"), seal(b"A" * 16 + b"B" * 16 + b"C", prefix=b"7654321")
    size = CHUNK + TAG
    for altered in (
        one[size : 2 * size] + one[:size] + one[2 * size :],  # exchanged
        one[:size] + one[:size] + one[2 * size :],  # doubled
        one[:size] + one[2 * size :],  # left out
        one + one,  # behind the end
        one + b"\0",
        one[:size] + other[size : 2 * size] + one[2 * size :],  # of another stream
    ):
        with pytest.raises(VerificationError):
            opened(altered)


def test_an_empty_last_chunk_is_not_taken() -> None:
    """It would be a second way to write the same plaintext."""
    cipher = AESGCM(KEY)
    first = cipher.encrypt(PREFIX + b"\0\0\0\0\0", b"a" * 16, None)
    empty = cipher.encrypt(PREFIX + b"\0\0\0\1\1", b"", None)
    with pytest.raises(VerificationError):
        opened(first + empty)


def test_the_counter_does_not_wrap() -> None:
    with pytest.raises(OverflowError):
        seal_stream(io.BytesIO(b"z" * 33), io.BytesIO(), KEY, PREFIX, CHUNK, quiet, MOST_CHUNKS - 2)
    with pytest.raises(OverflowError):
        open_stream(io.BytesIO(seal(b"z" * 16)), io.BytesIO(), KEY, PREFIX, CHUNK, quiet, MOST_CHUNKS)


def test_a_source_that_gives_little_at_a_time() -> None:
    class Drop(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.left = data

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            count = min(3, len(buffer))
            piece, self.left = self.left[:count], self.left[count:]
            buffer[: len(piece)] = piece
            return len(piece)

    sink = io.BytesIO()
    seal_stream(Drop(b"q" * 50), sink, KEY, PREFIX, CHUNK, quiet)
    assert sink.getvalue() == seal(b"q" * 50)
