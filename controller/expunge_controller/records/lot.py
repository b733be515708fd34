"""Quality-control lots: which of the media sanitized in a period get a second look. Pure, and anyone can draw it again.

The seed is the root of a log checkpoint that holds the receipt of the lot's last medium: it was not known when
the media were wiped. Each medium's ticket is the SHA-256 of three lines, ``expunge lot v1``, the root and the
medium (hexadecimal, each line with its newline); the lowest tickets are drawn. R2v3 appendix B(13) asks for 5 %,
NIST SP 800-88 r1 §4.7.3 for 20 %.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from expunge_agent.errors import DocumentError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Digest, Frozen, Name, Text, Timestamp, moment
from expunge_agent.protocol.canonical import U64
from expunge_controller.records.checkpoint import parse_checkpoint
from expunge_controller.records.custody import CustodyEvent
from expunge_controller.records.custody_parts import PersonName

RULE = "expunge lot v1"
MAX_LOT = 100_000


class LotMedium(Frozen, frozen=True):
    """A sanitized medium: the receipt that says so, and that receipt's entry in the log, from 0."""

    medium: Digest
    subject: Name
    receipt: Digest
    entry: U64


class Lot(Frozen, frozen=True):
    """Signed by the controller in the namespace ``expunge-lot``.

    ``population``: every medium whose last result is from the period; ``chosen``: those that were drawn.
    ``seed_from``: ``first`` is the first checkpoint with the last receipt in it, ``brought`` one that an auditor chose.
    """

    format: Literal["expunge/lot/v1"]
    number: Name
    percent: Annotated[int, msgspec.Meta(ge=1, le=100)]
    since: Timestamp
    until: Timestamp
    checker: PersonName
    seed_from: Literal["first", "brought"]
    checkpoint: Text
    """The signed checkpoint, a note."""
    population: Annotated[list[LotMedium], msgspec.Meta(min_length=1, max_length=MAX_LOT)]
    chosen: list[Digest]
    at: Timestamp
    issuer: Name


def parse_lot(data: bytes) -> Lot:
    """The lot in `data`. Raises DocumentError."""
    return canonical.loads(data, Lot, "lot")


def draw(media: Sequence[str], percent: int, root: bytes) -> list[str]:
    """The drawn among `media` (digests): `percent` of them, rounded up, at least one; lowest tickets first."""
    count = max(1, -(-len(media) * percent // 100))
    return sorted(media, key=lambda medium: ticket(root, medium))[:count]


def ticket(root: bytes, medium: str) -> str:
    """A medium's ticket: ``printf 'expunge lot v1\\n%s\\n%s\\n' ROOT MEDIUM | sha256sum``."""
    return hashlib.sha256(f"{RULE}\n{root.hex()}\n{medium}\n".encode()).hexdigest()


def lot_problems(lot: Lot, data: bytes) -> list[str]:
    """What does not follow from the lot's own population and checkpoint; whose they are is another question."""
    problems = []
    media = [one.medium for one in lot.population]
    try:
        checkpoint, _ = parse_checkpoint(lot.checkpoint.encode())
        for text in (lot.since, lot.until, lot.at):
            moment(text)
    except DocumentError as error:
        return [error.message]
    if canonical.dumps(lot) != data:
        problems.append("its bytes are not in canonical form")
    if media != sorted(set(media)):
        problems.append("its media are not in order, or one stands there twice")
    if checkpoint.size <= max(int(one.entry) for one in lot.population):
        problems.append("its seed is older than its last medium's receipt, and could have been known")
    if lot.chosen != draw(media, lot.percent, checkpoint.root):
        problems.append("drawn again, other media come out")
    if lot.since > lot.until or lot.until > lot.at:
        problems.append("its period does not end before it was drawn")
    return problems


def result_problems(lot: Lot, event: CustodyEvent) -> list[str]:
    """Why a quality check is not the one that the lot asked for."""
    said = [one.person for one in event.people if one.role == "checker"]
    receipts = {one.medium: one.receipt for one in lot.population}
    problems = []
    if event.medium not in lot.chosen:
        problems.append(f"the medium was not drawn by {lot.number}")
    if receipts.get(event.medium) != event.receipt:
        problems.append(f"{lot.number} drew another result of this medium")
    if said != [lot.checker]:
        problems.append(f"{lot.number} is assigned to {lot.checker}")
    return problems
