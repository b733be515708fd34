"""What the evidence earns. Nothing here looks at an exit code or at a wish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt import PassResult, RangeProblem, TargetResult, Verification

NOT_READ_BACK = "Nothing was read back: the profile asks for no verification."

_WORST_FIRST = (
    Outcome.UNKNOWN,
    Outcome.FAILED,
    Outcome.INTERRUPTED,
    Outcome.REFUSED,
    Outcome.EXCEPTIONS,
    Outcome.SANITIZED,
)


@dataclass(frozen=True)
class Verdict:
    """An outcome with the shortfalls that led to it; ``failure`` is set for failed and interrupted."""

    outcome: Outcome
    level: Level
    exceptions: list[str]
    failure: str = ""


def judge(
    size: int,
    planned_passes: int,
    verify_after: Sequence[int],
    earns: Level,
    passes: Sequence[PassResult],
    verifications: Sequence[Verification],
    trouble: str = "",
    stopped: bool = False,
    doubts: Sequence[str] = (),
) -> Verdict:
    """The verdict on one target of `size` bytes.

    `trouble` is what broke the run (device gone, identity changed), `stopped` that a person or
    the system stopped it, `doubts` why writing may not have reached what was there. A level is earned
    only by a target without any shortfall.
    """
    if trouble:
        return Verdict(Outcome.FAILED, Level.NONE, [], trouble)
    done = [result for result in passes if result.complete and result.flushed]
    finished = {check.of_pass: check for check in verifications if check.complete}
    missing = [index for index in verify_after if index not in finished]
    if stopped and (len(done) < planned_passes or missing):
        return Verdict(Outcome.INTERRUPTED, Level.NONE, [], "The run was stopped before its end.")
    if len(done) < planned_passes or any(
        result.bytes_written + result.error_bytes != size for result in done
    ):
        return Verdict(Outcome.FAILED, Level.NONE, [], "Not every pass wrote every byte.")
    if missing:
        return Verdict(Outcome.FAILED, Level.NONE, [], "Not every verification came to its end.")
    unexplained = [check for check in finished.values() if _unexplained(check, done[check.of_pass].errors)]
    if unexplained:
        wrong = sum(check.mismatched_bytes for check in unexplained)
        looks = "; ".join(dict.fromkeys(look for check in unexplained for look in check.looks))
        told = f" They look like: {looks}." if looks else ""
        return Verdict(
            Outcome.FAILED,
            Level.NONE,
            [],
            f"Read-back found {wrong} bytes that are not what was written.{told}"[:4000],
        )
    exceptions = [*doubts, *_shortfalls(done, list(finished.values()))]
    if not verify_after:
        exceptions.append(NOT_READ_BACK)
    if exceptions:
        return Verdict(Outcome.EXCEPTIONS, Level.NONE, exceptions)
    return Verdict(Outcome.SANITIZED, earns, [])


def overall(results: Sequence[TargetResult]) -> tuple[Outcome, Level]:
    """The worst outcome and the lowest level of all targets; unknown when there are none."""
    if not results:
        return Outcome.UNKNOWN, Level.NONE
    worst = next(outcome for outcome in _WORST_FIRST if any(result.outcome is outcome for result in results))
    lowest = next(
        level
        for level in (Level.NONE, Level.CLEAR, Level.PURGE)
        if any(result.level_achieved is level for result in results)
    )
    return worst, lowest


def _unexplained(check: Verification, write_errors: Sequence[RangeProblem]) -> bool:
    """Whether the check found wrong bytes outside the ranges that could not be written anyway."""
    if not check.mismatched_bytes:
        return False
    if check.mismatch_count > len(check.mismatches):
        return True  # not all are listed, so not all can be explained
    known = _joined(write_errors)
    return any(
        not any(start <= first and last <= end for start, end in known)
        for first, last in _joined(check.mismatches)
    )


def _joined(problems: Sequence[RangeProblem]) -> list[tuple[int, int]]:
    """(start, end) of what `problems` cover together, ascending; how each failed does not matter here."""
    out: list[tuple[int, int]] = []
    for one in sorted(problems, key=lambda problem: problem.range.start):
        start, end = int(one.range.start), int(one.range.start + one.range.length)
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _shortfalls(passes: Sequence[PassResult], checks: Sequence[Verification]) -> list[str]:
    found = [
        f"Pass {result.index + 1}: {result.error_bytes} bytes in {result.error_count} ranges could not be written."
        for result in passes
        if result.error_bytes
    ]
    found += [
        f"Verification after pass {check.of_pass + 1}: {check.unreadable_bytes} bytes could not be read."
        for check in checks
        if check.unreadable_bytes
    ]
    found += [
        f"Verification after pass {check.of_pass + 1}: it may have been served from the host's cache ({check.io_mode})."
        for check in checks
        if not check.reads_medium
    ]
    return found
