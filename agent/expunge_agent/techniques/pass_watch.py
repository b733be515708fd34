"""What happens beside a pass: progress shown, temperature read, samples read back, checkpoints kept."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from expunge_agent.core.pass_progress import Checkpoint
from expunge_agent.core.plan import describe_pass
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.problems import EngineError, Problem
from expunge_agent.engine.ranges import spots
from expunge_agent.engine.verifier import VerifyReport, verify
from expunge_agent.engine.writer import WriteReport
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import MAX_LISTED_RANGES
from expunge_agent.techniques.overwrite_work import Work, source_of
from expunge_agent.techniques.read_back import listed

MILLISECOND = 1_000_000  # nanoseconds


class SpotCheckFailed(EngineError):  # noqa: N818 - named like the engine's other ends
    """What was written and flushed is not there; `found` says where."""

    def __init__(self, message: str, found: list[Problem]) -> None:
        super().__init__(message)
        self.found = [replace(one, what=f"spot check: {one.what}") for one in found]


class PassWatch:
    """Looks after pass `index`, which is step `step` of its target."""

    def __init__(self, work: Work, index: int, step: int) -> None:
        self.bad: list[Problem] = []
        """What failed since the last checkpoint."""
        self.source = source_of(work.plan.passes[index])
        self._work = work
        self._index = index
        self._step = step
        passes = work.plan.passes
        self._title = f"pass {index + 1} of {len(passes)}: {describe_pass(passes[index])}"
        self._before = work.so_far.passes[index].checkpoint
        self._durable = int(self._before.durable)
        self._error_count, self._error_bytes = int(self._before.error_count), int(self._before.error_bytes)
        self._spot_checked = 0
        self._celsius: int | None = self._before.celsius_max
        self._io_mode = self._before.io_mode
        self._began = time.monotonic_ns()

    def progress(self, progress: Progress) -> None:
        """Show how far the pass is."""
        self._work.recorder.progress(self._step, self._title, progress)

    def checkpoint(self, durable: int) -> None:
        """Read back a little of what has just become durable, then keep the checkpoint."""
        self._io_mode = self._work.target.io_mode
        self._spot_check(durable)
        warm = self._work.celsius()
        if warm is not None:
            self._celsius = warm if self._celsius is None else max(self._celsius, warm)
        kept = self._as_checkpoint(durable)
        self._work.recorder.checkpoint(self._index, kept)
        self._durable, self._error_count, self._error_bytes = durable, kept.error_count, kept.error_bytes
        self.bad.clear()

    def check_again(self, durable: int) -> None:
        """Before a pass goes on: look whether what it had confirmed until then is still there."""
        known = self._work.so_far.passes[self._index].errors
        if not durable or self._before.error_count > len(known):
            return  # nothing yet, or not all bad ranges were listed, so a difference would prove nothing
        report = self._read_back(
            0, durable, [(one.range.start, one.range.start + one.range.length) for one in known]
        )
        if report.mismatched_bytes:
            raise SpotCheckFailed(
                f"before pass {self._index + 1} went on at byte {durable}, what came back is not what was "
                f"written: another medium, or it lost what it had confirmed ({report.mismatched_bytes} wrong "
                f"bytes from byte {report.mismatches[0].start} on, {report.mismatches[0].what})",
                report.mismatches,
            )

    def broken_off(self, report: object, lies: Sequence[Problem] = ()) -> None:
        """Keep how far a pass came that ended before its end: what is durable, and all that failed besides.

        `lies` are places where the medium does not hold what it confirmed.
        """
        self.bad.clear()  # of a checkpoint that was not kept; they are among the report's
        durable, found = self._durable, list(lies)
        if isinstance(report, WriteReport):
            durable = min(durable, report.durable)
            self._io_mode = self._io_mode or report.io_mode
            found += [
                Problem(first := max(one.start, self._durable), one.end - first, one.what)
                for one in report.problems
                if one.end > self._durable
            ]
        lost = sum(max(0, min(one.end, durable) - one.start) for one in lies)
        kept = self._as_checkpoint(durable)
        self._work.recorder.checkpoint(
            self._index,
            msgspec.structs.replace(
                kept,
                written=U64(max(0, kept.written - lost)),
                broken_off=True,
                open_errors=listed(sorted(found, key=lambda one: one.start)),
                open_count=U64(len(found)),
                open_bytes=U64(sum(one.length for one in found)),
            ),
        )

    def _as_checkpoint(self, durable: int) -> Checkpoint:
        """The checkpoint of an earlier run and what this run added below `durable`."""
        before = self._before
        error_bytes = self._error_bytes + sum(problem.length for problem in self.bad)
        room = MAX_LISTED_RANGES - len(self._work.so_far.passes[self._index].errors)
        elapsed = (time.monotonic_ns() - self._began) // MILLISECOND
        return Checkpoint(
            durable=U64(durable),
            elapsed_ms=U64(before.elapsed_ms + elapsed),
            written=U64(max(0, durable - error_bytes)),
            new_errors=listed(self.bad[: max(0, room)]),
            error_count=U64(self._error_count + len(self.bad)),
            error_bytes=U64(error_bytes),
            spot_checked=U64(before.spot_checked + self._spot_checked),
            celsius_max=self._celsius,
            io_mode=self._io_mode,
        )

    def _spot_check(self, durable: int) -> None:
        """A drive that drops writes is found out now, not after hours (only where reads pass the cache)."""
        if not self._work.target.direct:
            return
        report = self._read_back(self._durable, durable, [(one.start, one.end) for one in self.bad])
        if report.mismatched_bytes:
            first = report.mismatches[0]
            raise SpotCheckFailed(
                f"a spot check during pass {self._index + 1} read {report.mismatched_bytes} wrong bytes "
                f"at byte {first.start} ({first.what}), though the medium had confirmed the write",
                report.mismatches,
            )

    def _read_back(self, start: int, end: int, bad: list[tuple[int, int]]) -> VerifyReport:
        """Compare a few random places in [start, end) that have no byte in `bad`."""
        work = self._work
        report = verify(
            work.target,
            self.source,
            [
                place
                for place in spots(start, end, work.target.block, secrets.token_bytes(16))
                if not any(first < place.end and place.start < last for first, last in bad)
            ],
            tuning=replace(work.tuning, stripes=1),
            patience=work.patience,
            earlier=work.earlier(self._index),
        )
        self._spot_checked += report.bytes_read
        return report
