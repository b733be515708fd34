"""What of a medium a LUKS volume encrypts, and how much of its keyslots' key an attacker has to guess.

Sources: LUKS2 On-Disk Format Specification 1.1.2 §3.3 (segments), cryptsetup lib/luks2 (flags, requirements).
Offsets and sizes in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_HMAC = re.compile(r"p?hmac\(sha-?(1|256|512)\)")
_HMAC_BITS = {"1": 160, "256": 256, "512": 512}
_WITHOUT_KEY = ("", "none", "poly1305", "aead", "cmac(aes)")
"""Integrity that has no key of its own in the keyslot (authenticated modes, or nothing at all)."""
_MOST = 256
"""Bits of key that the known ciphers take at the most; what a keyslot holds beyond that is not for them."""
_LRW_TWEAK = 128
_REENCRYPTION = re.compile(r"(offline|online)-reencrypt(-v[0-9]+)?")
_REQUIREMENTS = ("opal",)
_SEGMENTS = ("crypt", "linear", "hw-opal", "hw-opal-crypt")


def strength(ciphers: str, key_bits: int) -> int:
    """Bits that an attacker has to guess of a key of `key_bits` (−1: unknown), for the weakest of the `ciphers`
    (``aes-xts-plain64, serpent-lrw-benbi``): half of an XTS key (IEEE 1619), an LRW key without its tweak; 0 for none."""
    if "null" in ciphers:
        return 0
    if key_bits < 0:
        return -1
    return min((_of_one(one, key_bits) for one in ciphers.split(", ")), default=-1)


def key_bits(slot_bits: int, integrity: Iterable[str]) -> int:
    """Of the bits in a keyslot those that encrypt: dm-integrity's key stands behind them. −1 where its length is not known."""
    least = slot_bits
    for one in integrity:
        if one in _WITHOUT_KEY:
            continue
        found = _HMAC.fullmatch(one)
        if found is None:
            return -1
        least = min(least, slot_bits - _HMAC_BITS[found[1]])
    return max(least, 0)


def is_backup(flags: object) -> bool:
    """Whether a segment with these flags only remembers how it was or will be (``backup-final`` …)."""
    return isinstance(flags, list) and any(str(one).startswith("backup-") for one in flags)


def strange(segments: Iterable[str], requirements: Iterable[str]) -> list[str]:
    """What a header asks for that is not understood here, so that what was read of it may mean something else."""
    found = [f"it has data of an unknown kind ({one})" for one in segments if one not in _SEGMENTS]
    found += [
        f"it demands something unknown ({one})"
        for one in requirements
        if one not in _REQUIREMENTS and not _REENCRYPTION.fullmatch(one)
    ]
    return found


def bare(encrypted: Sequence[tuple[int, int]], begin: int, size: int) -> list[tuple[int, int]]:
    """(first byte, end) of what lies in none of `encrypted`, between `begin` and the end of a medium of `size` bytes.

    `encrypted`: (first byte, end) of each segment, the end 0 for one that reaches to the end of the medium.
    """
    found, at = [], begin
    for start, end in sorted((start, end or size) for start, end in encrypted):
        if start > at:
            found.append((at, min(start, size)))
        at = max(at, end)
    if at < size:
        found.append((at, size))
    return [one for one in found if one[0] < one[1]]


def _of_one(cipher: str, bits: int) -> int:
    if "-xts" in cipher or "xts(" in cipher:
        bits //= 2
    elif "-lrw" in cipher or "lrw(" in cipher:
        bits -= _LRW_TWEAK
    return min(max(bits, 0), _MOST)
