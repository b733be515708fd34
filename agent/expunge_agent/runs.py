"""Which kind of target is run how: one line for each kind."""

from __future__ import annotations

from expunge_agent.fscrypt_run import FscryptRun
from expunge_agent.protocol.identity import (
    BlockIdentity,
    FileIdentity,
    Identity,
    KeyIdentity,
    SpaceIdentity,
    TreeIdentity,
)
from expunge_agent.space_run import SpaceRun
from expunge_agent.target_run import TargetRun
from expunge_agent.tree_run import TreeRun
from expunge_agent.vault_run import VaultRun
from expunge_agent.watched import Maker, watched

RUNS: dict[type, Maker] = {
    BlockIdentity: watched(TargetRun),
    FileIdentity: watched(TargetRun),
    SpaceIdentity: watched(SpaceRun),
    TreeIdentity: watched(TreeRun),
}
KEY_RUNS: dict[str, Maker] = {"fscrypt": FscryptRun, "vault": VaultRun}
"""By the scheme of a key."""


def run_for(identity: Identity) -> Maker:
    """What runs a target of this kind; a key of a scheme that nobody knows is refused like a medium that is not there."""
    if isinstance(identity, KeyIdentity):
        return KEY_RUNS.get(identity.scheme, TargetRun)
    return RUNS[type(identity)]
