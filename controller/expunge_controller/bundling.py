"""Collects from the store what goes into a bundle about one medium."""

from __future__ import annotations

from datetime import datetime

from expunge_agent.errors import NotFoundError, RefusedError, StateError
from expunge_agent.protocol.receipt import parse_statement
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller import dispatch, fleet, key_history, translog
from expunge_controller.bundle import BundleParts, KeyEventParts, LogParts, SignedBytes, custody_files
from expunge_controller.context import Controller
from expunge_controller.records.certificate import LogReference, parse_certificate
from expunge_controller.records.checkpoint import parse_checkpoint
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.custody import parse_custody_event
from expunge_controller.records.key_event import narrowed
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.log_policy import LogPolicy, Witness
from expunge_controller.records.note import parse_key
from expunge_controller.records.person import parse_person, signers_of
from expunge_controller.stamping import stamps_of
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import CertificateRow, CustodyRow, KeyEventRow, ReceiptRow


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
        custody = unit.evidence.custody(media[target])
        principals = (controller.principal, fleet.agent_principal(receipt.machine_id))
        signatures, people = unit.custody.signatures(media[target]), _people(unit, custody)
        signers = [*narrowed(key_history.signers(unit, *principals), bool(people)), *_signers_of(people)]
    log = log_parts(controller, receipt, certificate, now)
    return BundleParts(
        receipt=SignedBytes(receipt.body, receipt.signature),
        custody=[SignedBytes(row.body, row.signature) for row in custody],
        signers=signers,
        order=SignedBytes(order.body, order.signature),
        certificate=SignedBytes(certificate.body, certificate.signature) if certificate else None,
        log=log,
        second=receipt.second,
        key_events=key_parts(controller, principals, log, now),
        people=people,
        signatures=signatures,
    )


def _people(unit: Unit, custody: list[CustodyRow]) -> list[SignedBytes]:
    """Every record of the people whom these events name, and of nobody else."""
    named = {one.person for row in custody for one in parse_custody_event(row.body).people}
    return [SignedBytes(row.body, row.signature) for row in unit.custody.people() if row.person in named]


def _signers_of(people: list[SignedBytes]) -> list[TrustedSigner]:
    return signers_of(parse_person(one.body) for one in people)


def collect_custody(unit: Unit, controller: Controller, medium: str) -> dict[str, bytes]:
    """The files of the custody record of a medium (its digest)."""
    custody = unit.evidence.custody(medium)
    people = _people(unit, custody)
    ours = key_history.signers(unit, controller.principal)
    return custody_files(
        [SignedBytes(row.body, row.signature) for row in custody],
        people,
        unit.custody.signatures(medium),
        [*narrowed(ours, bool(people)), *_signers_of(people)],
    )


def log_parts(
    controller: Controller, receipt: ReceiptRow, certificate: CertificateRow | None, now: datetime
) -> LogParts:
    """Where the receipt stands in the log: under the checkpoint that its certificate names, else the first
    that the policy accepts, signed now where there is none.

    Raises RefusedError where fewer witnesses signed than the policy asks for.
    """
    entry = entry_of(EntryKind.RECEIPT, receipt.body, receipt.signature, receipt.mldsa65)
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
        stamps, authorities = stamps_of(unit, policy, number, now)
        return LogParts(
            entry=entry,
            proof=translog.proof_in(unit, number, found),
            checkpoint=found.note,
            policy=LogPolicy(policy.logs, witnesses, len(witnesses), authorities),
            stamps=stamps,
        )


def key_parts(
    controller: Controller, principals: tuple[str, ...], log: LogParts, now: datetime
) -> list[KeyEventParts]:
    """The key events of these principals with their proofs: under the receipt's checkpoint where they were there
    by then, else under the first later one that the policy accepts.

    Raises RefusedError where fewer witnesses signed than the policy asks for.
    """
    covered = parse_checkpoint(log.checkpoint)[0].size
    with controller.store.read() as unit:
        newest = max((_entry_number(unit, row) for who in principals for row in unit.keys.of(who)), default=0)
        policy = translog.policy_in(unit, controller.home)
    if newest >= covered and not policy.quorum:
        translog.head(controller, now)
    with controller.store.read() as unit:
        return [
            KeyEventParts(row.body, row.signature, _key_proof(unit, policy, log, covered, row))
            for who in principals
            for row in unit.keys.of(who)
        ]


def _key_proof(unit: Unit, policy: LogPolicy, log: LogParts, covered: int, row: KeyEventRow) -> bytes:
    number = _entry_number(unit, row)
    if number < covered:
        return translog.proof_in(unit, number, translog.Covered(covered, log.checkpoint, []))
    found = translog.covering(unit, policy, number)
    if found is None:
        raise RefusedError(
            f"The key event {row.seq} of {row.principal} waits for witnesses: the policy asks for {policy.quorum}.",
            "Run `expunge log cosign`, then export again.",
        )
    head = unit.log.checkpoint(found.size)
    assert head is not None  # it was found there  # noqa: S101
    named = translog.covered_by(unit, log.policy, head)  # only lines of witnesses that the bundle names
    return translog.proof_in(unit, number, named)


def _entry_number(unit: Unit, row: KeyEventRow) -> int:
    return translog.number_of(unit, entry_of(EntryKind.KEY_EVENT, row.body, row.signature))


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
