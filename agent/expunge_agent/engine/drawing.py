"""Keys and random bytes for a plan that is carried out, from the system's generator (getrandom(2))."""

from __future__ import annotations

import secrets

from expunge_agent.core.plan import Draw
from expunge_agent.engine.sources import CIPHERS


def drawn(cipher: str, unread_cipher: str) -> Draw:
    """Fresh values for the passes; `cipher` and `unread_cipher` as in `Draw`."""
    return Draw(
        byte=lambda: secrets.randbelow(256),
        key=lambda name: secrets.token_bytes(CIPHERS[name].key_bytes),
        bytes=secrets.token_bytes,
        cipher=cipher,
        unread_cipher=unread_cipher,
    )
