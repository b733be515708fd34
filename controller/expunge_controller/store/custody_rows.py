"""The rows of people, their signatures on custody, certificates issued again, and lots, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PersonRow:
    """A signed person record; ``n`` counts from 1 in the order in which they were made."""

    n: int
    person: str
    body: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class CustodySignatureRow:
    """A person's detached signature over a custody event (``body``, in the layout of bundles)."""

    medium: str
    seq: int
    person: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class RevisionRow:
    """A certificate issued again after people decided; ``base`` is the first one's number."""

    number: str
    base: str
    rev: int
    body: bytes
    signature: bytes
    issued_at: str


@dataclass(frozen=True, kw_only=True)
class LotRow:
    """A signed lot of media drawn for a quality check."""

    number: str
    body: bytes
    signature: bytes
    created_at: str
