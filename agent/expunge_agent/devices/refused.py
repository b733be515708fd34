"""A rule that stopped it, on its way up."""

from __future__ import annotations

from expunge_agent.errors import RefusedError
from expunge_agent.protocol.receipt import Refusal


class TargetRefused(RefusedError):  # noqa: N818 - it says what happened
    """The target may not be touched; ``refusal`` goes into the receipt as it is."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail, refusal.remedy)
        self.refusal = refusal
