"""What an overwrite of files works with, and whom it tells."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from expunge_agent.core.file_reach import Ground
from expunge_agent.core.files_progress import BatchDone, BatchWritten, Checkpoint, FilesProgress, Listing
from expunge_agent.core.plan import TargetPlan
from expunge_agent.devices.below import Below
from expunge_agent.devices.usage import Eyes
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.pace import Pace
from expunge_agent.protocol.identity import TreeIdentity


class Recorder(Protocol):
    """Where the steps are written down, each before it is taken, and shown."""

    def files_listed(self, listing: Listing) -> None:
        """What was found; from now on bytes may be written."""

    def files_checkpoint(self, checkpoint: Checkpoint) -> None:
        """What is durable of the batch under way."""

    def files_written(self, written: BatchWritten) -> None:
        """A batch is durable and read back; from now on names of it may go."""

    def files_removed(self, done: BatchDone) -> None:
        """A batch came to its end, durably."""

    def files_folders(self, removed: int) -> None:
        """So many empty folders were removed."""

    def files_manifest(self, digest: str) -> None:
        """The list of outcomes is written."""

    def files_finished(self, done: int, milliseconds: int) -> None:
        """For the eyes: all files are through."""

    def progress(self, step: int, title: str, progress: Progress) -> None:
        """For the eyes only."""


@dataclass(frozen=True)
class FilesWork:
    """`recheck` raises when the directory is not the one opened any more. `folder`: where lists are kept, by
    `name`. A batch has at most `batch_files` files."""

    identity: TreeIdentity
    below: Below
    ground: Ground
    eyes: Eyes
    plan: TargetPlan
    so_far: FilesProgress
    recorder: Recorder
    recheck: Callable[[], None]
    folder: Path
    name: str
    keep: bool
    allow_exceptions: bool
    checkpoint_seconds: float
    stop: threading.Event
    pace: Pace
    batch_files: int = 1000

    @property
    def list_path(self) -> Path:
        """The list of work."""
        return self.folder / f"{self.name}.work"

    @property
    def manifest_path(self) -> Path:
        """The list of outcomes."""
        return self.folder / f"{self.name}.jsonl"
