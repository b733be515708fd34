"""OpenSSH's ``known_hosts``, read line by line (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

Only for jump hosts; the keys of our own machines are pinned in the store. Lines of certificate
authorities are passed over: the SSH library cannot check host certificates, and crashes on them.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from typing import NamedTuple


class KnownKeys(NamedTuple):
    """Key lines (``ssh-ed25519 AAAA…``) that a host may show, and those that were revoked."""

    good: frozenset[str]
    revoked: frozenset[str]


def keys_of(text: str, host: str, port: int) -> KnownKeys:
    """The keys that the ``known_hosts`` file `text` has for `host` at `port`; bad lines count for nothing."""
    name = host.lower() if port == 22 else f"[{host.lower()}]:{port}"
    good: set[str] = set()
    revoked: set[str] = set()
    for line in text.splitlines():
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3 or marker not in ("", "@revoked") or not _matches(fields[0], name):
            continue
        (revoked if marker else good).add(f"{fields[1]} {fields[2]}")
    return KnownKeys(frozenset(good), frozenset(revoked))


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        return _hashed(patterns, name)
    found = False
    for pattern in patterns.lower().split(","):
        negated = pattern.startswith("!")
        if _fits(pattern.lstrip("!"), name):
            if negated:
                return False
            found = True
    return found


def _fits(pattern: str, name: str) -> bool:
    """``*`` and ``?`` are wildcards; brackets are themselves."""
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _hashed(entry: str, name: str) -> bool:
    """``|1|salt|HMAC-SHA1(salt, name)``, both in base64."""
    try:
        _, _, salt, digest = entry.split("|")
        key, expected = base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.digest(key, name.encode(), hashlib.sha1), expected)
