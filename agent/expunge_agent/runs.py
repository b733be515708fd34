"""Which run carries out a target: by what kind of thing its identity names."""

from __future__ import annotations

from expunge_agent.events import EventLog
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.identity import BlockIdentity, FileIdentity, Identity, TreeIdentity
from expunge_agent.protocol.order import Order
from expunge_agent.surroundings import Surroundings
from expunge_agent.targets import TargetRun
from expunge_agent.tree_run import TreeRun
from expunge_profiles.schema import Profile

_RUNS: dict[type[Identity], type[TargetRun] | type[TreeRun]] = {
    BlockIdentity: TargetRun,
    FileIdentity: TargetRun,
    TreeIdentity: TreeRun,
}


def run_of(
    order: Order, profile: Profile, index: int, ledger: Ledger, events: EventLog, around: Surroundings
) -> TargetRun | TreeRun:
    """The run for target number `index` of `order`, from where its journal stands."""
    return _RUNS[type(order.targets[index].identity)](order, profile, index, ledger, events, around)
