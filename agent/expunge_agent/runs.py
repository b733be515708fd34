"""Which kind of target is run how: one line for each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from expunge_agent.events import EventLog
from expunge_agent.fscrypt_run import FscryptRun
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.identity import (
    BlockIdentity,
    FileIdentity,
    Identity,
    KeyIdentity,
    SpaceIdentity,
    TreeIdentity,
)
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import TargetResult
from expunge_agent.space_run import SpaceRun
from expunge_agent.surroundings import Surroundings
from expunge_agent.target_run import TargetRun
from expunge_agent.tree_run import TreeRun
from expunge_agent.vault_run import VaultRun
from expunge_profiles.schema import Profile


class Run(Protocol):
    """The work on one target of an order, from where its journal stands."""

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause."""

    def give_up(self, outcome: Outcome, why: str) -> TargetResult:
        """The result of a target that is not worked on any more, or never was: nothing is earned."""


Maker = Callable[[Order, Profile, int, Ledger, EventLog, Surroundings], Run]
RUNS: dict[type, Maker] = {
    BlockIdentity: TargetRun,
    FileIdentity: TargetRun,
    SpaceIdentity: SpaceRun,
    TreeIdentity: TreeRun,
}
KEY_RUNS: dict[str, Maker] = {"fscrypt": FscryptRun, "vault": VaultRun}
"""By the scheme of a key."""


def run_for(identity: Identity) -> Maker:
    """What runs a target of this kind; a key of a scheme that nobody knows is refused like a medium that is not there."""
    if isinstance(identity, KeyIdentity):
        return KEY_RUNS.get(identity.scheme, TargetRun)
    return RUNS[type(identity)]
