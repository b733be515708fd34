"""A medium that answers nothing: noticed, told, and never waited for beyond patience."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from expunge_agent.engine.meter import SECOND
from expunge_agent.engine.problems import Stalled
from expunge_agent.engine.stripes import Stripes

TICK = 0.2  # seconds between looks at the workers: at most five progress reports a second
PATIENCE = 120.0
"""Seconds without an answer after which a medium counts as stalled. A drive may take 30 s for one bad
sector, and the kernel asks it several times."""

_T = TypeVar("_T")


class Watchdog:
    """Holds the time since anything was last heard from a medium, while something was asked of it.

    An answer is a piece that is done and every attempt that came back, be it with an error: limits on
    errors are not its business (`Limits`). Waiting for a pause or a rate limit asks nothing. One answer
    is enough for all: while others move, a piece may take its time.
    """

    def __init__(self, patience: float, clock: Callable[[], int]) -> None:
        """`patience` in seconds; `clock` gives nanoseconds, monotonic."""
        self.stalled = False
        """Whether it barked: threads may be stuck in the kernel for good."""
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[object, int | None] = {}
        self._answers = self._seen = 0
        self._since = clock()
        self._grace = 0.0

    def answered(self) -> None:
        """Bytes moved, or the medium said why not."""
        with self._lock:
            self._answers += 1

    @contextmanager
    def asking(self, place: int | None = None) -> Iterator[None]:
        """Something is asked of the medium: bytes at `place`, or with None what moves none (a flush, its size).

        Only the end of the former is an answer: a medium may flush readily, and never write again.
        """
        token = object()
        with self._lock:
            if not self._asked:
                self._answers += 1  # the time before does not count
            self._asked[token] = place
        try:
            yield
        finally:
            with self._lock:
                del self._asked[token]
                self._answers += place is not None

    def look(self, doing: str) -> None:
        """To be called every `TICK`. Raises Stalled when the medium owes an answer for too long."""
        now = self._clock()
        with self._lock:
            if not self._asked or self._answers != self._seen:
                self._seen, self._since = self._answers, now
                return
            places = [place for place in self._asked.values() if place is not None]
        patience = self._patience + self._grace
        if now - self._since > patience * SECOND:
            self.stalled = True
            where = f", waiting at byte {min(places)}" if places else ""
            raise Stalled(f"{doing}: no answer for {patience:.0f} s{where}")

    def watched(
        self, call: Callable[[], _T], doing: str, each: Callable[[], None], *, grace: float = 0.0
    ) -> _T:
        """What `call` returns or raises; it runs in a thread of its own, as it may get stuck in the kernel.

        `each` is called every `TICK` meanwhile, in this thread; what it raises comes through once
        `call` has ended. `grace`: seconds more than usual that an answer may take. Raises Stalled.
        """
        helper = _Helper(self, call)
        self._grace = grace
        try:
            helper.start()
            try:
                while not helper.done.wait(TICK):
                    each()
                    self.look(doing)
            except Stalled:
                raise
            except BaseException:
                self.rest(helper.done.wait)
                raise
        finally:
            self._grace = 0.0
        return helper.result()

    def follow(self, stripes: Stripes, follow: Callable[[], None]) -> None:
        """Run `follow` while the workers of `stripes` are at work, and wait for them, but not if they are stuck.

        What `follow` raises comes through. Raises Stalled.
        """
        try:
            follow()
        except Stalled as error:
            stripes.halt()
            stripes.failure = stripes.failure or error  # those that wake up are to leave
            raise
        except BaseException:
            stripes.halt()
            if self.rest(stripes.wait):
                stripes.join()
            raise
        stripes.halt()
        while not stripes.wait(TICK):
            self.look("end")
        stripes.join()

    def rest(self, wait: Callable[[float], bool]) -> bool:
        """Wait until `wait(seconds)` says that nothing is at work; False when the medium stalled first."""
        try:
            while not wait(TICK):
                self.look("end")
        except Stalled:
            return False
        return True


class _Helper(threading.Thread, Generic[_T]):
    """One call in a thread that nobody has to wait for."""

    def __init__(self, watchdog: Watchdog, call: Callable[[], _T]) -> None:
        super().__init__(name="helper", daemon=True)
        self.done = threading.Event()
        self._watchdog = watchdog
        self._call = call
        self._outcome: list[_T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            with self._watchdog.asking():
                self._outcome.append(self._call())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            self._error = error
        finally:
            self.done.set()

    def result(self) -> _T:
        """What the call returned; raises what it raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._outcome[0]
