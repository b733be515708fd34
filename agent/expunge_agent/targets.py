"""One target of an order: find it, guard it, plan it, open it, let the technique work, judge the evidence."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import closing, suppress
from datetime import datetime
from pathlib import PurePath

from msgspec.structs import replace

from expunge_agent.core.drive import Drive
from expunge_agent.core.guard import guard, standing_objections
from expunge_agent.core.layout import left_behind
from expunge_agent.core.medium import Medium
from expunge_agent.core.obstacles import Case, Scope, other_namespaces_objection
from expunge_agent.core.outcome import Verdict, judge, judge_erasure
from expunge_agent.core.plan import Draw, TargetPlan, is_file, plan_target
from expunge_agent.core.progress import MAX_FRUITLESS_RESUMES, TargetProgress
from expunge_agent.core.reach import takes, whole_subsystem
from expunge_agent.deactivating import free, volume_facts
from expunge_agent.devices import host
from expunge_agent.devices.drives import examine
from expunge_agent.devices.encrypted import with_encryption
from expunge_agent.devices.look import find, look
from expunge_agent.devices.opening import Opened, TargetRefused, open_target
from expunge_agent.devices.patience import lasting
from expunge_agent.devices.scope import scope_of
from expunge_agent.devices.temperature import celsius
from expunge_agent.devices.usage import Eyes
from expunge_agent.engine.extents import layout
from expunge_agent.engine.problems import (
    EngineError,
    GiveUp,
    NoSpaceOnTarget,
    Stalled,
    TargetGone,
    TargetShrank,
)
from expunge_agent.engine.sources import CIPHERS
from expunge_agent.engine.target import Target as OpenTarget
from expunge_agent.erasures import erase, rejoin
from expunge_agent.events import EventLog
from expunge_agent.ledger import Ledger
from expunge_agent.lone_file import layout_and_objection
from expunge_agent.protocol.base import Level, Outcome, timestamp
from expunge_agent.protocol.identity import Identity, Target, differences, resized
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import (
    Interruption,
    PassResult,
    Reason,
    Refusal,
    TargetResult,
    Verification,
)
from expunge_agent.shredding import (
    header_path,
    header_refusal,
    key_trouble,
    keys_not_covered,
    shred,
    still_held,
    story,
    with_luks,
)
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_agent.techniques.overwrite import overwrite
from expunge_agent.techniques.overwrite_results import pass_result
from expunge_agent.techniques.overwrite_work import Work
from expunge_agent.techniques.pass_watch import SpotCheckFailed
from expunge_profiles.schema import Profile

_LOOK_EVERY = 0.5
"""Seconds between looks for a medium that disappeared."""


class TargetRun:
    """The work on target number `index`, from where its journal stands."""

    def __init__(
        self,
        order: Order,
        profile: Profile,
        index: int,
        ledger: Ledger,
        events: EventLog,
        around: Surroundings,
    ) -> None:
        self._order = order
        self._profile = profile
        self._index = index
        self._target = order.targets[index]
        self._ledger = ledger
        self._so_far = ledger.target(index)
        self._events = events
        self._around = around
        self._tuning = around.tuning.shared_by(len(order.targets))
        self._steps = Steps(index, ledger, events)
        self._found = ""
        self._gone = ""

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause.

        A medium that disappears under the work is waited for; once back, it is taken up where it was.
        """
        while True:
            self._gone = ""
            result = self._attempt()
            if not self._gone or not self._so_far.touched or not self._comes_back():
                return None if self._around.pause.is_set() else result

    def give_up(self, outcome: Outcome, why: str) -> TargetResult:
        """The result of a target that is not worked on any more, or never was: nothing is earned."""
        return untouched(self._target, self._so_far, outcome, why, self._around)

    def _attempt(self) -> TargetResult | None:
        """One go at the target, from wherever it stands."""
        try:
            refusal = self._prepare()
            if refusal is None:
                return self._work()
        except TargetRefused as error:
            refusal = error.refusal
        if refusal.reason is Reason.TARGET_NOT_FOUND:
            self._gone = refusal.detail
        return self._refused(refusal)

    def _comes_back(self) -> bool:
        """Wait until the medium is there again; False when it stays away, or away again and again."""
        until = time.monotonic() + self._around.absence
        if self._ledger.progress.fruitless >= MAX_FRUITLESS_RESUMES:
            return False
        self._steps.say("disappeared; waiting for it to come back")
        while not self._is_there():
            if time.monotonic() >= until or self._around.stop.wait(_LOOK_EVERY):
                return False
        boot = host.boot_id()
        self._steps.write(
            "returned",
            interruption=Interruption(
                noticed_at=timestamp(self._around.now()),
                boot_id_before=boot,
                boot_id_after=boot,
                decision="resumed",
                what=f"Target {self._index + 1} disappeared and came back. {self._gone}"[:4000],
            ),
        )
        return True

    def _is_there(self) -> bool:
        """Whether it can be opened as what was ordered, and answers a read."""
        try:
            path = find(self._target.identity, self._target.hint)
            if path is None:
                return False
            with (
                self._open(path, write=False) as opened,
                closing(take_over(opened)) as target,
            ):
                return target.answers()
        except (TargetRefused, EngineError, OSError):
            return False

    def _prepare(self) -> Refusal | None:
        """Find, guard and plan; nothing is opened for writing yet."""
        path = find(self._target.identity, self._target.hint)
        if path is None:
            return Refusal(
                reason=Reason.TARGET_NOT_FOUND,
                detail="No medium of this machine has the identity that the order names.",
                remedy="Check the cabling and the inventory (expunge-agent inventory).",
            )
        self._found = path
        rejoin(path, self._target.identity, self._so_far, self._steps, self._around)
        medium: Medium | None = None

        def objection() -> Refusal | None:
            nonlocal medium
            medium, usage = look(path, system=self._around.system)
            due = self._target
            if medium is not None:
                due = replace(due, identity=resized(due.identity, medium.identity, self._grows_to))
            return guard(due, medium, usage, self._around.system)

        if self._order.deactivate and (refusal := self._free(path)):
            return refusal
        if refusal := lasting(objection) or header_refusal(self._order, self._profile, self._around.system):
            return refusal
        if medium is None or self._so_far.plan is not None:
            return None
        plan = self._plan(path, medium)
        if isinstance(plan, Refusal):
            return plan
        medium = with_encryption(medium)
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
        facts = medium.facts()
        if plan.drive is not None:
            facts = replace(facts, notes=[*facts.notes, *plan.drive.doubtful_names])
        self._steps.write("planned", plan=plan, before=medium.identity, medium=facts, **where)
        return None

    def _free(self, path: str) -> Refusal | None:
        """Take down what stands on it, once nothing else speaks against the order: see `deactivating`."""
        if is_file(self._target):
            return None  # what loops over a file is not this file's to take down
        medium, usage = look(path, system=self._around.system)
        against = standing_objections(self._target, medium, usage, self._around.system)
        against = [
            one for one in against if one.reason is not Reason.IN_USE
        ]  # by whom, the plan knows better
        if against or medium is None:
            return against[0] if against else None
        if self._so_far.plan is None:
            _, unfit = volume_facts(path)
            planned = self._plan(path, medium)
            if unfit is not None or isinstance(planned, Refusal):
                return unfit if unfit is not None else planned  # type: ignore[return-value]
        return free(path, self._so_far, self._steps, self._around, self._paths_beside())

    def _paths_beside(self) -> frozenset[str]:
        """Where the order's other targets are."""
        found = set()
        for other in self._order.targets:
            if other is not self._target:
                with suppress(TargetRefused):
                    found.add(find(other.identity, other.hint) or "")
        return frozenset(found - {""})

    def _plan(self, path: str, medium: Medium) -> TargetPlan | Refusal:
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
            Draw(
                byte=lambda: secrets.randbelow(256),
                key=lambda cipher: secrets.token_bytes(CIPHERS[cipher].key_bytes),
                bytes=secrets.token_bytes,
                cipher=tuning.cipher,
                unread_cipher=tuning.unread_cipher,
            ),
        )
        held = still_held(plan.luks, []) if isinstance(plan, TargetPlan) and plan.luks else None
        return held or plan

    def _scope(self, drive: Drive | None, path: str) -> Scope:
        return scope_of(drive, path, self._ordered_beside(), Eyes.open(system=self._around.system))

    def _ordered_beside(self) -> list[str]:
        """Where the order's other targets are; one that is not what was ordered, or may not be touched, is not named."""
        found = []
        for other in self._order.targets:
            if other is self._target:
                continue
            try:
                path = find(other.identity, other.hint)
            except TargetRefused:
                continue
            if path is None:
                continue
            medium, usage = look(path, system=self._around.system)
            if medium is not None and guard(other, medium, usage, self._around.system) is None:
                found.append(path)
        return found

    def _recheck_reach(self, opened: Opened, plan: TargetPlan) -> None:
        """The target, and every namespace that the command takes with it, are still what was planned."""
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

    def _work(self) -> TargetResult | None:
        """Open and let the technique work. What breaks it becomes part of the result."""
        so_far = self._so_far
        if so_far.plan is None:
            raise AssertionError("prepared without a plan")
        path = str(self._found)
        self._steps.write("opening", path=path)
        with self._open(path, write=True) as opened:
            self._steps.write("opened", identity=opened.identity)
            trouble = ""
            try:
                self._carry_through(opened, so_far.plan)
            except EngineError as error:
                trouble = in_words(error)
                self._gone = trouble if isinstance(error, TargetGone) else ""
            except TargetRefused as error:
                trouble = error.message
                self._gone = trouble if error.refusal.reason is Reason.TARGET_NOT_FOUND else ""
            if self._around.pause.is_set():
                return None
            after, changed = self._identity_after(opened)
            moved = "" if header_path(so_far.plan) else self._left_behind(opened)
            return self._judge(after, trouble or changed or moved or key_trouble(self._so_far))

    def _open(self, path: str, *, write: bool) -> Opened:
        system = self._around.system
        return open_target(path, self._target.identity, write=write, system=system, also=self._grows_to)

    @property
    def _grows_to(self) -> int:
        plan = self._so_far.plan
        return plan.grows_to if plan is not None else 0

    def _carry_through(self, opened: Opened, plan: TargetPlan) -> None:
        if not plan.overwrites:
            erase(
                opened,
                take_over,
                lambda: self._recheck_reach(opened, plan),
                self._so_far,
                self._steps,
                self._around,
            )
            return
        if plan.luks is not None:
            shred(
                opened,
                plan,
                self._so_far,
                self._steps,
                self._around.system,
                lambda bearer, target: self._as_work(bearer, target, plan),
            )
            return
        with closing(take_over(opened)) as target:
            overwrite(self._as_work(opened, target, plan))

    def _as_work(self, opened: Opened, target: OpenTarget, plan: TargetPlan) -> Work:
        return Work(
            target=target,
            plan=plan,
            so_far=self._so_far,
            recorder=self._steps,
            recheck=opened.recheck,
            now=self._around.now,
            tuning=self._tuning,
            checkpoint_seconds=self._around.checkpoint_seconds,
            stop=self._around.stop,
            pace=self._around.pace,
            patience=self._around.patience,
            calibrate=self._around.calibrate and len(self._order.targets) == 1,
            celsius=lambda: celsius(self._found),
        )

    def _identity_after(self, opened: Opened) -> tuple[Identity | None, str]:
        if opened.fd < 0:
            return None, ""  # a question to it is still in the kernel
        try:
            after = opened.identity_now()
        except TargetRefused as error:
            return None, error.message
        changed = differences(resized(self._target.identity, after, self._grows_to), after)
        return after, f"The target changed during the run: {'; '.join(changed)}." if changed else ""

    def _left_behind(self, opened: Opened) -> str:
        """What is wrong when bytes the file had are no longer its own: nothing written reached them."""
        before = self._so_far.layout
        if before is None or not before.extents:
            return ""
        after = layout(opened.fd)
        if not before.doubts and after.doubts:
            return f"Where the file lies was known before, and now: {'; '.join(after.doubts)}."
        lost = left_behind(before, after)
        return (
            f"{lost} bytes of the file lie elsewhere now: its file system writes changes to new places, or the "
            "file was cut or moved meanwhile. What it held before was not overwritten."
            if lost
            else ""
        )

    def _judge(self, after: Identity | None, trouble: str) -> TargetResult:
        so_far = self._so_far
        plan = so_far.plan
        if plan is None:
            raise AssertionError("worked without a plan")
        doubts = [
            *plan.doubts,
            *(so_far.layout.doubts if so_far.layout else ()),
            *so_far.volume.facts.doubts,
        ]
        if not plan.overwrites:
            erasure = so_far.erasure.result(plan.technique, plan.drive)
            verdict = judge_erasure(
                erasure,
                size=erasure.reach(int(self._target.identity.size)),
                earns=plan.earns,
                verify=plan.verification.kind != "none",
                doubts=doubts,
                trouble=trouble,
                stopped=self._around.stop.is_set(),
            )
            return result_of(self._target, so_far, verdict, after, [], [], self._around.now())
        passes = [
            taken.result or pass_result(plan, index, taken, self._tuning)
            for index, taken in sorted(so_far.passes.items())
        ]
        checks = [so_far.verifications[index] for index in sorted(so_far.verifications)]
        verdict = judge(
            size=plan.extent(int(self._target.identity.size)),
            planned_passes=len(plan.passes),
            verify_after=plan.verify_after,
            earns=plan.earns,
            passes=passes,
            verifications=checks,
            trouble=trouble,
            stopped=self._around.stop.is_set(),
            doubts=doubts,
        )
        return result_of(self._target, so_far, verdict, after, passes, checks, self._around.now())

    def _refused(self, refusal: Refusal) -> TargetResult:
        """A rule forbade it. Once a byte was written, or somebody stopped it on the way, it is no refusal but a broken run."""
        so_far = self._so_far
        stopped = self._around.stop.is_set() and refusal.reason is Reason.DEACTIVATION_FAILED
        if not so_far.touched and (other := self._gone_with()):
            why = f"Its data may have gone with the command given for target {other}. {refusal.detail}"
            result = untouched(self._target, so_far, Outcome.UNKNOWN, why[:4000], self._around)
        elif not so_far.touched and not stopped:
            result = untouched(self._target, so_far, Outcome.REFUSED, "", self._around)
        else:
            result = untouched(self._target, so_far, Outcome.INTERRUPTED, refusal.detail, self._around)
        return replace(result, refusal=refusal)

    def _gone_with(self) -> int:
        """The number of another target of the order whose command took this one's data along; 0: none did."""
        node = PurePath(self._found).name
        for index in range(len(self._order.targets)):
            so_far = self._ledger.target(index)
            plan, erasure = so_far.plan, so_far.erasure
            if index == self._index or plan is None or plan.drive is None or not erasure.sending:
                continue
            begun = erasure.ended is None or erasure.ended.end != "not-begun"
            if begun and takes(plan.technique, plan.drive, node):
                return index + 1
        return 0


def take_over(opened: Opened) -> OpenTarget:
    """The engine's target over a duplicate of the descriptor; claim and lock stay with `opened`."""
    duplicate = opened.duplicate()
    try:
        return OpenTarget(duplicate, opened.size)
    except BaseException:
        os.close(duplicate)
        raise


def in_words(error: EngineError) -> str:
    """What ended the work on a target, as a sentence."""
    for kind, words in _ENDS.items():
        if isinstance(error, kind):
            return f"{words}: {error}."
    return f"The work could not go on: {error}."


_ENDS = {
    TargetGone: "The target disappeared",
    TargetShrank: "The target became smaller",
    NoSpaceOnTarget: "What stores the target is full",
    SpotCheckFailed: "The medium does not hold what it was given",
    Stalled: "The target stopped answering",
    GiveUp: "The medium fails too often and was given up",
}


def untouched(
    target: Target, so_far: TargetProgress, outcome: Outcome, why: str, around: Surroundings
) -> TargetResult:
    """The result of a target whose run ended without a verdict on evidence: nothing is earned."""
    passes = [
        taken.result or pass_result(so_far.plan, index, taken, around.tuning)
        for index, taken in sorted(so_far.passes.items())
        if so_far.plan is not None
    ]
    checks = [so_far.verifications[index] for index in sorted(so_far.verifications)]
    if so_far.erasure.attempts and outcome is Outcome.INTERRUPTED:
        outcome = Outcome.UNKNOWN  # the drive went on by itself, and nobody saw to what end
    verdict = Verdict(outcome, Level.NONE, [], why)
    return result_of(target, so_far, verdict, None, passes, checks, around.now())


def result_of(
    target: Target,
    so_far: TargetProgress,
    verdict: Verdict,
    after: Identity | None,
    passes: list[PassResult],
    checks: list[Verification],
    now: datetime,
) -> TargetResult:
    """What is told of the target: its journal so far, and the verdict on it."""
    plan = so_far.plan
    return TargetResult(
        target=target.without_psid(),
        outcome=verdict.outcome,
        refusal=None,
        identity_before=so_far.before,
        identity_opened=so_far.opened,
        identity_after=after,
        medium=so_far.medium,
        technique=plan.technique.value if plan else "",
        downgrade=plan.downgrade if plan else "",
        key=story(plan, so_far) if plan else None,
        level_achieved=verdict.level,
        passes=passes,
        verifications=checks,
        exceptions=verdict.exceptions,
        not_covered=_not_covered(so_far, int(target.identity.size)) if so_far.touched else [],
        members=so_far.volume.facts.members,
        deactivated=so_far.volume.steps,
        erasure=so_far.erasure.result(plan.technique, plan.drive) if plan and not plan.overwrites else None,
        finished_at=timestamp(now),
        failure=verdict.failure,
        files=so_far.files.report(plan),
    )


def _not_covered(so_far: TargetProgress, size: int) -> list[str]:
    """What no step could reach."""
    plan, listing = so_far.plan, so_far.files.listing
    if listing is not None:
        return list(listing.not_covered)
    if plan is not None and plan.luks is not None:
        return keys_not_covered(plan, size)
    hidden = ["Sectors and cells the medium does not let the host address."]
    own = hidden if plan is None or plan.overwrites else []
    return [*own, *so_far.volume.facts.not_covered, *so_far.volume.beside()]
