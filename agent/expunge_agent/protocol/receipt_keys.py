"""What a receipt says of a key that was destroyed: the conditions, every known copy, what can still be read."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from expunge_agent.protocol.base import Frozen, Name, Text
from expunge_agent.protocol.canonical import U64

Holds = Literal["yes", "no", "unknown"]


class Condition(Frozen, frozen=True):
    """One condition under which destroying a key counts as sanitizing the data (NIST SP 800-88 Rev. 2,
    cryptographic erase), whether it holds, and how that is known. Anything but ``yes`` blocks the claim."""

    id: Name
    holds: Holds
    why: Text


class KeyCopy(Frozen, frozen=True):
    """One copy of the key, wrapped or not: where it is (a path, a device, a token), what it is, and what
    became of it."""

    where: Text
    what: Text
    fate: Literal["destroyed", "remains", "unknown"]
    detail: Text = ""


class KeyEvidence(Frozen, frozen=True):
    """Bytes as they were read, in hexadecimal: a header before and after, an audit digest, a status word."""

    name: Name
    hex: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){0,8192}\Z")] = ""


class KeyDestruction(Frozen, frozen=True):
    """One key as it was destroyed. ``scheme`` and ``key`` name it; ``generation`` counts the state of its
    store (0 where the scheme has none). ``readable``: what of the data can still be read, and how; empty
    where nothing is known that could."""

    scheme: Name
    key: Name
    conditions: list[Condition]
    copies: list[KeyCopy]
    readable: list[Text]
    evidence: list[KeyEvidence] = []
    generation: U64 = U64(0)
    overwritten: U64 = U64(0)
    """Bytes at the start of the target (or of its detached header) that held wrapped keys: what the passes went over.
    0 where there is no such area."""
