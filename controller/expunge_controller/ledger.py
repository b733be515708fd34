"""The register of media and their custody, written in the caller's transaction."""

from __future__ import annotations

import secrets
from datetime import datetime

from expunge_agent.errors import NotFoundError, RefusedError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.identity import is_identifying
from expunge_controller.context import Controller
from expunge_controller.records.certificate import NOT_RECORDED, MediumRecord
from expunge_controller.records.custody import CustodyKind, next_event, parse_custody_event
from expunge_controller.records.paper import PaperIdentity, Registered, registered_as
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import CustodyRow, MediumRow


def register_medium(
    unit: Unit,
    controller: Controller,
    identity: Registered,
    *,
    machine_id: str | None,
    hint: str,
    actor: str,
    now: datetime,
    property_number: str = "",
    source: str = "",
    classification: str = "",
    label: str = "",
    location: str = "",
    seal_id: str = "",
    count: int = 0,
) -> MediumRow:
    """Put a medium in the register and start its custody; values given replace those known before.

    Raises RefusedError for an identity that cannot tell the medium from others.
    """
    if not isinstance(identity, PaperIdentity) and not is_identifying(identity):
        raise RefusedError(
            "The medium has neither serial number nor WWN, so it cannot be told from others.",
            "Order the wipe on the machine itself, where it can be seen which medium is meant.",
        )
    _, digest = registered_as(identity)
    known = unit.evidence.medium(digest)
    row = MediumRow(
        digest=digest,
        identity=canonical.dumps(identity),
        machine_id=machine_id,
        hint=hint or (known.hint if known else ""),
        property_number=property_number or (known.property_number if known else ""),
        source=source or (known.source if known else ""),
        classification=classification or (known.classification if known else ""),
        label=label or (known.label if known else ""),
        registered_at=known.registered_at if known else timestamp(now),
    )
    unit.evidence.put_medium(row)
    if unit.evidence.last_custody(digest) is None:
        note = "; ".join(
            f"{name}: {value}"
            for name, value in (("property number", row.property_number), ("label", row.label))
            if value
        )
        append_custody(
            unit,
            controller,
            row,
            CustodyKind.REGISTERED,
            actor=actor,
            now=now,
            note=note,
            location=location,
            seal_id=seal_id,
            count=count,
        )
    return row


def append_custody(
    unit: Unit,
    controller: Controller,
    medium: MediumRow,
    kind: CustodyKind,
    *,
    actor: str,
    now: datetime,
    order: str = "",
    order_id: str = "",
    receipt: str = "",
    note: str = "",
    location: str = "",
    seal_id: str = "",
    count: int = 0,
) -> None:
    """Sign and append the next event of a medium's custody. Raises RefusedError where a rule forbids it."""
    last = unit.evidence.last_custody(medium.digest)
    body = next_event(
        None if last is None else last.body,
        medium=medium.digest,
        subject=subject_of(medium),
        event=kind,
        actor=actor,
        at=now,
        nonce=secrets.token_hex(16),
        order=order,
        order_id=order_id,
        receipt=receipt,
        note=note,
        location=location,
        seal_id=seal_id,
        count=count,
    )
    unit.evidence.add_custody(
        CustodyRow(
            medium=medium.digest,
            seq=parse_custody_event(body).seq,
            event=str(kind),
            order_digest=order,
            body=body,
            signature=sshsig.sign(controller.signer, sshsig.CUSTODY_NAMESPACE, body),
        )
    )


def identity_of(medium: MediumRow) -> Registered:
    """The identity that a medium was registered with."""
    identity: Registered = canonical.loads(medium.identity, Registered, "medium")  # type: ignore[arg-type]
    return identity


def subject_of(medium: MediumRow) -> str:
    """The name by which custody calls a registered medium."""
    return registered_as(identity_of(medium))[0]


def find_medium(unit: Unit, text: str) -> MediumRow:
    """The medium whose digest begins with `text` (8 characters or more), or with that property
    number, label, serial number or path. Raises NotFoundError when there is none or several.
    """
    found = [medium for medium in unit.evidence.media() if _answers_to(medium, text)] or holders_of(
        unit, text
    )
    if not found:
        raise NotFoundError(f"No registered medium answers to {text!r}.", "See `expunge media list`.")
    if len(found) > 1:
        raise NotFoundError(
            f"{len(found)} registered media answer to {text!r}.", "Give the digest from `expunge media list`."
        )
    return found[0]


def holders_of(unit: Unit, text: str) -> list[MediumRow]:
    """The media that bear `text` as a scanner reads it: a number, serial, WWN or label, or a seal they ever had.

    Spaces around it, letters' case and a ``0x`` before a WWN make no difference.
    """
    wanted = _scanned(text)
    if not wanted:
        return []
    sealed = set(unit.custody.sealed_with(text.strip()))
    return [
        medium
        for medium in unit.evidence.media()
        if medium.digest in sealed or wanted in {_scanned(name) for name in _names(medium)}
    ]


def _scanned(text: str) -> str:
    return text.strip().casefold().removeprefix("0x")


def record_of(medium: MediumRow) -> MediumRecord:
    """What the register knows of a medium, as a certificate states it."""
    return MediumRecord(
        property_number=medium.property_number or NOT_RECORDED,
        source=medium.source or NOT_RECORDED,
        classification=medium.classification or NOT_RECORDED,
        notes=medium.label or NOT_RECORDED,
    )


def _answers_to(medium: MediumRow, text: str) -> bool:
    if len(text) >= 8 and medium.digest.startswith(text):
        return True
    return bool(text.strip()) and text in _names(medium)


def _names(medium: MediumRow) -> list[str]:
    identity = identity_of(medium)
    names = [medium.property_number, medium.label, medium.hint]
    return names + [getattr(identity, field, "") for field in ("serial", "wwn", "path", "number")]
