"""What a controller checks of a receipt before it stores it as good: numbered, each with its outcome.

A receipt that fails is not dropped: whoever calls keeps it aside with these findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import canonical, sshsig, trust
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.order import Order, order_digest, parse_order
from expunge_agent.protocol.receipt import NO_RECEIPT_BEFORE, Reason, Receipt, Statement, parse_statement
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.records import consistency, key_checks, volume_checks
from expunge_controller.records.findings import Checklist, Status, Step, failures
from expunge_controller.records.second_checks import check_second

if TYPE_CHECKING:
    from expunge_profiles.schema import Profile

AGENT_PRINCIPAL = "agent:"
UNREAD_ORDER = (Reason.MALFORMED_ORDER, Reason.BAD_SIGNATURE, Reason.UNKNOWN_SIGNER)
"""Refusals before an order was believed: what such a receipt repeats of it may be empty."""


class KnownReceipts(NamedTuple):
    """What is already stored of this agent: the highest counter with its receipt's digest, and the
    digests of earlier ones by counter (only the new receipt's counter ± 1 are looked at)."""

    last_counter: int = 0
    last_digest: str = NO_RECEIPT_BEFORE
    digests: Mapping[int, str] = {}

    def at(self, counter: int) -> str | None:
        """The digest stored under `counter`, None when there is none."""
        if counter == self.last_counter and counter:
            return self.last_digest
        return self.digests.get(counter)


class ReceiptVerdict(NamedTuple):
    """The findings; ``statement`` and ``signer`` are None where it did not get that far.

    ``digest`` is the SHA-256 of the receipt's bytes. ``duplicate``: the very same receipt is stored.
    """

    digest: str
    statement: Statement | None
    signer: TrustedSigner | None
    steps: list[Step]
    duplicate: bool

    @property
    def accepted(self) -> bool:
        """Whether no check failed (a gap is a warning, a skipped check is not a failure)."""
        return not failures(self.steps)

    @property
    def gap(self) -> bool:
        """Whether receipts of this agent are missing before this one."""
        return any(step.status is Status.GAP for step in self.steps)

    @property
    def summary(self) -> str:
        """The failed checks in one line; empty when accepted."""
        return "; ".join(f"[{step.number}] {step.title}: {step.detail}" for step in failures(self.steps))


def check_receipt(
    body: bytes,
    signature: bytes,
    *,
    agent_signers: list[TrustedSigner],
    order_body: bytes | None,
    known: KnownReceipts,
    delivered_by: str | None = None,
    profile: Profile | None = None,
    second: SecondSignatures | None = None,
    mldsa65_key: bytes | None = None,
) -> ReceiptVerdict:
    """Check a receipt as it arrived. Never raises for a bad one: see the verdict's steps.

    `order_body` is the order its digest names, None when this controller has none (a wipe run on
    the machine alone). `delivered_by` is the machine id of the authenticated peer that sent it,
    `profile` the ordered profile where it is at hand. `second` are its second signatures, `mldsa65_key` the
    agent's key for them as far as it is known.
    """
    checks = Checklist()
    digest = canonical.sha256_hex(body)
    signer = _check_signature(checks, body, signature, agent_signers)
    statement = check_shape(checks, body)
    if statement is None:
        return ReceiptVerdict(digest, None, signer, checks.steps, False)
    receipt = statement.predicate
    _check_origin(checks, receipt, signer, delivered_by)
    check_second(checks, receipt, body, signature, second, mldsa65_key)
    if order_body is None:
        checks.skip("it answers the order", "this controller has no order with the digest it names")
    else:
        checks.check("it answers the order", order_problems(receipt, order_body))
    _check_counter(checks, receipt, digest, known)
    check_evidence(checks, receipt, profile)
    return ReceiptVerdict(digest, statement, signer, checks.steps, known.at(receipt.counter) == digest)


def check_shape(checks: Checklist, body: bytes) -> Statement | None:
    """Record whether `body` is a receipt in canonical form about its targets; None when unreadable."""
    try:
        statement = parse_statement(body)
    except DocumentError as error:
        checks.check("it is a receipt", [error.message])
        return None
    problems = [] if canonical.dumps(statement) == body else ["its bytes are not in canonical form"]
    checks.check("it is a receipt", problems)
    checks.check("its subjects are its targets", consistency.subject_problems(statement))
    return statement


def check_evidence(checks: Checklist, receipt: Receipt, profile: Profile | None) -> None:
    """Record whether the receipt's times are sane and its claims no more than its evidence."""
    checks.check("its times are possible", consistency.time_problems(receipt))
    checks.check(
        "it claims no more than its evidence",
        consistency.evidence_problems(receipt, profile),
        f"{receipt.outcome}, level {receipt.level_achieved}",
    )
    if profile is None:
        checks.skip(
            "passes and verification are those of the profile", "the profile was not given to this check"
        )
    else:
        checks.check(
            "passes and verification are those of the profile",
            [] if _is_profile(receipt, profile) else ["the profile at hand is not the one it names"],
        )


def order_problems(receipt: Receipt, order_body: bytes) -> list[str]:
    """Where the receipt does not answer the order in `order_body`."""
    if order_digest(order_body) != receipt.order.digest:
        return ["it names another order's digest"]
    try:
        order = parse_order(order_body)
    except DocumentError as error:
        return [error.message]
    if receipt.agent.machine_id != order.machine_id:
        # Whatever it says of the order, it is not for this machine to end it.
        return [f"it is by machine {receipt.agent.machine_id}, the order was for {order.machine_id}"]
    if receipt.refusal is not None and receipt.refusal.reason in UNREAD_ORDER:
        return []  # the agent did not believe a word of it; there is nothing more to compare
    return list(_against(receipt, order))


def _against(receipt: Receipt, order: Order) -> Iterator[str]:
    said, refused = receipt.order, receipt.refusal is not None
    for name, got, due in (
        ("order id", said.order_id, order.order_id),
        ("nonce", said.nonce, order.nonce),
        ("issuer", said.issuer, order.issuer),
        ("requester", said.requested_by, order.requested_by),
        ("case number", said.case_number, order.case_number),
    ):
        if got != due:
            yield f"its {name} is {got!r}, ordered was {due!r}"
    if receipt.refusal is not None and receipt.refusal.reason is Reason.WRONG_MACHINE:
        yield "it refuses the order as another machine's, yet the order is for this one"
    if receipt.level_requested != order.level and not (refused and receipt.level_requested is None):
        yield f"its level requested is {receipt.level_requested}, ordered was {order.level}"
    if receipt.profile != order.profile and not (refused and receipt.profile is None):
        yield "its profile is not the one ordered"
    yield from volume_checks.order_problems(receipt, order)
    yield from key_checks.order_problems(receipt, order)
    targets = [result.target for result in receipt.targets]
    if targets != [target.without_psid() for target in order.targets] and not (refused and not targets):
        yield "its targets are not those ordered"
    for number, result in enumerate(receipt.targets, start=1):
        files = result.files
        if files is not None and (files.keep, files.allow_exceptions) != (order.keep, order.allow_exceptions):
            yield f"target {number}: files were kept, or exceptions allowed, otherwise than ordered"
    weaker = not receipt.level_achieved.reaches(order.level)
    if receipt.outcome is Outcome.SANITIZED and weaker and not order.allow_downgrade:
        yield f"it calls {receipt.level_achieved} a success where {order.level} was ordered"


def _check_signature(
    checks: Checklist, body: bytes, signature: bytes, signers: list[TrustedSigner]
) -> TrustedSigner | None:
    try:
        signer = trust.verify(signers, sshsig.RECEIPT_NAMESPACE, body, signature)
    except VerificationError as error:
        checks.check("it is signed by an enrolled agent", [error.message])
        return None
    checks.check("it is signed by an enrolled agent", [], signer.principal)
    return signer


def _check_origin(
    checks: Checklist, receipt: Receipt, signer: TrustedSigner | None, delivered_by: str | None
) -> None:
    title = "it is about the machine that signed it"
    if signer is None:
        checks.skip(title, "the signature did not check out")
    else:
        checks.check(title, origin_problems(receipt, signer))
    title = "it comes from the machine that delivered it"
    if delivered_by is None:
        checks.skip(title, "it was not delivered by a machine")
    else:
        same = receipt.agent.machine_id == delivered_by
        checks.check(title, [] if same else [f"it was delivered by {delivered_by}"])


def origin_problems(receipt: Receipt, signer: TrustedSigner) -> list[str]:
    """Where the receipt's machine and key are not the signer's."""
    problems = []
    if signer.principal != AGENT_PRINCIPAL + receipt.agent.machine_id:
        problems.append(f"it names machine {receipt.agent.machine_id}, its key is {signer.principal}'s")
    if receipt.agent.key != sshsig.fingerprint(signer.public_line):
        problems.append("the key fingerprint it names is not that of its signature")
    return problems


def _check_counter(checks: Checklist, receipt: Receipt, digest: str, known: KnownReceipts) -> None:
    title, counter = "it continues the agent's receipts", int(receipt.counter)
    before, same, after = known.at(counter - 1), known.at(counter), known.at(counter + 1)
    if counter == 0:
        checks.check(title, ["counters start at 1"])
    elif same == digest:
        checks.check(title, [], "it is stored already")
    elif same is not None:
        checks.check(title, [f"another receipt has counter {counter}: two agents sign with one key"])
    elif counter == 1 or before is not None:
        due = NO_RECEIPT_BEFORE if counter == 1 else before
        checks.check(title, [] if receipt.previous == due else ["it does not follow the receipt before it"])
    elif receipt.previous == NO_RECEIPT_BEFORE:
        checks.check(title, [f"it has counter {counter}, yet names no receipt before it"])
    elif counter < known.last_counter or after is not None:
        checks.warn_gap(title, f"it fills a gap, but receipt {counter - 1} is missing too")
    else:
        checks.warn_gap(title, f"receipts {known.last_counter + 1} to {counter - 1} are missing")


def _is_profile(receipt: Receipt, profile: Profile) -> bool:
    if receipt.profile is None:
        return True  # refused before a profile mattered
    return receipt.profile.digest == profile.digest
