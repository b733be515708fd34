"""Workers that share one plan: each takes the next piece, so the target is written in order, several deep."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

Work = Callable[[int, int], None]
"""Do bytes [start, end). Raise to end the whole run; raise `Stopped` to leave this piece undone."""


class Stopped(Exception):  # noqa: N818
    """The piece was left because the run is to stop."""


class Stripes:
    """Threads, one per worker, over ascending pieces. Start, wait, join; may be started again for the rest."""

    def __init__(
        self,
        plan: Iterator[tuple[int, int]],
        workers: list[Work],
        stop: threading.Event,
        before: Callable[[int, Callable[[], bool]], None] | None = None,
    ) -> None:
        """`before` is called by each worker ahead of each piece it took, with the piece's length and a
        function that says whether to stop."""
        self.failure: BaseException | None = None
        """What a worker raised first; its piece and all not yet taken are undone."""
        self.exhausted = False
        """Whether the plan has been handed out to its end."""
        self.taken = 0
        """The end of the last piece handed out."""
        self._plan = plan
        self._workers = workers
        self._stop = stop
        self._before = before
        self._halt = False
        self._lock = threading.Lock()
        self._active: dict[int, int] = {}
        self._left: int | None = None
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._idle = threading.Event()

    def start(self) -> None:
        """Let the workers go."""
        self._halt = False
        self._idle.clear()
        self._running = len(self._workers)
        # Daemons: a thread stuck in the kernel on a dead disk must not keep the program from ending.
        self._threads = [
            threading.Thread(target=self._run, args=(index, work), name=f"stripe-{index}", daemon=True)
            for index, work in enumerate(self._workers)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until no worker is at work, at most `seconds`; whether that is so."""
        return self._idle.wait(seconds)

    def halt(self) -> None:
        """Hand out no more; pieces at work are finished."""
        self._halt = True

    def join(self) -> None:
        """Halt and wait for the workers."""
        self.halt()
        for thread in self._threads:
            thread.join()
        self._threads = []

    @property
    def stopping(self) -> bool:
        """Whether workers should leave long work on a piece."""
        return self._stop.is_set() or self.failure is not None

    def low(self, base: int) -> int:
        """The offset below which every piece handed out is finished; `base` before the first."""
        with self._lock:
            unfinished = list(self._active.values())
            if self._left is not None:
                unfinished.append(self._left)
            return min(unfinished, default=max(base, self.taken))

    def _run(self, index: int, work: Work) -> None:
        try:
            while (piece := self._take(index)) is not None:
                if self._before is not None:
                    self._before(piece[1] - piece[0], lambda: self._halt or self.stopping)
                    if self.stopping:
                        raise Stopped
                work(*piece)
        except Stopped:
            self._leave(index)
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            self._leave(index)
            with self._lock:
                self.failure = self.failure or error
        finally:
            with self._lock:
                self._active.pop(index, None)
                self._running -= 1
                if self._running == 0:
                    self._idle.set()

    def _take(self, index: int) -> tuple[int, int] | None:
        with self._lock:
            self._active.pop(index, None)
            if self._halt or self.failure is not None or self._left is not None or self._stop.is_set():
                return None
            piece = next(self._plan, None)
            if piece is None:
                self.exhausted = True
                return None
            self._active[index] = piece[0]
            self.taken = piece[1]
            return piece

    def release(self) -> None:
        """Let go of the workers and their buffers; nothing can be started any more."""
        self._workers = []

    def _leave(self, index: int) -> None:
        """Remember that this worker's piece stays undone."""
        with self._lock:
            start = self._active.get(index)
            if start is not None:
                self._left = start if self._left is None else min(self._left, start)
