"""A file of a batch held open: that it is still the one listed, and that it stayed where it lay."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field

from expunge_agent.core.file_reach import own, stayed
from expunge_agent.core.files_progress import Trouble
from expunge_agent.devices.below import Below, reason
from expunge_agent.devices.seen import mark_of, seen_of
from expunge_agent.engine.extents import parts as parts_of
from expunge_agent.engine.syncing import hold_alone, lease_of
from expunge_agent.protocol.receipt_files import FileOutcome
from expunge_agent.techniques.files_list import Item

_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
CHANGED = "it was changed after it had been overwritten"
OPENED = "another program opened it for writing after it had been overwritten"


@dataclass(slots=True)
class Held:
    """``fd`` −1: it is not open. ``outcome`` and ``why`` once something is wrong with it.

    ``leased``: the kernel tells who opens it. ``stamp``: what it was like after the last pass. ``noted``: exceptions
    that showed on the way.
    """

    item: Item
    fd: int = -1
    outcome: FileOutcome = "sanitized"
    why: str = ""
    remedy: str = ""
    leased: bool = False
    stamp: tuple[int, int, int] | None = None
    noted: list[str] = field(default_factory=list)

    @property
    def is_out(self) -> bool:
        """Whether it is not to be written to, or not to be unlinked."""
        return self.outcome in ("refused", "failed")

    def refuse(self, why: str, remedy: str = "") -> None:
        """It was not written to, and will not be."""
        self.outcome, self.why, self.remedy = "refused", why, remedy

    def fail(self, why: str) -> None:
        """It may hold old data; it is left where it is."""
        if not self.is_out:
            self.outcome, self.why = "failed", why

    def was_begun(self) -> None:
        """An earlier run may have written to it: what is refused only now may be half overwritten."""
        if self.outcome == "refused":
            self.outcome, self.why = "failed", f"{self.why}; an earlier run may have begun to overwrite it"

    def close(self) -> None:
        """Give it back; twice does no harm."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def hold(item: Item, below: Below, *, resumed: bool) -> Held:
    """Open the file, if it is the one that was listed and nobody else has it open."""
    held = Held(item)
    try:
        folder, name = below.place(os.fsdecode(item.path))
        held.fd = os.open(name, _WRITE, dir_fd=folder)
    except FileNotFoundError:
        held.fail("it was gone before it was overwritten")
        return held
    except OSError as error:
        held.refuse(f"it could not be opened for writing: {reason(error)}")
        return held
    if not _is_listed(held, below, resumed):
        held.close()
    held.leased = _is_leased(held)
    return held


def hold_again(item: Item, below: Below) -> Held:
    """Open what stands under the name of a file that an earlier run overwrote; not opened where that is another
    file, or nothing. It may be cut to nothing already."""
    held = Held(item)
    try:
        folder, name = below.place(os.fsdecode(item.path))
        fd = os.open(name, _WRITE, dir_fd=folder)
    except OSError:
        return held
    held.fd = fd
    if not _is_same(held, below):
        held.close()
    elif os.fstat(fd).st_size:
        if not _is_listed(held, below, resumed=True):
            held.outcome, held.why = "failed", f"{CHANGED}: {held.why}"
    elif not hold_alone(fd):
        held.fail("it is open in another process")
    held.stamp, held.leased = stamp_of(fd) if held.fd >= 0 else None, _is_leased(held)
    if held.is_out:
        held.close()
    return held


def trouble_of(held: Held) -> Trouble:
    """What the journal and the list of outcomes say of it."""
    return Trouble(
        number=held.item.number,
        path=held.item.shown,
        outcome=held.outcome,
        why=held.why[:4000],
        remedy=held.remedy,
    )


def stamp_of(fd: int) -> tuple[int, int, int]:
    """Size and times, one of which every change of the open file changes."""
    seen = os.fstat(fd)
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def changed_since(held: Held) -> str:
    """Why the open file is not what the last pass left, or will not stay so; empty where it is and will."""
    if held.stamp is not None and stamp_of(held.fd) != held.stamp:
        return CHANGED
    return OPENED if is_opened(held) else ""


def is_opened(held: Held) -> bool:
    """Whether another program opened the file for writing, or waits to, since it is held."""
    return held.leased and lease_of(held.fd) == fcntl.F_UNLCK


def _is_leased(held: Held) -> bool:
    return held.fd >= 0 and lease_of(held.fd) == fcntl.F_WRLCK


def _is_same(held: Held, below: Below) -> bool:
    seen = seen_of(held.fd)
    return below.is_near(seen) and seen.inode == held.item.inode and mark_of(held.fd, seen) == held.item.mark


def _is_listed(held: Held, below: Below, resumed: bool) -> bool:
    item, seen = held.item, os.fstat(held.fd)
    sizes = (item.size, item.room) if resumed else (item.size,)
    if not _is_same(held, below):
        held.refuse("another file has its name now", "Run it again.")
    elif seen.st_size not in sizes:
        held.refuse(f"its size changed from {item.size} to {seen.st_size} bytes", "Run it again.")
    elif seen.st_nlink > 1 + len(item.names):
        held.refuse("it got another name meanwhile", "Run it again.")
    elif not hold_alone(held.fd):
        held.refuse("it is open in another process", "End that program first.")
    elif item.parts is not None and (why := _moved(held)):
        held.refuse(why, "Run it again.")
    return not held.is_out


def _moved(held: Held) -> str:
    """Whether it lies elsewhere than when it was listed, or is shared since (a snapshot)."""
    item = held.item
    now = own(parts_of(held.fd) or [], item.room)
    change = stayed(item.parts or [], now)
    if change.shared:
        return f"{change.shared} bytes of it were shared with another file or snapshot meanwhile"
    return f"{change.left} bytes of it lie elsewhere than when it was looked at" if change.left else ""


def has_size_of_pass(held: Held) -> bool:
    """Whether the file is as long as a pass makes it: up to the end of its last block, if that has data."""
    ranges = held.item.ranges()
    rounded = bool(ranges) and ranges[-1][1] > held.item.size
    return os.fstat(held.fd).st_size == (held.item.room if rounded else held.item.size)


def settle(held: Held) -> None:
    """After the last pass: whether it has the size it was given, and lies where it lay."""
    item = held.item
    if not has_size_of_pass(held):
        size = os.fstat(held.fd).st_size
        held.fail(f"it was changed during the pass: it has {size} bytes now, and had {item.size}")
        return
    if item.parts is None:
        return
    after = own(parts_of(held.fd) or [], item.room)
    change = stayed(item.parts, after)
    if change.left:
        held.fail(f"{change.left} bytes of it lie elsewhere now: what they held before was not overwritten")
    elif change.shared:
        held.fail(f"{change.shared} bytes of it were shared with another file or snapshot during the pass")


def shorten(held: Held) -> None:
    """Give a file that stays its own size back, if it was written up to the end of its last block."""
    if held.fd >= 0 and os.fstat(held.fd).st_size == held.item.room > held.item.size:
        os.ftruncate(held.fd, held.item.size)
