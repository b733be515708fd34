"""Carrying out one drive command, whichever it is: prepare, start, watch, settle (evidence: `erase_evidence`).

Every step is reported to a `Recorder` before or after it is taken, so that a restart goes on where the
journal ends. An end counts as *done* only if the command's acceptance or its progress was seen under this
order: what a drive says of an operation of old is never taken for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from expunge_agent.commands.port import CommandError, CommandTimeout, DriveGone, Evasive
from expunge_agent.core.drive import Answer
from expunge_agent.core.erasure_progress import (
    MAX_ATTEMPTS,
    End,
    Ended,
    ErasureProgress,
    Evidence,
    Placed,
    Settled,
)
from expunge_agent.core.plan import TargetPlan
from expunge_agent.core.technique import KEEPS_NO_RECORD
from expunge_agent.engine.meter import Progress
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_erasure import CellsRead
from expunge_agent.techniques.hand import Hand, Rejected, State, Status

MILLION = 1_000_000
MILLISECOND = 1_000_000  # nanoseconds


class Recorder(Protocol):
    """Where the steps are written down and shown."""

    def placing(self) -> None:
        """Canaries are about to be written."""

    def placed(self, placed: Placed) -> None:
        """They are on the medium."""

    def starting(self) -> None:
        """The drive is about to be prepared and given the command."""

    def sending(self) -> None:
        """The drive is prepared, and about to be given the command itself."""

    def accepted(self, answers: list[Answer]) -> None:
        """It took the command."""

    def seen(self, answers: list[Answer]) -> None:
        """It was seen at work for the first time."""

    def ended(self, ended: Ended, answers: list[Answer]) -> None:
        """It came to an end, or is given up."""

    def cells(self, read: CellsRead) -> None:
        """What its cells held before it is settled."""

    def settled(self, settled: Settled, answers: list[Answer]) -> None:
        """It was left usable, or not."""

    def checked(self, evidence: Evidence, answers: list[Answer]) -> None:
        """What was found, and what the drive said of itself, afterwards."""

    def progress(self, step: int, title: str, progress: Progress) -> None:
        """For the eyes only."""


@dataclass(frozen=True)
class Watch:
    """How long to look, and when to leave. ``poll`` seconds between looks; a drive that answers nothing for
    ``patience`` seconds is given up; ``timeout`` overrides the hand's own. `stop` leaves the drive at work.
    ``clock`` tells seconds that only go forward."""

    stop: threading.Event
    now: Callable[[], datetime]
    poll: float = 2.0
    patience: float = 120.0
    timeout: float | None = None
    clock: Callable[[], float] = time.monotonic


STEPS = 3
PLACING, ERASING, READING = range(STEPS)


def carry_through(
    hand: Hand,
    plan: TargetPlan,
    so_far: ErasureProgress,
    recorder: Recorder,
    watch: Watch,
    recheck: Callable[[], None] = lambda: None,
) -> None:
    """Begin the command, or find the one of this order at work, and watch it to its end.

    `recheck` is called before each beginning, and what it raises comes through: the target, and whatever
    else the command reaches, must still be what was planned. Returns with ``so_far.ended`` set, but for a
    stop. Never raises for what the drive does.
    """
    while so_far.ended is None and not watch.stop.is_set():
        if so_far.attempts and _still_ours(hand, plan, so_far, recorder):
            pass
        elif so_far.attempts >= MAX_ATTEMPTS:
            why = f"it was begun {so_far.attempts} times, and each time the drive knew nothing of it later"
            recorder.ended(Ended(end="failed", detail=why), [])
        else:
            recheck()
            _begin(hand, plan, so_far, recorder)
        if so_far.ended is None:
            _follow(hand, plan, so_far, recorder, watch)


def rejoin(hand: Hand, plan: TargetPlan, so_far: ErasureProgress, recorder: Recorder, watch: Watch) -> None:
    """After a restart: if the drive is at work for this order, watch it to its end; begin nothing.

    Raises CommandError where the drive cannot be asked and was not seen to begin.
    """
    if not so_far.under_way:
        return
    ours = so_far.accepted or so_far.seen
    try:
        status = hand.poll()
        if status.state is not State.RUNNING or not _may_be_ours(so_far, plan):
            return
        if not so_far.seen:  # by the next look it may have ended, and nobody would have seen it begin
            recorder.seen(status.answers)
    except CommandError:
        if not ours:
            raise
    _follow(hand, plan, so_far, recorder, watch)


def settle(hand: Hand, so_far: ErasureProgress, recorder: Recorder) -> None:
    """Leave the drive usable, whatever came of the command."""
    if so_far.ended is not None and so_far.ended.end == "running":
        recorder.settled(Settled(settled=False, detail="the drive is still at work"), [])
        return
    try:
        answers = hand.settle()
    except Rejected as error:
        recorder.settled(Settled(settled=False, detail=error.why[:4000]), error.answers)
    except CommandError as error:
        recorder.settled(Settled(settled=False, detail=f"the drive did not answer: {error}"[:4000]), [])
    else:
        recorder.settled(Settled(settled=True), answers)


def _begin(hand: Hand, plan: TargetPlan, so_far: ErasureProgress, recorder: Recorder) -> None:
    """Prepare the drive and give it the command.

    One that was perhaps given before is not called *not begun* because it is not taken a second time.
    """
    not_taken: End = "unknown" if so_far.sending else "not-begun"
    recorder.starting()
    answers: list[Answer] = []
    try:
        answers += hand.prepare()
    except Rejected as error:
        recorder.ended(Ended(end=not_taken, detail=error.why[:4000]), error.answers)
        return
    except CommandError as error:
        # A question that is still in the kernel may yet take effect: what it does is not known then.
        end: End = "unknown" if isinstance(error, CommandTimeout) else not_taken
        recorder.ended(Ended(end=end, detail=f"the drive did not answer: {error}"[:4000]), [])
        return
    recorder.sending()
    began = time.monotonic_ns()
    try:
        answers += _started(hand, plan, recorder)
    except Rejected as error:
        recorder.ended(Ended(end=not_taken, detail=error.why[:4000]), [*answers, *error.answers])
        return
    except CommandError as error:
        _after_trouble(hand, recorder, error, answers)
        return
    recorder.accepted(answers)
    if hand.waits:
        took = U64((time.monotonic_ns() - began) // MILLISECOND)
        recorder.ended(Ended(end="done", detail="the command ended well", duration_ms=took), [])


def _started(hand: Hand, plan: TargetPlan, recorder: Recorder) -> list[Answer]:
    """`hand.start`; one that waits does so beside us, so that its time can be shown."""
    if not hand.waits:
        return hand.start()
    answers: list[Answer] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            answers.extend(hand.start())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            failure.append(error)

    worker, began = threading.Thread(target=work, name="erase", daemon=True), time.monotonic()
    worker.start()
    while worker.is_alive():
        worker.join(0.5)
        share = min(int((time.monotonic() - began) / max(hand.timeout, 1.0) * MILLION), MILLION - 1)
        recorder.progress(ERASING, f"{hand.technique} (by the time it declares)", share_of(share, plan))
    if failure:
        raise failure[0]
    return answers


def _after_trouble(hand: Hand, recorder: Recorder, error: CommandError, answers: list[Answer]) -> None:
    """The command was sent and no good answer came: only the drive's state can tell what it does now."""
    try:
        status = hand.poll()
    except CommandError:
        recorder.ended(Ended(end="unknown", detail=str(error)[:4000]), answers)
        return
    if status.state is State.RUNNING:
        recorder.seen([*answers, *status.answers])
        return
    end = "failed" if status.state is State.FAILED or hand.waits else "unknown"
    if isinstance(error, DriveGone):
        end = "unknown"
    detail = f"{error} {status.detail}".strip()[:4000]
    recorder.ended(Ended(end=end, detail=detail), [*answers, *status.answers])  # type: ignore[arg-type]


def _may_be_ours(so_far: ErasureProgress, plan: TargetPlan) -> bool:
    """Whether an operation found at work can be the one of this order.

    It was accepted or seen before; or the command was about to be sent, and the drive tells of which kind
    the one at work is, which ATA does not (ACS-3 §7.36.5), nor UFS what was unmapped before.
    """
    return (
        so_far.accepted or so_far.seen or (so_far.sending and not plan.technique.startswith(("ata-", "ufs-")))
    )


def _still_ours(hand: Hand, plan: TargetPlan, so_far: ErasureProgress, recorder: Recorder) -> bool:
    """After a restart: whether the drive works on, or ended, what this order began."""
    try:
        status = hand.poll()
    except CommandError:
        return so_far.accepted or so_far.seen  # it is asked again by who follows it
    if status.state is State.RUNNING and not _may_be_ours(so_far, plan):
        why = f"the drive is at work, and nothing tells that it is for this order: {status.detail}"
        recorder.ended(Ended(end="unknown", detail=why[:4000]), status.answers)
        return True
    if status.state is State.RUNNING:
        if not so_far.seen:  # by the next look it may have ended, and nobody would have seen it begin
            recorder.seen(status.answers)
        return True
    ours = so_far.accepted or so_far.seen
    if ours and status.state is not State.IDLE:
        recorder.ended(_end_of(status, U64(0)), status.answers)
        return True
    return False


def _follow(hand: Hand, plan: TargetPlan, so_far: ErasureProgress, recorder: Recorder, watch: Watch) -> None:
    """Ask the drive how far it is until it has ended, or is given up, or turns out to know nothing of it."""
    began = answered = watch.clock()
    limit = watch.timeout if watch.timeout is not None else hand.timeout
    while not watch.stop.is_set():
        now = watch.clock()
        took = U64(int((now - began) * 1000))
        try:
            status: Status | None = hand.poll()
            answered = now
        except CommandError as error:
            status = None
            if isinstance(error, Evasive):
                answered = now
            elif now - answered > watch.patience:
                why = f"the drive answered nothing for {watch.patience:.0f} s: {error}"
                recorder.ended(Ended(end="unknown", detail=why[:4000], duration_ms=took), [])
                return
        if status is not None and _took_in(status, hand, plan, so_far, recorder, took):
            return
        if now - began > limit:
            said = status.detail if status is not None else "it does not answer"
            why = f"it had not ended {limit:.0f} s after it was begun: {said}"
            recorder.ended(Ended(end="running", detail=why[:4000], duration_ms=took), [])
            return
        watch.stop.wait(watch.poll)


def _took_in(
    status: Status, hand: Hand, plan: TargetPlan, so_far: ErasureProgress, recorder: Recorder, took: U64
) -> bool:
    """Take one look at the drive in, `took` milliseconds after the first; whether it was the last."""
    if status.state is State.RUNNING:
        if not so_far.seen:
            recorder.seen(status.answers)
        recorder.progress(ERASING, plan.technique, share_of(max(status.ppm, 0), plan, status.seconds_left))
        return False
    if status.state is State.IDLE and hand.waits:
        return True  # how it ended was told to whoever waited for it, and nobody does now: begin again
    if status.state is State.IDLE and plan.technique not in KEEPS_NO_RECORD:
        why = f"the drive took the command and knows nothing of it: {status.detail}"
        recorder.ended(Ended(end="unknown", detail=why[:4000], duration_ms=took), status.answers)
        return True
    recorder.ended(_end_of(status, took), status.answers)
    return True


def _end_of(status: Status, took: U64) -> Ended:
    end = "failed" if status.state is State.FAILED else "done"
    return Ended(end=end, detail=status.detail[:4000], duration_ms=took)  # type: ignore[arg-type]


def share_of(ppm: int, plan: TargetPlan, seconds_left: int = -1) -> Progress:
    """A share of the drive, in bytes as the bars count."""
    size = int(plan.drive.apparent) if plan.drive is not None else MILLION
    return Progress(done=size * ppm // MILLION, total=size, rate=0, eta=seconds_left, elapsed_ns=0)
