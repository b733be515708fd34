"""Collects from the store what summaries and registers list: media, each with its newest receipt and certificate."""

from __future__ import annotations

from collections.abc import Iterable

from expunge_agent.errors import NotFoundError
from expunge_controller import dispatch
from expunge_controller.ledger import identity_of
from expunge_controller.records.certificate import parse_certificate
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.custody import CustodyEvent, parse_custody_event
from expunge_controller.records.media_lines import (
    MediumLine,
    SignedCertificate,
    medium_line,
    with_certificate,
    with_receipt,
)
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import MediumRow


def of_machine(unit: Unit, machine_id: str) -> list[MediumLine]:
    """The media registered of a machine, in the order of their names."""
    return _sorted(_line(unit, row, "") for row in unit.evidence.media() if row.machine_id == machine_id)


def of_order(unit: Unit, text: str) -> list[MediumLine]:
    """The media of an order, in its order; what they had from other orders is left out. Raises NotFoundError."""
    order = dispatch.find_order(unit, text)
    rows = [unit.evidence.medium(medium_of(one.identity)[1]) for one in dispatch.targets_of(order)]
    return [_line(unit, row, order.digest) for row in rows if row is not None]


def of_all(unit: Unit) -> list[MediumLine]:
    """Every registered medium."""
    return _sorted(_line(unit, row, "") for row in unit.evidence.media())


def certificates(unit: Unit, lines: Iterable[MediumLine]) -> list[SignedCertificate]:
    """The certificates that `lines` name."""
    rows = (unit.evidence.certificate(line.certificate) for line in lines if line.certificate)
    return [SignedCertificate(row.number, row.body, row.signature) for row in rows if row is not None]


def _line(unit: Unit, row: MediumRow, order: str) -> MediumLine:
    events = [parse_custody_event(event.body) for event in unit.evidence.custody(row.digest)]
    line = medium_line(
        identity_of(row),
        path=row.hint,
        property_number=row.property_number,
        source=row.source,
        classification=row.classification,
        label=row.label,
        standing=str(events[-1].standing) if events else "",
    )
    telling = _newest(events, order)
    if telling is None:
        return line
    receipt = unit.evidence.receipt(telling.receipt)
    if receipt is None:
        raise NotFoundError(
            f"The receipt {telling.receipt} that custody names is not in the store.",
            "Run `expunge log check`.",
        )
    line = with_receipt(line, receipt.digest, receipt.body)
    for one in unit.evidence.certificates_of_order(receipt.order_digest):
        if one.medium == row.digest and one.receipt_digest == receipt.digest:
            line = with_certificate(line, parse_certificate(one.body))
    return line


def _newest(events: Iterable[CustodyEvent], order: str) -> CustodyEvent | None:
    """The last event that names a receipt, of that order where one is given."""
    telling = [one for one in events if one.receipt and order in ("", one.order)]
    return telling[-1] if telling else None


def _sorted(lines: Iterable[MediumLine]) -> list[MediumLine]:
    return sorted(lines, key=lambda line: (line.name, line.digest))
