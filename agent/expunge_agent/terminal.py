"""What a person at the machine sees: progress while it runs, sizes and rates in words."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from typing import TextIO

from expunge_agent.protocol.event import Event, EventKind

BAR = 28
CURVE = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 20
REDRAW_EVERY = 0.1
PLAIN_WIDTH = 100
PLAIN_EVERY = 5.0
"""Seconds between progress lines where the output is no terminal."""


def size_text(count: int) -> str:
    """Bytes in words, decimal units as drives are sold: ``268.4 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} PB"


def time_text(seconds: int) -> str:
    """Seconds in words: ``1:02:03``; ``--:--`` when unknown."""
    if seconds < 0:
        return "--:--"
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"


def about_time(seconds: int) -> str:
    """An estimate in words that a person can plan with: ``about 46 min``; ``unknown`` when it is below 0."""
    if seconds < 0:
        return "unknown"
    if seconds < 60:
        return "under a minute"
    minutes = -(-seconds // 60)
    if minutes < 120:
        return f"about {minutes} min"
    hours = -(-minutes // 60)
    if hours < 48:
        return f"about {minutes // 60} h {minutes % 60} min" if minutes % 60 else f"about {hours} h"
    return f"about {hours // 24} days {hours % 24} h" if hours % 24 else f"about {hours // 24} days"


def status_lines(events: list[Event]) -> list[str]:
    """One line a target: where it stands."""
    return [
        f"target {event.target + 1}: {event.title} {_share(event):.0%} {size_text(event.rate)}/s ETA {time_text(event.eta)}"
        if event.total
        else f"target {event.target + 1}: {event.kind.value} {event.title}"
        for event in sorted(events, key=lambda one: one.target)
        if event.target >= 0
    ]


class RateCurve:
    """The last rates of a target as a row of blocks, one a second, the highest one full."""

    def __init__(self, width: int) -> None:
        self._rates: deque[int] = deque(maxlen=width)
        self._last = float("-inf")

    def add(self, rate: int, now: float) -> None:
        """Take a rate (bytes per second); at most one a second is kept."""
        if now - self._last >= 1.0:
            self._last = now
            self._rates.append(rate)

    def __str__(self) -> str:
        top = max(self._rates, default=0)
        return "".join(CURVE[rate * (len(CURVE) - 1) // top] for rate in self._rates) if top else ""


class ProgressView:
    """Shows events on `out`: a moving line for each target on a terminal, a plain line now and then elsewhere."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._moving = out.isatty()
        self._lines: dict[int, str] = {}
        self._curves: dict[int, RateCurve] = {}
        self._last: dict[int, float] = {}
        self._drawn = 0

    def show(self, event: Event) -> None:
        """Take one event."""
        if event.kind in (EventKind.PROGRESS, EventKind.STEP_STARTED):
            self._progress(event)
        elif event.kind is EventKind.STEP_FINISHED:
            self._lines.pop(event.target, None)
            curve = str(self._curves.get(event.target, "")) if self._moving else ""
            self._say(progress_line(event, curve, self._width()))
        elif event.kind is EventKind.TARGET_FINISHED:
            self._lines.pop(event.target, None)
            self._say(f"target {event.target + 1}: {event.title}")
        elif event.kind is EventKind.RESUMED:
            self._say("found unfinished, going on")

    def close(self) -> None:
        """Leave the lines as they stand and go below them."""
        self._drawn = 0
        self._lines.clear()

    def _progress(self, event: Event) -> None:
        now = time.monotonic()
        curve = self._curves.setdefault(event.target, RateCurve(CURVE_WIDTH))
        curve.add(event.rate, now)
        if now - self._last.get(event.target, -PLAIN_EVERY) < (REDRAW_EVERY if self._moving else PLAIN_EVERY):
            return
        self._last[event.target] = now
        line = progress_line(event, str(curve) if self._moving else "", self._width())
        if self._moving:
            self._lines[event.target] = line
            self._draw()
        else:
            self._say(line)

    def _width(self) -> int:
        return shutil.get_terminal_size().columns if self._moving else PLAIN_WIDTH

    def _say(self, text: str) -> None:
        """A line that stays, above the moving ones."""
        self._erase()
        self._out.write(text + "\n")
        self._draw()

    def _erase(self) -> None:
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        self._erase()
        room = max(1, shutil.get_terminal_size().lines - 2)
        shown = [self._lines[target] for target in sorted(self._lines)]
        if len(shown) > room:
            shown = [*shown[: room - 1], f"… and {len(shown) - room + 1} more targets"]
        if self._moving:
            self._out.write("".join(line + "\n" for line in shown))
            self._drawn = len(shown)
        self._out.flush()


def progress_line(event: Event, curve: str, columns: int) -> str:
    """Where one target stands, in at most `columns` characters."""
    share = _share(event)
    left = "done" if event.kind is EventKind.STEP_FINISHED else "ETA " + time_text(event.eta)
    tail = f" {share:4.0%} {size_text(event.rate)}/s {left}"
    head = f"{event.target + 1}: {event.title}"[: max(10, columns - len(tail) - 12)]
    width = min(BAR, columns - len(head) - len(tail) - len(curve) - 3)
    if width < 5:
        curve, width = "", min(BAR, columns - len(head) - len(tail) - 2)
    filled = int(share * max(width, 0))
    bar = "█" * filled + "░" * (width - filled)
    return f"{head} {bar}{tail} {curve}".rstrip()


def _share(event: Event) -> float:
    return event.done / event.total if event.total else 1.0
