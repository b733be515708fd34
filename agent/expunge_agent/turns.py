"""Drives that erase themselves take turns: so many on a controller, and no more at once than the power supply bears.

A turn is a file in one folder of the agent's state, locked (flock(2)) while it is waited for or kept: all runs of
this machine's agent count each other, and one that is killed gives its turn back by itself.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from expunge_agent.devices.lanes import NVM_SUBSYSTEM
from expunge_agent.files import explained

LOOK = 0.5
"""Seconds between looks whether it is one's turn."""
_SOON = 0.02
"""Seconds between tries to look at the folder alone, which nobody does for long."""
_NAME = re.compile(r"([0-9]{10})\.(kept|waits)\.([\w.~%-]*)", re.ASCII)


@dataclass(frozen=True)
class Turn:
    """``number``: the order in which turns were asked for. ``kept``: it erases; else it waits."""

    number: int
    kept: bool
    lane: str

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.number:010}.{'kept' if self.kept else 'waits'}.{quote(self.lane, safe='')}"


def waits_for(own: Turn, others: Sequence[Turn], most: int, per_lane: int) -> str:
    """What a turn that is not kept yet has to wait for, as a sentence; empty when it is to be kept now.

    At most `most` of all are kept and `per_lane` of one lane (0: no limit), whoever keeps them and whatever limits
    those obey; of an NVM subsystem always one. Who asked earlier goes first, but holds nobody up who waits for
    another lane.
    """
    kept = [one for one in others if one.kept]
    here = [one for one in kept if one.lane == own.lane]
    ahead = [one for one in others if not one.kept and one.number < own.number]
    same = [one for one in ahead if one.lane == own.lane]
    if _full(own.lane, len(here) + len(same), per_lane):
        return f"waiting for a turn on {own.lane or 'its controller'}, {_told(here, same)}"
    lanes = [one.lane for one in kept]
    able = [one for one in ahead if not _full(one.lane, lanes.count(one.lane), per_lane)]
    if most and len(kept) + len(able) >= most:
        return f"waiting for a turn, {_told(kept, able)}"
    return ""


def _full(lane: str, count: int, per_lane: int) -> bool:
    limit = 1 if lane.startswith(NVM_SUBSYSTEM) else per_lane
    return bool(limit) and count >= limit


class Turns:
    """Who erases now, by the files in `folder`, which is made where it is missing.

    Here at most `most` are let in beside all others on the machine, and `per_lane` on a lane (0: no limit).
    """

    def __init__(self, folder: Path, most: int = 0, per_lane: int = 1) -> None:
        self._folder = folder
        self._most = most
        self._per_lane = per_lane

    @contextmanager
    def hold(
        self, lane: str, stop: threading.Event, say: Callable[[str], None], *, at_work: bool = False
    ) -> Iterator[bool]:
        """Wait for a turn on `lane` and keep it; False when `stop` came first. `say` is told what is waited for.

        `at_work`: the drive erases already, or has, so that it is counted without waiting. Raises PermissionProblemError,
        NoSpaceError or StateError where the folder cannot be used.
        """
        own = _Own(self._folder)
        try:
            yield self._wait(own, lane, stop, say, at_work)
        finally:
            own.give_back()

    def _wait(
        self, own: _Own, lane: str, stop: threading.Event, say: Callable[[str], None], at_work: bool
    ) -> bool:
        said = ""
        while not stop.is_set():
            with explained(self._folder), _alone(self._folder, stop) as alone:
                if not alone:
                    break
                others = list(self._others(own))
                turn = own.turn or own.ask(lane, others)
                why = "" if at_work else waits_for(turn, others, self._most, self._per_lane)
                if not why:
                    own.keep()
                    return True
            if why != said:
                say(why)
            said = why
            stop.wait(LOOK)
        return False

    def _others(self, own: _Own) -> Iterator[Turn]:
        """All turns but `own`; what a killed run left is removed."""
        for path in self._folder.iterdir():
            name = path.name
            match = _NAME.fullmatch(name)
            if match is None or (own.turn is not None and name == own.turn.name):
                continue
            if _is_held(path):
                yield Turn(int(match[1]), match[2] == "kept", unquote(match[3]))


class _Own:
    """The file of one turn, if it was asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1
        self.turn: Turn | None = None

    def ask(self, lane: str, others: Sequence[Turn]) -> Turn:
        """Queue up behind all others."""
        turn = Turn(max((one.number for one in others), default=0) + 1, False, lane)
        self._fd = _opened(self._folder / turn.name)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.turn = turn
        return turn

    def keep(self) -> None:
        """Its turn has come."""
        if self.turn is None:
            raise AssertionError("not asked for")
        turn = Turn(self.turn.number, True, self.turn.lane)
        (self._folder / self.turn.name).rename(self._folder / turn.name)
        self.turn = turn

    def give_back(self) -> None:
        """Let the next one have it; a name that stays is not locked, and counts for nothing."""
        if self.turn is not None:
            with suppress(OSError):
                (self._folder / self.turn.name).unlink()
        if self._fd >= 0:
            os.close(self._fd)


@contextmanager
def _alone(folder: Path, stop: threading.Event) -> Iterator[bool]:
    """Nobody else looks at the folder or changes a name in it, but to give a turn back; False when `stop` came first."""
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = _opened(folder / "lock")
    try:
        while not (alone := _locked(fd)) and not stop.wait(_SOON):
            pass
        yield alone
    finally:
        os.close(fd)


def _is_held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        if not _locked(fd):
            return True
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(fd)


def _opened(path: Path) -> int:
    """For its owner alone: whoever could open it could hold it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _told(kept: Sequence[Turn], ahead: Sequence[Turn]) -> str:
    erasing = f"{len(kept)} {'is' if len(kept) == 1 else 'are'} erasing"
    return f"{erasing}, {len(ahead)} before it" if ahead else erasing
