"""From the free space in a receipt to that in its certificate. Nothing is invented on the way."""

from __future__ import annotations

from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import TargetResult
from expunge_controller.records.certificate import NOT_RECORDED, CertifiedSpace


def certified_space(result: TargetResult) -> CertifiedSpace | None:
    """How free space was filled, None where the target is something else."""
    space = result.space
    if space is None:
        return None
    return CertifiedSpace(
        filesystem=space.filesystem,
        size=space.size,
        free_before=space.free_before,
        filled=space.filled or U64(0),
        rest=space.rest.bytes if space.rest else U64(0),
        left=space.left.bytes if space.left else U64(0),
        left_by=space.left.by if space.left else NOT_RECORDED,
        reserve=space.reserve,
        reserve_why=space.reserve_why,
        ended=space.ended,
        pieces_on_device=space.taken.count if space.taken else U64(0),
        names=space.names,
        moved=space.moved,
        cleaned_up=space.cleaned_up,
        trim=space.trim or NOT_RECORDED,
    )
