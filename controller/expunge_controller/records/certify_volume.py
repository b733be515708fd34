"""From what a receipt says of a volume to its certificate. Nothing is invented on the way."""

from __future__ import annotations

from expunge_agent.protocol.identity import identity_digest, subject_name
from expunge_agent.protocol.receipt import TargetResult
from expunge_controller.records.certificate import CertifiedMember, CertifiedStep, CertifiedVolume


def certified_volume(result: TargetResult) -> CertifiedVolume | None:
    """What the target lies on and what stood on it; None for a drive with nothing on it."""
    if not result.members and not result.deactivated:
        return None
    return CertifiedVolume(
        members=[
            CertifiedMember(
                path=one.path,
                kind=one.kind,
                type=one.type,
                name=subject_name(one.identity),
                digest=identity_digest(one.identity),
                depth=one.depth,
            )
            for one in result.members
        ],
        steps=[
            CertifiedStep(what=one.what, on=one.on, ended=one.ended, said=one.said)
            for one in result.deactivated
        ],
    )
