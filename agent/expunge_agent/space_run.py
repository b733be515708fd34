"""One free-space target of an order: look, refuse or plan, fill, let the passes run, measure, clean up, judge."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec

from expunge_agent.core.outcome import Verdict, judge
from expunge_agent.core.space import FOLDER_PREFIX, Space, reserve_of, space_refusal
from expunge_agent.core.space_limits import doubts, not_reached
from expunge_agent.core.space_outcome import exceptions, trouble
from expunge_agent.core.space_plan import plan_space
from expunge_agent.core.space_progress import Folder, start_of
from expunge_agent.devices import fsinfo
from expunge_agent.devices.awake import awake
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.space import claimed, look_at_space
from expunge_agent.engine.drawing import drawn
from expunge_agent.engine.own_folder import NotOurs, OwnFolder
from expunge_agent.engine.problems import EngineError, describe
from expunge_agent.events import EventLog
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.identity import Identity, SpaceIdentity, SpaceWish
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Reason, Refusal, TargetResult
from expunge_agent.results import checks_of, in_words, passes_of, result_of
from expunge_agent.space_cleanup import clean_up
from expunge_agent.space_work import SpaceWork
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_profiles.schema import Profile


@dataclass
class SpaceRun:
    """The work on target number `index`, from where its journal stands; made like `target_run.TargetRun`."""

    order: Order
    profile: Profile
    index: int
    ledger: Ledger
    events: EventLog
    around: Surroundings

    def __post_init__(self) -> None:
        self._target = self.order.targets[self.index]
        if not isinstance(self._target.identity, SpaceIdentity):
            raise TypeError("a SpaceRun is for free space")
        self._identity: SpaceIdentity = self._target.identity
        self._wish = self._target.space or SpaceWish()
        self._so_far = self.ledger.target(self.index)
        self._steps = Steps(self.index, self.ledger, self.events)

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause."""
        try:
            result = self._attempt()
        except TargetRefused as error:
            result = self._refused(error.refusal)
        return None if self.around.pause.is_set() else result

    def give_up(self, outcome: Outcome, why: str) -> TargetResult:
        """The result of an order that is not continued, after everything was taken away that it left."""
        self._clean()
        return self._result(Verdict(outcome, Level.NONE, [], why), None)

    def _clean(self) -> None:
        """Take away what was made, if the file system on which it was made is mounted where it was."""
        progress = self._so_far.space
        if progress.folder is None:
            return
        seen = look_at_space(self._identity.path, self.around.system, progress.folder.name)
        if isinstance(seen, Space) and seen.identity.uuid == self._identity.uuid and not seen.belongs_to:
            clean_up(progress, self._steps.write, seen.node)
        else:
            self._steps.write("space-kept", why="its file system is not mounted there now")

    def _look(self) -> Space:
        """The file system as it is now. Raises TargetRefused."""
        folder = self._so_far.space.folder
        seen = look_at_space(self._identity.path, self.around.system, folder.name if folder else "")
        if isinstance(seen, Refusal):
            raise TargetRefused(seen)
        return seen

    def _attempt(self) -> TargetResult:
        with ExitStack() as stack:
            space = self._look()
            stack.enter_context(claimed(space))
            progress = self._so_far.space
            if progress.removing:
                return self._end("")
            folder = self._taken_up()
            if folder is None:
                self._prepare(self._look())
                folder = self._made()
            try:
                return self._carry_through(space, folder)
            finally:
                folder.close()

    def _taken_up(self) -> OwnFolder | None:
        """The folder of an earlier run if all it filled is still there; else what is left of it is removed."""
        progress = self._so_far.space
        if progress.folder is None:
            return None
        if progress.filling is not None and self._so_far.plan is not None:
            try:
                found = OwnFolder.find(progress.folder)
            except (NotOurs, OSError):
                found = None
            if found is not None and SpaceWork.is_whole(found, progress.filling):
                return found
            if found is not None:
                found.close()
        self._clean()
        if not progress.cleaned_up:
            raise TargetRefused(
                Refusal(
                    reason=Reason.IN_USE,
                    detail=f"What an earlier run of this order left could not be removed: {progress.cleaning}.",
                    remedy="Mount it where it was, or remove by hand what is left; then order it anew.",
                )
            )
        self._steps.write("space-anew")
        return None

    def _prepare(self, space: Space) -> None:
        """Guard and plan. Raises TargetRefused; nothing was made by then."""
        refusal = space_refusal(self._identity, space, self._wish, self.around.system)
        if refusal is not None:
            raise TargetRefused(refusal)
        if self._so_far.plan is None:
            tuning = self.around.tuning
            draw = drawn(tuning.cipher, tuning.unread_cipher)
            plan = plan_space(space, self.profile, self.order.level, self.order.allow_downgrade, draw)
            if isinstance(plan, Refusal):
                raise TargetRefused(plan)
            self._steps.write("planned", plan=plan, before=space.identity, medium=space.facts())
        reserve = reserve_of(space, self._wish)
        start = start_of(space, reserve.bytes, reserve.why, not_reached(space), doubts(space))
        self._steps.write("space-measured", start=start)
        self._steps.write("opened", identity=space.identity)

    def _made(self) -> OwnFolder:
        """A new hidden folder, its name journalled before it is made."""
        folder = Folder(path=self._identity.path, name=FOLDER_PREFIX + secrets.token_hex(16))
        self._steps.write("space-folder", folder=folder)
        try:
            made = OwnFolder.make(folder)
        except OSError as error:
            raise TargetRefused(
                Refusal(
                    reason=Reason.NOT_PERMITTED,
                    detail=f"No folder could be made in {self._identity.path}: {describe(error)}.",
                    remedy="Check the mount, its quotas and its free space.",
                )
            ) from error
        try:
            self._steps.write("space-made", folder=made.folder)
        except BaseException:
            made.close()
            raise
        return made

    def _carry_through(self, space: Space, folder: OwnFolder) -> TargetResult:
        """Fill, write, measure. Whatever breaks it, what was made is taken away, unless it is to go on later."""
        broken = ""
        try:
            with self._steps.wakeful(), awake("free space is being overwritten"):
                SpaceWork(space, folder, self._so_far, self._steps, self.around).run()
        except EngineError as error:
            broken = in_words(error)
        except TargetRefused as error:
            broken = error.message
        except OSError as error:
            broken = f"The file system failed: {describe(error)}."
        except BaseException:
            # The journal may be what failed, for want of space: what takes it goes first.
            clean_up(self._so_far.space, lambda *_kind, **_data: None, space.node)
            raise
        if self.around.pause.is_set():
            return self._result(Verdict(Outcome.INTERRUPTED, Level.NONE, [], ""), None)
        return self._end(broken)

    def _end(self, broken: str) -> TargetResult:
        """Clean up and judge."""
        progress = self._so_far.space
        if progress.peak is not None:
            self._steps.write("space-removing")
        self._steps.say("giving the space back")
        self._clean()
        if self._wish.trim and progress.peak is not None and progress.cleaned_up:
            self._trim()
        after, changed = self._after()
        return self._judge(after, broken or trouble(progress) or changed)

    def _trim(self) -> None:
        """Tell the device what is free. It is reported, and earns nothing."""
        try:
            fd = os.open(self._identity.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                told = fsinfo.trim(fd)
            finally:
                os.close(fd)
        except OSError as error:
            self._steps.write("space-trimmed", bytes="", told=f"refused: {describe(error)}")
            return
        self._steps.write("space-trimmed", bytes=str(told), told="the device was told what is free (FITRIM)")

    def _after(self) -> tuple[Identity | None, str]:
        seen = look_at_space(self._identity.path, self.around.system)
        if isinstance(seen, Refusal):
            return None, seen.detail
        if seen.identity != self._identity:
            return seen.identity, "Another file system is mounted there now."
        return seen.identity, ""

    def _judge(self, after: Identity | None, broken: str) -> TargetResult:
        so_far = self._so_far
        plan, filling = so_far.plan, so_far.space.filling
        stopped = self.around.stop.is_set()
        if filling is None or plan is None or (so_far.space.peak is None and not broken):
            outcome = Outcome.INTERRUPTED if stopped and not broken else Outcome.FAILED
            why = broken or ("The run was stopped before its end." if stopped else "It came to no end.")
            return self._result(Verdict(outcome, Level.NONE, [], why), after)
        verdict = judge(
            size=filling.size,
            planned_passes=len(plan.passes),
            verify_after=plan.verify_after,
            earns=plan.earns,
            passes=passes_of(so_far, self.around.tuning),
            verifications=checks_of(so_far),
            trouble=broken,
            stopped=stopped and so_far.space.peak is None,
            doubts=exceptions(so_far.space),
        )
        return self._result(verdict, after)

    def _refused(self, refusal: Refusal) -> TargetResult:
        """A rule forbade it; once something was made it is no refusal any more but a broken run."""
        if not self._so_far.space.begun:
            verdict = Verdict(Outcome.REFUSED, Level.NONE, [], "")
        else:
            self._clean()
            verdict = Verdict(Outcome.INTERRUPTED, Level.NONE, [], refusal.detail)
        return msgspec.structs.replace(self._result(verdict, None), refusal=refusal)

    def _result(self, verdict: Verdict, after: Identity | None) -> TargetResult:
        return result_of(
            self._target,
            self._so_far,
            verdict,
            after,
            self.around.now(),
            passes=passes_of(self._so_far, self.around.tuning),
            checks=checks_of(self._so_far),
        )
