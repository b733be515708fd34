"""A medium on one line, for summaries and registers: what the register and its newest receipt say. Pure."""

from __future__ import annotations

from typing import NamedTuple

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.identity import BlockIdentity
from expunge_agent.protocol.receipt import parse_statement
from expunge_controller.records.certificate import Certificate
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.paper import Registered, registered_as
from expunge_controller.records.review import NOT_SIGNED, Decision


class MediumLine(NamedTuple):
    """Empty strings where nothing is known, or there is no receipt or certificate yet.

    ``size`` in bytes; ``outcome`` to ``receipt`` are of the receipt, ``leaf`` of its entry in the log;
    ``standing`` where custody has it now; ``status`` and ``decisions`` as the certificate has them.
    """

    digest: str
    name: str
    serial: str
    wwn: str
    model: str
    path: str
    size: int
    property_number: str
    source: str
    classification: str
    label: str
    standing: str
    order_id: str = ""
    outcome: str = ""
    level_requested: str = ""
    level_achieved: str = ""
    technique: str = ""
    exceptions: int = 0
    not_covered: int = 0
    finished_at: str = ""
    receipt: str = ""
    certificate: str = ""
    leaf: str = ""
    status: str = ""
    decisions: tuple[Decision, ...] = ()


class SignedCertificate(NamedTuple):
    """A certificate's number, its bytes and their signature."""

    number: str
    body: bytes
    signature: bytes


def medium_line(
    identity: Registered,
    *,
    path: str,
    property_number: str = "",
    source: str = "",
    classification: str = "",
    label: str = "",
    standing: str = "",
) -> MediumLine:
    """What the register knows."""
    name, digest = registered_as(identity)
    block = identity if isinstance(identity, BlockIdentity) else None
    return MediumLine(
        digest=digest,
        name=name,
        serial=block.serial if block else "",
        wwn=block.wwn if block else "",
        model=block.model if block else "",
        path=path or getattr(identity, "path", ""),
        size=int(identity.size),
        property_number=property_number,
        source=source,
        classification=classification,
        label=label,
        standing=standing,
    )


def is_sanitized(line: MediumLine) -> bool:
    """Whether its receipt says so, with or without exceptions."""
    return line.outcome in (Outcome.SANITIZED, Outcome.EXCEPTIONS)


def with_receipt(line: MediumLine, digest: str, body: bytes) -> MediumLine:
    """`line` with what the receipt in `body`, whose SHA-256 is `digest`, says of the medium.

    A receipt that refuses the order as a whole speaks of no medium; its own outcome is taken then.
    """
    receipt = parse_statement(body).predicate
    told = [one for one in receipt.targets if medium_of(one.target.identity)[1] == line.digest]
    common = line._replace(
        order_id=receipt.order.order_id,
        level_requested=str(receipt.level_requested or ""),
        finished_at=receipt.finished_at,
        receipt=digest,
    )
    if not told:
        return common._replace(outcome=str(receipt.outcome), level_achieved=str(Level.NONE))
    one = told[0]
    return common._replace(
        outcome=str(one.outcome),
        level_achieved=str(one.level_achieved),
        technique=one.technique,
        exceptions=len(one.exceptions),
        not_covered=len(one.not_covered),
        finished_at=one.finished_at,
    )


def with_certificate(line: MediumLine, certificate: Certificate) -> MediumLine:
    """`line` with the certificate that rests on its receipt."""
    log, review = certificate.evidence.log, certificate.review
    return line._replace(
        certificate=certificate.number,
        leaf=log.leaf if log else "",
        status=certificate.status,
        decisions=tuple(review.decisions) if review else (),
    )


def decided(line: MediumLine) -> str:
    """Who decided what of it and when, on one line; empty where nobody did."""
    return "; ".join(
        f"{one.decision} by {one.who}, {one.at}" + ("" if one.key else f", {NOT_SIGNED}")
        for one in line.decisions
    )
