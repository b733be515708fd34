"""One medium or file of an order before it is opened for writing: freed, guarded, planned; and looked at again later."""

from __future__ import annotations

from msgspec.structs import replace

from expunge_agent.core.case import Case, Scope
from expunge_agent.core.drive import Drive
from expunge_agent.core.guard import guard, standing_objections
from expunge_agent.core.medium import Medium
from expunge_agent.core.obstacles import other_namespaces_objection
from expunge_agent.core.plan import TargetPlan, facts_for, is_file, plan_target
from expunge_agent.core.progress import TargetProgress
from expunge_agent.core.reach import whole_subsystem
from expunge_agent.deactivating import free, volume_facts
from expunge_agent.devices.drives import examine
from expunge_agent.devices.encrypted import with_encryption
from expunge_agent.devices.look import look
from expunge_agent.devices.opening import Opened, TargetRefused
from expunge_agent.devices.patience import lasting
from expunge_agent.devices.scope import scope_of
from expunge_agent.devices.usage import Eyes
from expunge_agent.engine.drawing import drawn
from expunge_agent.erasures import rejoin
from expunge_agent.lone_file import layout_and_objection
from expunge_agent.ordered_beside import paths_beside, permitted_beside
from expunge_agent.protocol.identity import Target, resized
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.shredding import header_path, header_refusal, still_held, with_luks
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_profiles.schema import Profile


class Preparation:
    """What comes before the first byte for one `target` of an order."""

    def __init__(
        self,
        order: Order,
        profile: Profile,
        target: Target,
        so_far: TargetProgress,
        steps: Steps,
        around: Surroundings,
    ) -> None:
        self._order = order
        self._profile = profile
        self._target = target
        self._so_far = so_far
        self._steps = steps
        self._around = around

    def prepare(self, path: str) -> Refusal | None:
        """Guard what is at `path` and plan its wipe; nothing is opened for writing yet. Raises TargetRefused."""
        rejoin(path, self._target.identity, self._so_far, self._steps, self._around)
        medium: Medium | None = None

        def objection() -> Refusal | None:
            nonlocal medium
            medium, usage = look(path, system=self._around.system)
            return guard(self._due(medium), medium, usage, self._around.system)

        if self._order.deactivate and (refusal := self._free(path)):
            return refusal
        if refusal := lasting(objection) or header_refusal(self._order, self._profile, self._around.system):
            return refusal
        if medium is None or self._so_far.plan is not None:
            return None
        plan = self._plan(path, medium)
        return plan if isinstance(plan, Refusal) else self._planned(path, medium, plan)

    @property
    def grows_to(self) -> int:
        """Bytes that the medium shows once the drive has given back what it hides; 0: it hides nothing."""
        plan = self._so_far.plan
        return plan.grows_to if plan is not None else 0

    def recheck_reach(self, opened: Opened, plan: TargetPlan) -> None:
        """The target, and every namespace that the command takes with it, are still what was planned; else TargetRefused."""
        opened.recheck()
        drive = plan.drive
        if drive is None or not whole_subsystem(plan.technique, drive):
            return
        now = examine(opened.path)
        medium, _ = look(opened.path, system=self._around.system)
        if now is None or medium is None:
            return
        case = Case(self._target, medium, now, medium.type, self._profile, self._scope(now, opened.path))
        against = other_namespaces_objection(case, plan.technique)
        if against is not None:
            raise TargetRefused(Refusal(reason=against.reason, detail=against.why, remedy=against.remedy))

    def _planned(self, path: str, medium: Medium, plan: TargetPlan) -> Refusal | None:
        """Journal the plan with what it is for; why it cannot be carried out, where the volume says so."""
        medium = with_encryption(medium, self._around.patience)
        bearer = header_path(plan)
        where: dict[str, object] = {}
        if bearer or is_file(self._target):
            where["layout"], unfit = layout_and_objection(
                bearer or path,
                allow_exceptions=self._order.allow_exceptions,
                system=self._around.system,
            )
            if unfit is not None:
                return unfit
        volume, against = volume_facts(path)
        if against is not None:
            return against
        if volume is not None:
            where["volume"] = volume
        facts = facts_for(plan, medium)
        self._steps.write("planned", plan=plan, before=medium.identity, medium=facts, **where)
        return None

    def _free(self, path: str) -> Refusal | None:
        """Take down what stands on it, once nothing else speaks against the order: see `deactivating`."""
        if is_file(self._target):
            return None  # what loops over a file is not this file's to take down
        medium, usage = look(path, system=self._around.system)
        against = standing_objections(self._due(medium), medium, usage, self._around.system)
        against = [
            one for one in against if one.reason is not Reason.IN_USE
        ]  # by whom, the plan knows better
        if against or medium is None:
            return against[0] if against else None
        if refusal := header_refusal(self._order, self._profile, self._around.system):
            return refusal
        plan = self._so_far.plan
        if plan is None:
            _, unfit = volume_facts(path)
            planned = self._plan(path, medium, freed=True)
            if unfit is not None or isinstance(planned, Refusal):
                return unfit if unfit is not None else planned  # type: ignore[return-value]
            plan = planned
        luks = plan.luks
        return free(
            path,
            self._so_far,
            self._steps,
            self._around,
            paths_beside(self._order, self._target),
            lambda closed: still_held(luks, [], closed) if luks is not None else None,
        )

    def _due(self, medium: Medium | None) -> Target:
        """The target as it is to be found now: it may show what it hid before."""
        if medium is None:
            return self._target
        found = resized(self._target.identity, medium.identity, self.grows_to)
        return replace(self._target, identity=found)

    def _plan(self, path: str, medium: Medium, *, freed: bool = False) -> TargetPlan | Refusal:
        """The steps; with `freed` as they will be once nothing stands on it."""
        drive = examine(path)
        tuning = self._around.tuning
        plan = plan_target(
            self._target,
            medium,
            drive,
            self._profile,
            self._order.level,
            self._order.allow_downgrade,
            with_luks(self._scope(drive, path), medium, self._profile, self._order.keys),
            drawn(tuning.cipher, tuning.unread_cipher),
        )
        if freed or isinstance(plan, Refusal) or plan.luks is None:
            return plan
        return still_held(plan.luks, []) or plan

    def _scope(self, drive: Drive | None, path: str) -> Scope:
        system = self._around.system
        beside = permitted_beside(self._order, self._target, system)
        return scope_of(drive, path, beside, Eyes.open(system=system))
