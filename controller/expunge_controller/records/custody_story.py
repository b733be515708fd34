"""The check of the custody in a bundle: signed, whole, and one story with receipt and certificate. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Statement
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.certificate import Certificate
from expunge_controller.records.consistency import SUCCESS, medium_of
from expunge_controller.records.custody import CustodyEvent, CustodyKind, check_chain
from expunge_controller.records.custody_check import misplaced, must_be_ours
from expunge_controller.records.findings import Checklist


def check_custody(
    checks: Checklist, files: Mapping[str, bytes], signers: Sequence[TrustedSigner]
) -> list[CustodyEvent]:
    """Record whether every event in `files` is signed and the chain is whole; return it, empty where it is not."""
    names = layout.custody_names(files)
    problems = []
    for name in names:
        try:
            must_be_ours(files, name, sshsig.CUSTODY_NAMESPACE, signers)
        except VerificationError as error:
            problems.append(f"{name}: {error.message}")
    if not names:
        problems.append("there is no custody event")
    checks.check("every custody event is signed", problems, f"{len(names)} events")
    chain: list[CustodyEvent] = []
    problems = misplaced(names, layout.custody_name, "event")
    try:
        chain = check_chain([files[name] for name in names])
    except VerificationError as error:
        problems.append(error.message)
    checks.check("the custody chain is whole", problems)
    return chain


def check_story(
    checks: Checklist,
    chain: Sequence[CustodyEvent],
    statement: Statement | None,
    body: bytes,
    order: Order | None,
    certificate: Certificate | None,
) -> None:
    """Record whether `chain`, the receipt (`statement`, of these bytes) and the certificate are about one medium."""
    title = "custody, receipt and certificate are about one medium"
    if not chain or statement is None:
        checks.skip(title, "there is no readable custody chain or no receipt")
    else:
        checks.check(title, _contradictions(chain, statement, body, order, certificate))


def _contradictions(
    chain: Sequence[CustodyEvent],
    statement: Statement,
    body: bytes,
    order: Order | None,
    certificate: Certificate | None,
) -> list[str]:
    """Where custody, receipt and certificate do not speak of one medium, order and receipt."""
    receipt, medium = statement.predicate, (chain[0].subject, chain[0].medium)
    digest = canonical.sha256_hex(body)
    problems = []
    targets = [result.target for result in receipt.targets]
    if not targets and order is not None:
        targets = order.targets  # an order refused as a whole names its media, its receipt does not
    if medium not in [medium_of(target.identity) for target in targets]:
        problems.append("custody is about a medium that the receipt does not name")
    if certificate is not None and (certificate.media.subject, certificate.media.digest) != medium:
        problems.append("the certificate is about another medium than custody")
    telling = [event for event in chain if event.receipt == digest]
    if not telling:
        problems.append("no custody event names this receipt")
    if certificate is not None and telling and certificate.issued_at < telling[0].at:
        problems.append(
            f"the certificate is of {certificate.issued_at}, before the receipt came at {telling[0].at}"
        )
    if any(event.order not in ("", receipt.order.digest) for event in telling):
        problems.append("custody names this receipt beside another order")
    outcome = [result.outcome for result in receipt.targets if medium_of(result.target.identity) == medium]
    for event in telling:
        if event.event is CustodyKind.WIPED and not (outcome and set(outcome) <= set(SUCCESS)):
            said = ", ".join(outcome) or str(receipt.outcome)
            problems.append(f"custody event {event.seq} says wiped, the receipt says {said}")
    return problems
