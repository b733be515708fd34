"""Overwriting files and taking their names away: list them, then batch by batch, then the empty folders.

Knows nothing of orders, journals or receipts: it reports each step to a `Recorder` before and after it is
taken, and goes on from the progress it is given.
"""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
import time
from dataclasses import dataclass, field

import msgspec

from expunge_agent.core.file_reach import Ground
from expunge_agent.core.files_progress import FilesProgress, Listing
from expunge_agent.devices.settling import free_prepared
from expunge_agent.engine.file_pieces import PieceEngine
from expunge_agent.engine.meter import Meter
from expunge_agent.engine.problems import EngineError
from expunge_agent.engine.syncing import sync_filesystem
from expunge_agent.files import explained, sync_folder
from expunge_agent.protocol import canonical
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_files import (
    MAX_LISTED_FILES,
    FileOutcome,
    FileTally,
    ListedFile,
    ManifestLine,
)
from expunge_agent.techniques.files_batch import Batch
from expunge_agent.techniques.files_ends import Ends
from expunge_agent.techniques.files_list import Item, Lister, batches, digest_of, read_list, shown, write_list
from expunge_agent.techniques.files_passes import Stopped, Tools
from expunge_agent.techniques.files_work import FilesWork
from expunge_agent.techniques.overwrite_work import source_of

_SHOW_EVERY = 200_000_000
_DESCRIPTORS = 65536
_OTHERS = 256
"""Open files beside those of a batch: folders, the journal, the list."""
TITLE = "overwriting files"


class ListAlteredError(EngineError):
    """The list of work is not the one that the journal names."""


def list_files(work: FilesWork) -> None:
    """Find all files and what can be reached of them; durable on return. Nothing is written to any of them."""
    sync_filesystem(work.below.fd)  # so that every file lies somewhere
    free_prepared(work.below.fd, work.ground.filesystem)
    files = more_descriptors(work.batch_files)
    lister = Lister(work.identity, work.below, work.ground, work.eyes, work.allow_exceptions, files)
    refused = _Refused()
    digest = write_list(lister.items(), work.list_path, refused.see)
    lister.close_batch()
    with explained(work.list_path):
        sync_folder(work.folder)
    totals = lister.totals
    work.recorder.files_listed(
        Listing(
            work=digest,
            batches=totals.batches,
            secret=secrets.token_hex(32),
            found=FileTally(files=U64(totals.files), bytes=U64(totals.bytes)),
            refused=FileTally(files=U64(totals.refused), bytes=U64(totals.refused_bytes)),
            filesystem=work.ground.filesystem,
            keep=work.keep,
            allow_exceptions=work.allow_exceptions,
            listed=refused.listed,
            holes=U64(totals.holes),
            data=U64(totals.data),
            not_covered=not_covered(work.ground, keep=work.keep, holes=totals.holes),
            reason=refused.reason,
        )
    )


def overwrite_files(work: FilesWork) -> None:
    """Take every step that is still missing; returns early when `work.stop` is set.

    Raises what `recheck` raises, OSError where the file system gives out, ListAlteredError.
    """
    listing = work.so_far.listing
    if listing is None:
        raise AssertionError("files were not listed")
    if digest_of(work.list_path) != listing.work:
        raise ListAlteredError("the list of files was altered while the order ran")
    more_descriptors(work.batch_files)
    began = time.monotonic_ns()
    sources = [source_of(step) for step in work.plan.passes]
    view = _View(work, int(listing.data) * (len(sources) + len(work.plan.verify_after)))
    with PieceEngine() as engine, work.list_path.open("rb") as file:
        tools = Tools(engine, sources, view.tell)
        for number, items in batches(read_list(file), work.so_far.done):
            if work.stop.is_set():
                return
            work.recheck()
            try:
                Batch(work, tools, number, items).run()
            except Stopped:
                return
    if not work.keep and not work.identity.names and not work.identity.include:
        ends = Ends(work.below, bytes.fromhex(listing.secret))
        work.recorder.files_folders(_remove_folders(work, ends))
    work.recorder.files_finished(view.meter.done, (time.monotonic_ns() - began) // 1_000_000)


def write_manifest(work: FilesWork) -> None:
    """The list of outcomes, one canonical line a file, durable on return. Raises NoSpaceError where the disk is full."""
    with explained(work.manifest_path):
        work.recorder.files_manifest(_manifest(work))


def _manifest(work: FilesWork) -> str:
    digest, progress = hashlib.sha256(), work.so_far
    beside, encoder = (
        work.manifest_path.with_suffix(".new"),
        msgspec.json.Encoder(enc_hook=canonical.encode_hook),
    )
    with work.list_path.open("rb") as file, beside.open("wb") as out:
        for item in read_list(file):
            if item.other:
                continue
            data = encoder.encode(_line(item, progress)) + b"\n"
            digest.update(data)
            out.write(data)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(work.manifest_path)
    sync_folder(work.folder)
    return digest.hexdigest()


def not_covered(ground: Ground, *, keep: bool, holes: int) -> list[str]:
    """What an overwrite of files leaves out here, as sentences."""
    said = [
        "Earlier copies and places of the data, backups, snapshots elsewhere, temporary files and swap.",
        "Records in the journal of the file system.",
    ]
    if ground.memory:
        said = ["Pages of memory that held the data before."]
    if keep:
        said.append("Names, times and extended attributes: they stay as they were.")
    else:
        said.append("Old names in blocks that the folders had and gave back.")
        said.append("What symbolic links led to, and extended attributes of folders, in blocks given back.")
    if holes:
        said.append(f"{holes} bytes of holes: they hold nothing on the medium and were left as they are.")
    if ground.flash:
        said.append("Flash writes changes to new cells: the old ones are out of the host's reach.")
    if ground.discards:
        said.append("The file system discards freed blocks: what the drive does with them is not seen.")
    if ground.virtual:
        said.append("A device on top of others: what lies under it is not reached beyond what it passes on.")
    return said


def more_descriptors(files: int) -> int:
    """Have the system allow as many open files as batches of so many files need, if it may; how large they may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most and soft < files + _OTHERS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return files if soft == resource.RLIM_INFINITY else max(1, min(files, soft - _OTHERS))


@dataclass
class _Refused:
    """The first of the refused files, and the reason of the very first."""

    listed: list[ListedFile] = field(default_factory=list)
    reason: str = ""

    def see(self, item: Item) -> None:
        if not item.reason:
            return
        self.reason = self.reason or item.reason
        if len(self.listed) < MAX_LISTED_FILES:
            why = "; ".join(item.why)[:4000]
            self.listed.append(ListedFile(path=item.shown, outcome="refused", why=why, remedy=item.remedy))


class _View:
    """Shows how far it is."""

    def __init__(self, work: FilesWork, total: int) -> None:
        self._work = work
        self._shown = time.monotonic_ns()
        self.meter = Meter(total, self._shown)

    def tell(self, moved: int) -> None:
        """So many bytes more were written or read back."""
        now = time.monotonic_ns()
        if now - self._shown < _SHOW_EVERY:
            self.meter.done += moved
            return
        self._shown = now
        self.meter.update(self.meter.done + moved, now)
        self._work.recorder.progress(0, TITLE, self.meter.progress())


def _line(item: Item, progress: FilesProgress) -> ManifestLine:
    trouble = progress.troubles.get(item.number)
    outcome: FileOutcome = "sanitized"
    why = ""
    if item.batch < 0:
        outcome, why = "refused", "; ".join(item.why)
    elif item.batch >= progress.done:
        outcome = "unfinished"
    elif trouble is not None:
        outcome, why = trouble.outcome, trouble.why
    return ManifestLine(
        inode=U64(item.inode),
        names=[shown(name) for name in item.names],
        outcome=outcome,
        path=item.shown,
        size=U64(item.size),
        why=why[:4000],
    )


def _remove_folders(work: FilesWork, ends: Ends) -> int:
    """Take away every folder that was listed and is empty now; how many."""
    with work.list_path.open("rb") as file:
        folders = [item for item in read_list(file) if item.folder]
    removed = sum(ends.remove_folder(item) for item in reversed(folders))
    sync_filesystem(work.below.fd)
    return removed
