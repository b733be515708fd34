"""Which passes fill a file system's free space, and what they can earn there."""

from __future__ import annotations

from expunge_agent.core.plan import Draw, TargetPlan, planned_passes, planned_verification
from expunge_agent.core.space import Space
from expunge_agent.core.technique import Technique, earns
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_profiles.schema import Profile


def plan_space(
    space: Space, profile: Profile, level: Level, allow_downgrade: bool, draw: Draw
) -> TargetPlan | Refusal:
    """The passes for the files that take the free space, or why there are none that the order would accept.

    The last pass is no seal: the files are removed, and what their blocks hold is then anybody's.
    """
    against = space_objection(space, profile, level, allow_downgrade)
    if against is not None:
        return against
    most = earns(Technique.OVERWRITE, space.type)
    passes, verify_after = planned_passes(profile, draw)
    return TargetPlan(
        path=space.path,
        technique=Technique.OVERWRITE,
        earns=most,
        passes=passes,
        verify_after=verify_after,
        verification=planned_verification(profile),
        downgrade=""
        if most.reaches(level)
        else f"Free space can only be overwritten, which earns {most} at the most; {level} was asked.",
    )


def space_objection(
    space: Space, profile: Profile | None, level: Level, allow_downgrade: bool
) -> Refusal | None:
    """Why `profile` (None: any with passes) and `level` do not go with filling it, or None."""
    if profile is not None and (
        space.type not in profile.media or Technique.OVERWRITE not in profile.techniques
    ):
        return Refusal(
            reason=Reason.PROFILE_NOT_APPLICABLE,
            detail=f"Profile {profile.id} does not overwrite media of type {space.type}, on which {space.path} lies.",
            remedy="Choose a profile with passes for this kind of medium: expunge-agent profiles",
        )
    most = earns(Technique.OVERWRITE, space.type)
    if not most.reaches(level) and not allow_downgrade:
        return Refusal(
            reason=Reason.LEVEL_NOT_ACHIEVABLE,
            detail=f"Filling free space earns {most} at the most; {level} was asked.",
            remedy="Ask for clear, allow a downgrade, or sanitize the whole device.",
        )
    return None
