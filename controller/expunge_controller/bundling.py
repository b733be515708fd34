"""Collects from the store what goes into a bundle about one medium."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from expunge_agent.errors import NotFoundError, RefusedError, StateError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.receipt import parse_statement
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller import dispatch, fleet, translog
from expunge_controller.bundle import BundleParts, LogParts, SignedBytes, custody_files
from expunge_controller.context import Controller
from expunge_controller.records.certificate import LogReference, parse_certificate
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.custody import parse_custody_event
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.log_policy import LogPolicy, Witness
from expunge_controller.records.note import parse_key
from expunge_controller.records.person import parse_person, signers_of
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import CertificateRow, CustodyRow, ReceiptRow


def collect(controller: Controller, order_text: str, target: int, now: datetime) -> BundleParts:
    """The parts of the bundle about target number `target` (from 0) of an order.

    Raises NotFoundError without such an order or target, or while there is no accepted receipt, and
    what `log_parts` raises.
    """
    with controller.store.read() as unit:
        order = dispatch.find_order(unit, order_text)
        certificates = unit.evidence.certificates_of_order(order.digest)
        certificate = next((row for row in certificates if row.target == target), None)
        receipt = (
            unit.evidence.receipt(certificate.receipt_digest)
            if certificate is not None
            else unit.evidence.receipt_of_order(order.digest)
        )
        if receipt is None:
            raise NotFoundError(
                f"The order {order.order_id} has no receipt yet; it is {order.status}.",
                f"See `expunge jobs {order.order_id}` and `expunge receipts --aside`.",
            )
        results = parse_statement(receipt.body).predicate.targets
        ordered = dispatch.targets_of(order)
        media = [medium_of(result.target.identity)[1] for result in results] or [
            medium_of(target.identity)[1] for target in ordered
        ]
        if target >= len(media):
            raise NotFoundError(f"The order {order.order_id} has {len(media)} targets.", "Count them from 1.")
        machine = unit.fleet.machine(receipt.machine_id)
        custody = unit.evidence.custody(media[target])
        signatures, people = unit.custody.signatures(media[target]), _people(unit, custody)
    return BundleParts(
        receipt=SignedBytes(receipt.body, receipt.signature),
        custody=[SignedBytes(row.body, row.signature) for row in custody],
        signers=[
            _ours(controller, bool(people)),
            *([fleet.agent_signer(machine)] if machine is not None else []),
            *signers_of(parse_person(one.body) for one in people),
        ],
        order=SignedBytes(order.body, order.signature),
        certificate=SignedBytes(certificate.body, certificate.signature) if certificate else None,
        log=log_parts(controller, receipt, certificate, now),
        people=people,
        signatures=signatures,
    )


def _ours(controller: Controller, with_people: bool) -> TrustedSigner:
    """This controller, trusted for what lies in the bundle and nothing else."""
    signer = fleet.controller_signer(controller)
    left_out = {sshsig.LOT_NAMESPACE} if with_people else {sshsig.LOT_NAMESPACE, sshsig.PERSON_NAMESPACE}
    return replace(signer, namespaces=tuple(one for one in signer.namespaces if one not in left_out))


def _people(unit: Unit, custody: list[CustodyRow]) -> list[SignedBytes]:
    """Every record of the people whom these events name, and of nobody else."""
    named = {one.person for row in custody for one in parse_custody_event(row.body).people}
    return [SignedBytes(row.body, row.signature) for row in unit.custody.people() if row.person in named]


def collect_custody(unit: Unit, controller: Controller, medium: str) -> dict[str, bytes]:
    """The files of the custody record of a medium (its digest)."""
    custody = unit.evidence.custody(medium)
    people = _people(unit, custody)
    signers = signers_of(parse_person(one.body) for one in people)
    return custody_files(
        [SignedBytes(row.body, row.signature) for row in custody],
        people,
        unit.custody.signatures(medium),
        [_ours(controller, bool(people)), *signers],
    )


def log_parts(
    controller: Controller, receipt: ReceiptRow, certificate: CertificateRow | None, now: datetime
) -> LogParts:
    """Where the receipt stands in the log: under the checkpoint that its certificate names, else the first
    that the policy accepts, signed now where there is none.

    Raises RefusedError where fewer witnesses signed than the policy asks for.
    """
    entry = entry_of(EntryKind.RECEIPT, receipt.body, receipt.signature)
    named = None if certificate is None else parse_certificate(certificate.body).evidence.log
    with controller.store.read() as unit:
        policy = translog.policy_in(unit, controller.home)
        number = translog.number_of(unit, entry)
        found = _found(unit, policy, number, named)
    if found is None and not policy.quorum:
        translog.head(controller, now)
    with controller.store.read() as unit:
        found = found or _found(unit, policy, number, named)
        if found is None:
            raise RefusedError(
                f"Entry {number} of the log waits for witnesses: the policy asks for {policy.quorum}.",
                "Run `expunge log cosign`, then export again.",
            )
        signed = [one.key for one in found.signed]
        witnesses = tuple(Witness(key=key) for key in signed if key not in policy.logs)
        return LogParts(
            entry=entry,
            proof=translog.proof_in(unit, number, found),
            checkpoint=found.note,
            policy=LogPolicy(logs=policy.logs, witnesses=witnesses, quorum=len(witnesses)),
        )


def _found(unit: Unit, policy: LogPolicy, number: int, named: LogReference | None) -> translog.Covered | None:
    if named is not None and named.witnesses:
        row = unit.log.checkpoint(int(named.size))
        witnesses = tuple(Witness(key=parse_key(one.key)) for one in named.witnesses)
        if row is None:
            raise StateError(
                "The checkpoint that the certificate names is missing.", "Run `expunge log check`."
            )
        return translog.covered_by(unit, LogPolicy(logs=policy.logs, witnesses=witnesses), row)
    willing = LogPolicy(logs=policy.logs, witnesses=policy.witnesses, quorum=max(policy.quorum, 1))
    found = translog.covering(unit, willing, number) if policy.witnesses else None
    return found or translog.covering(unit, policy, number)
