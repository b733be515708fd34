"""A record of a journal, as whatever is folded from one needs it."""

from __future__ import annotations

from typing import Any, Protocol

from expunge_agent.protocol.base import Timestamp


class Entry(Protocol):
    """What happened (``kind``), when, and what belongs to that kind."""

    @property
    def kind(self) -> str: ...
    @property
    def at(self) -> Timestamp: ...
    @property
    def data(self) -> dict[str, Any]: ...
