"""Whether a receipt claims more than its own evidence. No key, order or register is needed for that.

Every function returns the problems it found, as sentences; an empty list is the good case.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from expunge_agent.errors import DocumentError
from expunge_agent.protocol.base import Level, Outcome, moment
from expunge_agent.protocol.identity import (
    Identity,
    TreeIdentity,
    differences,
    identity_digest,
    resized,
    subject_name,
)
from expunge_agent.protocol.receipt import PassResult, Receipt, Statement, TargetResult, Verification
from expunge_agent.protocol.receipt_parts import RangeProblem
from expunge_controller.records import erasure_checks, files_checks, key_checks, space_checks, volume_checks
from expunge_controller.records.extent import extent_of
from expunge_controller.records.profile_match import profile_problems
from expunge_profiles.techniques import KEYS, LUKS, OVERWRITE

if TYPE_CHECKING:
    from expunge_profiles.schema import Profile

SUCCESS = (Outcome.SANITIZED, Outcome.EXCEPTIONS)
MAX_SUBJECT_NAME = 200


def tells_of_work(receipt: Receipt) -> bool:
    """Whether the receipt tells what was done to a medium, and not only why nothing was."""
    return any(result.outcome is not Outcome.REFUSED for result in receipt.targets)


def subject_problems(statement: Statement) -> list[str]:
    """Subjects that are not exactly the identity digests of the receipt's targets (in-toto Statement v1)."""
    receipt = statement.predicate
    said = [(subject.name, subject.digest.sha256) for subject in statement.subject]
    if receipt.targets:
        due = [medium_of(result.target.identity) for result in receipt.targets]
    else:
        due = [("order:" + receipt.order.digest[:16], receipt.order.digest)]
    return [] if said == due else ["the subjects are not the identity digests of its targets"]


def medium_of(identity: Identity) -> tuple[str, str]:
    """(subject name, digest) by which receipts, custody and certificates call the medium of `identity`."""
    return subject_name(identity)[:MAX_SUBJECT_NAME], identity_digest(identity)


def time_problems(receipt: Receipt) -> list[str]:
    """Dates that do not exist or run backwards; `finished_at` and pass times are the agent's clock."""
    spans = [("the receipt", receipt.started_at, receipt.finished_at)]
    for number, result in enumerate(receipt.targets, start=1):
        spans.append((f"target {number}", result.finished_at, result.finished_at))  # a date that exists
        spans += [
            (f"target {number} pass {run.index}", run.started_at, run.finished_at) for run in result.passes
        ]
        spans += [
            (f"target {number} verification", check.started_at, check.finished_at)
            for check in result.verifications
        ]
        if result.erasure is not None:
            command, read = result.erasure, result.erasure.read_back
            spans.append((f"target {number} command", command.started_at, command.finished_at))
            if read is not None:
                spans.append((f"target {number} read-back", read.started_at, read.finished_at))
    problems = []
    for what, start, end in spans:
        try:
            if start and end and moment(start) > moment(end):
                problems.append(f"{what} finishes before it starts")
        except DocumentError as error:
            problems.append(f"{what}: {error.message}")
    return problems


def evidence_problems(receipt: Receipt, profile: Profile | None = None) -> list[str]:
    """Every claim that goes beyond the evidence beside it.

    With `profile` (the one ordered) its passes and verification are demanded too; without it, only
    that what was reported is whole.
    """
    problems = list(_overall(receipt))
    for number, result in enumerate(receipt.targets, start=1):
        problems += [f"target {number}: {problem}" for problem in _target(result, profile)]
    return problems


def _overall(receipt: Receipt) -> Iterator[str]:
    outcomes = [result.outcome for result in receipt.targets]
    if receipt.outcome in SUCCESS and (not outcomes or any(outcome not in SUCCESS for outcome in outcomes)):
        yield f"the outcome is {receipt.outcome}, but not every target was sanitized"
    if receipt.outcome is Outcome.SANITIZED and Outcome.EXCEPTIONS in outcomes:
        yield "the outcome is sanitized, but a target has exceptions"
    if receipt.refusal is not None and receipt.outcome is not Outcome.REFUSED:
        yield "it carries a refusal, but its outcome is not refused"
    if receipt.refusal is not None and any(outcome is not Outcome.REFUSED for outcome in outcomes):
        yield "the whole order was refused, but a target was not"
    if receipt.outcome is Outcome.REFUSED and receipt.refusal is None and Outcome.REFUSED not in outcomes:
        yield "it is refused without a reason"
    if receipt.outcome in SUCCESS and not receipt.limitations:
        yield "no limitations are stated"
    achieved = [result.level_achieved for result in receipt.targets] or [Level.NONE]
    if any(not level.reaches(receipt.level_achieved) for level in achieved):
        yield f"it claims {receipt.level_achieved}, more than one of its targets achieved"


def _target(result: TargetResult, profile: Profile | None) -> Iterator[str]:
    written = erasure_checks.changed_data(result) or files_checks.changed_data(result)
    ordered, also = result.target.identity, _grown(result)
    if written:
        yield from _same("identity when opened", ordered, result.identity_opened, also)
    for number, run in enumerate(result.passes, start=1):
        yield from _pass_figures(number, run, result)
    for check in result.verifications:
        yield from _verification_figures(check, result)
    if result.erasure is not None:
        yield from erasure_checks.figure_problems(result.erasure)
        yield from erasure_checks.laid_open_problems(result)
    yield from space_checks.figure_problems(result)
    yield from erasure_checks.technique_problems(result)
    yield from volume_checks.volume_problems(result, written)
    yield from key_checks.key_problems(result)
    yield from files_checks.figure_problems(result)
    if result.outcome in SUCCESS:
        yield from _success(result, profile)
        return
    if result.level_achieved is not Level.NONE:
        yield f"{result.outcome} cannot achieve {result.level_achieved}"
    yield from files_checks.outcome_problems(result)
    if result.outcome is Outcome.REFUSED:
        if result.refusal is None:
            yield "refused without a reason"
        if written:
            yield "refused, yet bytes were written"


def _success(result: TargetResult, profile: Profile | None) -> Iterator[str]:
    """What both kinds of success demand, and what a clean one demands beyond that."""
    clean = result.outcome is Outcome.SANITIZED
    ordered, also = result.target.identity, _grown(result)
    yield from _same("identity before", ordered, result.identity_before)
    yield from _same("identity when opened", ordered, result.identity_opened, also)
    yield from _same("identity after", ordered, result.identity_after, also)
    if result.refusal is not None or result.failure:
        yield f"{result.outcome}, yet a refusal or failure is reported"
    if clean is (result.level_achieved is Level.NONE):
        # A level is earned only by a target without any shortfall.
        yield f"{result.outcome}, yet the level achieved is {result.level_achieved}"
    yield from erasure_checks.level_problems(result)
    yield from space_checks.success_problems(result, clean)
    if isinstance(ordered, TreeIdentity):
        yield from files_checks.success_problems(result, clean)
        return
    if result.technique in KEYS:
        yield from key_checks.success_problems(result)
    if result.technique in (OVERWRITE, LUKS):
        yield from _overwritten(result, clean)
    elif result.technique not in KEYS:
        yield from erasure_checks.success_problems(result, clean)
    if clean and result.exceptions:
        yield "sanitized, yet exceptions are listed"
    if not clean and not result.exceptions:
        yield "sanitized-with-exceptions, yet none is listed"
    if profile is not None:
        yield from profile_problems(result, profile)


def _overwritten(result: TargetResult, clean: bool) -> Iterator[str]:
    """What success by passes demands."""
    if not result.passes:
        yield f"{result.outcome} without a single pass"
    if clean and result.passes and not _read_back(result):
        yield "sanitized, yet its last pass was not read back"
    for number, run in enumerate(result.passes, start=1):
        yield from _pass_whole(number, run, extent_of(result), clean)
    for check in result.verifications:
        yield from _verification_whole(check, clean)


def _pass_whole(number: int, run: PassResult, size: int, clean: bool) -> Iterator[str]:
    if not run.complete:
        yield f"pass {number} is not complete"
    if not run.flushed:
        yield f"pass {number} was not flushed to the medium"
    if clean and (run.errors or run.error_count or run.error_bytes):
        yield f"pass {number} had errors, yet the target is called sanitized"
    if run.bytes_written + run.error_bytes != size:
        yield f"pass {number} accounts for {run.bytes_written + run.error_bytes} of {size} bytes"


def _verification_whole(check: Verification, clean: bool) -> Iterator[str]:
    if check.kind == "none":
        return
    if not check.complete:
        yield "its verification is not complete"
    if check.bytes_read + check.unreadable_bytes < check.bytes_expected:
        yield f"its verification read {check.bytes_read} of {check.bytes_expected} bytes"
    if clean and not check.reads_medium:
        yield "its verification may have been served from a cache of the host"
    bad = check.mismatched_bytes + check.unreadable_bytes + check.mismatch_count
    bad += len(check.mismatches) + len(check.unreadable)
    if clean and bad:
        yield (
            f"its verification found {check.mismatched_bytes} mismatched and "
            f"{check.unreadable_bytes} unreadable bytes, yet it is called sanitized"
        )


def _pass_figures(number: int, run: PassResult, result: TargetResult) -> Iterator[str]:
    size = extent_of(result)
    if run.index != result.passes[0].index + number - 1:
        yield f"pass {number} is out of order"
    if run.bytes_written + run.error_bytes > size:
        yield f"pass {number} wrote more than the target's {size} bytes"
    if run.conduct.slowest > run.conduct.fastest:
        yield f"pass {number} names a slowest second that is faster than the fastest"
    if run.error_count < len(run.errors):
        yield f"pass {number} lists more errors than it counts"
    if any(offset > size for offset in run.resumed_at) or _outside(run.errors, size):
        yield f"pass {number} names bytes beyond the target's end"


def _verification_figures(check: Verification, result: TargetResult) -> Iterator[str]:
    size = extent_of(result)
    if check.kind == "full" and check.bytes_expected != size:
        yield f"a full verification of {check.bytes_expected} bytes, the target has {size}"
    if check.kind == "sampled" and not 0 < check.bytes_expected <= size:
        yield f"a sampled verification of {check.bytes_expected} bytes, the target has {size}"
    if check.kind == "sampled" and not (check.seed and check.rule):
        yield "a sampled verification without the seed and rule by which its places can be found again"
    if check.bytes_read > check.bytes_expected:
        yield "its verification read more than it should have"
    if check.mismatched_bytes > check.bytes_read:
        yield "its verification found more bytes wrong than it read"
    if check.mismatch_count < len(check.mismatches):
        yield "its verification lists more mismatches than it counts"
    if check.kind != "none" and check.of_pass not in {run.index for run in result.passes} and result.passes:
        yield f"it verifies pass {check.of_pass}, which is not among its passes"
    if _outside([*check.mismatches, *check.unreadable], size):
        yield "its verification names bytes beyond the target's end"


def _read_back(result: TargetResult) -> bool:
    last = result.passes[-1].index
    return any(
        check.kind != "none" and check.of_pass == last and check.complete and check.bytes_read
        for check in result.verifications
    )


def _outside(problems: list[RangeProblem], size: int) -> bool:
    return any(problem.range.start + problem.range.length > size for problem in problems)


def _grown(result: TargetResult) -> int:
    """The size that a medium has once it gave back what it hid; 0 where it hid nothing."""
    laid_open = result.erasure.laid_open if result.erasure is not None else None
    return int(laid_open.after) if laid_open is not None else 0


def _same(what: str, ordered: Identity, seen: Identity | None, also: int = 0) -> Iterator[str]:
    if seen is None:
        yield f"{what} was not recorded"
    else:
        due = resized(ordered, seen, also)
        yield from (f"{what}: {difference}" for difference in differences(due, seen))
