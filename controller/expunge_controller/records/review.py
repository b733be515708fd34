"""What people made of a result, read out of custody: validation, concurrence, quality checks. Pure.

The certificate repeats it (`reviewed`), and the check of a bundle reads it out again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Digest, Frozen, MaybeDigest, Name, Text, Timestamp
from expunge_controller.records.custody import CustodyEvent, CustodyKind
from expunge_controller.records.custody_people import DECISIONS, Signatures, examine
from expunge_controller.records.person import PersonRecord, person_at

CHECKS = (CustodyKind.QUALITY_PASSED, CustodyKind.QUALITY_FAILED)
NOT_SIGNED = "not signed by a person"


class Decision(Frozen, frozen=True):
    """What a person decided. ``event``: the custody event's digest; ``key``: the fingerprint that signed it, empty
    where only a name was given. ``security_key``: what a FIDO2 key said of the person."""

    decision: Literal["approved", "rejected", "concurred", "quality-passed", "quality-failed"]
    name: Name
    full_name: Text
    title: Text
    organisation: Text
    location: Text
    at: Timestamp
    seq: int
    event: Digest
    key: Text
    security_key: Literal["none", "user present", "user verified"]
    remedy: Text
    lot: Text
    tool: Text
    remarks: Text

    @property
    def who(self) -> str:
        """The full name, or the short one where that is all there is."""
        return self.full_name or self.name


class Review(Frozen, frozen=True):
    """What people made of the result so far; ``concurrence`` is with this very validation."""

    validation: Decision | None
    concurrence: Decision | None
    quality: list[Decision]

    @property
    def status(self) -> Literal["awaiting validation", "approved", "rejected"]:
        """What follows from it: a failed quality check outweighs an approval."""
        if any(one.decision == "quality-failed" for one in self.quality):
            return "rejected"
        if self.validation is None:
            return "awaiting validation"
        return "approved" if self.validation.decision == "approved" else "rejected"

    @property
    def decisions(self) -> list[Decision]:
        """All that people decided: validation, concurrence, quality checks."""
        return [one for one in (self.validation, self.concurrence, *self.quality) if one is not None]

    @property
    def sentences(self) -> list[str]:
        """What is not behind it, for the certificate's assurance."""
        return [
            f"{one.decision} under the name of {one.who}: {NOT_SIGNED}."
            for one in (self.validation, self.concurrence)
            if one is not None and not one.key
        ]


def review_of(
    chain: Sequence[CustodyEvent],
    bodies: Sequence[bytes],
    signatures: Mapping[int, Signatures],
    people: Sequence[PersonRecord],
    receipt: MaybeDigest,
) -> Review | None:
    """What custody says of the result in `receipt`; None where nobody decided anything."""
    review = Review(validation=None, concurrence=None, quality=[])
    for event, body in zip(chain, bodies, strict=True):
        if event.receipt != receipt or event.event not in (*DECISIONS, *CHECKS):
            continue
        one = _decision(event, body, signatures.get(event.seq, {}), people)
        if event.event in (CustodyKind.APPROVED, CustodyKind.REJECTED):
            review = replace(review, validation=one, concurrence=None)
        elif event.event is CustodyKind.CONCURRED:
            review = replace(review, concurrence=one)
        else:
            review = replace(review, quality=[*review.quality, one])
    return review if review != Review(validation=None, concurrence=None, quality=[]) else None


def _decision(
    event: CustodyEvent, body: bytes, signatures: Signatures, people: Sequence[PersonRecord]
) -> Decision:
    name = event.people[0].person if event.people else event.actor
    person = person_at(people, name, event.at) if event.people else None
    key, security = "", "none"
    if person is not None and name in signatures:
        try:
            seen = examine(signatures[name], body, person)
            key = sshsig.fingerprint(seen.public_line)
            if seen.presence is not None:
                security = "user verified" if seen.presence.user_verified else "user present"
        except VerificationError:
            key = ""
    plain = {
        "decision": str(event.event),
        "name": name,
        "full_name": person.full_name if person else "",
        "title": person.title if person else "",
        "organisation": person.organisation if person else "",
        "location": event.location,
        "at": event.at,
        "seq": event.seq,
        "event": canonical.sha256_hex(body),
        "key": key,
        "security_key": security,
        "remedy": f"{event.remedy.action}: {event.remedy.technique}" if event.remedy else "",
        "lot": event.quality.lot if event.quality else "",
        "tool": event.quality.tool if event.quality else "",
        "remarks": event.note,
    }
    return canonical.convert(plain, Decision, "custody event")


def open_follow_up(chain: Sequence[CustodyEvent]) -> CustodyEvent | None:
    """The rejection whose remedy has not been carried out; None where there is none.

    Repeating is done once a later result was approved, destroying once the medium is destroyed.
    """
    found: CustodyEvent | None = None
    for event in chain:
        if event.event in (CustodyKind.REJECTED, CustodyKind.QUALITY_FAILED):
            found = event
        elif event.event is CustodyKind.DESTROYED or (
            event.event is CustodyKind.APPROVED and found is not None and found.receipt != event.receipt
        ):
            found = None
    return found
