"""What lies under a target is looked at before its run and after it: what keeps old data there is an exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from expunge_agent.core.beneath import Beneath, changes
from expunge_agent.devices.ground import beneath_device, beneath_path
from expunge_agent.devices.look import find
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.usage import Eyes
from expunge_agent.events import EventLog
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.identity import BlockIdentity, FileIdentity, SpaceIdentity, TreeIdentity
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import TargetResult
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_profiles.schema import Profile


class Run(Protocol):
    """The work on one target of an order, from where its journal stands."""

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause."""

    def give_up(self, outcome: Outcome, why: str) -> TargetResult:
        """The result of a target that is not worked on any more, or never was: nothing is earned."""


Maker = Callable[[Order, Profile, int, Ledger, EventLog, Surroundings], Run]


class Watched:
    """The run of `kind` on target number `index`, with an eye on what lies under it.

    Whatever the run writes, through a loop device it goes to a file: one that is shared, or on a file system that
    writes elsewhere, keeps what it held. The first look is journalled before a byte is written.
    """

    def __init__(
        self,
        kind: Maker,
        order: Order,
        profile: Profile,
        index: int,
        ledger: Ledger,
        events: EventLog,
        around: Surroundings,
    ) -> None:
        self._run = kind(order, profile, index, ledger, events, around)
        self._target = order.targets[index]
        self._so_far = ledger.target(index)
        self._steps = Steps(index, ledger, events)
        self._around = around

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause."""
        if self._so_far.beneath is None and (before := self._look()) is not None:
            self._steps.write("beneath", beneath=before)
        result = self._run.carry_out()
        return self._judged(result) if result is not None else None

    def give_up(self, outcome: Outcome, why: str) -> TargetResult:
        """The result of a target that is not worked on any more, or never was: nothing is earned."""
        return self._run.give_up(outcome, why)

    def _look(self) -> Beneath | None:
        """What lies under the target now; None where it is not there."""
        identity = self._target.identity
        eyes = Eyes.open(system=self._around.system)
        if isinstance(identity, FileIdentity | TreeIdentity | SpaceIdentity):
            return beneath_path(identity.path, eyes)
        if not isinstance(identity, BlockIdentity):
            return None
        try:
            path = find(identity, self._target.hint)
        except TargetRefused:
            return None
        return beneath_device(path, eyes) if path is not None else None

    def _judged(self, result: TargetResult) -> TargetResult:
        """`result` with what lies under the target as exceptions, where it claims success by writing."""
        plan, before = self._so_far.plan, self._so_far.beneath
        if (
            result.outcome not in (Outcome.SANITIZED, Outcome.EXCEPTIONS)
            or plan is None
            or not plan.overwrites
        ):
            return result
        now = self._look()
        if before is None or now is None:
            found = ["what lies under the target could not be looked at before and after"]
        else:
            found = [*before.doubts, *changes(before, now)]
        new = [one for one in found if one not in result.exceptions]
        if not new:
            return result
        return msgspec.structs.replace(
            result,
            outcome=Outcome.EXCEPTIONS,
            level_achieved=Level.NONE,
            exceptions=[*result.exceptions, *new],
        )


def watched(kind: Maker) -> Maker:
    """What makes runs of `kind` that are watched."""
    return lambda *given: Watched(kind, *given)
