"""What the evidence earns for a target of files."""

from __future__ import annotations

from expunge_agent.core.outcome import NOT_READ_BACK, Verdict
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt_files import Files


def judge_files(
    files: Files, *, earns: Level, verify: bool, trouble: str = "", stopped: bool = False
) -> Verdict:
    """The verdict on all files of a target of which at least one was to be written.

    A refused file still holds its data: unless the order allows exceptions, the target has failed then. A level is
    earned only where every file found was sanitized and read back.
    """
    if trouble:
        return Verdict(Outcome.FAILED, Level.NONE, [], trouble)
    if stopped and files.unfinished.files:
        return Verdict(Outcome.INTERRUPTED, Level.NONE, [], "The run was stopped before its end.")
    if files.failed.files or files.unfinished.files:
        count = int(files.failed.files + files.unfinished.files)
        return Verdict(Outcome.FAILED, Level.NONE, [], f"{_of(count, files)} failed or were not reached.")
    if files.refused.files and not files.allow_exceptions:
        return Verdict(
            Outcome.FAILED,
            Level.NONE,
            [],
            f"{_of(int(files.refused.files), files)} were refused and still hold their data.",
        )
    exceptions = _shortfalls(files)
    check = files.verification
    if not verify:
        exceptions.append(NOT_READ_BACK)
    elif check is None and files.passes and files.passes[-1].bytes_written:
        return Verdict(Outcome.FAILED, Level.NONE, [], "What was written was not read back.")
    if exceptions:
        return Verdict(Outcome.EXCEPTIONS, Level.NONE, exceptions)
    return Verdict(Outcome.SANITIZED, earns, [])


def _shortfalls(files: Files) -> list[str]:
    found = []
    if files.refused.files:
        found.append(f"{_of(int(files.refused.files), files)} were refused and still hold their data.")
    if files.exceptions.files:
        found.append(f"{_of(int(files.exceptions.files), files)} were overwritten with exceptions.")
    check = files.verification
    if check is not None and not check.reads_medium:
        found.append(f"The read-back may have been served from the host's cache ({check.io_mode}).")
    if check is not None and check.unreadable_bytes:
        found.append(f"{check.unreadable_bytes} bytes could not be read back.")
    return found


def _of(count: int, files: Files) -> str:
    return f"{count} of {files.found.files} files"
