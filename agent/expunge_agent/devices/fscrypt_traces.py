"""Raw keys and stored policies of fscrypt that lie about in files. Keys are looked at in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from expunge_agent.core.fscrypt import RAW_KEY, STORED_COPY
from expunge_agent.core.guard import readable
from expunge_agent.devices.key_traces import regular_files
from expunge_agent.devices.private_child import run_private
from expunge_agent.protocol.receipt_keys import KeyCopy

_SECONDS = 600.0
_SHORTEST, _LONGEST = 16, 64
"""Bytes of a master key (FSCRYPT_MAX_KEY_SIZE)."""
_SMALL = 1 << 16


def copies(key: str, folders: Sequence[str], but: Sequence[str]) -> list[KeyCopy]:
    """Files below `folders` that are the raw key with the identifier `key` (hexadecimal), as bytes or in hexadecimal, or hold a
    stored policy of it; `but` are paths that are known. Links are not followed, other file systems not entered."""
    if not folders:
        return []
    asked = json.dumps({"key": key, "folders": list(folders), "but": list(but)}).encode()
    found = json.loads(run_private(look_through, asked, _SECONDS).output)
    return [
        *(
            KeyCopy(where=readable(path, 2000), what=RAW_KEY, fate="remains", detail="It opens everything.")
            for path in found["raw"]
        ),
        *(
            KeyCopy(
                where=readable(path, 2000),
                what=STORED_COPY,
                fate="remains",
                detail="With the protector's passphrase it opens everything.",
            )
            for path in found["stored"]
        ),
    ]


def look_through(asked: bytes) -> bytes:
    """The work of the child: the paths, as JSON."""
    wish = json.loads(asked)
    key, known = wish["key"], set(_numbers(wish["but"]))
    found: dict[str, list[str]] = {"raw": [], "stored": []}
    for path, status in regular_files(wish["folders"]):
        if status is None or status.st_size > _SMALL or (status.st_dev, status.st_ino) in known:
            continue
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - the path may be no UTF-8
                data = file.read(_SMALL)
        except OSError:
            continue
        if any(_SHORTEST <= len(raw) <= _LONGEST and identifier(raw) == key for raw in _spellings(data)):
            found["raw"].append(os.fsdecode(path))
        elif key.encode() in data:
            found["stored"].append(os.fsdecode(path))
    return json.dumps(found).encode()


def _numbers(paths: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Device and inode of each: a file may be reached through several mounts."""
    for path in paths:
        with contextlib.suppress(OSError):
            seen = os.stat(path)  # noqa: PTH116
            yield seen.st_dev, seen.st_ino


def identifier(raw: bytes) -> str:
    """The identifier of a master key: HKDF-SHA512 without salt, ``fscrypt``, NUL, 1 (fs/crypto/hkdf.c); hexadecimal."""
    return HKDF(SHA512(), 16, None, b"fscrypt\0\1").derive(raw).hex()


def _spellings(data: bytes) -> list[bytes]:
    found = [data]
    with contextlib.suppress(ValueError):
        found.append(bytes.fromhex(data.decode("ascii").strip()))
    return found
