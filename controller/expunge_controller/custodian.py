"""Custody that people sign: an event is drafted as a file, each signs these bytes, then it is recorded with all of it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from expunge_agent.errors import NotFoundError, RefusedError, VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import moment, timestamp
from expunge_controller import lots, people
from expunge_controller.certifying import issue_again
from expunge_controller.context import Controller
from expunge_controller.ledger import subject_of
from expunge_controller.records.custody import (
    Attachment,
    CustodyEvent,
    CustodyKind,
    check_chain,
    next_event,
    parse_custody_event,
)
from expunge_controller.records.custody_parts import Destruction, Participant, Quality, Remedy
from expunge_controller.records.custody_people import examine, last_result, signature_problems, step_problems
from expunge_controller.records.person import PersonRecord, person_at
from expunge_controller.store.custody_rows import CustodySignatureRow
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import CustodyRow, MediumRow
from expunge_profiles.custody_rules import custody_rules

CLOCKS = timedelta(minutes=5)
"""How far the clock of whoever drafted may be ahead of the controller's."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What people say of an event."""

    people: Sequence[Participant] = ()
    actor: str = ""
    location: str = ""
    seal_id: str = ""
    count: int = 0
    note: str = ""
    attachments: Sequence[Attachment] = ()
    destruction: Destruction | None = None
    remedy: Remedy | None = None
    quality: Quality | None = None


@dataclass(frozen=True)
class Recorded:
    """What became of an event. ``certificate`` is the number of the one issued again, empty where none was."""

    event: CustodyEvent
    certificate: str = ""
    repeated: bool = False
    signers: list[str] = field(default_factory=list)


def recordable(kind: CustodyKind) -> bool:
    """Whether people record events of this kind; the others follow from orders and receipts."""
    step = custody_rules().steps[kind]
    return bool(step.signed_by or step.may_sign)


def draft(unit: Unit, medium: MediumRow, kind: CustodyKind, words: Words, now: datetime) -> bytes:
    """The bytes of a medium's next event, for people to sign. Nothing is recorded.

    Raises RefusedError where the rules of custody forbid it.
    """
    kept = [row.body for row in unit.evidence.custody(medium.digest)]
    chain = [parse_custody_event(body) for body in kept]
    about = last_result(chain) if "wipe" in custody_rules().steps[kind].needs else None
    giver, receiver = _person(words, "giver"), _person(words, "receiver")
    body = next_event(
        kept[-1] if kept else None,
        medium=medium.digest,
        subject=subject_of(medium),
        event=kind,
        actor=giver or (words.people[0].person if words.people else words.actor),
        counterparty=receiver if giver else "",
        at=now,
        nonce=secrets.token_hex(16),
        location=words.location,
        seal_id=words.seal_id,
        order=about.order if about else "",
        order_id=about.order_id if about else "",
        receipt=about.receipt if about else "",
        attachments=words.attachments,
        note=words.note,
        people=words.people,
        count=words.count,
        destruction=words.destruction,
        remedy=words.remedy,
        quality=words.quality,
    )
    known = people.records_in(unit)
    event = parse_custody_event(body)
    problems = [*step_problems(event, chain, known), *lots.assigned_problems(unit, event)]
    problems += [
        f"{one.person} is not registered"
        for one in event.people
        if person_at(known, one.person, event.at) is None
    ]
    _refuse(event, problems)
    return body


def record(controller: Controller, body: bytes, signatures: Sequence[bytes], now: datetime) -> Recorded:
    """Check an event that people signed, sign it for the controller, and append it, all or nothing.

    Recording the same bytes again changes nothing. Raises DocumentError, NotFoundError for a medium
    that is not registered, RefusedError where the rules or a signature say no.
    """
    with controller.store.write() as unit:
        return record_in(unit, controller, body, signatures, now)


def record_in(
    unit: Unit, controller: Controller, body: bytes, signatures: Sequence[bytes], now: datetime
) -> Recorded:
    """As `record`, in the caller's transaction."""
    event = parse_custody_event(body)
    if unit.evidence.medium(event.medium) is None:
        raise NotFoundError(
            f"The medium of {event.subject} is not registered here.", "See `expunge media list`."
        )
    kept = [row.body for row in unit.evidence.custody(event.medium)]
    if body in kept:
        return Recorded(event, repeated=True)
    _check_place(event, kept, body, now)
    known = people.records_in(unit)
    mine = _by_person(event, body, signatures, known)
    chain = [parse_custody_event(one) for one in kept]
    problems = [*step_problems(event, chain, known), *signature_problems(event, body, mine, known)]
    problems += lots.assigned_problems(unit, event)
    problems += [
        f"{one.person} is not registered any more"
        for one in event.people
        if person_at(known, one.person, timestamp(now)) is None
    ]
    _refuse(event, list(dict.fromkeys(problems)))
    _append(unit, controller, event, body, mine)
    number = issue_again(unit, controller, event, now) if event.receipt else ""
    return Recorded(event, number, signers=sorted(mine))


def _check_place(event: CustodyEvent, kept: list[bytes], body: bytes, now: datetime) -> None:
    if not recordable(event.event):
        raise RefusedError(
            f"{event.event} is not recorded by hand.", "It follows from an order or an agent's receipt."
        )
    last = parse_custody_event(kept[-1]) if kept else None
    if last is None or event.seq != last.seq + 1 or event.previous != canonical.sha256_hex(kept[-1]):
        raise RefusedError(
            f"Another event was recorded since {event.event} was drafted (number {event.seq}).",
            "Draft it again and have it signed again; the rules may allow it no more.",
        )
    try:
        check_chain([*kept, body])
    except VerificationError as error:
        raise RefusedError(error.message, "Draft the event again; a draft is not edited.") from error
    if moment(event.at) > now + CLOCKS or event.at < last.at:
        raise RefusedError(
            f"The event says {event.at}; the one before it is of {last.at}, and it is {timestamp(now)} now.",
            "Set the clocks, and draft the event again.",
        )


def _by_person(
    event: CustodyEvent, body: bytes, signatures: Sequence[bytes], known: Sequence[PersonRecord]
) -> dict[str, bytes]:
    """The signatures by the person whose key made them, in the layout of bundles."""
    found: dict[str, bytes] = {}
    for armored in signatures:
        seen = sshsig.examine(armored, sshsig.CUSTODY_NAMESPACE, body)
        for one in event.people:
            person = person_at(known, one.person, event.at)
            if person is not None and person.key == seen.public_line:
                examine(armored, body, person)
                found[one.person] = sshsig.in_our_layout(armored)
                break
        else:
            raise RefusedError(
                f"The key {sshsig.fingerprint(seen.public_line)} is nobody's whom the event names.",
                "See `expunge people list`; each person signs with the registered key.",
            )
    return found


def _append(
    unit: Unit, controller: Controller, event: CustodyEvent, body: bytes, signatures: dict[str, bytes]
) -> None:
    unit.evidence.add_custody(
        CustodyRow(
            medium=event.medium,
            seq=event.seq,
            event=str(event.event),
            order_digest=event.order,
            body=body,
            signature=sshsig.sign(controller.signer, sshsig.CUSTODY_NAMESPACE, body),
        )
    )
    for person, armored in signatures.items():
        unit.custody.add_signature(
            CustodySignatureRow(medium=event.medium, seq=event.seq, person=person, body=armored)
        )


def _person(words: Words, role: str) -> str:
    return next((one.person for one in words.people if one.role == role), "")


def _refuse(event: CustodyEvent, problems: list[str]) -> None:
    if problems:
        raise RefusedError(
            f"Custody: {event.event} is against the rules: " + "; ".join(problems) + ".",
            "docs/custody.md has the rules; nothing was recorded.",
        )
