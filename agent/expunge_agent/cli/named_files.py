"""From what a person types to targets: paths, directories, patterns, lists of files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge_agent.core.guard import readable
from expunge_agent.core.medium import Kind
from expunge_agent.devices.look import tree_identity
from expunge_agent.devices.paths import Walked, walk
from expunge_agent.errors import RefusedError, UsageError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.identity import TreeIdentity
from expunge_agent.protocol.order import MAX_ORDER

_ROOM = MAX_ORDER - 64 * 1024
"""Bytes for names, the rest of the order has enough in what is left."""
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Named:
    """A path to look at; with `narrow` the files that are meant below it."""

    path: str
    narrow: TreeIdentity | None = None


def named(
    paths: Sequence[str], globs: Sequence[str], files_from: str | None, *, remove: bool, keep: bool
) -> list[Named]:
    """What is meant. Raises UsageError and RefusedError."""
    if remove and keep:
        raise UsageError("--remove and --keep contradict each other.", "Give one of them.")
    if not paths and files_from is None:
        raise UsageError("No target was named.", "Give a PATH, or a list with --files-from.")
    found = [_one(path, globs, remove=remove) for path in paths]
    if globs and not any(one.narrow is not None and one.narrow.include for one in found):
        raise UsageError("--glob narrows a directory, and none was named.", "Name the directory.")
    if files_from is not None:
        found += _listed(files_from)
    return found


def _one(path: str, globs: Sequence[str], *, remove: bool) -> Named:
    walked = walk(path)
    if walked.kind is Kind.DIRECTORY and walked.seen is not None and not walked.symlinks:
        return Named(walked.path, _tree(walked, include=list(globs)))
    if walked.kind is Kind.MISSING and _WILD.search(walked.path):  # that "a*/.." leaves nothing of
        return _pattern(walked.path)
    if remove and walked.kind is Kind.FILE and not walked.symlinks:
        folder, name = os.path.split(walked.path)
        return Named(folder, _tree(walk(folder), names=[name]))
    return Named(path)


def _pattern(path: str) -> Named:
    """The directory before the first wildcard, and the rest as a pattern."""
    parts = path.split("/")
    first = next(index for index, part in enumerate(parts) if _WILD.search(part))
    walked = walk("/".join(parts[:first]) or "/")
    if walked.kind is not Kind.DIRECTORY or walked.symlinks:
        return Named(path)  # for the guard to say what is wrong with it
    return Named(walked.path, _tree(walked, include=["/".join(parts[first:])]))


def _tree(
    walked: Walked, *, names: list[str] | None = None, include: list[str] | None = None
) -> TreeIdentity:
    if walked.seen is None:
        raise RefusedError(f"There is nothing at {readable(walked.path)}.", "Check the path.")
    narrow = TreeIdentity(path="/", device="0:0", inode=0, names=names or [], include=include or [])  # type: ignore[arg-type]
    return tree_identity(walked.path, walked.seen, narrow)


def _listed(source: str) -> list[Named]:
    """The files of a list, one target for each file system they lie on."""
    by_device: dict[int, list[str]] = {}
    for path in _lines(source):
        walked = walk(path)
        if walked.symlinks:
            raise RefusedError(
                f"{readable(path)} in the list goes through a symbolic link.", "Name the real path."
            )
        if walked.kind is Kind.UNNAMEABLE:
            raise RefusedError(
                f"{readable(walked.path)} in the list is not UTF-8.", "Name its directory, with --glob."
            )
        if walked.seen is None:
            raise RefusedError(
                f"There is nothing at {readable(path)}, which the list names.", "Check the list."
            )
        by_device.setdefault(walked.seen.st_dev, []).append(walked.path)
    found = [_together(paths, device) for device, paths in by_device.items()]
    if sum(len(canonical.dumps(one.narrow.names)) for one in found if one.narrow is not None) > _ROOM:
        raise UsageError(
            f"The list {readable(source)} is too long for one order, which has at most {MAX_ORDER} bytes.",
            "Give it in parts, or name the directory, with --glob.",
        )
    return found


def _together(paths: list[str], device: int) -> Named:
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    walked = walk(folder)
    if walked.seen is None or walked.seen.st_dev != device:
        raise UsageError(
            f"The files of the list below {readable(folder)} lie on several mounts of one file system.",
            "Give a list for each mount.",
        )
    return Named(folder, _tree(walked, names=[path.removeprefix(folder).lstrip("/") for path in paths]))


def _lines(source: str) -> list[str]:
    """The entries of a list: separated by NUL where it has one, else by newlines."""
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise UsageError(
            f"The list {readable(source)} cannot be read: {error.strerror}.", "Check the path."
        ) from error
    lines = [os.fsdecode(line) for line in data.split(b"\0" if b"\0" in data else b"\n") if line]
    if not lines:
        raise UsageError(f"The list {readable(source)} names no file.", "Check the list.")
    return lines
