"""From an order's wish to concrete steps: which technique, which passes, what is read back."""

from __future__ import annotations

from collections.abc import Callable

from expunge_agent.core.medium import Medium
from expunge_agent.protocol.base import Frozen, Level
from expunge_agent.protocol.identity import FileIdentity, Target
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_profiles.expand import Fixed, expand
from expunge_profiles.schema import Profile

OVERWRITE = "overwrite"
EARNS = {OVERWRITE: Level.CLEAR}
"""The most a technique can earn on any medium (NIST SP 800-88 r2: host overwrite never earns Purge)."""


class PassPlan(Frozen, frozen=True):
    """One pass: a repeated pattern in hexadecimal, or a keyed stream (cipher and key)."""

    fixed: str = ""
    cipher: str = ""
    key: str = ""


class TargetPlan(Frozen, frozen=True):
    """What will be done to one target, in this order. ``verify_after``: indexes of passes read back."""

    path: str
    technique: str
    passes: list[PassPlan]
    verify_after: list[int]
    verification: str
    seal: bool


def plan_target(
    target: Target,
    medium: Medium,
    profile: Profile,
    level: Level,
    allow_downgrade: bool,
    choose_byte: Callable[[], int],
    choose_key: Callable[[], bytes],
    cipher: str,
) -> TargetPlan | Refusal:
    """The steps for one target, or why there are none that the order would accept."""
    if medium.type not in profile.media:
        return Refusal(
            reason=Reason.PROFILE_NOT_APPLICABLE,
            detail=f"Profile {profile.id} is for {', '.join(profile.media)}; {medium.path} is of type {medium.type}.",
            remedy="Choose a profile for this kind of medium: expunge profiles list",
        )
    if not EARNS[OVERWRITE].reaches(level) and not allow_downgrade:
        return Refusal(
            reason=Reason.LEVEL_NOT_ACHIEVABLE,
            detail=f"The order asks for {level}; overwriting earns {EARNS[OVERWRITE]} at the most.",
            remedy="Ask for clear, allow a downgrade explicitly, or destroy the medium physically.",
        )
    passes = [
        PassPlan(fixed=step.pattern.hex())
        if isinstance(step, Fixed)
        else PassPlan(cipher=cipher, key=choose_key().hex())
        for step in expand(profile, choose_byte)
    ]
    return TargetPlan(
        path=medium.path,
        technique=OVERWRITE,
        passes=passes,
        verify_after=_verify_after(profile, len(passes)),
        verification=profile.verification.kind,
        seal=profile.seal,
    )


def describe_pass(step: PassPlan) -> str:
    """A pass in words."""
    if step.cipher:
        return f"keyed stream {step.cipher}"
    return f"pattern {step.fixed}" if len(step.fixed) > 2 else f"byte {step.fixed}"


def is_file(target: Target) -> bool:
    """Whether the target is a regular file."""
    return isinstance(target.identity, FileIdentity)


def _verify_after(profile: Profile, count: int) -> list[int]:
    if profile.verification.kind == "none":
        return []
    return list(range(count)) if profile.verification.after == "every" else [count - 1]
