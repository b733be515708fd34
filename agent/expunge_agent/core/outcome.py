"""What the evidence earns. Nothing here looks at an exit code or at a wish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expunge_agent.core.percent import percent
from expunge_agent.core.technique import LEAVES_NOISE, LEAVES_ZEROS
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt import PassResult, TargetResult, Verification
from expunge_agent.protocol.receipt_erasure import Canaries, CellsRead, Erasure, ReadBack
from expunge_agent.protocol.receipt_parts import RangeProblem

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
    if missed := _mostly_missed(done, list(finished.values())):
        return Verdict(Outcome.FAILED, Level.NONE, [], missed)
    unexplained = [check for check in finished.values() if _unexplained(check, done[check.of_pass].errors)]
    if unexplained:
        wrong = sum(check.mismatched_bytes for check in unexplained)
        looks = "; ".join(dict.fromkeys(look for check in unexplained for look in check.looks))
        told = f" They look like: {looks}." if looks else ""
        if any(result.error_count > len(result.errors) for result in done):
            told += " More ranges could not be written than can be listed, so it is not known whether it is these."
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


def judge_erasure(
    erasure: Erasure,
    *,
    size: int,
    earns: Level,
    verify: bool,
    doubts: Sequence[str] = (),
    trouble: str = "",
    stopped: bool = False,
) -> Verdict:
    """The verdict on a target of `size` bytes that was given one command of its drive.

    `verify`: the profile asks for a read-back. What the drive says counts only as the first of several
    pieces of evidence: one canary or one block of old data that is still there refutes it.
    """
    canaries, read = erasure.canaries, erasure.read_back
    if refuted := _refuted(erasure):
        return Verdict(Outcome.FAILED, Level.NONE, [], refuted)
    if stopped and (erasure.ended == "running" or canaries is None):
        at_work = " The drive may still be at work: it cannot be stopped." if erasure.attempts else ""
        return Verdict(Outcome.INTERRUPTED, Level.NONE, [], f"The run was stopped before its end.{at_work}")
    if erasure.ended != "done":
        outcome = Outcome.UNKNOWN if erasure.ended in ("unknown", "running") else Outcome.FAILED
        return Verdict(outcome, Level.NONE, [], _not_done(erasure, trouble)[:4000])
    if trouble or not (erasure.accepted or erasure.progress_seen):
        return Verdict(Outcome.UNKNOWN, Level.NONE, [], _unknown(erasure, trouble))
    if erasure.changes:
        told = "; ".join(erasure.changes)
        return Verdict(Outcome.FAILED, Level.NONE, [], f"The drive is not what it was before: {told}."[:4000])
    if canaries is None or (verify and (read is None or not read.complete)):
        return Verdict(Outcome.FAILED, Level.NONE, [], "What the drive did could not be looked at.")
    if read is not None and read.unreadable_bytes > read.bytes_read:
        return Verdict(
            Outcome.FAILED,
            Level.NONE,
            [],
            f"Most could not be read back: {read.unreadable_bytes} of {read.bytes_expected} bytes "
            f"({percent(read.unreadable_bytes, read.bytes_expected)}).",
        )
    if read is not None and (wrong := _not_what_it_writes(erasure.technique, read)):
        return Verdict(Outcome.FAILED, Level.NONE, [], wrong)
    exceptions = [*doubts, *_erasure_shortfalls(erasure, canaries, read, size)]
    if not verify:
        exceptions.append(NOT_READ_BACK)
    if exceptions:
        return Verdict(Outcome.EXCEPTIONS, Level.NONE, exceptions)
    return Verdict(Outcome.SANITIZED, earns, [])


def _not_what_it_writes(technique: str, read: ReadBack) -> str:
    """A drive told to overwrite with zeros leaves zeros: anything else was not overwritten."""
    wrong = read.ones + read.constant + read.other
    if technique not in LEAVES_ZEROS or not wrong:
        return ""
    return f"The drive was told to write zeros, and {wrong} of {read.bytes_read} bytes read back are something else."


def _refuted(erasure: Erasure) -> str:
    """What is still there after all, read from outside or in the drive's cells; empty where nothing was found."""
    canaries, cells = erasure.canaries, erasure.cells
    if canaries is not None and (canaries.found or canaries.kept) and erasure.ended in ("done", "unknown"):
        return _kept(erasure, canaries)
    return _in_cells(cells) if cells is not None and (cells.found or cells.kept) else ""


def _unknown(erasure: Erasure, trouble: str) -> str:
    why = trouble or "The drive says that it is done, but was not seen to begin."
    if erasure.settling and not erasure.settled:
        why = f"{why} The drive was not left as it should be: {erasure.settling}."
    return why[:4000]


def _kept(erasure: Erasure, canaries: Canaries) -> str:
    said = "reported success" if erasure.ended == "done" else "gave no word of its end"
    parts = []
    if canaries.found:
        parts.append(f"{canaries.found} of {canaries.looked_for} canaries")
    if canaries.kept:
        parts.append(f"{canaries.kept} of {canaries.telling} blocks of old data")
    return f"The drive {said}, and {' and '.join(parts)} can still be read: it did not erase everything."


def _in_cells(cells: CellsRead) -> str:
    return (
        f"The drive reported success, and its cells still hold {cells.found} of {cells.looked_for} canaries and "
        f"{cells.kept} of {cells.telling} blocks of old data: it did not erase everything."
    )


def _cell_shortfalls(cells: CellsRead | None) -> list[str]:
    if cells is None:
        return []
    found = [f"{cells.detail[:1].upper()}{cells.detail[1:]}."] if cells.detail else []
    if cells.unreadable or cells.samples_unreadable:
        found.append(
            f"{cells.unreadable} of {cells.looked_for} canaries and {cells.samples_unreadable} of {cells.telling} "
            "blocks of old data could not be read in the drive's cells."
        )
    if cells.unreadable_bytes:
        total = int(cells.bytes_read) + int(cells.unreadable_bytes)
        share = percent(cells.unreadable_bytes, total)
        found.append(
            f"{cells.unreadable_bytes} of {total} bytes ({share}) could not be read in the drive's cells."
        )
    return found


_NOT_DONE = {
    "not-begun": "The drive did not take the command",
    "failed": "The drive failed at it",
    "running": "The drive came to no end",
    "unknown": "What the drive did is not known",
}


def _not_done(erasure: Erasure, trouble: str) -> str:
    return f"{_NOT_DONE[erasure.ended]}: {erasure.detail or trouble or 'it gave no reason'}."


def _erasure_shortfalls(erasure: Erasure, canaries: Canaries, read: ReadBack | None, size: int) -> list[str]:
    found = []
    if canaries.lost:
        found.append(
            f"{canaries.lost} of {canaries.planned} places did not hold what was written there before the erase: "
            "the drive drops writes, or has less than it says."
        )
    if not canaries.written:
        found.append(
            "No canary could be written before: that old data is gone rests on samples and the drive."
        )
    elif missing := canaries.planned - canaries.written - canaries.lost:
        found.append(f"{missing} of {canaries.planned} places could not be written before the erase.")
    if canaries.unreadable:
        found.append(f"{canaries.unreadable} of {canaries.looked_for} canaries could not be read afterwards.")
    if canaries.samples_unreadable:
        found.append(
            f"{canaries.samples_unreadable} of {canaries.telling} blocks of old data could not be read afterwards."
        )
    if read is not None and read.unreadable_bytes:
        found.append(
            f"{read.unreadable_bytes} of {read.bytes_expected} bytes ({percent(read.unreadable_bytes, read.bytes_expected)}) could not be read "
            f"afterwards; the medium has {size}."
        )
    if read is not None and read.other and erasure.technique not in LEAVES_NOISE:
        found.append(
            f"{read.other} of {read.bytes_read} bytes read back are neither one byte throughout nor what this "
            "command leaves: they may be old data."
        )
    if read is not None and not read.reads_medium:
        found.append(f"The read-back may have been served from the host's cache ({read.io_mode}).")
    found += _cell_shortfalls(erasure.cells)
    found += erasure.beside
    if not erasure.settled:
        found.append(f"The drive was not left as it should be: {erasure.settling}.")
    return found


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


def _mostly_missed(passes: Sequence[PassResult], checks: Sequence[Verification]) -> str:
    """Where the greater part of the target was not written, or not read back; empty where it was.

    An outcome with "sanitized" in its name is not to stand for a medium that is mostly as it was.
    """
    for result in passes:
        if result.error_bytes > result.bytes_written:
            return f"Pass {result.index + 1} could not write most of it: {_of_pass(result)}."
    for check in checks:
        if check.unreadable_bytes > check.bytes_read:
            return (
                f"Verification after pass {check.of_pass + 1} could not read most of what it was to read: "
                f"{_of_check(check)}."
            )
    return ""


def _of_pass(result: PassResult) -> str:
    whole = int(result.error_bytes) + int(result.bytes_written)
    return f"{result.error_bytes} of {whole} bytes ({percent(result.error_bytes, whole)})"


def _of_check(check: Verification) -> str:
    share = percent(check.unreadable_bytes, check.bytes_expected)
    return f"{check.unreadable_bytes} of {check.bytes_expected} bytes ({share})"


def _ranges(count: int) -> str:
    return "1 range" if count == 1 else f"{count} ranges"


def _shortfalls(passes: Sequence[PassResult], checks: Sequence[Verification]) -> list[str]:
    found = [
        f"Pass {result.index + 1}: {_of_pass(result)} in {_ranges(result.error_count)} could not be written."
        for result in passes
        if result.error_bytes
    ]
    found += [
        f"Verification after pass {check.of_pass + 1}: {_of_check(check)} could not be read."
        for check in checks
        if check.unreadable_bytes
    ]
    found += [
        f"Verification after pass {check.of_pass + 1}: it may have been served from the host's cache ({check.io_mode})."
        for check in checks
        if not check.reads_medium
    ]
    return found
