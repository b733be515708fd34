"""Files below a directory as a target: find them, guard them, list them, overwrite them, judge the evidence."""

from __future__ import annotations

import fcntl
import os

import msgspec

from expunge_agent.core.case import ALONE
from expunge_agent.core.files_outcome import judge_files
from expunge_agent.core.guard import guard, readable
from expunge_agent.core.medium import Medium
from expunge_agent.core.outcome import Verdict
from expunge_agent.core.plan import TargetPlan, plan_target
from expunge_agent.devices.awake import awake
from expunge_agent.devices.below import Below
from expunge_agent.devices.file_facts import ground_of
from expunge_agent.devices.look import look, tree_identity
from expunge_agent.devices.opening import TargetRefused, place_of
from expunge_agent.devices.paths import walk
from expunge_agent.devices.usage import Eyes
from expunge_agent.engine.drawing import drawn
from expunge_agent.engine.problems import EngineError
from expunge_agent.engine.tuning import Tuning
from expunge_agent.events import EventLog
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.identity import TreeIdentity, differences
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Reason, Refusal, TargetResult
from expunge_agent.results import result_of, untouched
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_agent.techniques.files import ListAlteredError, list_files, overwrite_files, write_manifest
from expunge_agent.techniques.files_work import FilesWork
from expunge_profiles.schema import Profile

BATCH_FILES = 1000


class TreeRun:
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
        identity = order.targets[index].identity
        if not isinstance(identity, TreeIdentity):
            raise TypeError("not a target of files")
        self._order = order
        self._profile = profile
        self._index = index
        self._target = order.targets[index]
        self._identity = identity
        self._ledger = ledger
        self._so_far = ledger.target(index)
        self._around = around
        self._steps = Steps(index, ledger, events)

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause."""
        try:
            refusal = self._prepare()
            result = self._refused(refusal) if refusal is not None else self._work()
        except TargetRefused as error:
            result = self._refused(error.refusal)
        return None if self._around.pause.is_set() else result

    def give_up(self, outcome: Outcome, why: str) -> TargetResult:
        """The result of a directory that is not worked on any more, or never was: nothing is earned."""
        return untouched(self._target, self._so_far, outcome, why, self._around)

    def _prepare(self) -> Refusal | None:
        """Guard and plan the directory; its files are looked at later, one by one."""
        medium, usage = look(self._identity.path, system=self._around.system, narrow=self._identity)
        refusal = guard(self._target, medium, usage, self._around.system)
        if refusal is not None or medium is None or self._so_far.plan is not None:
            return refusal
        plan = plan_files(self._order, self._profile, self._index, medium, self._around.tuning)
        if isinstance(plan, Refusal):
            return plan
        self._steps.write("planned", plan=plan, before=medium.identity, medium=medium.facts())
        return None

    def _work(self) -> TargetResult | None:
        plan = self._so_far.plan
        if plan is None:
            raise AssertionError("prepared without a plan")
        self._steps.write("opening", path=self._identity.path)
        with open_tree(self._identity) as below:
            self._steps.write("opened", identity=self._identity)
            work = self._as_work(below, plan)
            trouble = ""
            try:
                if self._so_far.files.listing is None:
                    list_files(work)
                if refusal := self._nothing_to_do():
                    return self._refused(refusal)
                with self._steps.wakeful(), awake("files are being overwritten"):
                    overwrite_files(work)
            except ListAlteredError as error:
                return self._judge(plan, f"The work could not go on: {error}.")
            except (EngineError, TargetRefused) as error:
                trouble = f"The work could not go on: {error}."
            except OSError as error:
                trouble = f"The file system gave out: {os.strerror(error.errno or 0)}."
            if self._around.pause.is_set():
                return None
            if self._so_far.files.listing is not None:
                write_manifest(work)
            return self._judge(plan, trouble)

    def _as_work(self, below: Below, plan: TargetPlan) -> FilesWork:
        eyes = Eyes.open(system=self._around.system)
        return FilesWork(
            identity=self._identity,
            below=below,
            ground=ground_of(self._identity.path, eyes),
            eyes=eyes,
            plan=plan,
            so_far=self._so_far.files,
            recorder=self._steps,
            recheck=lambda: check_tree(self._identity, below),
            folder=self._ledger.folder,
            name=f"files-{self._index + 1}",
            keep=self._order.keep,
            allow_exceptions=self._order.allow_exceptions,
            checkpoint_seconds=self._around.checkpoint_seconds,
            stop=self._around.stop,
            pace=self._around.pace,
            batch_files=BATCH_FILES,
        )

    def _nothing_to_do(self) -> Refusal | None:
        """Why no file is to be written, where that is so."""
        listing = self._so_far.files.listing
        if listing is None or listing.batches:
            return None
        path = readable(self._identity.path)
        if not listing.found.files:
            return Refusal(
                reason=Reason.EMPTY,
                detail=f"The directory {path} has no file that is meant.",
                remedy="Check the path and the patterns.",
            )
        first = listing.listed[0]
        return Refusal(
            reason=Reason(listing.reason),
            detail=f"None of the {listing.found.files} files below {path} can be overwritten. {first.path}: {first.why}."[
                :4000
            ],
            remedy=first.remedy,
        )

    def _judge(self, plan: TargetPlan, trouble: str) -> TargetResult:
        files = self._so_far.files.report(plan)
        if files is None:
            verdict = Verdict(Outcome.FAILED, Level.NONE, [], trouble)
        else:
            verdict = judge_files(
                files,
                earns=plan.earns,
                verify=plan.verification.kind != "none",
                trouble=trouble,
                stopped=self._around.stop.is_set(),
            )
        after = _identity_now(self._identity)
        if after is not None and (changed := differences(self._identity, after)) and not verdict.failure:
            why = f"The directory changed during the run: {'; '.join(changed)}."
            verdict = Verdict(Outcome.FAILED, Level.NONE, [], why)
        return result_of(self._target, self._so_far, verdict, after, self._around.now())

    def _refused(self, refusal: Refusal) -> TargetResult:
        """A rule forbade it. Once a byte was written it is no refusal any more but a broken run."""
        if self._so_far.touched:
            result = untouched(self._target, self._so_far, Outcome.INTERRUPTED, refusal.detail, self._around)
        else:
            result = untouched(self._target, self._so_far, Outcome.REFUSED, "", self._around)
        return msgspec.structs.replace(result, refusal=refusal)


def plan_files(
    order: Order, profile: Profile, index: int, medium: Medium, tuning: Tuning
) -> TargetPlan | Refusal:
    """The passes for files; a cipher that can be entered anywhere, as small files begin anywhere."""
    cipher = tuning.cipher if tuning.cipher != "aes-256-xts" else "aes-256-ctr"
    return plan_target(
        order.targets[index],
        medium,
        None,
        profile,
        order.level,
        order.allow_downgrade,
        ALONE,
        drawn(cipher, cipher),
    )


class open_tree:  # noqa: N801 - used like a function
    """The directory of `identity`, held open and locked (flock(2)), so that no second order works on it.

    Raises TargetRefused where it is not the one ordered.
    """

    def __init__(self, identity: TreeIdentity) -> None:
        self._identity = identity
        self._fd = -1

    def __enter__(self) -> Below:
        path = readable(self._identity.path)
        try:
            place = place_of(self._identity.path)
            try:
                self._fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            finally:
                os.close(place)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            below = Below(self._fd)
            check_tree(self._identity, below)
        except BlockingIOError as error:
            self.close()
            raise _refusal(
                Reason.IN_USE, f"{path} is locked by another process, perhaps another order."
            ) from error
        except OSError as error:
            self.close()
            raise _refusal(
                Reason.TARGET_NOT_FOUND, f"{path} could not be opened: {error.strerror}."
            ) from error
        except BaseException:
            self.close()
            raise
        self._below = below
        return below

    def __exit__(self, *_: object) -> None:
        self._below.forget()
        self.close()

    def close(self) -> None:
        """Give it back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def check_tree(identity: TreeIdentity, below: Below) -> None:
    """Raises TargetRefused when the path does not lead to the directory that is open, or it is another one."""
    seen, held = _identity_now(identity), os.fstat(below.fd)
    if seen is None or (int(seen.inode), seen.device) != (
        held.st_ino,
        f"{os.major(held.st_dev)}:{os.minor(held.st_dev)}",
    ):
        raise _refusal(
            Reason.TARGET_NOT_FOUND,
            f"{readable(identity.path)} no longer leads to the directory that was opened.",
        )
    if found := differences(identity, seen):
        raise _refusal(
            Reason.IDENTITY_MISMATCH,
            f"{readable(identity.path)} is not what was ordered: {'; '.join(found)}.",
        )


def _identity_now(identity: TreeIdentity) -> TreeIdentity | None:
    walked = walk(identity.path)
    if walked.seen is None or walked.symlinks:
        return None
    return tree_identity(walked.path, walked.seen, identity)


def _refusal(reason: Reason, detail: str) -> TargetRefused:
    return TargetRefused(
        Refusal(reason=reason, detail=detail[:4000], remedy="Take the inventory again, and order anew.")
    )
