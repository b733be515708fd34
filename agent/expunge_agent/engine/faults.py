"""Around bad places: bisect a failing range to the block, retry, list it, and know when to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

from expunge_agent.engine.blocks import Blocks
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


class Ledger:
    """Blocks that failed for good in one run, held against the limits. Several threads may use it."""

    def __init__(
        self,
        target: Blocks,
        limits: Limits,
        clock: Callable[[], int],
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        """`clock` gives nanoseconds, monotonic; `answered` is told of every attempt that came back."""
        self.problems: list[Problem] = []
        """One entry for each block that failed, in the order of failing."""
        self._target = target
        self._limits = limits
        self._clock = clock
        self._answered = answered
        self._lock = threading.Lock()
        self._streak = 0
        self._ask_at = _SUSPICIOUS
        self._failed = 0
        self._spent = 0

    def within(self, start: int, end: int) -> list[Problem]:
        """The blocks listed that have bytes in [start, end)."""
        with self._lock:
            return [problem for problem in self.problems if problem.start < end and problem.end > start]

    def forget(self, start: int, end: int) -> None:
        """Take the blocks that have bytes in [start, end) off the list: they are tried again."""
        with self._lock:
            self.problems = [
                problem for problem in self.problems if problem.start >= end or problem.end <= start
            ]

    def add(self, problem: Problem) -> None:
        """List `problem`."""
        with self._lock:
            self.problems.append(problem)

    def work_around(
        self,
        start: int,
        end: int,
        error: OSError,
        attempt: Callable[[int, int], None],
        *,
        doing: str,
        stopping: Callable[[], bool],
    ) -> None:
        """Do what can be done of [start, end), which failed with `error`; list the blocks that cannot.

        `attempt` does a part or raises OSError; `doing` names it ("write"). Ends always: every block is
        tried at most 1 + retries times by itself. Raises Stopped once `stopping`, GiveUp at the limits,
        TargetGone, TargetShrank, NoSpaceOnTarget, TargetRefused where the error is not of one range.
        """
        block = self._target.block
        todo: list[tuple[int, int, OSError | None]] = [(start, end, error)]
        while todo:
            first, last, failure = todo.pop()
            began = self._clock()
            if failure is None:
                failure = self._try(first, last, attempt)
            if failure is not None:
                self._judge(failure, doing)
                if last - first > block:
                    middle = first + -(-(last - first) // block) // 2 * block
                    todo += [(middle, last, None), (first, middle, None)]
                else:
                    failure = self._retry(first, last, failure, attempt, doing=doing, stopping=stopping)
                    if failure is not None:
                        self._lose(Problem(first, last - first, f"{doing}: {describe(failure)}"))
            self._account(began)
            if todo and stopping():
                raise Stopped

    def _retry(
        self,
        first: int,
        last: int,
        failure: OSError,
        attempt: Callable[[int, int], None],
        *,
        doing: str,
        stopping: Callable[[], bool],
    ) -> OSError | None:
        """Try one block again, by rule; the last failure, None once it worked."""
        latest: OSError | None = failure
        for _ in range(self._limits.retries):
            if stopping():
                raise Stopped
            latest = self._try(first, last, attempt)
            if latest is None:
                return None
            self._judge(latest, doing)
        return latest

    def _try(self, first: int, last: int, attempt: Callable[[int, int], None]) -> OSError | None:
        try:
            attempt(first, last)
        except OSError as error:
            return error
        finally:
            self._answered()
        with self._lock:
            self._streak, self._ask_at = 0, _SUSPICIOUS
        return None

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

    def _lose(self, problem: Problem) -> None:
        self.add(problem)
        with self._lock:
            self._failed += 1
            failed = self._failed
        if failed > self._limits.bad_blocks:
            raise GiveUp(f"more than {self._limits.bad_blocks} bad blocks")

    def _account(self, began: int) -> None:
        with self._lock:
            self._spent += self._clock() - began
            spent = self._spent
        if spent > self._limits.error_seconds * 1_000_000_000:
            raise GiveUp(f"more than {self._limits.error_seconds:.0f} s spent on failing ranges")
