"""Sources: every byte at its offset, at any place, the same for every worker."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.engine.buffers import PAGE, address, aligned, same
from expunge_agent.engine.sources import CIPHERS, PIECE, SPAN, XTS_UNIT, KeyedStream, PatternSource, Source

KEY = bytes(range(32))
XTS_KEY = bytes(range(64))
offsets = st.one_of(st.integers(0, 200_000), st.integers(2**40, 2**40 + 10_000), st.integers(2**45, 2**62))


def made(source: Source, offset: int, length: int) -> bytes:
    view = aligned(max(1, length))[:length]
    source.fill(view, offset)
    return bytes(view)


def stream(cipher: str) -> KeyedStream:
    return KeyedStream(cipher, XTS_KEY[: CIPHERS[cipher].key_bytes])


@functools.cache
def one_shot(cipher: str, length: int) -> bytes:
    """The stream from offset 0 by one call of the library, without the engine."""
    if cipher == "aes-256-ctr":
        return Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(length))
    if cipher == "chacha20":
        return Cipher(algorithms.ChaCha20(KEY, bytes(16)), None).encryptor().update(bytes(length))
    units = b"".join(
        Cipher(algorithms.AES(XTS_KEY), modes.XTS(unit.to_bytes(16, "little")))
        .encryptor()
        .update(bytes(XTS_UNIT))
        for unit in range(-(-length // XTS_UNIT))
    )
    return units[:length]


@given(st.binary(min_size=1, max_size=64), offsets, st.integers(1, 9000))
def test_a_pattern_has_the_byte_of_its_offset_everywhere(pattern: bytes, offset: int, length: int) -> None:
    expected = bytes(pattern[(offset + index) % len(pattern)] for index in range(length))
    source = PatternSource(pattern)
    assert made(source, offset, length) == expected
    ready = source.ready(offset, length)
    assert ready is not None
    assert bytes(ready) == expected


@given(st.binary(min_size=1, max_size=64), st.integers(0, 2**50))
def test_ready_bytes_of_an_aligned_offset_are_aligned(pattern: bytes, sector: int) -> None:
    ready = PatternSource(pattern).ready(sector * 512, 4096)
    assert ready is not None
    assert address(ready) % 512 == 0


def test_a_pattern_longer_than_the_tile_runs_on() -> None:
    source = PatternSource(b"abc")
    length = SPAN + PAGE + 7
    assert source.ready(1, length) is None
    assert made(source, 1, length) == (b"bca" * length)[:length]


@pytest.mark.parametrize("pattern", [b"", bytes(65)])
def test_a_pattern_of_no_or_too_many_bytes_is_refused(pattern: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        PatternSource(pattern)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_stream_is_the_library_s_in_one_shot(cipher: str) -> None:
    length = 3 * PIECE + 4321
    assert made(stream(cipher), 0, length) == one_shot(cipher, length)


def test_the_streams_are_those_that_openssl_makes() -> None:
    """Recorded from OpenSSL 3.0.19 as `CIPHERS` words it: ``head -c 48 /dev/zero | openssl enc
    -aes-256-ctr -K 000102…1f -iv 0…0``, and ``-chacha20 … -iv 0500…00`` for offset 5 × 64."""
    assert made(KeyedStream("aes-256-ctr", KEY), 0, 48).hex() == (
        "f29000b62a499fd0a9f39a6add2e7780f05d76ae4ab99fe5a6f69b3148c2363d0ebcb5deb52c83bd08a8a935182c9199"
    )
    assert made(KeyedStream("chacha20", KEY), 5 * 64, 48).hex() == (
        "0be7ffa5fa90293ceda7b19d2a9741d1545f1ec0adf49ca599aca44e3567c05a206ffc953274f6e500ff395d44ff12b2"
    )


@pytest.mark.parametrize("cipher", CIPHERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_stream_can_be_entered_anywhere(cipher: str, data: st.DataObject) -> None:
    total = 3 * PIECE
    offset = data.draw(st.integers(0, total - 1))
    length = data.draw(st.integers(1, total - offset))
    assert made(stream(cipher), offset, length) == one_shot(cipher, total)[offset : offset + length]


@pytest.mark.parametrize("cipher", CIPHERS)
@settings(max_examples=30, deadline=None)
@given(offset=offsets)
def test_far_places_join_without_a_seam(cipher: str, offset: int) -> None:
    source = stream(cipher)
    whole = made(source, offset, 5000)
    assert made(source, offset + 1234, 3766) == whole[1234:]
    assert made(source.for_worker(), offset, 1234) == whole[:1234]


def test_the_counter_block_is_the_offset_divided_by_sixteen() -> None:
    offset = (2**40 + 5) * 16
    counter = (offset // 16).to_bytes(16, "big")
    expected = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor().update(counter)
    assert made(KeyedStream("aes-256-ctr", KEY), offset, 16) == expected


def test_chacha_counts_beyond_32_bits() -> None:
    block = 2**32 - 1
    source = KeyedStream("chacha20", KEY)
    across = made(source, block * 64, 128)
    assert across[64:] == made(source, (block + 1) * 64, 64)
    assert across[:64] != across[64:]


def test_recognise_finds_where_a_piece_of_the_stream_belongs() -> None:
    source = KeyedStream("aes-256-ctr", KEY)
    wrapped = made(source, 7_000_003, 64)
    assert source.recognise(wrapped, 1_000_003) == 7_000_003
    assert source.recognise(hashlib.sha512(b"other").digest(), 1_000_003) is None
    assert PatternSource(b"abc").recognise(b"bcabcabca", 0) == 1
    assert PatternSource(b"\0").recognise(bytes(16), 0) is None


@pytest.mark.parametrize(("cipher", "length"), [("aes-256-ctr", 31), ("aes-256-xts", 32), ("rc4", 32)])
def test_unknown_ciphers_and_wrong_keys_are_refused(cipher: str, length: int) -> None:
    with pytest.raises(ValueError, match=r"cipher|key"):
        KeyedStream(cipher, bytes(length))


def test_describe_never_shows_a_key() -> None:
    text = KeyedStream("aes-256-ctr", KEY).describe()
    assert text == "keyed stream aes-256-ctr"
    assert KEY.hex() not in text
    assert PatternSource(b"\xde\xad").describe() == "pattern 0xdead"


def test_comparing_needs_equal_lengths() -> None:
    one, other = aligned(8), aligned(8)
    assert same(one, other)
    other[3] = 5
    assert not same(one, other)
    with pytest.raises(ValueError, match="compare"):
        same(one, other[:4])
    assert same(one[:0], other[:0])


def test_a_pattern_s_tile_is_made_when_bytes_are_wanted_ready() -> None:
    """Sources of earlier passes are only asked for samples; thirty tiles would be 60 MB."""
    before = resident()
    kept = [PatternSource(bytes([number, 1, 2])) for number in range(40)]
    assert all(made(source, 12_345, 4096) for source in kept)
    assert resident() - before < 8 * SPAN
    assert all(source.ready(0, SPAN) is not None for source in kept)
    assert resident() - before > 40 * SPAN, "the measure measures nothing"


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
