"""Collects from the store what goes into a bundle about one medium."""

from __future__ import annotations

from expunge_agent.errors import NotFoundError
from expunge_agent.protocol.receipt import parse_statement
from expunge_controller import dispatch, fleet
from expunge_controller.bundle import BundleParts, SignedBytes
from expunge_controller.context import Controller
from expunge_controller.records.consistency import medium_of


def collect(controller: Controller, order_text: str, target: int) -> BundleParts:
    """The parts of the bundle about target number `target` (from 0) of an order.

    Raises NotFoundError without such an order or target, or while there is no accepted receipt.
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
    return BundleParts(
        receipt=SignedBytes(receipt.body, receipt.signature),
        custody=[SignedBytes(row.body, row.signature) for row in custody],
        signers=[
            fleet.controller_signer(controller),
            *([fleet.agent_signer(machine)] if machine is not None else []),
        ],
        order=SignedBytes(order.body, order.signature),
        certificate=SignedBytes(certificate.body, certificate.signature) if certificate else None,
    )
