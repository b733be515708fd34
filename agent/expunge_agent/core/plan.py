"""From an order's wish to concrete steps: which technique, which passes, what is read back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from expunge_agent.core.medium import Medium
from expunge_agent.protocol.base import Frozen, Level
from expunge_agent.protocol.identity import FileIdentity, Target
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_profiles.expand import Fixed, Keyed, expand
from expunge_profiles.schema import Profile

OVERWRITE = "overwrite"
EARNS = {OVERWRITE: Level.CLEAR}
"""The most a technique can earn on any medium (NIST SP 800-88 r2: host overwrite never earns Purge)."""


class PassPlan(Frozen, frozen=True):
    """One pass: a repeated pattern in hexadecimal, or a keyed stream (cipher and key)."""

    fixed: str = ""
    cipher: str = ""
    key: str = ""


class VerificationPlan(Frozen, frozen=True):
    """How much is read back: ``none``, ``full``, ``sampled`` by the NIST rule, or ``confidence``.

    With ``confidence``: no more than ``max_unsanitized_ppm`` of the target may be otherwise, with a
    confidence of ``confidence_ppm`` (parts per million).
    """

    kind: Literal["none", "full", "sampled", "confidence"]
    max_unsanitized_ppm: int = 0
    confidence_ppm: int = 0

    @property
    def rule(self) -> str:
        """The rule in words, as receipts give it; empty for a full verification."""
        if self.kind == "sampled":
            return "NIST SP 800-88 r1 section 4.7.3, see expunge_agent.engine.ranges.samples"
        if self.kind == "confidence":
            return (
                f"no more than {self.max_unsanitized_ppm} ppm unsanitized with {self.confidence_ppm} ppm "
                "confidence, see expunge_agent.engine.confidence.drawn"
            )
        return ""


class TargetPlan(Frozen, frozen=True):
    """What will be done to one target, in this order. ``verify_after``: indexes of passes read back."""

    path: str
    technique: str
    passes: list[PassPlan]
    verify_after: list[int]
    verification: VerificationPlan
    seal: bool


def plan_target(
    target: Target,
    medium: Medium,
    profile: Profile,
    level: Level,
    allow_downgrade: bool,
    choose_byte: Callable[[], int],
    choose_key: Callable[[str], bytes],
    cipher: str,
    unread_cipher: str,
) -> TargetPlan | Refusal:
    """The steps for one target, or why there are none that the order would accept.

    `cipher` makes the keyed streams that are read back or left as a seal, `unread_cipher` the others.
    """
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
    steps = expand(profile, choose_byte)
    verify_after = _verify_after(profile, len(steps))

    def as_pass(index: int, step: Fixed | Keyed) -> PassPlan:
        if isinstance(step, Fixed):
            return PassPlan(fixed=step.pattern.hex())
        looked_at = index in verify_after or (profile.seal and index == len(steps) - 1)
        name = cipher if looked_at else unread_cipher
        return PassPlan(cipher=name, key=choose_key(name).hex())

    return TargetPlan(
        path=medium.path,
        technique=OVERWRITE,
        passes=[as_pass(index, step) for index, step in enumerate(steps)],
        verify_after=verify_after,
        verification=_verification(profile),
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


def _verification(profile: Profile) -> VerificationPlan:
    rule = profile.verification
    if rule.confidence_ppm is None or rule.max_unsanitized_ppm is None:
        return VerificationPlan(kind=rule.kind)
    return VerificationPlan(
        kind="confidence", max_unsanitized_ppm=rule.max_unsanitized_ppm, confidence_ppm=rule.confidence_ppm
    )


def _verify_after(profile: Profile, count: int) -> list[int]:
    if profile.verification.kind == "none":
        return []
    return list(range(count)) if profile.verification.after == "every" else [count - 1]
