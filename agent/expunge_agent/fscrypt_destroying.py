"""A small file that stores a wrapped key: overwritten where it lies, read back, removed."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path

from expunge_agent.core.layout import left_behind
from expunge_agent.devices.look import look
from expunge_agent.devices.opening import Opened, TargetRefused, open_target
from expunge_agent.engine.extents import layout
from expunge_agent.engine.problems import EngineError
from expunge_agent.engine.sources import KeyedStream, PatternSource, Source
from expunge_agent.engine.verifier import verify
from expunge_agent.engine.writer import write_pass
from expunge_agent.takeover import take_over


def destroy_file(path: str) -> tuple[str, str]:
    """Overwrite the small file at `path` with a random stream and zeros, each read back, and remove it: what became of it
    (``destroyed``, ``remains``, ``unknown``), and how that is known."""
    if not os.path.lexists(path):
        return "unknown", "It had gone already, perhaps in a run that broke off: nobody saw it overwritten."
    found = look(path)
    if found.medium is None:
        return "remains", "It is no regular file."
    try:
        with open_target(path, found.medium.identity, write=True) as opened:
            doubts = _overwrite(opened)
    except (TargetRefused, EngineError, OSError) as error:
        return "remains", f"It could not be overwritten: {error}"
    Path(path).unlink()
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    if doubts:
        return "unknown", f"Removed; {doubts}."
    return (
        "destroyed",
        "Overwritten where it lay, read back, removed. On flash that is a logical overwrite only.",
    )


def _overwrite(opened: Opened) -> str:
    """Write and read back; why old bytes may be left elsewhere, or empty."""
    before = layout(opened.fd)
    with closing(take_over(opened)) as target:
        stop = threading.Event()
        sources: list[Source] = [KeyedStream("aes-256-ctr", os.urandom(32)), PatternSource(b"\0")]
        for source in sources:
            if not write_pass(target, source, stop=stop).complete:
                return "not every byte could be written"
            if not verify(target, source, stop=stop).clean:
                return "what was read back is not what was written"
        after = layout(opened.fd)
    if before.doubts:
        return "; ".join(before.doubts)
    lost = left_behind(before, after)
    return f"{lost} bytes of it lie elsewhere now and were not overwritten" if lost else ""
