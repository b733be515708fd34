"""One medium or file of an order: find it, have it prepared, open it, let the technique work, have it judged."""

from __future__ import annotations

import time
from contextlib import closing

from msgspec.structs import replace

from expunge_agent.bounded import NoAnswer, within
from expunge_agent.core.plan import TargetPlan
from expunge_agent.core.progress import MAX_FRUITLESS_RESUMES
from expunge_agent.deactivating import settle
from expunge_agent.devices import host
from expunge_agent.devices.awake import awake
from expunge_agent.devices.look import find
from expunge_agent.devices.opening import Opened, TargetRefused, open_target
from expunge_agent.devices.temperature import celsius
from expunge_agent.engine.problems import EngineError, TargetGone
from expunge_agent.engine.target import Target as OpenTarget
from expunge_agent.erasures import erase
from expunge_agent.events import EventLog
from expunge_agent.judging import identity_after, judged, moved_away
from expunge_agent.ledger import Ledger
from expunge_agent.ordered_beside import gone_with
from expunge_agent.preparing import Preparation
from expunge_agent.protocol.base import Outcome, timestamp
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Interruption, Reason, Refusal, TargetResult
from expunge_agent.results import in_words, untouched
from expunge_agent.shredding import header_path, key_trouble, shred
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_agent.takeover import take_over
from expunge_agent.techniques.overwrite import overwrite
from expunge_agent.techniques.overwrite_work import Work
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
        self._index = index
        self._target = order.targets[index]
        self._ledger = ledger
        self._so_far = ledger.target(index)
        self._events = events
        self._around = around
        self._tuning = around.tuning.shared_by(len(order.targets))
        self._steps = Steps(index, ledger, events)
        self._preparation = Preparation(order, profile, self._target, self._so_far, self._steps, around)
        self._found = ""
        self._gone = ""

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause.

        A medium that disappears under the work is waited for; once back, it is taken up where it was.
        """
        settle(self._so_far, self._steps)
        while True:
            self._gone = ""
            result = self._attempt()
            if not self._gone or not self._so_far.touched or not self._comes_back():
                return None if self._around.pause.is_set() else result

    def give_up(self, outcome: Outcome, why: str) -> TargetResult:
        """The result of a target that is not worked on any more, or never was: nothing is earned."""
        settle(self._so_far, self._steps)
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
                closing(self._take_over(opened)) as target,
            ):
                return self._answers(target)
        except (TargetRefused, EngineError, OSError):
            return False

    def _answers(self, target: OpenTarget) -> bool:
        try:
            return within(self._around.patience, target.answers)
        except NoAnswer:
            target.abandon()
            return False

    def _take_over(self, opened: Opened) -> OpenTarget:
        return take_over(opened, patience=self._around.patience)

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
        return self._preparation.prepare(path)

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
            after, changed = identity_after(opened, self._target.identity, self._preparation.grows_to)
            moved = "" if header_path(so_far.plan) else moved_away(opened, so_far.layout)
            trouble = trouble or changed or moved or key_trouble(so_far)
            return judged(self._target, so_far, after, trouble, self._around, self._tuning)

    def _open(self, path: str, *, write: bool) -> Opened:
        system = self._around.system
        return open_target(
            path, self._target.identity, write=write, system=system, also=self._preparation.grows_to
        )

    def _carry_through(self, opened: Opened, plan: TargetPlan) -> None:
        if not plan.overwrites:
            erase(
                opened,
                self._take_over,
                lambda: self._preparation.recheck_reach(opened, plan),
                self._so_far,
                self._steps,
                self._around,
            )
            return
        with self._steps.wakeful(), awake(f"{plan.technique} is under way"):
            self._overwrite(opened, plan)

    def _overwrite(self, opened: Opened, plan: TargetPlan) -> None:
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
        with closing(self._take_over(opened)) as target:
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

    def _refused(self, refusal: Refusal) -> TargetResult:
        """A rule forbade it. Once a byte was written, or somebody stopped it on the way, it is no refusal but a broken run."""
        so_far = self._so_far
        stopped = self._around.stop.is_set() and refusal.reason is Reason.DEACTIVATION_FAILED
        if not so_far.touched and (other := gone_with(self._order, self._index, self._ledger, self._found)):
            why = f"Its data may have gone with the command given for target {other}. {refusal.detail}"
            result = untouched(self._target, so_far, Outcome.UNKNOWN, why[:4000], self._around)
        elif not so_far.touched and not stopped:
            result = untouched(self._target, so_far, Outcome.REFUSED, "", self._around)
        else:
            result = untouched(self._target, so_far, Outcome.INTERRUPTED, refusal.detail, self._around)
        return replace(result, refusal=refusal)
