"""Is this still what the receipt says was left on the medium? Regenerate the last pass and compare."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from expunge_agent.core.plan import PassPlan, describe_pass
from expunge_agent.devices.look import look
from expunge_agent.devices.opening import open_target
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.problems import EngineError, Problem, merged
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import VerifyReport, verify
from expunge_agent.errors import DocumentError, MismatchError, NotFoundError
from expunge_agent.protocol.identity import Identity, differences
from expunge_agent.protocol.receipt import PassResult, Receipt
from expunge_agent.protocol.receipt_parts import RangeProblem
from expunge_agent.results import in_words
from expunge_agent.takeover import take_over
from expunge_agent.techniques.overwrite_work import source_of


@dataclass(frozen=True)
class SealReport:
    """What reading the whole target found. ``identity`` lists how it differs from the receipt's medium.

    ``explained``: of the mismatched bytes those in ranges that the receipt lists as not written.
    """

    path: str
    left_by: str
    identity: list[str]
    bytes_read: int
    mismatched_bytes: int
    explained: int
    unreadable_bytes: int
    mismatches: list[Problem]
    complete: bool
    io_mode: str
    reads_medium: bool

    @property
    def untouched(self) -> bool:
        """Whether every byte was read from the medium, and is what the last pass wrote or listed as not written."""
        return (
            self.complete
            and self.reads_medium
            and self.mismatched_bytes == self.explained
            and not self.unreadable_bytes
        )


def check_seal(
    path: str, receipt: Receipt, progress: Callable[[Progress], None], stop: threading.Event
) -> SealReport:
    """Read `path` whole and compare it with the last complete pass that `receipt` lists for it.

    Raises NotFoundError when there is nothing to read at `path`, DocumentError when the receipt
    lists no pass whose bytes can be regenerated, MismatchError when the sizes differ.
    """
    medium, _ = look(path)
    if medium is None:
        raise NotFoundError(f"There is no file or block device at {path}.", "Check the path.")
    seen = medium.identity
    last, size, identity, listed = _pass_for(receipt, seen)
    if size != int(seen.size):
        raise MismatchError(
            f"{path} has {seen.size} bytes; the receipt is about a medium of {size} bytes.",
            "This is another medium, or its capacity was changed.",
        )
    with open_target(path, seen, write=False) as opened:
        try:
            with closing(take_over(opened)) as target:
                report = verify(
                    target, source_of(last), tuning=Tuning.default(), progress=progress, stop=stop
                )
        except EngineError as error:
            raise MismatchError(
                f"{path} could not be read. {in_words(error)}", "Check the medium and its cabling."
            ) from error
        return SealReport(
            path=path,
            left_by=describe_pass(last),
            identity=differences(identity, seen),
            bytes_read=report.bytes_read,
            mismatched_bytes=report.mismatched_bytes,
            explained=_explained(report, listed),
            unreadable_bytes=report.unreadable_bytes,
            mismatches=report.mismatches,
            complete=report.complete,
            io_mode=report.io_mode,
            reads_medium=report.reads_medium,
        )


def _explained(report: VerifyReport, listed: list[RangeProblem]) -> int:
    """The mismatched bytes, where all of them lie in ranges that the pass could not write; else 0."""
    known = merged([Problem(int(one.range.start), int(one.range.length), "not written") for one in listed])
    inside = all(
        any(one.start <= found.start and found.end <= one.end for one in known) for found in report.mismatches
    )
    return report.mismatched_bytes if inside and not report.mismatch_gap else 0


def _pass_for(receipt: Receipt, seen: Identity) -> tuple[PassPlan, int, Identity, list[RangeProblem]]:
    """The last pass over the target that is `seen`, else over the only target there is; its size and
    identity, and the ranges that the pass could not write."""
    results = [result for result in receipt.targets if not differences(result.target.identity, seen)]
    results = results or receipt.targets
    if len(results) != 1:
        raise DocumentError(
            f"The receipt is about {len(receipt.targets)} media, and none of them is clearly this one.",
            "Name the medium by the path it had, or check it on the machine where it was wiped.",
        )
    if results[0].erasure is not None:
        raise DocumentError(
            "The medium was erased by a command of its own drive, which leaves no seal.",
            "Its canaries and its read-back are in the receipt; there is nothing to compare the whole medium with.",
        )
    if results[0].space is not None:
        raise DocumentError(
            "The receipt is about the free space of a file system; the files that filled it were removed.",
            "There is nothing left to compare with: what was read back stands in the receipt.",
        )
    if results[0].key is not None:
        raise DocumentError(
            "Only keys were destroyed; the passes went over them alone, and the data were left.",
            "There is nothing to compare the whole medium with.",
        )
    if not results[0].passes or not results[0].passes[-1].complete:
        raise DocumentError(
            "The receipt says that the last pass over this medium did not come to its end.",
            "There is nothing to compare with; wipe the medium again.",
        )
    last, identity = results[0].passes[-1], results[0].target.identity
    return _as_plan(last), int(identity.size), identity, last.errors


def _as_plan(last: PassResult) -> PassPlan:
    if last.stream is None:
        return PassPlan(fixed=last.fixed)
    if not last.stream.key:
        raise DocumentError(
            "The last pass was a keyed stream, and the receipt does not give its key.",
            "Only a profile with `seal = true` leaves a seal that can be checked.",
        )
    return PassPlan(cipher=last.stream.cipher, key=last.stream.key)
