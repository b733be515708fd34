"""Where the canaries of a drive command lie: found again from their key, as docs/receipt-format.md says.

Written apart from the agent's own code, so that a receipt is held to the document and not to a program.
"""

from __future__ import annotations

import hashlib
import hmac

BLOCK = 4096
"""Bytes of a canary and of a sample."""
SECTIONS = 1000
SAMPLED_SECTIONS = 256


def canary_places(size: int, key: bytes) -> list[int]:
    """Offsets of the canaries of a medium of `size` bytes under the 32 bytes of `key`, ascending."""
    blocks = size // BLOCK
    if not blocks:
        return []
    drawn = _drawn(blocks, key, "canary", min(SECTIONS, (blocks + 3) // 4))
    return [number * BLOCK for number in sorted({0, blocks - 1, *drawn})]


def sample_places(size: int, key: bytes) -> list[int]:
    """Offsets of the samples of old data, ascending; a place that a canary takes is none."""
    taken = set(canary_places(size, key))
    numbers = sorted(set(_drawn(size // BLOCK, key, "sample", SAMPLED_SECTIONS)))
    return [number * BLOCK for number in numbers if number * BLOCK not in taken]


def _drawn(blocks: int, key: bytes, what: str, most: int) -> list[int]:
    """One block in each section: section i of s reaches from block i·blocks ÷ s to before the next one's first."""
    sections = min(most, blocks)
    borders = [number * blocks // sections for number in range(sections + 1)] if sections else []
    numbers = []
    for section, first in enumerate(borders[:-1]):
        message = f"expunge {what} v1 {section}".encode()
        drawn = int.from_bytes(hmac.digest(key, message, hashlib.sha256), "big")
        numbers.append(first + drawn % (borders[section + 1] - first))
    return numbers
