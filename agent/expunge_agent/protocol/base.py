"""Words shared by all documents: levels, outcomes, and the shapes of small strings."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from expunge_agent.errors import DocumentError

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""SHA-256, lower-case hexadecimal."""
Nonce = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
"""128 random bits, lower-case hexadecimal."""
Timestamp = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
"""RFC 3339, UTC, whole seconds."""
MaybeTimestamp = Annotated[
    str, msgspec.Meta(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?\Z")
]
"""A `Timestamp`, or empty where it did not come to that."""
MaybeDigest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
"""A `Digest`, or empty where there is none."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=4000)]
PathText = Annotated[str, msgspec.Meta(max_length=4096)]
"""A path as Linux limits it (PATH_MAX)."""
MachineId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
OrderId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a document: immutable, exact keys."""


class Level(StrEnum):
    """How far recovery is ruled out (NIST SP 800-88 r2 §3.1: clear, purge). ``none``: nothing was earned.

    Destroy is physical and recorded by the controller; the agent never claims it.
    """

    NONE = "none"
    CLEAR = "clear"
    PURGE = "purge"

    def reaches(self, other: Level) -> bool:
        """Whether this level is at least `other`."""
        order = [Level.NONE, Level.CLEAR, Level.PURGE]
        return order.index(self) >= order.index(other)


class Outcome(StrEnum):
    """What became of a target or an order, from the evidence."""

    SANITIZED = "sanitized"
    EXCEPTIONS = "sanitized-with-exceptions"
    FAILED = "failed"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"


def timestamp(moment: datetime) -> str:
    """`moment` (aware) in the one spelling the contract knows: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The moment a `Timestamp` names. Raises DocumentError for a date that does not exist."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise DocumentError(
            f"{text!r} is not a date and time (RFC 3339, UTC).", "Use 2026-01-31T12:00:00Z."
        ) from error
