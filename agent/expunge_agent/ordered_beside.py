"""The other targets of an order: where they are, and what a drive's command for one does to another."""

from __future__ import annotations

from contextlib import suppress
from pathlib import PurePath

from expunge_agent.core.guard import SystemPaths, guard
from expunge_agent.core.reach import takes
from expunge_agent.devices.look import find, look
from expunge_agent.devices.opening import TargetRefused
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.order import Order


def paths_beside(order: Order, target: Target) -> frozenset[str]:
    """Where the other targets are."""
    return frozenset(path for _, path in _found_beside(order, target))


def permitted_beside(order: Order, target: Target, system: SystemPaths) -> list[str]:
    """Where the other targets are; one that is not what was ordered, or may not be touched, is not named."""
    named = []
    for other, path in _found_beside(order, target):
        medium, usage = look(path, system=system)
        if medium is not None and guard(other, medium, usage, system) is None:
            named.append(path)
    return named


def gone_with(order: Order, index: int, ledger: Ledger, path: str) -> int:
    """The number of another target whose command took the data of target `index`, at `path`, along; 0: none did."""
    node = PurePath(path).name
    for other in range(len(order.targets)):
        so_far = ledger.target(other)
        plan, erasure = so_far.plan, so_far.erasure
        if other == index or plan is None or plan.drive is None or not erasure.sending:
            continue
        begun = erasure.ended is None or erasure.ended.end != "not-begun"
        if begun and takes(plan.technique, plan.drive, node):
            return other + 1
    return 0


def _found_beside(order: Order, target: Target) -> list[tuple[Target, str]]:
    found = []
    for other in order.targets:
        if other is not target:
            with suppress(TargetRefused):
                path = find(other.identity, other.hint)
                if path:
                    found.append((other, path))
    return found
