"""A thread beside ``expunge serve`` that does one thing over and over, and lives through what goes wrong."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import Any

from expunge_agent.errors import ExpungeError


class Rounds(ABC):
    """One thread; looks every `every` seconds, and after a round that failed not before `pause` seconds.

    `done` and `doing` say in the log's lines what it is about: the log cannot be *stamped*, a round of *stamping*.
    """

    def __init__(self, name: str, log: Any, *, every: float, pause: float, done: str, doing: str) -> None:
        self._log = log
        self._every = every
        self._pause = pause
        self._done = done
        self._doing = doing
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def round(self) -> float:
        """Do what is due, if anything; returns for how many seconds nobody needs to look again."""

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """End it, waiting up to `seconds`; a request under way is given up, and made again later."""
        self._stopping.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        not_before = time.monotonic()
        while not self._stopping.wait(self._every):
            if time.monotonic() < not_before:
                continue
            rest = self._pause
            try:
                rest = self.round()
            except ExpungeError as error:
                self._log.error(f"the log cannot be {self._done}", code=error.code, problem=error.message)
            except Exception:  # noqa: BLE001  (the next round may go well)
                self._log.exception(f"a defect ended this round of {self._doing}")
            not_before = time.monotonic() + rest
