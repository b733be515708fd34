"""The life of signing keys as the controller keeps it: events in the store, and whose signatures count by them."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import TYPE_CHECKING

from expunge_agent.errors import PeerIdentityError, RefusedError, StateError, UsageError, VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.sshsig import Signer
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller import keys
from expunge_controller.records.key_event import (
    AGENT_NAMESPACES,
    CONTROLLER,
    KeyEvent,
    KeyEventKind,
    check_chain,
    current_key,
    keys_of,
    signers_of,
)
from expunge_controller.settings import Home
from expunge_controller.store.port import Store, Unit
from expunge_controller.store.rows import KeyEventRow, MachineRow

if TYPE_CHECKING:
    from expunge_controller.context import Controller

AGENT = "agent:"


def settle(home: Home, store: Store, principal: str) -> None:
    """Put the controller's next key into its place, where its rotation was recorded and then broken off."""
    if not home.next_order_key.exists():
        return
    line = keys.load_key(home.next_order_key).public_line
    with store.read() as unit:
        recorded = any(event.successor == line for event in events_of(unit, principal))
    if recorded:
        public = home.order_key.with_name(home.order_key.name + ".pub")
        public.unlink(missing_ok=True)
        home.next_order_key.with_name(home.next_order_key.name + ".pub").rename(public)
        home.next_order_key.replace(home.order_key)


def begin(controller: Controller, now: datetime) -> None:
    """Give every key that has none its first event: the controller's, and those of machines enrolled before.

    Raises StateError where the controller's key is not the one that its events name.
    """
    with controller.store.read() as unit:
        missing = _without_events(unit, controller)
    if missing:
        with controller.store.write() as unit:
            for principal, line in _without_events(unit, controller):
                append(unit, controller, principal, KeyEventKind.ENROLLED, key=line, now=now)
    with controller.store.read() as unit:
        due = current_key(events_of(unit, controller.principal))
    if due != controller.signer.public_line:
        raise StateError(
            f"{controller.home.order_key} is not the key that this controller's key events name "
            f"({sshsig.fingerprint(due) if due else 'none'}).",
            "Restore it from your backup; keys are changed with `expunge keys rotate --controller`.",
        )


def events_of(unit: Unit, principal: str) -> list[KeyEvent]:
    """The events of a principal, oldest first. Raises StateError where they are damaged."""
    try:
        return check_chain([row.body for row in unit.keys.of(principal)])
    except VerificationError as error:
        raise StateError(
            error.message, "Entries were changed: run `expunge log check`, compare with a backup."
        ) from error


def append(
    unit: Unit,
    controller: Controller,
    principal: str,
    kind: KeyEventKind,
    *,
    key: str,
    now: datetime,
    since: str = "",
    successor: str = "",
    reason: str = "",
    actor: str = "",
    document: tuple[bytes, bytes, bytes] = (b"", b"", b""),
    evidence: str = "",
    signer: Signer | None = None,
) -> KeyEvent:
    """Sign and append the next event of a principal. `document`: body, signature and endorsement of a rotation.

    Raises RefusedError where the event cannot follow those before it.
    """
    before = unit.keys.of(principal)
    event = KeyEvent(
        format="expunge/key-event/v1",
        event=kind,
        principal=principal,
        seq=len(before) + 1,
        previous=canonical.sha256_hex(before[-1].body) if before else "",
        key=key,
        successor=successor,
        since=since or timestamp(now),
        at=timestamp(now),
        reason=reason,
        actor=actor or controller.principal,
        issuer=controller.principal,
        evidence=canonical.sha256_hex(document[0]) if document[0] else evidence,
        nonce=secrets.token_hex(16),
    )
    body = canonical.dumps(event)
    try:
        check_chain([*(row.body for row in before), body])
    except VerificationError as error:
        raise RefusedError(error.message, "See `expunge keys list`.") from error
    signature = sshsig.sign(signer or controller.signer, sshsig.KEY_EVENT_NAMESPACE, body)
    unit.keys.add(
        KeyEventRow(
            principal=principal,
            seq=event.seq,
            event=str(kind),
            key=key,
            successor=successor,
            body=body,
            signature=signature,
            document=document[0],
            document_signature=document[1],
            endorsement=document[2],
        )
    )
    return event


def enrolled(unit: Unit, controller: Controller, machine: MachineRow, now: datetime) -> None:
    """Record the key of a machine that has just enrolled. Raises PeerIdentityError for one that was used before."""
    must_be_fresh(unit, machine.signing_key)
    append(
        unit,
        controller,
        AGENT + machine.machine_id,
        KeyEventKind.ENROLLED,
        key=machine.signing_key,
        now=now,
        evidence=canonical.sha256_hex(machine.enrolment),
    )


def must_be_fresh(unit: Unit, line: str) -> None:
    """Raise PeerIdentityError where anybody has or had this key."""
    if owner := unit.keys.owner(line):
        raise PeerIdentityError(
            f"The key of this agent is or was that of {owner} already.",
            "Make a new one: a copied disk image carries its agent's keys.",
        )


def must_be_good(unit: Unit, machine_id: str) -> None:
    """Raise RefusedError where what the machine signs would not count."""
    principal = AGENT + machine_id
    if principal in unit.keys.ended() and not current_key(events_of(unit, principal)):
        raise RefusedError(
            f"The signing key of machine {machine_id} was revoked: its receipt would not count.",
            "Give it a new key first: expunge keys rotate MACHINE",
        )


def agents_now(unit: Unit) -> list[TrustedSigner]:
    """Every machine whose key counts now."""
    ended = {who for who in unit.keys.ended() if not current_key(events_of(unit, who))}
    return [
        TrustedSigner(
            principal=AGENT + machine.machine_id,
            namespaces=AGENT_NAMESPACES,
            public_line=machine.signing_key,
        )
        for machine in unit.fleet.machines()
        if AGENT + machine.machine_id not in ended
    ]


def signers(unit: Unit, *principals: str) -> list[TrustedSigner]:
    """Every key that these principals (without any: all, the controller first) ever had, with its time."""
    everybody = sorted(unit.keys.principals(), key=lambda who: (not who.startswith(CONTROLLER), who))
    return [signer for who in principals or everybody for signer in signers_of(events_of(unit, who))]


def revoke(
    controller: Controller, machine: MachineRow, *, reason: str, actor: str, now: datetime
) -> KeyEvent:
    """What the machine's key signs is not believed from now on. Raises RefusedError where it has none that counts."""
    with controller.store.write() as unit:
        return append(
            unit,
            controller,
            AGENT + machine.machine_id,
            KeyEventKind.REVOKED,
            key=machine.signing_key,
            now=now,
            reason=reason,
            actor=actor,
        )


def compromised(
    controller: Controller,
    machine: MachineRow,
    *,
    since: str,
    fingerprint: str,
    reason: str,
    actor: str,
    now: datetime,
) -> KeyEvent:
    """What the machine's key signed since `since` is not believed. `fingerprint` names an earlier key of it.

    Raises UsageError for a time to come or a key that it never had.
    """
    if since > timestamp(now):
        raise UsageError(
            f"{since} is still to come.", "Give the time since when somebody else may have had the key."
        )
    principal = AGENT + machine.machine_id
    with controller.store.write() as unit:
        lines = keys_of(events_of(unit, principal))
        found = [line for line in lines if fingerprint in ("", sshsig.fingerprint(line))][-1:]
        if not found:
            raise UsageError(
                f"{machine.name} never had the key {fingerprint}.", f"See `expunge keys list {machine.name}`."
            )
        return append(
            unit,
            controller,
            principal,
            KeyEventKind.COMPROMISED,
            key=found[0],
            now=now,
            since=since,
            reason=reason,
            actor=actor,
        )


def _without_events(unit: Unit, controller: Controller) -> list[tuple[str, str]]:
    known = set(unit.keys.principals())
    if controller.principal in known:
        return []  # enrolment has seen to all others since
    machines = [(AGENT + machine.machine_id, machine.signing_key) for machine in unit.fleet.machines()]
    everybody = [(controller.principal, controller.signer.public_line), *machines]
    return [(who, line) for who, line in everybody if who not in known]
