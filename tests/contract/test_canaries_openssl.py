"""Canaries with stock tools: what docs/receipt-format.md says gives the blocks that the agent writes."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from expunge_agent.engine.canaries import BLOCK, CIPHER, places
from expunge_agent.engine.sources import KeyedStream

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

KEY = bytes(range(32))
SIZE = 5_000_000_000


def ran(*command: str, data: bytes) -> bytes:
    return subprocess.run(["openssl", *command], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("offset", [0, BLOCK, 4_999_999_488 // BLOCK * BLOCK])
def test_contents(offset: int) -> None:
    block = memoryview(bytearray(BLOCK))
    KeyedStream(CIPHER, KEY).fill(block, offset)
    made = ran("enc", "-aes-256-ctr", "-K", KEY.hex(), "-iv", f"{offset // 16:032x}", data=bytes(BLOCK))
    same = made == bytes(block)
    assert same


def test_places() -> None:
    """A few sections of a medium, each by one HMAC."""
    blocks = SIZE // BLOCK
    expected = places(SIZE, KEY)
    for section in (0, 1, 499, 999):
        mac = ("dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{KEY.hex()}", "-r")
        told = ran(*mac, data=f"expunge canary v1 {section}".encode())
        first, after = section * blocks // 1000, (section + 1) * blocks // 1000
        block = first + int(told.split()[0], 16) % (after - first)
        assert block * BLOCK in expected
