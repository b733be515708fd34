"""Changing signing keys: a machine's, with a one-time token and both its signatures, and the controller's own."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta

from expunge_agent.errors import EnrolmentError, PeerIdentityError, UsageError, VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.enrolment import EnrolmentToken
from expunge_agent.protocol.rotation import KeyRotation, grant_of
from expunge_controller import files, key_history, keys
from expunge_controller.context import Controller
from expunge_controller.records.key_event import KeyEventKind, current_key
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import MachineRow, Reach, TokenRow


def rotation_token(
    controller: Controller, machine: MachineRow, *, valid_for: timedelta, now: datetime
) -> EnrolmentToken:
    """A fresh one-time token with which this machine may change its signing key; an older one stops being good."""
    secret = secrets.token_hex(16)
    with controller.store.write() as unit:
        for old in unit.fleet.tokens():
            if old.machine_id == machine.machine_id and old.used_at is None:
                unit.fleet.drop_token(old.secret_digest)
        unit.fleet.add_token(
            TokenRow(
                secret_digest=canonical.sha256_hex(secret.encode()),
                name=machine.name,
                reach=Reach.DIAL_IN,
                ssh=None,
                created_at=timestamp(now),
                expires_at=timestamp(now + valid_for),
                used_at=None,
                machine_id=machine.machine_id,
            )
        )
    return EnrolmentToken(
        controller=controller.config.name,
        host="",
        port=0,
        host_key="",
        order_key=controller.signer.public_line,
        secret=secret,
    )


def take_rotation(
    controller: Controller, machine_id: str, body: bytes, signature: bytes, endorsement: bytes, now: datetime
) -> MachineRow:
    """Believe a machine that it signs with another key from now on; asking again changes nothing.

    With the old key's signature the event is ``rotated``; without it the old key is revoked and the new one
    enrolled. Raises EnrolmentError for a token that is unknown, used or expired, PeerIdentityError for a key that
    was used before or another machine's document, VerificationError or DocumentError for a bad one.
    """
    rotation = canonical.loads(body, KeyRotation, "key rotation")
    new_key = sshsig.verify(signature, sshsig.ROTATION_NAMESPACE, body)
    if new_key != rotation.new_key:
        raise VerificationError("The rotation is not signed with the key that it names.", "Rotate again.")
    with controller.store.write() as unit:
        machine = unit.fleet.machine(machine_id)
        if machine is None or rotation.machine_id != machine_id:
            raise PeerIdentityError("The rotation is another machine's.", "Look at where it comes from.")
        if machine.signing_key == new_key:
            return machine
        token = _token(unit, rotation, timestamp(now))
        key_history.must_be_fresh(unit, new_key)
        _record(unit, controller, machine, rotation, (body, signature, endorsement), now)
        unit.fleet.set_signing_key(machine_id, new_key)
        unit.fleet.use_token(token.secret_digest, machine_id, timestamp(now))
        changed = unit.fleet.machine(machine_id)
    assert changed is not None  # it was there  # noqa: S101
    return changed


def rotate_controller(
    controller: Controller, *, reason: str, actor: str, now: datetime, compromised_since: str = ""
) -> str:
    """Give the controller another order key; returns its line. The old one is destroyed once that is recorded.

    `compromised_since`: what the old one signed since then is not to be believed. Agents obey the new key once
    they were told (`rotation_token`). Raises BusyError while another process of the controller runs.
    """
    if compromised_since > timestamp(now):
        raise UsageError(
            f"{compromised_since} is still to come.",
            "Give the time since when somebody else may have had it.",
        )
    home, who = controller.home, controller.principal
    held = (
        "Another process of this controller runs.",
        "Stop `expunge serve` first, and start it again afterwards.",
    )
    with files.locked(home.serve_lock, *held), files.locked(home.runner_lock, *held):
        fresh = keys.ensure_key(home.next_order_key, f"expunge-{controller.config.name}-orders")
        with controller.store.write() as unit:
            old = controller.signer.public_line
            key_history.append(
                unit, controller, who, KeyEventKind.ROTATED,
                key=old, successor=fresh.public_line, now=now, reason=reason, actor=actor,
            )  # fmt: skip
            if compromised_since:
                key_history.append(
                    unit, controller, who, KeyEventKind.COMPROMISED,
                    key=old, since=compromised_since, now=now, reason=reason, actor=actor, signer=fresh,
                )  # fmt: skip
        key_history.settle(home, controller.store, who)
    return fresh.public_line


def _record(
    unit: Unit,
    controller: Controller,
    machine: MachineRow,
    rotation: KeyRotation,
    document: tuple[bytes, bytes, bytes],
    now: datetime,
) -> None:
    """The events of a rotation: one with the old key's signature, two without."""
    body, _, endorsement = document
    principal = key_history.AGENT + machine.machine_id
    good = current_key(key_history.events_of(unit, principal))
    endorsed = bool(endorsement) and (
        sshsig.verify(endorsement, sshsig.ROTATION_NAMESPACE, body) == rotation.old_key == good
    )
    if endorsed:
        key_history.append(
            unit, controller, principal, KeyEventKind.ROTATED,
            key=good, successor=rotation.new_key, now=now, actor=principal, document=document,
        )  # fmt: skip
        return
    if good:
        key_history.append(
            unit, controller, principal, KeyEventKind.REVOKED,
            key=good, now=now, reason="The machine has a new key, which this one did not sign.",
        )  # fmt: skip
    key_history.append(
        unit, controller, principal, KeyEventKind.ENROLLED,
        key=rotation.new_key, now=now, actor=principal, document=document,
    )  # fmt: skip


def _token(unit: Unit, rotation: KeyRotation, now: str) -> TokenRow:
    """The token that the rotation was granted by."""
    for token in unit.fleet.tokens():
        if token.machine_id == rotation.machine_id and hmac.compare_digest(
            grant_of(rotation, token.secret_digest), rotation.grant
        ):
            if token.used_at is not None or now >= token.expires_at:
                raise EnrolmentError(
                    f"The token for a new key of {token.name} was used already, or expired.",
                    f"Make a new one with `expunge keys rotate {token.name}`.",
                )
            return token
    raise EnrolmentError(
        "The machine changed its key without a token that is known here.",
        "Make one with `expunge keys rotate MACHINE`.",
    )
