"""What a medium holds, where nobody can say what it should: zeros, ones, another byte throughout, or other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from expunge_agent.engine.blocks import Blocks
from expunge_agent.engine.buffers import MIB, aligned
from expunge_agent.engine.faults import Ledger
from expunge_agent.engine.likeness import constant
from expunge_agent.engine.meter import Meter, Progress
from expunge_agent.engine.problems import Limits, Problem, fatal
from expunge_agent.engine.ranges import Range, pieces
from expunge_agent.engine.stripes import Stopped

UNIT = 4096
"""Bytes that are told apart."""
_CHUNK = MIB
_SHOW_EVERY = 200_000_000


@dataclass
class Survey:
    """Bytes of each kind, and what could not be read: all bytes, and the ranges (`listing.MOST` at least).

    ``duration_ns`` in nanoseconds.
    """

    expected: int = 0
    read: int = 0
    zeros: int = 0
    ones: int = 0
    constant: int = 0
    other: int = 0
    unreadable: list[Problem] = field(default_factory=list)
    unreadable_bytes: int = 0
    duration_ns: int = 0
    stopped: bool = False


def survey(
    target: Blocks,
    ranges: Iterable[Range],
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    limits: Limits | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Survey:
    """Read `ranges` (ascending, aligned to the target's block) past the cache and tell what is there.

    Raises an EngineError where the medium as a whole gives out (TargetGone, GiveUp …).
    """
    plan = list(ranges)
    stop = stop or threading.Event()
    seen, began = Survey(expected=sum(one.length for one in plan)), clock()
    if not target.direct and not target.memory:
        try:
            target.drop_cache()
        except OSError as error:
            raise fatal(error, "flush") from error
    ledger, meter, shown = Ledger(target, limits or Limits(), clock), Meter(seen.expected, began), began
    buffer = aligned(_CHUNK)

    def look(start: int, end: int) -> None:
        view = buffer[: end - start]
        target.read_into(view, start)
        _tell(seen, view, start)

    for start, end in pieces(plan, _CHUNK, ledger.reach):
        if stop.is_set():
            seen.stopped = True
            break
        try:
            ledger.do(start, end, _CHUNK, look, doing="read", stopping=stop.is_set)
        except Stopped:
            seen.stopped = True
            break
        ledger.listing.settle(end)
        if progress is not None and clock() - shown > _SHOW_EVERY:
            shown = clock()
            meter.update(seen.read, shown)
            progress(meter.progress(len(ledger.listing)))
    seen.unreadable = ledger.listing.ranges()
    _, seen.unreadable_bytes = ledger.listing.figures()
    seen.duration_ns = clock() - began
    return seen


def _tell(seen: Survey, view: memoryview, start: int) -> None:
    """Take in `view`, read at `start`. Beside what cannot be read, a unit may come in pieces; each is told by itself."""
    seen.read += len(view)
    if constant(view):
        _count(seen, view[0], len(view))
        return
    at = 0
    while at < len(view):
        unit = view[at : at + UNIT - (start + at) % UNIT]
        if constant(unit):
            _count(seen, unit[0], len(unit))
        else:
            seen.other += len(unit)
        at += len(unit)


def _count(seen: Survey, value: int, length: int) -> None:
    if value == 0:
        seen.zeros += length
    elif value == 0xFF:
        seen.ones += length
    else:
        seen.constant += length
