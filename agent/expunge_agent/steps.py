"""What a technique reports of one target, written to the journal and shown to whoever watches."""

from __future__ import annotations

from expunge_agent.core.drive import Answer
from expunge_agent.core.erasure_progress import Ended, Evidence, Placed, Settled
from expunge_agent.core.files_progress import BatchDone, BatchWritten, Listing
from expunge_agent.core.files_progress import Checkpoint as FilesCheckpoint
from expunge_agent.core.key_progress import KeyStep
from expunge_agent.core.pass_progress import Checkpoint
from expunge_agent.core.plan import TargetPlan
from expunge_agent.engine.meter import Progress
from expunge_agent.events import EventLog
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.event import EventKind
from expunge_agent.protocol.receipt import PassResult, Verification
from expunge_agent.protocol.receipt_erasure import CellsRead, LaidOpen
from expunge_agent.techniques import erasing


class Steps:
    """The recorder of both kinds of technique (`techniques.overwrite_work.Recorder`, `techniques.erasing.Recorder`)."""

    def __init__(self, index: int, ledger: Ledger, events: EventLog) -> None:
        self._index = index
        self._ledger = ledger
        self._events = events
        self._title, self._step = "", -1

    def write(self, kind: str, **data: object) -> None:
        """Journal a record of this target."""
        self._ledger.record(kind, target=self._index, **data)

    # Overwriting.

    def pass_started(self, index: int) -> None:
        """Journal that a pass begins."""
        self.write("pass-started", **{"pass": index})

    def pass_resumed(self, index: int, durable: int) -> None:
        """Journal where a pass is taken up again."""
        self.write("pass-resumed", **{"pass": index, "durable": str(durable)})

    def checkpoint(self, index: int, checkpoint: Checkpoint) -> None:
        """Journal what is durable on the target."""
        self.write("checkpoint", **{"pass": index, "checkpoint": checkpoint})

    def pass_finished(self, index: int, result: PassResult) -> None:
        """Journal a finished pass."""
        self.write("pass-finished", **{"pass": index, "result": result})
        self._finished(int(result.bytes_written), int(result.duration_ms))

    def verify_started(self, of_pass: int) -> None:
        """Journal that reading back begins."""
        self.write("verify-started", **{"pass": of_pass})

    def verify_finished(self, result: Verification) -> None:
        """Journal what reading back found."""
        self.write("verify-finished", result=result)
        if result.complete:
            self._finished(int(result.bytes_read), int(result.duration_ms))

    # Drive commands.

    def laid_open(self, laid_open: LaidOpen, answers: list[Answer]) -> None:
        """Journal what the drive gave back of what it hid."""
        self.write("laid-open", laid_open=laid_open, answers=answers)

    def placing(self) -> None:
        """Journal that canaries are about to be written."""
        self.write("canaries-placing")

    def placed(self, placed: Placed) -> None:
        """Journal which canaries are on the medium."""
        self.write("canaries-placed", placed=placed)

    def starting(self) -> None:
        """Journal that the drive is about to be given the command."""
        self.write("erase-starting")

    def sending(self) -> None:
        """Journal that it is about to be given the command itself."""
        self.write("erase-sending")

    def accepted(self, answers: list[Answer]) -> None:
        """Journal that it took the command."""
        self.write("erase-accepted", answers=answers)

    def seen(self, answers: list[Answer]) -> None:
        """Journal that it was seen at work."""
        self.write("erase-seen", answers=answers)

    def ended(self, ended: Ended, answers: list[Answer]) -> None:
        """Journal how the command ended."""
        self.write("erase-ended", ended=ended, answers=answers)
        self._finished(0, int(ended.duration_ms))

    def cells(self, read: CellsRead) -> None:
        """Journal what the drive's cells held before they were given free."""
        self.write("erase-cells", cells=read)

    def settled(self, settled: Settled, answers: list[Answer]) -> None:
        """Journal whether the drive was left usable."""
        self.write("erase-settled", settled=settled, answers=answers)

    def checked(self, evidence: Evidence, answers: list[Answer]) -> None:
        """Journal what was found, and what the drive said of itself, afterwards."""
        self.write("erase-checked", evidence=evidence, answers=answers)

    # Keys.

    def key_step_begun(self, name: str) -> None:
        """Journal that a step is about to be taken on a key."""
        self.write("key-step-begun", step=KeyStep(name=name))

    def key_step(self, step: KeyStep) -> None:
        """Journal what came of it."""
        self.write("key-step", step=step)

    # Files.

    def files_listed(self, listing: Listing) -> None:
        """Journal what was found, before a byte is written."""
        self.write("files-listed", listing=listing)

    def files_checkpoint(self, checkpoint: FilesCheckpoint) -> None:
        """Journal what is durable of the batch under way."""
        self.write("files-checkpoint", checkpoint=checkpoint)

    def files_written(self, written: BatchWritten) -> None:
        """Journal that a batch is durable and read back, before a name of it goes."""
        self.write("files-written", written=written)

    def files_removed(self, done: BatchDone) -> None:
        """Journal that a batch came to its end."""
        self.write("files-removed", done=done)

    def files_folders(self, removed: int) -> None:
        """Journal how many empty folders were removed."""
        self.write("files-folders", removed=str(removed))

    def files_manifest(self, digest: str) -> None:
        """Journal the digest of the list of outcomes."""
        self.write("files-manifest", manifest=digest)

    def files_finished(self, done: int, milliseconds: int) -> None:
        """Show that all files are through."""
        self._finished(done, milliseconds)

    # For the eyes.

    def progress(self, step: int, title: str, progress: Progress) -> None:
        """Show how far the step is."""
        kind = EventKind.PROGRESS if title == self._title else EventKind.STEP_STARTED
        self._title, self._step = title, step
        self._events.emit(
            kind,
            target=self._index,
            step=step,
            steps=_count(self._ledger.target(self._index).plan),
            title=title,
            done=progress.done,
            total=progress.total,
            rate=progress.rate,
            eta=progress.eta,
        )

    def say(self, title: str) -> None:
        """Show what is waited for."""
        self._title = ""
        self._events.emit(EventKind.STEP_STARTED, target=self._index, title=title, total=1)

    def _finished(self, done: int, milliseconds: int) -> None:
        """Show a step that is through, with its average rate."""
        self._events.emit(
            EventKind.STEP_FINISHED,
            target=self._index,
            step=self._step,
            title=self._title,
            done=done,
            total=done,
            rate=done * 1000 // max(milliseconds, 1),
            eta=0,
        )


def _count(plan: TargetPlan | None) -> int:
    if plan is None:
        return 0
    return len(plan.passes) + len(plan.verify_after) if plan.overwrites else erasing.STEPS
