"""A call that may never come back, made beside us and not waited for beyond its time.

A read of a disk that answers nothing holds its thread in the kernel, where no signal reaches it. The thread is left behind
with what it holds; it does not keep the process from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NoAnswer(Exception):  # noqa: N818 - named like the other ends
    """The call had not come back in its time."""


def within(seconds: float, call: Callable[[], T], late: Callable[[T | None], None] = lambda found: None) -> T:
    """What `call` returns or raises. Raises NoAnswer after `seconds`.

    `late` is called in its thread should it come back after that, with what it returned, or None for an exception:
    to close what it opened. It is not told of by anybody else.
    """
    lock = threading.Lock()
    found: list[T] = []
    trouble: list[BaseException] = []
    ended, given_up = threading.Event(), False

    def work() -> None:
        try:
            found.append(call())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            trouble.append(error)
        with lock:
            ended.set()
            too_late = given_up
        if too_late:
            late(found[0] if found else None)

    threading.Thread(target=work, name="helper", daemon=True).start()
    ended.wait(seconds)
    with lock:
        given_up = not ended.is_set()
    if given_up:
        raise NoAnswer(f"no answer for {seconds:.0f} s")
    if trouble:
        raise trouble[0]
    return found[0]
