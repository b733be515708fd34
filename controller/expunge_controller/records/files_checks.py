"""What a receipt may claim of files below a directory: never more than its own figures beside it.

Every function yields the problems it found, as sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.identity import TreeIdentity
from expunge_agent.protocol.receipt import TargetResult
from expunge_agent.protocol.receipt_files import MAX_LISTED_FILES, Files, FileTally, ListedFile

if TYPE_CHECKING:
    from expunge_profiles.schema import Pass, Profile


def changed_data(result: TargetResult) -> bool:
    """Whether a byte of a file was written or a name removed."""
    files = result.files
    if files is None:
        return False
    return bool(files.names_removed or files.other_removed or any(run.bytes_written for run in files.passes))


def figure_problems(result: TargetResult) -> Iterator[str]:
    """Figures that cannot be, whatever the outcome."""
    files = result.files
    if files is None:
        return
    if not isinstance(result.target.identity, TreeIdentity):
        yield "it counts files, yet its target is no directory"
    if result.passes or result.verifications or result.erasure is not None:
        yield "it counts files, and tells of passes or a command over one medium as well"
    ended = _ended(files)
    for what in ("files", "bytes"):
        if getattr(files.found, what) != sum(getattr(one, what) for one in ended):
            yield f"its {what} do not add up to those found"
    bad = [files.exceptions, files.refused, files.failed]
    if files.listed_of != sum(one.files for one in bad):
        yield f"it counts {files.listed_of} files to list, and {sum(one.files for one in bad)} that ended so"
    if len(files.listed) > min(MAX_LISTED_FILES, int(files.listed_of)):
        yield "it lists more files than it counts"
    yield from _listed_problems(files)
    if files.keep and (files.names_removed or files.folders_removed or files.other_removed):
        yield "files were to be kept, yet names were removed"
    if any(run.index != number for number, run in enumerate(files.passes)):
        yield "its passes are out of order"
    if any(bool(run.cipher) is bool(run.fixed) for run in files.passes):
        yield "a pass over its files has both a pattern and a stream, or neither"
    check = files.verification
    if check is not None and check.bytes_read + check.unreadable_bytes > check.bytes_expected:
        yield "its verification read more than it should have"


def _ended(files: Files) -> list[FileTally]:
    return [files.sanitized, files.exceptions, files.refused, files.failed, files.unfinished]


def _listed_problems(files: Files) -> Iterator[str]:
    by_outcome: dict[str, list[ListedFile]] = {}
    for one in files.listed:
        by_outcome.setdefault(one.outcome, []).append(one)
    tallies = {
        "sanitized-with-exceptions": files.exceptions,
        "refused": files.refused,
        "failed": files.failed,
    }
    for outcome, listed in by_outcome.items():
        if outcome not in tallies:
            yield f"it lists a file as {outcome}, which is no shortfall"
        elif len(listed) > tallies[outcome].files:
            yield f"it lists more files as {outcome} than it counts"
    if any(not one.why for one in files.listed):
        yield "it lists a file without saying why"


def success_problems(result: TargetResult, clean: bool) -> Iterator[str]:
    """What success with files demands; `clean` is ``sanitized``, without any exception."""
    files = result.files
    if files is None:
        yield f"{result.outcome}, yet no files are counted"
        return
    if files.failed.files or files.unfinished.files:
        yield f"{result.outcome}, yet files failed or were not finished"
    if files.refused.files and not files.allow_exceptions:
        yield f"{result.outcome}, yet {files.refused.files} files were refused and exceptions were not allowed"
    if clean and (files.exceptions.files or files.refused.files):
        yield "sanitized, yet files were refused or have exceptions"
    if not files.manifest:
        yield f"{result.outcome} without the digest of the list of files"
    overwritten = int(files.sanitized.bytes + files.exceptions.bytes)
    if overwritten and not files.passes:
        yield f"{result.outcome} without a single pass"
    for run in files.passes:
        if run.bytes_written + files.holes < overwritten:
            yield f"pass {run.index + 1} wrote {run.bytes_written} of {overwritten} bytes"
    if clean:
        yield from _read_back(files)


def _read_back(files: Files) -> Iterator[str]:
    check, written = files.verification, int(files.passes[-1].bytes_written) if files.passes else 0
    if not written:
        return
    if check is None:
        yield "sanitized, yet its files were not read back"
        return
    if check.bytes_read < check.bytes_expected or not check.bytes_read:
        yield f"its verification read {check.bytes_read} of {check.bytes_expected} bytes"
    if check.kind == "full" and check.bytes_read < written:
        yield f"a full verification of {check.bytes_read} bytes, {written} were written"
    if check.mismatched_bytes or check.unreadable_bytes:
        yield "its verification found mismatched or unreadable bytes, yet it is called sanitized"
    if not check.reads_medium:
        yield "its verification may have been served from a cache of the host"


def profile_problems(result: TargetResult, profile: Profile) -> Iterator[str]:
    """Each demand of `profile` on passes and read-back that the files do not meet."""
    files = result.files
    if files is None or not any(run.bytes_written for run in files.passes):
        return  # empty files only: there was nothing to write
    if len(files.passes) != len(profile.passes):
        yield f"{len(files.passes)} passes were run, the profile demands {len(profile.passes)}"
        return
    before = ""
    for run, due in zip(files.passes, profile.passes, strict=True):
        if not _is_due(run.fixed, bool(run.cipher), due, before):
            yield f"pass {run.index + 1} wrote {run.fixed or run.pattern!r}, the profile demands {due.text}"
        before = run.fixed
    demanded, check = profile.verification.kind, files.verification
    if demanded != "none" and (check is None or (demanded == "full" and check.kind != "full")):
        yield f"the profile demands a {demanded} verification of its files; there is none"


def _is_due(fixed: str, keyed: bool, due: Pass, before: str) -> bool:
    if due.kind == "keyed-stream" or keyed:
        return due.kind == "keyed-stream" and keyed
    try:
        written, earlier = bytes.fromhex(fixed), bytes.fromhex(before)
    except ValueError:
        return False
    if due.kind == "random-byte":
        return len(written) == 1
    if due.kind == "complement":
        return written == bytes(byte ^ 0xFF for byte in earlier)
    return written == bytes.fromhex(due.text)


def outcome_problems(result: TargetResult) -> Iterator[str]:
    """Where the outcome of the target and those of its files tell different stories."""
    files = result.files
    if files is None or result.outcome is not Outcome.REFUSED:
        return
    if files.sanitized.files or files.exceptions.files or files.failed.files:
        yield "refused, yet files were overwritten"
