"""Issues certificates: at once, or, where the policy asks for witnesses, as soon as enough of them have signed."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from expunge_agent.errors import StateError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.order import parse_order
from expunge_controller import translog
from expunge_controller.context import Controller
from expunge_controller.ledger import record_of
from expunge_controller.records import merkle
from expunge_controller.records.certificate import (
    CertifiedWitness,
    LogReference,
    freeze_certificate,
    parse_certificate,
)
from expunge_controller.records.certify import certificate_from
from expunge_controller.records.certify_review import reviewed
from expunge_controller.records.checkpoint import parse_checkpoint
from expunge_controller.records.custody import CustodyEvent, check_chain
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.log_policy import LogPolicy
from expunge_controller.records.person import parse_person
from expunge_controller.records.review import Review, review_of
from expunge_controller.second_files import envelope_digest
from expunge_controller.store.custody_rows import RevisionRow
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import AwaitingRow, CertificateRow, MediumRow, ReceiptRow


def certify(
    unit: Unit, controller: Controller, receipt: ReceiptRow, target: int, medium: MediumRow, now: datetime
) -> bool:
    """Issue the certificate about a target (from 0) of a receipt that is kept and logged; False when it has to wait.

    Raises RefusedError where none may be issued, StateError where receipt and log do not fit, or
    the policy cannot be read (then it waits).
    """
    number = translog.number_of(
        unit, entry_of(EntryKind.RECEIPT, receipt.body, receipt.signature, receipt.mldsa65)
    )
    row = AwaitingRow(receipt_digest=receipt.digest, target=target, medium=medium.digest, entry=number)
    try:
        policy = translog.policy_in(unit, controller.home)
    except StateError:
        unit.log.wait(row)  # until somebody has put the policy right
        raise
    if policy.quorum:
        unit.log.wait(row)
        return False
    _issue(unit, controller, row, _reference(unit, row, policy, None), now)
    return True


def issue_awaiting(controller: Controller, now: datetime) -> list[str]:
    """Issue every certificate whose receipt is under a checkpoint that enough witnesses signed; their numbers."""
    issued = []
    with controller.store.write() as unit:
        policy = translog.policy_in(unit, controller.home)
        for row in unit.log.awaiting():
            found = translog.covering(unit, policy, row.entry) if policy.quorum else None
            if found is None and policy.quorum:
                break  # they are in the order of their entries
            issued.append(_issue(unit, controller, row, _reference(unit, row, policy, found), now))
            unit.log.waited(row)
    return issued


def _reference(
    unit: Unit, row: AwaitingRow, policy: LogPolicy, found: translog.Covered | None
) -> LogReference:
    witnesses = [] if found is None else policy.cosigned(found.signed)
    return LogReference(
        log=translog.key_in(unit).text,
        number=U64(row.entry),
        leaf=merkle.leaf_hash(translog.entry_in(unit, row.entry)).hex(),
        size=U64(found.size if found else 0),
        root=parse_checkpoint(found.note)[0].root.hex() if found else "",
        required=policy.quorum,
        witnesses=[
            CertifiedWitness(key=one.key.text, at=timestamp(datetime.fromtimestamp(one.time, UTC)))
            for one in witnesses
        ],
    )


def _issue(unit: Unit, controller: Controller, row: AwaitingRow, log: LogReference, now: datetime) -> str:
    receipt, medium = unit.evidence.receipt(row.receipt_digest), unit.evidence.medium(row.medium)
    assert receipt is not None and medium is not None  # noqa: S101  (foreign keys hold them)
    order = unit.orders.get(receipt.order_digest)
    certificate = certificate_from(
        receipt.body,
        receipt.signature,
        row.target,
        order=None if order is None else parse_order(order.body),
        facts=record_of(medium),
        number=_next_number(unit, now),
        issued_at=now,
        issuer=controller.principal,
        log=log,
        dsse=envelope_digest(receipt.body, receipt.signature, receipt.second),
    )
    body = freeze_certificate(reviewed(certificate, _review(unit, row.medium, row.receipt_digest)))
    unit.evidence.add_certificate(
        CertificateRow(
            number=certificate.number,
            receipt_digest=receipt.digest,
            order_digest=receipt.order_digest,
            target=row.target,
            medium=medium.digest,
            body=body,
            signature=sshsig.sign(controller.signer, sshsig.CERTIFICATE_NAMESPACE, body),
            issued_at=timestamp(now),
        )
    )
    return certificate.number


def issue_again(unit: Unit, controller: Controller, event: CustodyEvent, now: datetime) -> str:
    """Issue the certificate about the result that `event` (just recorded) decides on again, with what people decided.

    Returns its number; empty where there is none yet (it waits for witnesses) or will be none.
    """
    first = unit.evidence.first_certificate(event.receipt, event.medium)
    if first is None:
        return ""
    earlier = unit.custody.revisions(first.number)
    last = earlier[-1].body if earlier else first.body
    rev = earlier[-1].rev + 1 if earlier else 2
    certificate = replace(
        reviewed(parse_certificate(last), _review(unit, event.medium, event.receipt)),
        number=f"{first.number}.{rev}",
        issued_at=timestamp(now),
        issuer=controller.principal,
        replaces=canonical.sha256_hex(last),
    )
    body = freeze_certificate(certificate)
    unit.custody.add_revision(
        RevisionRow(
            number=certificate.number,
            base=first.number,
            rev=rev,
            body=body,
            signature=sshsig.sign(controller.signer, sshsig.CERTIFICATE_NAMESPACE, body),
            issued_at=timestamp(now),
        )
    )
    return certificate.number


def _review(unit: Unit, medium: str, receipt: str) -> Review | None:
    bodies = [row.body for row in unit.evidence.custody(medium)]
    known = [parse_person(row.body) for row in unit.custody.people()]
    return review_of(check_chain(bodies), bodies, unit.custody.signatures(medium), known, receipt)


def _next_number(unit: Unit, now: datetime) -> str:
    prefix = f"CERT-{now:%Y}-"
    last = unit.evidence.last_certificate_number(prefix)
    return f"{prefix}{int(last.removeprefix(prefix)) + 1 if last else 1:06d}"
