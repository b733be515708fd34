"""Around bad places: bisect a failing range to the block, retry, list it; past a limit step over; know when to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

from expunge_agent.engine.blocks import Blocks
from expunge_agent.engine.listing import Listing
from expunge_agent.engine.problems import (
    GiveUp,
    Limits,
    Problem,
    TargetGone,
    describe,
    fatal,
    is_medium_error,
)
from expunge_agent.engine.stripes import Stopped

_SUSPICIOUS = 16  # failures in a row after which the rest of the target is asked

Attempt = Callable[[int, int], None]
"""Do bytes [start, end), at most a piece, or raise OSError."""


class Ledger:
    """What failed for good in one run, held against the limits. Several threads may use it.

    Up to the limits of fine work a failing piece is bisected, and its failing blocks are retried. From
    then on the run is `coarse`: a failing piece is listed whole, and while nothing works the pieces
    handed out grow (`reach`), so that a large dead region costs few attempts; what is tried of a grown
    piece is its beginning and its end, each as far as it works. With the first that works they are as
    small as before.
    """

    def __init__(
        self,
        target: Blocks,
        limits: Limits,
        clock: Callable[[], int],
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        """`clock` gives nanoseconds, monotonic; `answered` is told of every attempt that came back."""
        self.listing = Listing()
        """What failed."""
        self._target = target
        self._limits = limits
        self._clock = clock
        self._answered = answered
        self._lock = threading.Lock()
        self._streak = 0
        self._ask_at = _SUSPICIOUS
        self._failed = 0
        self._spent = 0
        self._step = 1  # pieces, of whatever size

    @property
    def coarse(self) -> bool:
        """Whether fine work has come to its limits."""
        return (
            self._failed >= self._limits.bad_blocks
            or self._spent > self._limits.error_seconds * 1_000_000_000
        )

    def reach(self, piece: int) -> int:
        """Bytes that should be handed out next, a multiple of `piece`."""
        return piece * min(self._step, max(1, self._limits.step // piece))

    def do(
        self,
        start: int,
        end: int,
        piece: int,
        attempt: Attempt,
        *,
        doing: str,
        stopping: Callable[[], bool],
    ) -> None:
        """Do what can be done of [start, end), `piece` bytes at a time at its multiples; list what cannot.

        `doing` names it ("write"). Ends always. Raises Stopped once `stopping`, GiveUp at the limits,
        TargetGone, TargetShrank, NoSpaceOnTarget, TargetRefused where the error is not of one range.
        """
        if end - start > piece:
            self._step_over(start, end, piece, attempt, doing=doing, stopping=stopping)
            return
        try:
            attempt(start, end)
        except OSError as error:
            self._work_around(start, end, error, attempt, doing=doing, stopping=stopping)
        else:
            self._worked()

    def _step_over(
        self,
        start: int,
        end: int,
        piece: int,
        attempt: Attempt,
        *,
        doing: str,
        stopping: Callable[[], bool],
    ) -> None:
        """Take a grown piece from its beginning, then from its end, each until something fails; list what is between."""
        failure = None
        first = upto = start
        while first < end and failure is None:
            upto = min(end, (first // piece + 1) * piece)
            failure = self._probe(first, upto, attempt, doing, stopping)
            first = first if failure else upto
        if failure is None:
            return
        last = end
        while last > upto:
            back = max(upto, (last - 1) // piece * piece)
            if self._probe(back, last, attempt, doing, stopping):
                break
            last = back
        self._list(first, last, failure, doing)
        if (first, last) == (start, end):
            self._widen()

    def _probe(
        self, first: int, last: int, attempt: Attempt, doing: str, stopping: Callable[[], bool]
    ) -> OSError | None:
        """Try once; how it failed."""
        if stopping():
            raise Stopped
        began = self._clock()
        failure = self._try(first, last, attempt)
        if failure is not None:
            self._judge(failure, doing)
            self._account(began)
        return failure

    def _work_around(
        self,
        start: int,
        end: int,
        error: OSError,
        attempt: Attempt,
        *,
        doing: str,
        stopping: Callable[[], bool],
    ) -> None:
        """Do what can be done of one piece, which failed with `error`. Every block is tried at most 1 + retries
        times by itself."""
        block = self._target.block
        lost = 0
        todo: list[tuple[int, int, OSError | None]] = [(start, end, error)]
        while todo:
            first, last, failure = todo.pop()
            began = self._clock()
            if failure is None:
                failure = self._try(first, last, attempt)
            if failure is not None:
                self._judge(failure, doing)
                if last - first > block and not self.coarse:
                    middle = first + -(-(last - first) // block) // 2 * block
                    todo += [(middle, last, None), (first, middle, None)]
                else:
                    failure = self._retry(first, last, failure, attempt, doing=doing, stopping=stopping)
                    if failure is not None:
                        self._list(first, last, failure, doing)
                        lost += last - first
            self._account(began)
            if todo and stopping():
                raise Stopped
        if self.coarse and lost == end - start:
            self._widen()

    def _retry(
        self,
        first: int,
        last: int,
        failure: OSError,
        attempt: Attempt,
        *,
        doing: str,
        stopping: Callable[[], bool],
    ) -> OSError | None:
        """Try one block again, by rule; the last failure, None once it worked."""
        latest: OSError | None = failure
        for _ in range(self._limits.retries):
            if self.coarse:
                break
            if stopping():
                raise Stopped
            latest = self._try(first, last, attempt)
            if latest is None:
                return None
            self._judge(latest, doing)
        return latest

    def _try(self, first: int, last: int, attempt: Attempt) -> OSError | None:
        try:
            attempt(first, last)
        except OSError as error:
            return error
        finally:
            self._answered()
        self._worked()
        return None

    def _worked(self) -> None:
        """Something was done: what failed before was of its place, and pieces are as small as ever again."""
        with self._lock:
            self._streak, self._ask_at, self._step = 0, _SUSPICIOUS, 1

    def _widen(self) -> None:
        """Nothing of a piece could be done: step over twice as much; pieces may be as small as a block."""
        with self._lock:
            if self._step * self._target.block < self._limits.step:
                self._step *= 2

    def _judge(self, error: OSError, doing: str) -> None:
        """Return if `error` may be one of this range only, else raise what it means."""
        self._target.check()
        if not is_medium_error(error):
            raise fatal(error, doing) from error
        with self._lock:
            self._streak += 1
            ask = self._streak >= self._ask_at
            if ask:
                self._ask_at *= 2
        if ask and not self._target.answers():
            raise TargetGone(f"{doing}: {describe(error)}, and no other place answers either") from error

    def _list(self, first: int, last: int, failure: OSError, doing: str) -> None:
        self.listing.add(Problem(first, last - first, f"{doing}: {describe(failure)}"))
        with self._lock:
            self._failed += 1

    def _account(self, began: int) -> None:
        with self._lock:
            self._spent += self._clock() - began
            spent = self._spent
        if spent > self._limits.give_up_seconds * 1_000_000_000:
            raise GiveUp(f"more than {self._limits.give_up_seconds:.0f} s spent on failing ranges")
