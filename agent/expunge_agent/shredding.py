"""The keys of one LUKS volume: no table holds them, cryptsetup destroys the keyslots, the engine overwrites the whole
header, and it is looked at again. Each step is journalled before it is taken; a restart goes on where it ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing

from expunge_agent.core import luks
from expunge_agent.core.guard import listing, readable
from expunge_agent.core.key_progress import KeyStep
from expunge_agent.core.luks_case import LuksCase
from expunge_agent.core.luks_result import CHECK, ERASE, destruction, header_evidence
from expunge_agent.core.plan import TargetPlan
from expunge_agent.core.progress import TargetProgress
from expunge_agent.devices.crypt_maps import holding
from expunge_agent.devices.luks_look import erase_slots, is_luks
from expunge_agent.devices.opening import Opened, TargetRefused
from expunge_agent.engine.target import Target
from expunge_agent.errors import NotFoundError, PermissionProblemError
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.protocol.receipt_keys import KeyDestruction
from expunge_agent.steps import Steps
from expunge_agent.techniques.overwrite import overwrite
from expunge_agent.techniques.overwrite_work import Work


def shred(
    volume: Opened,
    bearer: Opened,
    plan: TargetPlan,
    so_far: TargetProgress,
    steps: Steps,
    work: Callable[[Target], Work],
) -> None:
    """Take every step that is still missing; returns early when the work was stopped.

    `bearer` holds the header: `volume` itself, or a file beside it. `work` is what the overwrite of it works with.
    Raises TargetRefused while a mapped device holds the key, and the engine's `TargetGone` and its kin.
    """
    case = plan.luks
    if case is None:
        raise AssertionError("planned without a header")
    numbers = _numbers(volume)
    if refusal := still_held(case, numbers):
        raise TargetRefused(refusal)
    if so_far.key.done(ERASE) is None and not so_far.passes:
        _erase_slots(bearer, steps)
    area = plan.extent(volume.size)
    with closing(_over(bearer, area)) as target:
        overwrite(work(target))
    if is_overwritten(plan, so_far) and so_far.key.done(CHECK) is None:
        steps.key_step_begun(CHECK)
        steps.key_step(_check(case, bearer, numbers))


def still_held(case: LuksCase, numbers: list[str]) -> Refusal | None:
    """The refusal while a mapped device holds the volume's key; `numbers`: ``major:minor`` of the target."""
    held = holding(case.header.uuid, numbers)
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
        said = erase_slots(bearer.path)
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
        if is_luks(bearer.path):
            trouble = trouble or f"cryptsetup still takes {readable(bearer.path)} for LUKS."
        told += " cryptsetup isLuks: no."
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


def _over(bearer: Opened, area: int) -> Target:
    """The engine's target over the first `area` bytes; claim and lock stay with `bearer`."""
    duplicate = bearer.duplicate()
    try:
        return Target(duplicate, area)
    except BaseException:
        os.close(duplicate)
        raise


def _numbers(volume: Opened) -> list[str]:
    seen = os.fstat(volume.fd)
    if not stat.S_ISBLK(seen.st_mode):
        return []
    return [f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"]
