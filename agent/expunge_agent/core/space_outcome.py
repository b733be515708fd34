"""What the filling of free space earns: the passes as on any target, and nothing where space was left."""

from __future__ import annotations

from collections.abc import Iterable

from expunge_agent.core.space_progress import SpaceProgress
from expunge_agent.protocol.receipt_space import SPARE_INODES, FreeSpace


def exceptions(progress: SpaceProgress) -> list[str]:
    """Why not all of the free space was reached; empty where it was."""
    space, start = progress.result(), progress.start
    if space is None or start is None:
        return []
    return [*start.doubts, *_left(space), *_names(space, progress, start.inline)]


def trouble(progress: SpaceProgress) -> str:
    """What the evidence refutes, or empty."""
    rest = progress.peak.rest if progress.peak is not None else None
    if rest is not None and rest.verified != rest.checked:
        wrong = int(rest.checked) - int(rest.verified)
        return f"Read-back of the small pieces found {wrong} of {rest.checked} bytes that are not what was written."
    return ""


def _left(space: FreeSpace) -> Iterable[str]:
    if space.ended == "quota":
        yield "A quota of the file system ended the filling before the space was full."
    if space.left is not None and space.left.bytes:
        asked = f"; {space.reserve} were to be left ({space.reserve_why})" if space.reserve else ""
        yield f"{space.left.bytes} bytes stayed free and were not reached{asked}."
    if space.moved:
        yield "The filling files did not stay in one place, so that not every pass reached every place."
    if not space.cleaned_up:
        yield f"What filled the space could not be removed: {space.cleaning}."


def _names(space: FreeSpace, progress: SpaceProgress, inline: bool) -> Iterable[str]:
    """Free inodes hold what files had in them until they are made anew: extended attributes, and with inline data
    contents (ext4: Documentation/filesystems/ext4/dynamic.rst; XFS: the forks' local format)."""
    if space.filesystem not in ("ext4", "xfs"):
        return
    what = "extended attributes" + (" and small contents" if inline or space.filesystem == "xfs" else "")
    missed = int(progress.filling.missed) if progress.filling is not None else 0
    if space.inodes_left > SPARE_INODES:
        missed = max(missed, space.inodes_left)
    if missed:
        yield f"{missed} free inodes were not made anew: {what} of deleted files in them stay."
    if space.inodes_left < 0:
        yield f"How many free inodes were left could not be counted: {what} of deleted files may stay in them."
