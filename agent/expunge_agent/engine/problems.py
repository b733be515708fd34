"""What can go wrong with a medium: ranges that fail, and the ends a pass can come to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from expunge_agent.engine.buffers import MIB

MEDIUM_ERRNOS = frozenset(
    {
        errno.EIO,  # the usual word for a sector that fails, and for much else
        errno.ENODATA,  # BLK_STS_MEDIUM: the drive itself says the medium is bad
        errno.EILSEQ,  # BLK_STS_PROTECTION: protection information does not fit
        errno.ETIMEDOUT,  # BLK_STS_TIMEOUT
        errno.EREMOTEIO,  # BLK_STS_TARGET: the drive refuses this command here
        errno.ENOLINK,  # BLK_STS_TRANSPORT
        errno.EBADE,  # BLK_STS_RESV_CONFLICT, and checksums of some file systems
        errno.ENOMEM,  # BLK_STS_RESOURCE: passes with a retry or is listed
        errno.EAGAIN,  # BLK_STS_AGAIN
    }
)
"""Errors that may be of one range only (Linux block/blk-core.c, ``blk_errors``)."""

GONE_ERRNOS = frozenset(
    {
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOMEDIUM,
        errno.ESHUTDOWN,
        errno.ENOTCONN,  # the server of a file system has gone (FUSE)
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.ESTALE,  # the file has gone from its server (NFS)
        errno.EHOSTDOWN,
    }
)
SPACE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Problem:
    """Bytes [start, start + length) and how they failed; for mismatches: what they look like."""

    start: int
    length: int
    what: str

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Limits:
    """How closely a failing medium is worked around, and when it is given up.

    *Fine*: down to the block, with ``retries`` of a failing block after the first try; until
    ``bad_blocks`` failed for good or ``error_seconds`` were spent on failing ranges (a drive may take
    30 s for each). *Coarse* from then on: pieces are listed whole, and what is stepped over at a time
    grows to ``step`` bytes. ``give_up_seconds`` spent on failing ranges end it.
    """

    retries: int = 2
    bad_blocks: int = 2048
    error_seconds: float = 1800.0
    step: int = 64 * MIB
    give_up_seconds: float = 7 * 86400.0


class EngineError(Exception):
    """A pass or verification that could not go on. ``report`` holds what is known of it until then.

    It is a WriteReport or VerifyReport where the writer or verifier raised it, else None.
    """

    report: Any = None


class TargetGone(EngineError):  # noqa: N818 - the names are part of the engine's interface
    """The target no longer answers anywhere: unplugged, offline, its driver gone."""


class TargetShrank(EngineError):  # noqa: N818
    """The target is smaller than it was when it was opened."""


class NoSpaceOnTarget(EngineError):  # noqa: N818
    """What backs the target is full: a sparse file, a thin volume, a quota."""


class TargetRefused(EngineError):  # noqa: N818
    """The system does not allow it: write-protected, no permission, an operation it does not know."""


class Stalled(EngineError):  # noqa: N818
    """The target neither does what it is asked nor refuses it: no answer for too long (`watchdog`)."""


class GiveUp(EngineError):  # noqa: N818
    """Too much time spent on bad ranges (`Limits`)."""


def is_medium_error(error: OSError) -> bool:
    """Whether `error` may concern one range only, so that going on around it makes sense."""
    return error.errno in MEDIUM_ERRNOS


def fatal(error: OSError, doing: str) -> EngineError:
    """The end that `error` means, for an error that is none of the medium's."""
    text = f"{doing}: {describe(error)}"
    if error.errno in GONE_ERRNOS:
        return TargetGone(text)
    if error.errno in SPACE_ERRNOS:
        return NoSpaceOnTarget(text)
    return TargetRefused(text)


def describe(error: OSError) -> str:
    """`error` in words, with the system's name for its number."""
    number = error.errno or 0
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"


VARIOUS = "various"


def merged(problems: Iterable[Problem], gap: int = 0, *, mix: bool = False) -> list[Problem]:
    """`problems` sorted, those that say the same and are at most `gap` bytes apart made one range.

    With `mix` also those that say different things (`VARIOUS`). A joined range still covers every
    problem, and the sound bytes between them.
    """
    out: list[Problem] = []
    for problem in sorted(problems, key=lambda item: item.start):
        last = out[-1] if out else None
        if last is None or problem.start > last.end + gap or (not mix and problem.what != last.what):
            out.append(problem)
            continue
        what = last.what if last.what == problem.what else VARIOUS
        out[-1] = Problem(last.start, max(last.end, problem.end) - last.start, what)
    return out
