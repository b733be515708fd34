"""The register of people and their public keys: documents, never edited."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from expunge_agent.errors import NotFoundError, RefusedError, UsageError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller import key_history
from expunge_controller.context import Controller
from expunge_controller.records.archive_layout import NAMESPACE as ARCHIVES
from expunge_controller.records.custody_parts import PERSON_ROLES
from expunge_controller.records.key_event import CONTROLLER
from expunge_controller.records.person import PersonRecord, known_now, parse_person, same_name, signers_of
from expunge_controller.store.port import Unit


def records_in(unit: Unit) -> list[PersonRecord]:
    """Every person record, in order."""
    return [parse_person(row.body) for row in unit.custody.people()]


def for_auditors(unit: Unit) -> list[TrustedSigner]:
    """Whose signatures count, for auditors to keep: every key of the controller (for archives, too) and of machines
    with its time, and every person's."""
    keys = [
        replace(one, namespaces=(*one.namespaces, ARCHIVES)) if one.principal.startswith(CONTROLLER) else one
        for one in key_history.signers(unit)
    ]
    return [*keys, *signers_of(records_in(unit))]


def add(
    controller: Controller,
    name: str,
    key: str,
    *,
    roles: Sequence[str],
    full_name: str,
    title: str,
    organisation: str,
    by: str,
    now: datetime,
) -> PersonRecord:
    """Register a person with a public key line, from `now` on.

    Raises UsageError for a role that does not exist, DocumentError for a name that cannot be one, VerificationError
    for a key that is none, RefusedError where name or key are taken.
    """
    strange = sorted(set(roles) - set(PERSON_ROLES))
    if strange:
        raise UsageError(f"{strange[0]!r} is no role.", "Roles: " + ", ".join(PERSON_ROLES) + ".")
    record = _record(
        person=name,
        change="added",
        key=sshsig.normal_line(key),
        roles=sorted(set(roles)),
        full_name=full_name,
        title=title,
        organisation=organisation,
        since=timestamp(now),
        at=timestamp(now),
        by=by,
    )
    with controller.store.write() as unit:
        _check_free(controller, unit, record)
        _keep(controller, unit, record)
    return record


def remove(
    controller: Controller, name: str, *, since: datetime | None, reason: str, by: str, now: datetime
) -> PersonRecord:
    """From `since` (default: `now`) on the person's signatures do not count; it may lie in the past, not in the future.

    Raises NotFoundError, UsageError.
    """
    if since is not None and since > now:
        raise UsageError("A removal cannot begin in the future.", "Give a time that has passed, or none.")
    with controller.store.write() as unit:
        found = [one for one in known_now(records_in(unit)) if one.person == name]
        if not found:
            raise NotFoundError(f"No person {name!r} is registered.", "See `expunge people list`.")
        record = _record(
            **msgspec.structs.asdict(found[0])
            | {"change": "removed", "since": timestamp(since or now), "at": timestamp(now)}
            | {"by": by, "reason": reason}
        )
        _keep(controller, unit, record)
    return record


def _record(**values: Any) -> PersonRecord:
    plain = {"reason": ""} | values | {"format": "expunge/person/v1", "nonce": secrets.token_hex(16)}
    return canonical.convert(plain, PersonRecord, "person record")


def _check_free(controller: Controller, unit: Unit, record: PersonRecord) -> None:
    for one in known_now(records_in(unit)):
        if one.person == record.person:
            raise RefusedError(
                f"{record.person} is registered already.", "Remove the old key first: expunge people remove"
            )
        if one.key == record.key:
            raise RefusedError(f"That key is {one.person}'s.", "Everybody signs with a key of their own.")
        if same_name(one.full_name) == same_name(record.full_name) != "":
            raise RefusedError(
                f"{one.full_name} is registered as {one.person}.",
                "One person has one name here, or nobody could tell that two are the same.",
            )
    machines = {line for one in unit.fleet.machines() for line in (one.signing_key, one.dial_key)}
    if record.key == controller.signer.public_line or record.key in machines:
        raise RefusedError("That key is a machine's, not a person's.", "Give the person's own public key.")


def _keep(controller: Controller, unit: Unit, record: PersonRecord) -> None:
    body = canonical.dumps(record)
    signature = sshsig.sign(controller.signer, sshsig.PERSON_NAMESPACE, body)
    unit.custody.add_person(record.person, body, signature)
