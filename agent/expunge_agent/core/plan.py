"""From an order's wish to concrete steps: which technique, which passes, what is read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from expunge_agent.core.case import Scope
from expunge_agent.core.drive import Drive
from expunge_agent.core.erasure import looked_at, unseen
from expunge_agent.core.luks_case import LuksCase
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.core.obstacles import OTHER_PROFILE, unfit_medium
from expunge_agent.core.selection import Candidate, Selection, select, taken
from expunge_agent.core.settled import settled_type
from expunge_agent.core.technique import Technique
from expunge_agent.protocol.base import Frozen, Level, Text
from expunge_agent.protocol.identity import FileIdentity, Target
from expunge_agent.protocol.receipt import MediumFacts, Reason, Refusal
from expunge_profiles.expand import Fixed, Keyed, expand
from expunge_profiles.schema import Profile


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
    """What will be done to one target, in this order.

    Overwriting: ``passes``, and ``verify_after``, the indexes of passes read back. A drive command:
    ``drive`` as it answered before, ``key`` of the canaries, ``secret`` for an ATA password (both in
    hexadecimal) or the PSID. ``type``: of the medium, as it and the kernel together have it (`settled_type`);
    ``earns``: the most it earns on that; ``doubts``: what it leaves out or takes less of.
    ``luks``: the volume whose header the passes go over.
    """

    path: str
    technique: Technique
    earns: Level
    verification: VerificationPlan
    type: MediumType = MediumType.UNKNOWN
    passes: list[PassPlan] = []
    verify_after: list[int] = []
    seal: bool = False
    drive: Drive | None = None
    key: str = ""
    secret: str = ""
    doubts: list[Text] = []
    downgrade: Text = ""
    luks: LuksCase | None = None

    @property
    def grows_to(self) -> int:
        """Bytes that the medium shows once the drive has given back what it hides; 0: it hides nothing."""
        return int(self.drive.native) if self.drive is not None and looked_at(self.drive) else 0

    @property
    def overwrites(self) -> bool:
        """Whether the host writes passes; otherwise the drive is given a command."""
        return self.technique in (Technique.OVERWRITE, Technique.LUKS_ERASE)

    def extent(self, size: int) -> int:
        """How many bytes of a target of `size` the passes go over: all, or where LUKS keeps its keys. A detached
        header goes as a whole."""
        if self.luks is None:
            return size
        return int(self.luks.header_file.size if self.luks.header_file else self.luks.header.area)


@dataclass(frozen=True)
class Draw:
    """Where random values and ciphers come from: a byte, a key for a cipher, `count` bytes.

    `cipher` makes the keyed streams that are read back or left as a seal, `unread_cipher` the others.
    """

    byte: Callable[[], int]
    key: Callable[[str], bytes]
    bytes: Callable[[int], bytes]
    cipher: str
    unread_cipher: str


NOTHING_DRAWN = Draw(byte=lambda: 0, key=lambda _: b"", bytes=lambda _: b"", cipher="-", unread_cipher="-")
"""For a plan that is only shown: keys and random bytes are drawn when the order runs."""


def plan_target(
    target: Target,
    medium: Medium,
    drive: Drive | None,
    profile: Profile,
    level: Level,
    allow_downgrade: bool,
    scope: Scope,
    draw: Draw,
) -> TargetPlan | Refusal:
    """The steps for one target, or why there are none that the order would accept."""
    if why := unfit_medium(medium, settled_type(medium, drive), profile):
        return Refusal(
            reason=Reason.PROFILE_NOT_APPLICABLE,
            detail=f"Profile {profile.id} is for {', '.join(profile.media)}; {why}.",
            remedy=OTHER_PROFILE,
        )
    selection = select(target, medium, drive, profile, level, allow_downgrade, scope)
    chosen = taken(selection)
    if isinstance(chosen, Refusal):
        return chosen
    doubts = [chosen.detail] if chosen.earns is Level.NONE and chosen.detail else []
    if chosen.technique is Technique.LUKS_ERASE and isinstance(scope.luks, LuksCase):
        return _luks(medium, chosen, selection, scope.luks, doubts, draw)
    if chosen.technique is not Technique.OVERWRITE:
        return TargetPlan(
            path=medium.path,
            technique=chosen.technique,
            type=selection.type,
            earns=chosen.earns,
            verification=planned_verification(profile),
            drive=drive,
            key=draw.bytes(32).hex(),
            secret=target.psid.upper() if chosen.technique is Technique.OPAL_REVERT else draw.bytes(16).hex(),
            doubts=[*doubts, *unseen(drive)],
            downgrade=selection.downgrade,
        )
    passes, verify_after = planned_passes(profile, draw)
    return TargetPlan(
        path=medium.path,
        technique=chosen.technique,
        type=selection.type,
        earns=chosen.earns,
        passes=passes,
        verify_after=verify_after,
        verification=planned_verification(profile),
        seal=profile.seal,
        doubts=doubts,
        downgrade=selection.downgrade,
    )


def planned_passes(profile: Profile, draw: Draw) -> tuple[list[PassPlan], list[int]]:
    """The passes of `profile`, and the indexes of those that are read back."""
    steps = expand(profile, draw.byte)
    verify_after = _verify_after(profile, len(steps))

    def as_pass(index: int, step: Fixed | Keyed) -> PassPlan:
        if isinstance(step, Fixed):
            return PassPlan(fixed=step.pattern.hex())
        looked_at = index in verify_after or (profile.seal and index == len(steps) - 1)
        name = draw.cipher if looked_at else draw.unread_cipher
        return PassPlan(cipher=name, key=draw.key(name).hex())

    return [as_pass(index, step) for index, step in enumerate(steps)], verify_after


def _luks(
    medium: Medium, chosen: Candidate, selection: Selection, luks: LuksCase, doubts: list[str], draw: Draw
) -> TargetPlan:
    """Over headers and keyslots go a random pass and zeros, each read back in full, whatever the profile says of
    passes: it is a small area, and everything hangs on it."""
    return TargetPlan(
        path=medium.path,
        technique=chosen.technique,
        type=selection.type,
        earns=chosen.earns,
        verification=VerificationPlan(kind="full"),
        passes=[PassPlan(cipher=draw.cipher, key=draw.key(draw.cipher).hex()), PassPlan(fixed="00")],
        verify_after=[0, 1],
        doubts=doubts,
        downgrade=selection.downgrade,
        luks=luks,
    )


def facts_for(plan: TargetPlan, medium: Medium) -> MediumFacts:
    """What the receipt says of `medium`: of the type that the plan is for, against which whoever checks it holds the
    level, and with the names that a bridge has of its own."""
    facts = medium.facts()
    notes = plan.drive.doubtful_names if plan.drive is not None else []
    return replace(facts, type=plan.type.value, notes=[*facts.notes, *notes])


def describe_pass(step: PassPlan) -> str:
    """A pass in words."""
    if step.cipher:
        return f"keyed stream {step.cipher}"
    return f"pattern {step.fixed}" if len(step.fixed) > 2 else f"byte {step.fixed}"


def is_file(target: Target) -> bool:
    """Whether the target is a regular file."""
    return isinstance(target.identity, FileIdentity)


def planned_verification(profile: Profile) -> VerificationPlan:
    """How much `profile` has read back."""
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
