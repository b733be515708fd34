"""What else would go with a drive: which of its other namespaces the order names, and which are in use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from expunge_agent.core.case import ALONE, Scope
from expunge_agent.core.drive import Drive
from expunge_agent.core.guard import guard, readable
from expunge_agent.devices.look import look
from expunge_agent.devices.usage import Eyes


def scope_of(drive: Drive | None, path: str, ordered: Iterable[str], eyes: Eyes) -> Scope:
    """The scope for the target at `path`; `ordered` are the real paths of all targets of the order.

    A namespace that the guard would keep from being wiped is in use, whether or not the order names it.
    Nothing is opened.
    """
    if drive is None or not drive.namespaces:
        return ALONE
    in_use = {}
    for one in drive.namespaces:
        there = str(eyes.roots.dev / one.node)
        if not one.node or there == path:
            continue
        found = look(there, eyes=eyes)
        refusal = guard(None, found.medium, found.usage, eyes.system)
        if refusal is not None:
            in_use[one.node] = readable(refusal.detail, 300)
    return Scope(ordered=frozenset(PurePath(name).name for name in ordered), in_use=in_use)
