"""Which run carries out a target, by the kind of its identity: a closed table."""

from __future__ import annotations

from typing import Protocol

from expunge_agent.fscrypt_run import FscryptRun
from expunge_agent.protocol.identity import (
    BlockIdentity,
    FileIdentity,
    Identity,
    KeyIdentity,
    SpaceIdentity,
    TreeIdentity,
)
from expunge_agent.protocol.receipt import TargetResult
from expunge_agent.targets import TargetRun


class Run(Protocol):
    """The work on one target, from where its journal stands."""

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause."""
        ...


RUNS: dict[type[Identity], type[TargetRun] | type[FscryptRun]] = {
    BlockIdentity: TargetRun,
    FileIdentity: TargetRun,
    TreeIdentity: TargetRun,
    SpaceIdentity: TargetRun,
    KeyIdentity: FscryptRun,
}
