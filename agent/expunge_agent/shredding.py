"""The keys of one LUKS volume: no table holds them, cryptsetup destroys the keyslots, the engine overwrites the whole
header, and it is looked at again. Each step is journalled before it is taken; a restart goes on where it ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import replace

from expunge_agent.core import luks
from expunge_agent.core.case import Scope
from expunge_agent.core.guard import SystemPaths, guard, listing, readable
from expunge_agent.core.key_progress import KeyStep
from expunge_agent.core.layout import left_behind
from expunge_agent.core.luks_case import LuksCase
from expunge_agent.core.luks_result import CHECK, ERASE, destruction, header_evidence
from expunge_agent.core.medium import Medium
from expunge_agent.core.plan import TargetPlan
from expunge_agent.core.progress import TargetProgress
from expunge_agent.core.technique import Technique
from expunge_agent.devices.crypt_maps import holding
from expunge_agent.devices.look import look
from expunge_agent.devices.luks_look import case_of, erase_slots, is_luks
from expunge_agent.devices.opening import Opened, TargetRefused, open_target
from expunge_agent.devices.patience import lasting
from expunge_agent.engine.extents import layout
from expunge_agent.engine.target import Target as OpenTarget
from expunge_agent.errors import NotFoundError, PermissionProblemError
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.order_keys import KeyWish
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.protocol.receipt_keys import KeyDestruction
from expunge_agent.steps import Steps
from expunge_agent.takeover import take_over
from expunge_agent.techniques.overwrite import overwrite
from expunge_agent.techniques.overwrite_work import Work
from expunge_profiles.schema import Profile


def with_luks(scope: Scope, medium: Medium, profile: Profile | None, wish: KeyWish | None) -> Scope:
    """The scope with the LUKS volume that `medium` is, where the profile (None: any) has to do with it."""
    if profile is not None and Technique.LUKS_ERASE not in profile.techniques:
        return scope
    return replace(scope, luks=case_of(medium, wish))


def header_refusal(order: Order, profile: Profile, system: SystemPaths) -> Refusal | None:
    """What forbids touching the detached header that the order names; None where it names none."""
    wish = order.keys
    if wish is None or wish.header is None or Technique.LUKS_ERASE not in profile.techniques:
        return None
    path, header = wish.header.path, Target(identity=wish.header, hint=wish.header.path)
    if len(order.targets) > 1:
        return Refusal(
            reason=Reason.UNSUPPORTED,
            detail="The order names a detached header, and more than one target.",
            remedy="Order each volume with its header on its own.",
        )

    def objection() -> Refusal | None:
        medium, usage = look(path, system=system)
        return guard(header, medium, usage, system)

    return lasting(objection)


def header_path(plan: TargetPlan) -> str:
    """Where the detached header of the plan is, or empty."""
    return plan.luks.header_file.path if plan.luks is not None and plan.luks.header_file is not None else ""


def shred(
    volume: Opened,
    plan: TargetPlan,
    so_far: TargetProgress,
    steps: Steps,
    system: SystemPaths,
    work: Callable[[Opened, OpenTarget], Work],
) -> None:
    """Take every step that is still missing; returns early when the work was stopped.

    A detached header is held open beside `volume` meanwhile. `work` is what the overwrite of whatever bears the header
    works with. Raises TargetRefused while a mapped device holds the key, and where a header's file did not stay where it
    was; and the engine's `TargetGone` and its kin.
    """
    beside = plan.luks.header_file if plan.luks is not None else None
    if beside is None:
        _shred(volume, volume, plan, so_far, steps, work)
        return
    with open_target(beside.path, beside, write=True, system=system) as bearer:
        _shred(volume, bearer, plan, so_far, steps, work)
        before, after = so_far.layout, layout(bearer.fd)
        if before is not None and not before.doubts and (lost := left_behind(before, after)):
            raise TargetRefused(
                Refusal(
                    reason=Reason.UNSUPPORTED,
                    detail=f"{lost} bytes of {readable(beside.path)} lie elsewhere now and were not overwritten.",
                )
            )


def key_trouble(so_far: TargetProgress) -> str:
    """Why the keys cannot be called destroyed, by the look at them afterwards."""
    check = so_far.key.done(CHECK)
    return check.trouble if check is not None else ""


def keys_not_covered(plan: TargetPlan, size: int) -> list[str]:
    """What no step could reach of a volume of `size` bytes."""
    first = 0 if header_path(plan) else plan.extent(size)
    return [
        f"The encrypted data, bytes {first} to {size}: they stay where they are.",
        "Earlier places of the header that the medium does not let the host address.",
    ]


def _shred(
    volume: Opened,
    bearer: Opened,
    plan: TargetPlan,
    so_far: TargetProgress,
    steps: Steps,
    work: Callable[[Opened, OpenTarget], Work],
) -> None:
    case = plan.luks
    if case is None:
        raise AssertionError("planned without a header")
    numbers = _numbers(volume)
    if refusal := still_held(case, numbers):
        raise TargetRefused(refusal)
    if so_far.key.done(ERASE) is None and not so_far.passes:
        _erase_slots(bearer, steps)
    area = plan.extent(volume.size)
    with closing(take_over(bearer, area)) as target:
        overwrite(work(bearer, target))
    if is_overwritten(plan, so_far) and so_far.key.done(CHECK) is None:
        steps.key_step_begun(CHECK)
        steps.key_step(_check(case, bearer, numbers))


def still_held(case: LuksCase, numbers: list[str], closed: Collection[str] = frozenset()) -> Refusal | None:
    """The refusal while a mapped device holds the volume's key; `numbers`: ``major:minor`` of the target.

    `closed`: devices (``dm-3``) that will be gone by the time it matters.
    """
    held = [one for one in holding(case.header.uuid, numbers) if one.partition(" ")[0] not in closed]
    if not held:
        return None
    return Refusal(
        reason=Reason.HELD,
        detail=f"The key of the LUKS volume {case.header.uuid} is in use by {listing(held)}: destroying the header "
        "would leave it in memory.",
        remedy="Close it first (unmount what is on it, then cryptsetup close).",
    )


def is_overwritten(plan: TargetPlan, so_far: TargetProgress) -> bool:
    """Whether every pass and every read-back of it came to its end."""
    passes = [so_far.passes.get(index) for index in range(len(plan.passes))]
    checks = [so_far.verifications.get(index) for index in plan.verify_after]
    return all(one is not None and one.result is not None for one in passes) and all(
        one is not None and one.complete for one in checks
    )


def story(plan: TargetPlan, so_far: TargetProgress) -> KeyDestruction | None:
    """What the receipt says of the keys; None where it did not come to that, or there are none."""
    case = plan.luks
    if case is None or not so_far.touched:
        return None
    where = case.header_file.path if case.header_file is not None else plan.path
    area = plan.extent(int(so_far.opened.size) if so_far.opened is not None else 0)
    return destruction(case, where, area, so_far.key, is_overwritten(plan, so_far))


def _erase_slots(bearer: Opened, steps: Steps) -> None:
    bearer.recheck()
    before = header_evidence("header before", os.pread(bearer.fd, luks.HEAD, 0))
    steps.key_step_begun(ERASE)
    try:
        said = erase_slots(bearer.fd)
    except (NotFoundError, PermissionProblemError) as error:
        said = (
            f"cryptsetup erase was skipped: {error.message} The overwrite destroys the keyslots all the same."
        )
    steps.key_step(KeyStep(name=ERASE, done=True, detail=said[:4000], evidence=[before]))


def _check(case: LuksCase, bearer: Opened, numbers: list[str]) -> KeyStep:
    head = os.pread(bearer.fd, luks.HEAD, 0)
    trouble, told = "", "No LUKS magic is left."
    if luks.begins_like_luks(head):
        trouble = f"There is still the magic of a LUKS header on {readable(bearer.path)}."
    try:
        found = is_luks(bearer.fd)
        if found:
            trouble = trouble or f"cryptsetup still takes {readable(bearer.path)} for LUKS."
        told += " cryptsetup isLuks: no." if found is False else " cryptsetup isLuks does not tell."
    except (NotFoundError, PermissionProblemError):
        told += " There is no cryptsetup to ask."
    if held := holding(case.header.uuid, numbers):
        trouble = trouble or f"The key is in use again, by {listing(held)}."
    else:
        told += " No mapped device holds the key."
    return KeyStep(
        name=CHECK,
        done=True,
        detail="" if trouble else told,
        trouble=trouble[:4000],
        evidence=[header_evidence("header after", head)],
    )


def _numbers(volume: Opened) -> list[str]:
    seen = os.fstat(volume.fd)
    if not stat.S_ISBLK(seen.st_mode):
        return []
    return [f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"]
