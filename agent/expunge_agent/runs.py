"""Which run carries out a target of which kind: one line a kind."""

from __future__ import annotations

from typing import Protocol

from expunge_agent.events import EventLog
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.identity import Identity, KeyIdentity
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import TargetResult
from expunge_agent.surroundings import Surroundings
from expunge_agent.targets import TargetRun
from expunge_agent.vault_runs import SCHEME, VaultRun
from expunge_profiles.schema import Profile


class Run(Protocol):
    """The work on one target, from where its journal stands."""

    def __init__(
        self,
        order: Order,
        profile: Profile,
        index: int,
        ledger: Ledger,
        events: EventLog,
        around: Surroundings,
    ) -> None: ...

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause."""


def run_for(identity: Identity) -> type[Run]:
    """The run for what `identity` names; `TargetRun` refuses what it does not know."""
    if isinstance(identity, KeyIdentity):
        return KEY_RUNS.get(identity.scheme, TargetRun)
    return TargetRun


KEY_RUNS: dict[str, type[Run]] = {SCHEME: VaultRun}
"""By the scheme of the key."""
