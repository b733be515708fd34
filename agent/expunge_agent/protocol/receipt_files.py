"""The part of a receipt about files below a directory: how many ended how, and which ones not as they should."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from expunge_agent.protocol.base import Frozen, MaybeDigest, Name, PathText, Text
from expunge_agent.protocol.canonical import U64

MAX_LISTED_FILES = 1000
"""Files that a receipt names for one target; the manifest names all."""

FileOutcome = Literal["sanitized", "sanitized-with-exceptions", "refused", "failed", "unfinished"]
"""``refused``: not written to, for the reason given. ``unfinished``: the run ended before it was done; it may be overwritten in part."""


class FileTally(Frozen, frozen=True):
    """How many files, and the bytes of their sizes."""

    files: U64 = U64(0)
    bytes: U64 = U64(0)


class ListedFile(Frozen, frozen=True):
    """A file that did not end as sanitized. ``path`` is relative to the directory; bytes that are no text
    stand as ``\\xNN``. ``why`` and ``remedy`` are sentences."""

    path: PathText
    outcome: FileOutcome
    why: Text
    remedy: Text = ""


class FilesPass(Frozen, frozen=True):
    """One pass over all files that were written. ``fixed`` in hexadecimal, or ``cipher`` and ``key_digest``
    (SHA-256 of the key) of one keyed stream that runs on from file to file; ``bytes_written`` includes
    the rest of each last block, not the holes."""

    index: int
    pattern: Text
    fixed: str = ""
    cipher: Text = ""
    key_digest: MaybeDigest = ""
    bytes_written: U64 = U64(0)
    duration_ms: U64 = U64(0)


class FilesVerification(Frozen, frozen=True):
    """What was read back, summed over all files. ``kind``: of sampled ones the places were drawn anew for each
    batch of files, after it had been written. ``reads_medium``: no byte can have come from a cache of the host."""

    kind: Literal["full", "sampled"]
    bytes_expected: U64
    bytes_read: U64
    mismatched_bytes: U64
    unreadable_bytes: U64
    io_mode: Text
    reads_medium: bool
    duration_ms: U64
    rule: Text = ""


class Files(Frozen, frozen=True):
    """What became of the files of one target. ``found`` is the sum of the five tallies after it.

    ``names_removed``: names of files taken away after their contents were overwritten and flushed;
    ``other_removed``: links, sockets, FIFOs and device nodes, unlinked and never opened; ``folders_removed``:
    folders that were empty then. ``holes``: bytes that hold nothing on the medium and were left so.
    ``batches``: how often everything was flushed before the next files were begun. ``manifest``: SHA-256 of
    the list of all files with their outcomes, which is kept beside the receipt; empty where the run
    could not write it.
    """

    found: FileTally
    sanitized: FileTally
    exceptions: FileTally
    refused: FileTally
    failed: FileTally
    unfinished: FileTally
    keep: bool
    allow_exceptions: bool
    names_removed: U64 = U64(0)
    other_removed: U64 = U64(0)
    folders_removed: U64 = U64(0)
    holes: U64 = U64(0)
    batches: U64 = U64(0)
    passes: list[FilesPass] = []
    verification: FilesVerification | None = None
    filesystem: Name = "unknown"
    listed: Annotated[list[ListedFile], msgspec.Meta(max_length=MAX_LISTED_FILES)] = []
    listed_of: U64 = U64(0)
    """How many files there were to list."""
    manifest: MaybeDigest = ""


class ManifestLine(Frozen, frozen=True):
    """One line of the manifest: canonical JSON, one file each, in the order in which they were found.

    The fields stand in the order of canonical JSON. ``names``: further names of the same file.
    """

    inode: U64
    names: list[PathText]
    outcome: FileOutcome
    path: PathText
    size: U64
    why: Text
