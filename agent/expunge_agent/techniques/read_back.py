"""What both kinds of technique read back, and how what was found is listed in a receipt."""

from __future__ import annotations

from collections.abc import Iterable

from expunge_agent.core.plan import VerificationPlan
from expunge_agent.engine.confidence import drawn
from expunge_agent.engine.problems import Problem
from expunge_agent.engine.ranges import Range, samples, whole
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import MAX_LISTED_RANGES
from expunge_agent.protocol.receipt_parts import ByteRange, RangeProblem


def places(plan: VerificationPlan, size: int, block: int, seed: bytes) -> Iterable[Range]:
    """What of a target of `size` bytes `plan` asks for, at borders of `block` bytes; `seed` draws samples."""
    if plan.kind == "sampled":
        return samples(size, block, seed)
    if plan.kind == "confidence":
        return drawn(size, block, seed, plan.max_unsanitized_ppm, plan.confidence_ppm)
    return whole(size)


def listed(problems: list[Problem]) -> list[RangeProblem]:
    """The first `MAX_LISTED_RANGES` of `problems` as a receipt has them."""
    return [
        RangeProblem(range=ByteRange(start=U64(one.start), length=U64(one.length)), what=one.what)
        for one in problems[:MAX_LISTED_RANGES]
    ]
