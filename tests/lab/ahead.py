"""The cases of a file's tests, carried out a few at a time ahead of the tests that judge them.

What a drive's order needs is mostly patience: while one waits for its drive, another can be prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import pytest

C = TypeVar("C", bound=Hashable)
R = TypeVar("R")
AT_ONCE = 4
"""Half of an order is waiting."""


class Ahead(Generic[C, R]):
    """Results by case, see `ahead`."""

    def __init__(self, pool: ThreadPoolExecutor, cases: list[C], work: Callable[[C], R]) -> None:
        self._futures = {case: pool.submit(work, case) for case in cases}

    def of(self, case: C) -> R:
        """What `work` returned for `case`, waiting for it; raises what it raised."""
        return self._futures[case].result()


@contextmanager
def ahead(cases: list[C], work: Callable[[C], R], at_once: int = AT_ONCE) -> Iterator[Ahead[C, R]]:
    """`work` on all cases, in their order; what has not begun at the end does not begin."""
    pool = ThreadPoolExecutor(at_once)
    try:
        yield Ahead(pool, cases, work)
    finally:
        pool.shutdown(cancel_futures=True)


def chosen(request: pytest.FixtureRequest, parameter: str = "case") -> list[Any]:
    """The values of `parameter` of those tests in this file that will be run."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    calls = [
        item.callspec.params for item in items if item.path == request.path and hasattr(item, "callspec")
    ]
    return [params[parameter] for params in calls if parameter in params]
