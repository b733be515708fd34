"""Numbered findings: what was checked, and how it came out. A check that could not run says so."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from expunge_agent.protocol.base import Frozen

MAX_NAMED = 8


class Status(StrEnum):
    """How a check came out. ``gap``: receipts are missing before this one; a warning, not a failure."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    GAP = "gap"


class Step(Frozen, frozen=True):
    """One check: its number from 1, what it asks, how it came out, and why."""

    number: int
    title: str
    status: Status
    detail: str


class Checklist:
    """Collects steps in the order in which they are taken."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def check(self, title: str, problems: Iterable[str], passed: str = "") -> bool:
        """Record a check that ran: passed (with the detail `passed`) when there are no `problems`."""
        found = list(problems)
        shown = "; ".join(found[:MAX_NAMED])
        if len(found) > MAX_NAMED:
            shown += f"; and {len(found) - MAX_NAMED} more"
        self._add(title, Status.FAILED if found else Status.PASSED, shown if found else passed)
        return not found

    def skip(self, title: str, reason: str) -> None:
        """Record a check that could not run, and why."""
        self._add(title, Status.SKIPPED, reason)

    def warn_gap(self, title: str, detail: str) -> None:
        """Record that receipts are missing before this one."""
        self._add(title, Status.GAP, detail)

    def _add(self, title: str, status: Status, detail: str) -> None:
        self.steps.append(Step(number=len(self.steps) + 1, title=title, status=status, detail=detail))


def failures(steps: Iterable[Step]) -> list[Step]:
    """The steps that failed."""
    return [step for step in steps if step.status is Status.FAILED]
