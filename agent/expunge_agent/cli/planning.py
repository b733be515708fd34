"""What will be done to each target that a person names: the same decisions as when the order runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expunge_agent.cli.keys import fscrypt_plan
from expunge_agent.cli.named_files import Named
from expunge_agent.cli.space import plan_space_target
from expunge_agent.core.deactivation import Step
from expunge_agent.core.guard import SystemPaths, guard, standing_objections
from expunge_agent.core.medium import Medium, Usage
from expunge_agent.core.plan import NOTHING_DRAWN, TargetPlan, is_file, plan_target
from expunge_agent.deactivating import closed_by, taking_of, volume_facts
from expunge_agent.devices.drives import examine
from expunge_agent.devices.look import look
from expunge_agent.devices.scope import scope_of
from expunge_agent.devices.space import PREFIX
from expunge_agent.devices.usage import Eyes
from expunge_agent.errors import UsageError
from expunge_agent.fscrypt_run import PREFIX as FSCRYPT
from expunge_agent.local import Wish
from expunge_agent.lone_file import layout_and_objection
from expunge_agent.protocol.identity import BlockIdentity, SpaceWish, Target, TreeIdentity
from expunge_agent.protocol.overlap import REMEDY, overlapping
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.shredding import still_held, with_luks
from expunge_agent.terminal import size_text
from expunge_agent.tree_preview import Preview, preview


@dataclass(frozen=True)
class Planned:
    """One target, what will be done to it, and of a directory which files there are."""

    target: Target
    steps: TargetPlan
    files: Preview | None = None

    @property
    def name(self) -> str:
        """What it is called on the screen."""
        return self.steps.path if self.target.space is None else f"{PREFIX}{self.steps.path}"

    @property
    def size(self) -> str:
        """How much it is, in words."""
        if self.target.space is not None:
            return "free space"
        if isinstance(self.target.identity, TreeIdentity):
            return self.files.in_words() if self.files else "all files meant"
        return size_text(int(self.target.identity.size))


class Objection(Exception):  # noqa: N818 - an end, not a fault of the program
    """`refusal` keeps `target` (None: there is no medium to name) from being wiped."""

    def __init__(self, refusal: Refusal, target: Target | None) -> None:
        super().__init__(refusal.detail)
        self.refusal, self.target = refusal, target


@dataclass(frozen=True)
class Asked:
    """What a person asks for beside the targets: PSIDs by path, how free space is filled, and whether
    somebody is going to read what lies in directories (the run itself looks in any case)."""

    wish: Wish
    psids: Mapping[str, str]
    space: SpaceWish
    look_into: bool


def plan_targets(wanted: Sequence[Named], asked: Asked, eyes: Eyes) -> list[Planned]:
    """Targets by identity, each guarded and planned.

    Raises Objection for the first that must not be wiped, UsageError for one named twice.
    """
    keys = asked.wish.keys
    if keys is not None and keys.header is not None and len(wanted) > 1:
        raise UsageError(
            "--header goes with one target only.", "Wipe each volume with its header on its own."
        )
    beside = [os.path.realpath(one.path) for one in wanted]
    plan: list[Planned] = []
    for one in wanted:
        planned = _planned(one, asked, eyes, beside)
        if any(planned.target.identity == known.target.identity for known in plan):
            raise UsageError(f"{one.path} is named twice.", "Name each target once.")
        plan.append(planned)
        if text := overlapping([one.target for one in plan]):
            refusal = Refusal(reason=Reason.OVERLAPPING_TARGETS, detail=text, remedy=REMEDY)
            raise Objection(refusal, planned.target)
    return plan


def plan_deactivation(plan: Sequence[Planned], wish: Wish, system: SystemPaths) -> dict[str, list[Step]]:
    """What stands on each target and is to be taken down, by the target's path. Raises Objection."""
    if not wish.deactivate:
        return {}
    blocks = [one for one in plan if isinstance(one.target.identity, BlockIdentity)]
    paths = frozenset(one.steps.path for one in blocks)
    found = {}
    for one in blocks:
        path, luks = one.steps.path, one.steps.luks
        taking = taking_of(path, system, paths - {path})
        refusal = next(iter(taking.refusals), None)
        if refusal is None and luks is not None:
            refusal = still_held(luks, [], closed_by(taking))
        if refusal is not None:
            raise Objection(refusal, one.target)
        found[path] = taking.steps
    return found


def _planned(one: Named, asked: Asked, eyes: Eyes, beside: Sequence[str]) -> Planned:
    if one.path.startswith(PREFIX):
        return Planned(*plan_space_target(one.path, asked.wish, eyes.system, asked.space))
    if one.path.startswith(FSCRYPT):
        return Planned(*fscrypt_plan(one.path, asked.wish))
    medium, usage = look(one.path, eyes=eyes, narrow=one.narrow)
    refusal = _against(medium, usage, eyes.system, deactivate=asked.wish.deactivate)
    if medium is None:
        if refusal is None:
            raise AssertionError("the guard refuses what is no medium")
        raise Objection(refusal, None)
    target = Target(identity=medium.identity, hint=medium.path, psid=asked.psids.get(one.path, ""))
    if refusal is not None:
        raise Objection(refusal, target)
    steps = _steps(one, target, medium, asked, eyes, beside)
    if isinstance(steps, Refusal):
        raise Objection(steps, target)
    return Planned(target, steps, _preview(target, asked, eyes))


def _steps(
    one: Named, target: Target, medium: Medium, asked: Asked, eyes: Eyes, beside: Sequence[str]
) -> TargetPlan | Refusal:
    wish = asked.wish
    drive = None if one.narrow else examine(one.path)
    scope = scope_of(drive, medium.path, beside, eyes)
    steps = plan_target(
        target,
        medium,
        drive,
        wish.profile,
        wish.level,
        wish.allow_downgrade,
        scope if one.narrow else with_luks(scope, medium, wish.profile, wish.keys),
        NOTHING_DRAWN,
    )
    if isinstance(steps, Refusal) or one.narrow:
        return steps
    if steps.luks is not None and not wish.deactivate and (held := still_held(steps.luks, [])):
        return held
    if is_file(target):
        _, unreached = layout_and_objection(
            medium.path, allow_exceptions=wish.allow_exceptions, system=eyes.system
        )
    else:
        _, unreached = volume_facts(one.path)
    return steps if unreached is None else unreached


def _against(medium: Medium | None, usage: Usage, system: SystemPaths, *, deactivate: bool) -> Refusal | None:
    """The first rule against it; what can be taken down, and who uses it, is for the plan of that to judge."""
    if not deactivate or medium is None or not isinstance(medium.identity, BlockIdentity):
        return guard(None, medium, usage, system)
    found = standing_objections(None, medium, usage, system)
    return next((one for one in found if one.reason is not Reason.IN_USE), None)


def _preview(target: Target, asked: Asked, eyes: Eyes) -> Preview | None:
    """What lies in a directory, where somebody reads it."""
    if not asked.look_into or not isinstance(target.identity, TreeIdentity):
        return None
    found = preview(target.identity, eyes, allow_exceptions=asked.wish.allow_exceptions)
    if found.refusal is not None:
        raise Objection(found.refusal, target)
    return found
