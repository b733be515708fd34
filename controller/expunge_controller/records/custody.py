"""Custody: the signed, linked events of one medium's way, from registration to release or destruction.

Each event carries the SHA-256 of the one before, so none can be taken out, changed or slipped in.
Events are only ever appended; a mistake is put right by a ``corrected`` event.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

import msgspec

from expunge_agent.errors import DocumentError, RefusedError, VerificationError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import (
    Digest,
    Frozen,
    MaybeDigest,
    Name,
    Nonce,
    Text,
    Timestamp,
    moment,
    timestamp,
)
from expunge_controller.records.custody_parts import Destruction, Participant, Quality, Remedy
from expunge_profiles.custody_rules import custody_rules

FIRST_PREVIOUS = "0" * 64
MAX_EVENTS = 999
"""As many as three digits of a bundle's ``custody/NNN.json`` can number."""


class CustodyKind(StrEnum):
    """What happened to the medium. The list is closed."""

    REGISTERED = "registered"
    COLLECTED = "collected"
    HANDED_OVER = "handed-over"
    RECEIVED = "received"
    SEALED = "sealed"
    REQUESTED = "requested"
    CANCELLED = "cancelled"
    WIPE_STARTED = "wipe-started"
    WIPED = "wiped"
    REFUSED = "refused"
    WIPE_FAILED = "wipe-failed"
    INTERRUPTED = "interrupted"
    VERIFIED = "verified"
    APPROVED = "approved"
    REJECTED = "rejected"
    CONCURRED = "concurred"
    QUALITY_PASSED = "quality-passed"
    QUALITY_FAILED = "quality-failed"
    RELEASED = "released"
    DESTROYED = "destroyed"
    CORRECTED = "corrected"


class Standing(StrEnum):
    """Where the medium stands after an event; decides what may come next."""

    NEW = "new"
    """Before its first event; never written."""
    KEPT = "kept"
    ORDERED = "ordered"
    RUNNING = "running"
    WIPED = "wiped"
    UNSANITIZED = "unsanitized"
    VERIFIED = "verified"
    APPROVED = "approved"
    REJECTED = "rejected"
    CONDEMNED = "condemned"
    """Only physical destruction may follow."""
    GONE = "gone"


class Rule(NamedTuple):
    """An event may come in the standings ``after`` and leads to ``to`` (None: the standing stays)."""

    after: frozenset[Standing]
    to: Standing | None


_WRITTEN = custody_rules()
FINAL = frozenset(map(Standing, _WRITTEN.final))
RULES: dict[CustodyKind, Rule] = {
    kind: Rule(
        frozenset(map(Standing, _WRITTEN.after(kind))),
        Standing(_WRITTEN.steps[kind].to) if _WRITTEN.steps[kind].to else None,
    )
    for kind in CustodyKind
}
"""Which event may follow which, as ``custody.toml`` says. What people must sign is checked by `custody_people`."""


class Attachment(Frozen, frozen=True):
    """A file that belongs to the event, by name and SHA-256; the file itself is kept elsewhere."""

    name: Name
    sha256: Digest


class CustodyEvent(Frozen, frozen=True, omit_defaults=True):
    """Signed with SSHSIG in the namespace ``expunge-custody`` over its canonical bytes.

    ``medium`` is the digest of the medium's identity, ``subject`` its name for readers. ``at`` is
    when the event was recorded, by the recorder's clock; when a wipe ran stands in its receipt.
    ``order`` and ``receipt`` are SHA-256 digests of those documents' bytes, empty where none.
    ``standing`` follows from the events so far by `RULES`; `check_chain` recomputes it.
    """

    format: Literal["expunge/custody/v1"]
    medium: Digest
    subject: Name
    seq: Annotated[int, msgspec.Meta(ge=1, le=MAX_EVENTS)]
    previous: Digest
    event: CustodyKind
    standing: Standing
    actor: Name
    counterparty: Text
    location: Text
    seal_id: Text
    at: Timestamp
    order: MaybeDigest
    order_id: Text
    receipt: MaybeDigest
    attachments: Annotated[list[Attachment], msgspec.Meta(max_length=256)]
    note: Text
    nonce: Nonce
    people: Annotated[list[Participant], msgspec.Meta(max_length=8)] = []
    """Who took part, each in one role; all of them sign these bytes too."""
    count: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 0
    """How many pieces, of what comes in several; 0 where nobody counted."""
    destruction: Destruction | None = None
    remedy: Remedy | None = None
    quality: Quality | None = None


def next_event(
    previous: bytes | None,
    *,
    medium: str,
    subject: str,
    event: CustodyKind,
    actor: str,
    at: datetime,
    nonce: str,
    counterparty: str = "",
    location: str = "",
    seal_id: str = "",
    order: str = "",
    order_id: str = "",
    receipt: str = "",
    attachments: Sequence[Attachment] = (),
    note: str = "",
    people: Sequence[Participant] = (),
    count: int = 0,
    destruction: Destruction | None = None,
    remedy: Remedy | None = None,
    quality: Quality | None = None,
) -> bytes:
    """The canonical bytes of the event after `previous` (None for a medium's first), to be signed.

    `nonce` is 32 hexadecimal digits of fresh randomness. Raises RefusedError when the event may not
    come now (`RULES`) or `previous` is another medium's, DocumentError when a value does not fit
    its field or `previous` is not a custody event.
    """
    before = None if previous is None else parse_custody_event(previous)
    if before is not None and before.medium != medium:
        raise RefusedError(
            "The previous custody event belongs to another medium.", "Take the last event of this medium."
        )
    standing = _standing_after(Standing.NEW if before is None else before.standing, event, remedy)
    plain = {
        "format": "expunge/custody/v1",
        "medium": medium,
        "subject": subject,
        "seq": 1 if before is None else before.seq + 1,
        "previous": FIRST_PREVIOUS if previous is None else canonical.sha256_hex(previous),
        "event": str(event),
        "standing": str(standing),
        "actor": actor,
        "counterparty": counterparty,
        "location": location,
        "seal_id": seal_id,
        "at": timestamp(at),
        "order": order,
        "order_id": order_id,
        "receipt": receipt,
        "attachments": [{"name": item.name, "sha256": item.sha256} for item in attachments],
        "note": note,
        "nonce": nonce,
        "people": [{"role": one.role, "person": one.person} for one in people],
        "count": count,
        "destruction": destruction and msgspec.to_builtins(destruction),
        "remedy": remedy and msgspec.to_builtins(remedy),
        "quality": quality and msgspec.to_builtins(quality),
    }
    return canonical.dumps(canonical.convert(plain, CustodyEvent, "custody event"))


def parse_custody_event(data: bytes) -> CustodyEvent:
    """The event in `data`. Raises DocumentError."""
    return canonical.loads(data, CustodyEvent, "custody event")


def check_chain(events: Sequence[bytes]) -> list[CustodyEvent]:
    """The events of one medium in order, every link and rule checked; their signatures are not.

    Raises VerificationError that names the number of the first event that does not fit.
    """
    chain: list[CustodyEvent] = []
    previous, standing = FIRST_PREVIOUS, Standing.NEW
    for number, data in enumerate(events, start=1):
        try:
            event = parse_custody_event(data)
            problem = _misfit(event, chain, previous)
            if problem:
                raise _broken(number, problem)
            if canonical.dumps(event) != data:
                raise _broken(number, "its bytes are not in canonical form")
            moment(event.at)
            standing = _standing_after(standing, event.event, event.remedy)
        except (DocumentError, RefusedError) as error:
            raise _broken(number, error.message) from error
        if event.standing is not standing:
            raise _broken(number, f"it says {event.standing}, but the events so far make it {standing}")
        chain.append(event)
        previous = canonical.sha256_hex(data)
    return chain


def _misfit(event: CustodyEvent, chain: list[CustodyEvent], previous: str) -> str:
    """Why `event` cannot be the next of `chain`; empty when it can."""
    if event.seq != len(chain) + 1:
        return f"it is numbered {event.seq}"
    if event.previous != previous:
        return "it does not carry the digest of the event before it"
    if chain and (event.medium, event.subject) != (chain[0].medium, chain[0].subject):
        return "it belongs to another medium"
    return ""


def _standing_after(standing: Standing, event: CustodyKind, remedy: Remedy | None) -> Standing:
    rule = RULES[event]
    if standing not in rule.after:
        came = "as a medium's first event" if standing is Standing.NEW else f"while the medium is {standing}"
        raise RefusedError(
            f"Custody: {event} may not come {came}.",
            "It may come when the medium is: " + ", ".join(sorted(rule.after)) + ".",
        )
    to = rule.to
    if event is CustodyKind.REJECTED and remedy is not None and remedy.action == "destroy":
        to = Standing.CONDEMNED
    # What left stays gone, and what is condemned stays so, even when an agent's report arrives afterwards.
    kept = standing in FINAL and not (standing is Standing.CONDEMNED and to is Standing.GONE)
    return standing if to is None or kept else to


def _broken(number: int, why: str) -> VerificationError:
    return VerificationError(
        f"Custody event {number} breaks the chain: {why}.",
        "An event was changed, removed or reordered; keep the copy as evidence and ask for the record again.",
    )
