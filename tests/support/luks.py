"""Headers recorded from cryptsetup (tests/recorded/luks-cryptsetup-2.6.1.json), and changes to them that stay sound."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_RECORDING = Path(__file__).parent.parent / "recorded" / "luks-cryptsetup-2.6.1.json"
NAMES = tuple(json.loads(_RECORDING.read_text())["headers"])


def recorded(name: str) -> tuple[bytes, int]:
    """The first bytes of an image, and its size."""
    one = json.loads(_RECORDING.read_text())["headers"][name]
    return zlib.decompress(base64.b64decode(one["head"])), one["size"]


def with_json(head: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """`head` with the JSON of both LUKS2 headers changed and their checksums right again."""
    out = bytearray(head)
    length = int.from_bytes(head[8:16], "big")
    for place in (0, length):
        plain = json.loads(head[place + 4096 : place + length].split(b"\0", 1)[0])
        change(plain)
        out[place + 4096 : place + length] = json.dumps(plain).encode().ljust(length - 4096, b"\0")
        reseal(out, place, length)
    return bytes(out)


def reseal(out: bytearray, place: int, length: int) -> None:
    """Make the checksum of the LUKS2 header at `place` right (SHA-256, as cryptsetup writes)."""
    out[place + 448 : place + 512] = bytes(64)
    out[place + 448 : place + 480] = hashlib.sha256(out[place : place + length]).digest()
