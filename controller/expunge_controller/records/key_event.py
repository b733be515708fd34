"""The life of signing keys: signed, linked events, and the ``allowed_signers`` that follow from them. Pure.

Each principal (a machine's agent, the controller) has a chain of its own. Nothing is ever taken back: a key that was
called compromised by mistake gets a successor.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import (
    Frozen,
    MaybeDigest,
    MaybeTimestamp,
    Name,
    Nonce,
    Text,
    Timestamp,
    moment,
    timestamp,
)
from expunge_agent.protocol.trust import TrustedSigner

CONTROLLER = "controller:"
AGENT = "agent:"
AGENT_NAMESPACES = (sshsig.RECEIPT_NAMESPACE,)
CONTROLLER_NAMESPACES = (
    sshsig.ORDER_NAMESPACE,
    sshsig.CUSTODY_NAMESPACE,
    sshsig.CERTIFICATE_NAMESPACE,
    sshsig.KEY_EVENT_NAMESPACE,
    sshsig.PERSON_NAMESPACE,
    sshsig.LOT_NAMESPACE,
)
MAX_EVENTS = 999
"""Of one bundle: as many as three digits of ``key-events/NNN.json`` can number."""

NEVER = "1970-01-02T00:00:00Z"
"""The end of a key that never counted; OpenSSH refuses a line whose times are the wrong way round."""


class KeyEventKind(StrEnum):
    """What happened to the key. The list is closed.

    ``enrolled``: it counts from now on. ``rotated``: it signed its successor, which takes its place now.
    ``revoked``: what is logged from now on does not count. ``compromised``: what was signed since a time does not.
    """

    ENROLLED = "enrolled"
    ROTATED = "rotated"
    REVOKED = "revoked"
    COMPROMISED = "compromised"


class KeyEvent(Frozen, frozen=True):
    """One event, signed by the controller (``expunge-key-event``).

    ``seq`` counts the principal's events from 1, ``previous`` is the SHA-256 of the one before. ``since``: from when it
    counts; ``at``, when it was recorded, but for ``compromised``. ``successor``: the key that a rotation brought.
    ``evidence``: SHA-256 of the document that the machine signed for it (an enrolment, a rotation).
    """

    format: Literal["expunge/key-event/v1"]
    event: KeyEventKind
    principal: Name
    seq: Annotated[int, msgspec.Meta(ge=1, le=MAX_EVENTS)]
    previous: MaybeDigest
    key: Name
    successor: Annotated[str, msgspec.Meta(max_length=200)]
    since: Timestamp
    at: Timestamp
    reason: Text
    actor: Text
    issuer: Name
    evidence: MaybeDigest
    nonce: Nonce


def parse_key_event(body: bytes) -> KeyEvent:
    """The event in `body`, in its one form. Raises DocumentError."""
    event = canonical.loads(body, KeyEvent, "key event")
    if canonical.dumps(event) != body:
        raise DocumentError("The key event is not in canonical form.", "Get it again from its source.")
    moment(event.at), moment(event.since)
    return event


def check_chain(bodies: Sequence[bytes]) -> list[KeyEvent]:
    """The events of one principal, oldest first, each following the one before. Raises VerificationError."""
    events: list[KeyEvent] = []
    for number, body in enumerate(bodies, start=1):
        try:
            event = parse_key_event(body)
        except DocumentError as error:
            raise VerificationError(f"key event {number}: {error.message}", error.remedy) from error
        due = canonical.sha256_hex(bodies[number - 2]) if number > 1 else ""
        if event.seq != number or event.previous != due:
            raise _broken(event, "it does not follow the event before it")
        if why := _misfit(events, event):
            raise _broken(event, why)
        events.append(event)
    return events


def narrowed(signers: Sequence[TrustedSigner], with_people: bool) -> list[TrustedSigner]:
    """The signers, trusted for what may lie in a bundle and nothing else; `with_people`: it holds records of people."""
    left_out = {sshsig.LOT_NAMESPACE} if with_people else {sshsig.LOT_NAMESPACE, sshsig.PERSON_NAMESPACE}
    return [
        replace(signer, namespaces=tuple(one for one in signer.namespaces if one not in left_out))
        for signer in signers
    ]


def signers_of(events: Sequence[KeyEvent]) -> list[TrustedSigner]:
    """The keys of one principal, in the order in which they came, each with the time in which it counts.

    A first key counts from ever: what a machine did before it enrolled is its own all the same. A key that never
    counted (compromised since before it came) ends in 1970 (`NEVER`): what it signed can still be shown.
    """
    found: dict[str, TrustedSigner] = {}
    for event in events:
        match event.event:
            case KeyEventKind.ENROLLED:
                found[event.key] = _signer(event, event.key, event.since if found else "")
            case KeyEventKind.ROTATED:
                _close(found, event.key, event.since)
                found[event.successor] = _signer(event, event.successor, event.since)
            case KeyEventKind.REVOKED:
                _close(found, event.key, event.since)
            case KeyEventKind.COMPROMISED:
                _close(found, event.key, end_before(event.since))
    return [
        replace(signer, valid_after="", valid_before=NEVER)
        if signer.valid_before and signer.valid_before <= signer.valid_after
        else signer
        for signer in found.values()
    ]


def end_before(since: Timestamp) -> Timestamp:
    """The last second before `since`: where a compromised key's time ends."""
    return timestamp(moment(since) - timedelta(seconds=1))


def current_key(events: Sequence[KeyEvent]) -> str:
    """The key with which the principal signs now; empty where it has none that counts."""
    key = ""
    for event in events:
        if event.event is KeyEventKind.ENROLLED:
            key = event.key
        elif event.key == key:
            key = event.successor  # empty but for a rotation
    return key


def keys_of(events: Sequence[KeyEvent]) -> list[str]:
    """Every key the principal ever had."""
    return [
        line
        for event in events
        for line in (event.key if event.event is KeyEventKind.ENROLLED else event.successor,)
        if line
    ]


def _misfit(before: Sequence[KeyEvent], event: KeyEvent) -> str:
    """Why `event` cannot follow `before`; empty where it can."""
    if before and event.principal != before[0].principal:
        return "it is another principal's"
    if before and event.at < before[-1].at:
        return "it is older than the event before it"
    if event.since > event.at or (event.since != event.at and event.event is not KeyEventKind.COMPROMISED):
        return "it counts from another time than it may"
    if bool(event.successor) != (event.event is KeyEventKind.ROTATED):
        return "only a rotation names a successor"
    fresh = event.key if event.event is KeyEventKind.ENROLLED else event.successor
    known = keys_of(before)
    if fresh and fresh in known:
        return "its key was there before"
    if event.event is KeyEventKind.ENROLLED:
        return "a key is there already" if current_key(before) else ""
    if event.key not in known:
        return "it is about a key that never came"
    if event.event is not KeyEventKind.COMPROMISED and event.key != current_key(before):
        return "it is about a key that is over already"
    return ""


def _signer(event: KeyEvent, line: str, since: MaybeTimestamp) -> TrustedSigner:
    ours = event.principal.startswith(CONTROLLER)
    return TrustedSigner(
        principal=event.principal,
        namespaces=CONTROLLER_NAMESPACES if ours else AGENT_NAMESPACES,
        public_line=line,
        valid_after=since,
    )


def _close(found: dict[str, TrustedSigner], line: str, last: Timestamp) -> None:
    known = found[line]
    found[line] = replace(known, valid_before=min(last, known.valid_before or last))


def _broken(event: KeyEvent, why: str) -> VerificationError:
    return VerificationError(
        f"Key event {event.seq} ({event.event}) of {event.principal}: {why}.", "Do not rely on this history."
    )
