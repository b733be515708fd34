"""Encryption that is recognised by what stands at the start of a device or file. Nothing here is decrypted.

Sources: LUKS see `core.luks`; BitLocker: the volume header of the libbde format documentation; APFS: Apple File System
Reference (nx_superblock_t); CoreStorage: the libfvde format documentation; ZFS: On-Disk Specification §1.2 and
include/sys/vdev_impl.h; eCryptfs: fs/ecryptfs/crypto.c of Linux.
"""

from __future__ import annotations

from collections import Counter
from math import log2

from expunge_agent.core import luks

HEAD = 512 << 10
"""Bytes from the start that are looked at besides LUKS's own."""
_ECRYPTFS = 0x3C81B7F5
_UBERBLOCK = (0x00BAB10C).to_bytes(8, "little"), (0x00BAB10C).to_bytes(8, "big")
_RANDOM_FROM = 7.95
"""Bits per byte in 64 KiB: random data have 7.997, compressed files begin with a header and mostly have less."""
_WHOLE = "its keys are not destroyed by themselves here: only overwriting the whole target, or a command of the drive, takes them"


def recognised(head: bytes, size: int) -> list[str]:
    """What of encryption shows in `head` (the first bytes, `HEAD` or all of them) of something with `size` bytes, one
    sentence's part each; empty where nothing does."""
    if luks.begins_like_luks(head):
        return [_luks(head, size)]
    found = [what for what, here in _SIGNS if here(head)]
    if found:
        return [f"{what}: {_WHOLE}" for what in found]
    if _like_random(head):
        return [
            "reads like random data from its first byte: perhaps a container without a header that shows (VeraCrypt, "
            f"TrueCrypt, plain dm-crypt), perhaps an earlier overwrite; this cannot be told. If it is one, {_WHOLE}"
        ]
    return []


def _luks(head: bytes, size: int) -> str:
    try:
        header = luks.parse(head, size)
    except luks.NotLuksError as error:
        return f"a damaged LUKS header ({str(error).rstrip('.')})"
    locked = any(one.startswith("hw-opal") for one in header.segments)
    return header.one_line + (
        "; the drive itself encrypts (hw-opal), with a key that stays in it" if locked else ""
    )


def _bitlocker(head: bytes) -> bool:
    return head[3:11] == b"-FVE-FS-"


def _apfs(head: bytes) -> bool:
    """A container with a key bag (nx_keylocker: block 8 bytes, count 8 bytes at 1296)."""
    return head[32:36] == b"NXSB" and any(head[1296:1312])


def _core_storage(head: bytes) -> bool:
    return head[88:90] == b"CS" and head[:8] != bytes(8)


def _zfs(head: bytes) -> bool:
    """The first label: 112 KiB of names and values at 16 KiB, uberblocks from 128 KiB on, each at least 1 KiB apart."""
    ring = head[128 << 10 : 256 << 10]
    return b"pool_guid" in head[16 << 10 : 128 << 10] and any(
        ring[at : at + 8] in _UBERBLOCK for at in range(0, len(ring), 1024)
    )


def _ecryptfs(head: bytes) -> bool:
    if len(head) < 16:
        return False
    first, second = int.from_bytes(head[8:12], "big"), int.from_bytes(head[12:16], "big")
    return first ^ _ECRYPTFS == second


def _like_random(head: bytes) -> bool:
    sample = head[: 64 << 10]
    if len(sample) < 64 << 10:
        return False
    length = len(sample)
    return -sum(n / length * log2(n / length) for n in Counter(sample).values()) > _RANDOM_FROM and not any(
        sample[:4].startswith(start) for start in _COMPRESSED
    )


_COMPRESSED = (
    b"PK",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zX",
    b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf",
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"%PDF",
)
"""Archives and pictures that come near to random data, by their first bytes."""
_SIGNS = (
    ("a BitLocker volume", _bitlocker),
    ("an APFS container with a key bag (FileVault)", _apfs),
    ("a CoreStorage volume (FileVault 2)", _core_storage),
    ("a member of a ZFS pool, whose datasets may be encrypted (the label does not tell)", _zfs),
    ("a file encrypted by eCryptfs", _ecryptfs),
)
