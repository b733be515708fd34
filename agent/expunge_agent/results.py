"""What is told of a target at its end: its journal so far, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from expunge_agent.core.outcome import Verdict
from expunge_agent.core.progress import TargetProgress
from expunge_agent.engine.problems import (
    EngineError,
    GiveUp,
    NoSpaceOnTarget,
    Stalled,
    TargetGone,
    TargetShrank,
)
from expunge_agent.engine.tuning import Tuning
from expunge_agent.protocol.base import Level, Outcome, timestamp
from expunge_agent.protocol.identity import Identity, Target
from expunge_agent.protocol.receipt import PassResult, TargetResult, Verification
from expunge_agent.protocol.receipt_erasure import Erasure
from expunge_agent.shredding import keys_not_covered, story
from expunge_agent.surroundings import Surroundings
from expunge_agent.techniques.overwrite_results import pass_result
from expunge_agent.techniques.pass_watch import SpotCheckFailed
from expunge_profiles.techniques import KEYS

_ENDS = {
    TargetGone: "The target disappeared",
    TargetShrank: "The target became smaller",
    NoSpaceOnTarget: "What stores the target is full",
    SpotCheckFailed: "The medium does not hold what it was given",
    Stalled: "The target stopped answering",
    GiveUp: "The medium fails too often and was given up",
}


def in_words(error: EngineError) -> str:
    """What ended the work on a target, as a sentence."""
    for kind, words in _ENDS.items():
        if isinstance(error, kind):
            return f"{words}: {error}."
    return f"The work could not go on: {error}."


def untouched(
    target: Target, so_far: TargetProgress, outcome: Outcome, why: str, around: Surroundings
) -> TargetResult:
    """The result of a target whose run ended without a verdict on evidence: nothing is earned."""
    if so_far.erasure.attempts and outcome is Outcome.INTERRUPTED:
        outcome = Outcome.UNKNOWN  # the drive went on by itself, and nobody saw to what end
    return result_of(
        target,
        so_far,
        Verdict(outcome, Level.NONE, [], why),
        None,
        around.now(),
        passes=passes_of(so_far, around.tuning),
        checks=checks_of(so_far),
    )


def result_of(
    target: Target,
    so_far: TargetProgress,
    verdict: Verdict,
    after: Identity | None,
    now: datetime,
    *,
    passes: Sequence[PassResult] = (),
    checks: Sequence[Verification] = (),
    not_covered: Sequence[str] | None = None,
) -> TargetResult:
    """The receipt's block of the target. `not_covered`: what no step could reach; None for what the journal says of it."""
    plan = so_far.plan
    if not_covered is None:
        not_covered = _not_covered(so_far, int(target.identity.size)) if so_far.touched else []
    return TargetResult(
        target=target.without_psid(),
        outcome=verdict.outcome,
        refusal=None,
        identity_before=so_far.before,
        identity_opened=so_far.opened,
        identity_after=after,
        medium=so_far.medium,
        technique=plan.technique.value if plan else "",
        downgrade=plan.downgrade if plan else "",
        key=story(plan, so_far) if plan else None,
        level_achieved=verdict.level,
        passes=list(passes),
        verifications=list(checks),
        exceptions=verdict.exceptions,
        not_covered=list(not_covered),
        members=so_far.volume.facts.members,
        deactivated=so_far.volume.steps,
        erasure=_erasure(so_far),
        space=so_far.space.result(),
        finished_at=timestamp(now),
        failure=verdict.failure,
        files=so_far.files.report(plan),
    )


def passes_of(so_far: TargetProgress, tuning: Tuning) -> list[PassResult]:
    """The passes that were begun; one that did not end from its last checkpoint, `tuning` being what it runs with."""
    plan = so_far.plan
    if plan is None:
        return []
    return [
        taken.result or pass_result(plan, index, taken, tuning)
        for index, taken in sorted(so_far.passes.items())
    ]


def checks_of(so_far: TargetProgress) -> list[Verification]:
    """What was read back, in the order of the passes."""
    return [so_far.verifications[index] for index in sorted(so_far.verifications)]


def _erasure(so_far: TargetProgress) -> Erasure | None:
    """The drive's own command, where one was planned."""
    plan = so_far.plan
    if plan is None or plan.overwrites or plan.technique in KEYS:
        return None
    return so_far.erasure.result(plan.technique, plan.drive)


def _not_covered(so_far: TargetProgress, size: int) -> list[str]:
    plan, listing = so_far.plan, so_far.files.listing
    if listing is not None:
        return list(listing.not_covered)
    if so_far.space.start is not None:
        return list(so_far.space.start.not_reached)
    if plan is not None and plan.luks is not None:
        return keys_not_covered(plan, size)
    hidden = ["Sectors and cells the medium does not let the host address."]
    own = hidden if plan is None or plan.overwrites else []
    return [*own, *so_far.volume.facts.not_covered, *so_far.volume.beside()]
