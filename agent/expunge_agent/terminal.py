"""What a person at the machine sees: progress while it runs, sizes and rates in words."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from expunge_agent.protocol.event import Event, EventKind

BAR = 28
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


class ProgressView:
    """Shows events on `out`: one moving line on a terminal, a plain line now and then elsewhere."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._moving = out.isatty()
        self._open = False
        self._last = 0.0

    def show(self, event: Event) -> None:
        """Take one event."""
        if event.kind in (EventKind.PROGRESS, EventKind.STEP_STARTED):
            self._progress(event)
        elif event.kind is EventKind.TARGET_FINISHED:
            self._line(f"target {event.target + 1}: {event.title}")
        elif event.kind is EventKind.RESUMED:
            self._line("found unfinished, going on")

    def close(self) -> None:
        """Leave the cursor on a fresh line."""
        if self._open:
            self._out.write("\n")
            self._out.flush()
            self._open = False

    def _progress(self, event: Event) -> None:
        now = time.monotonic()
        finished = event.done >= event.total
        if not self._moving and not finished and now - self._last < PLAIN_EVERY:
            return
        self._last = now
        share = event.done / event.total if event.total else 1.0
        filled = int(share * BAR)
        bar = "█" * filled + "░" * (BAR - filled)
        text = (
            f"{event.title:<34} {bar} {share:4.0%}  {size_text(event.rate)}/s  "
            f"{'done' if finished else 'ETA ' + time_text(event.eta)}"
        )
        if self._moving:
            self._out.write(f"\r\x1b[K{text}")
            self._open = True
            if finished:
                self.close()
        else:
            self._out.write(text + "\n")
        self._out.flush()

    def _line(self, text: str) -> None:
        self.close()
        self._out.write(text + "\n")
        self._out.flush()
