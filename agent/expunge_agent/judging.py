"""The end of the work on a medium or a file: is it still what was ordered, and what does the evidence allow to be said."""

from __future__ import annotations

from expunge_agent.core.layout import Layout, left_behind
from expunge_agent.core.outcome import judge, judge_erasure
from expunge_agent.core.plan import TargetPlan
from expunge_agent.core.progress import TargetProgress
from expunge_agent.devices.opening import Opened, TargetRefused
from expunge_agent.engine.extents import layout
from expunge_agent.engine.tuning import Tuning
from expunge_agent.protocol.identity import Identity, Target, differences, resized
from expunge_agent.protocol.receipt import TargetResult
from expunge_agent.results import checks_of, passes_of, result_of
from expunge_agent.surroundings import Surroundings


def identity_after(opened: Opened, ordered: Identity, grows_to: int) -> tuple[Identity | None, str]:
    """What is open now, and how it differs from what was `ordered`; `grows_to` as in the plan."""
    if opened.fd < 0:
        return None, ""  # a question to it is still in the kernel
    try:
        after = opened.identity_now()
    except TargetRefused as error:
        return None, error.message
    changed = differences(resized(ordered, after, grows_to), after)
    return after, f"The target changed during the run: {'; '.join(changed)}." if changed else ""


def moved_away(opened: Opened, before: Layout | None) -> str:
    """What is wrong when bytes the file had are no longer its own: nothing written reached them."""
    if before is None or not before.extents:
        return ""
    after = layout(opened.fd)
    if not before.doubts and after.doubts:
        return f"Where the file lies was known before, and now: {'; '.join(after.doubts)}."
    lost = left_behind(before, after)
    return (
        f"{lost} bytes of the file lie elsewhere now: its file system writes changes to new places, or the "
        "file was cut or moved meanwhile. What it held before was not overwritten."
        if lost
        else ""
    )


def judged(
    target: Target,
    so_far: TargetProgress,
    after: Identity | None,
    trouble: str,
    around: Surroundings,
    tuning: Tuning,
) -> TargetResult:
    """The result by the evidence of what was planned: passes, or the drive's command. `trouble`: what broke the work."""
    plan = so_far.plan
    if plan is None:
        raise AssertionError("worked without a plan")
    if not plan.overwrites:
        return _judged_erasure(target, so_far, plan, after, trouble, around)
    passes, checks = passes_of(so_far, tuning), checks_of(so_far)
    verdict = judge(
        size=plan.extent(int(target.identity.size)),
        planned_passes=len(plan.passes),
        verify_after=plan.verify_after,
        earns=plan.earns,
        passes=passes,
        verifications=checks,
        trouble=trouble,
        stopped=around.stop.is_set(),
        doubts=_doubts(so_far, plan),
    )
    return result_of(target, so_far, verdict, after, around.now(), passes=passes, checks=checks)


def _judged_erasure(
    target: Target,
    so_far: TargetProgress,
    plan: TargetPlan,
    after: Identity | None,
    trouble: str,
    around: Surroundings,
) -> TargetResult:
    erasure = so_far.erasure.result(plan.technique, plan.drive)
    verdict = judge_erasure(
        erasure,
        size=erasure.reach(int(target.identity.size)),
        earns=plan.earns,
        verify=plan.verification.kind != "none",
        doubts=_doubts(so_far, plan),
        trouble=trouble,
        stopped=around.stop.is_set(),
    )
    return result_of(target, so_far, verdict, after, around.now())


def _doubts(so_far: TargetProgress, plan: TargetPlan) -> list[str]:
    lay = so_far.layout.doubts if so_far.layout else ()
    return [*plan.doubts, *lay, *so_far.volume.facts.doubts]
