"""A certificate with what people decided written into it."""

from __future__ import annotations

from msgspec.structs import replace

from expunge_controller.records.certificate import AWAITING, Blank, Certificate
from expunge_controller.records.review import NOT_SIGNED, Decision, Review


def reviewed(certificate: Certificate, review: Review | None) -> Certificate:
    """`certificate` with the status, the lines and the sentences that follow from `review`; nothing else changes."""
    before = certificate.review.sentences if certificate.review else []
    assurance = [one for one in certificate.assurance if one not in before]
    return replace(
        certificate,
        status=review.status if review else AWAITING,
        validation=_lines(review.validation if review else None),
        concurrence=_lines(review.concurrence if review else None),
        assurance=[*assurance, *(review.sentences if review else [])],
        review=review,
    )


def _lines(one: Decision | None) -> Blank:
    if one is None:
        return Blank()
    return Blank(
        name=f"{one.full_name} ({one.name})" if one.full_name else one.name,
        title=one.title,
        organisation=one.organisation,
        location=one.location,
        signature=f"{one.decision}, custody event {one.seq}: " + (one.key or NOT_SIGNED),
        date=one.at,
    )
