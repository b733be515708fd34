"""A single file as a target that keeps its name: what an overwrite of it can reach, asked before it is opened."""

from __future__ import annotations

import os
import stat

from expunge_agent.core.file_reach import SHARED, FileFacts, Ground, Reach, own, reach_alone
from expunge_agent.core.guard import SystemPaths, readable
from expunge_agent.core.layout import Layout
from expunge_agent.devices import ioctls
from expunge_agent.devices.ground import ground_of
from expunge_agent.devices.settling import free_prepared
from expunge_agent.devices.sharing import Sharers
from expunge_agent.devices.usage import Eyes
from expunge_agent.engine.extents import layout, parts
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import Refusal

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def layout_and_objection(
    path: str, *, allow_exceptions: bool, system: SystemPaths
) -> tuple[Layout, Refusal | None]:
    """Where the file at `path` lies, with what an overwrite would leave as doubts; and why it may not be written to.

    It is opened for reading only, which moves nothing.
    """
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        doubt = f"where the file lies could not be asked ({os.strerror(error.errno or 0)})"
        return Layout(extents=[], doubts=[doubt]), None
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            return layout(fd), None
        return _of_file(path, fd, seen, ground_of(path, Eyes.open(system=system)), allow_exceptions)
    finally:
        os.close(fd)


def _of_file(
    path: str, fd: int, seen: os.stat_result, ground: Ground, allow_exceptions: bool
) -> tuple[Layout, Refusal | None]:
    try:
        if ground.filesystem == "xfs":
            os.fsync(fd)
        free_prepared(fd, ground.filesystem)
        found = None if ground.memory else parts(fd)
    except OSError:
        found = None
    room = -(-seen.st_size // ground.block) * ground.block
    lies = None if found is None else own(found, room)
    sharers = Sharers(ground.filesystem)
    facts = FileFacts(
        size=seen.st_size,
        parts=lies,
        flags=ioctls.file_flags(fd),
        sharing=sharers.of(fd, lies),
        snapshotted=sharers.snapshotted(fd, lies),
    )
    answer = reach_alone(ground, facts)
    if answer is None:
        return layout(fd), None
    if not answer.ok or (answer.why and not allow_exceptions):
        return Layout(extents=[]), _refusal(path, answer)
    extents = [(U64(one.physical), U64(one.length)) for one in lies or [] if not one.flags & SHARED]
    return Layout(extents=extents, doubts=list(answer.why)), None


def _refusal(path: str, answer: Reach) -> Refusal:
    accept = " Or accept this with --allow-exceptions." if answer.ok else ""
    return Refusal(
        reason=answer.reason,
        detail=readable(f"An overwrite of {path} would not reach all of it: {'; '.join(answer.why)}.", 4000),
        remedy=f"{answer.remedy}{accept}".strip(),
    )
