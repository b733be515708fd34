"""A folder whose key is to go: look, take the key out of the kernel, destroy what stores it, look again."""

from __future__ import annotations

import hashlib
import os

from msgspec.structs import replace

from expunge_agent.core.fscrypt import (
    POLICY,
    PROTECTOR,
    SHARED,
    UNSEEN,
    FscryptCase,
    busy,
    fscrypt_case,
    readable_after,
)
from expunge_agent.core.guard import listing, readable
from expunge_agent.core.key_progress import KeyStep
from expunge_agent.core.outcome import Verdict
from expunge_agent.core.plan import TargetPlan, VerificationPlan
from expunge_agent.core.technique import Technique
from expunge_agent.devices import fscrypt, fscrypt_stored, fscrypt_traces, host, key_traces
from expunge_agent.devices.fscrypt_held import held
from expunge_agent.devices.opening import TargetRefused
from expunge_agent.devices.paths import walk
from expunge_agent.devices.roots import LIVE
from expunge_agent.events import EventLog
from expunge_agent.fscrypt_destroying import destroy_file
from expunge_agent.ledger import Ledger
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.identity import Identity, KeyIdentity, differences
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.order_keys import KeyWish
from expunge_agent.protocol.receipt import MediumFacts, Reason, Refusal, TargetResult
from expunge_agent.protocol.receipt_keys import KeyCopy, KeyDestruction, KeyEvidence
from expunge_agent.results import result_of
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_profiles.schema import Profile

SCHEME = "fscrypt"
PREFIX = "fscrypt:"
"""Before the path of a folder whose key is meant."""
FOUND, REMOVE, CHECK = "fscrypt-found", "fscrypt-remove", "fscrypt-check"
_NOT_COVERED = [
    "The encrypted data: they stay where they are, with sizes, times and the number of files.",
    "What other folders of the file system hold under the same key became unreadable too, and was not looked at.",
    "Earlier places of the files that stored the key, and the file system's own journal.",
]


def identify(path: str) -> KeyIdentity:
    """Which key the folder at `path` has. Raises TargetRefused where it has none that can be taken away."""
    walked = walk(path)
    if walked.symlinks:
        raise TargetRefused(
            Refusal(
                reason=Reason.SYMBOLIC_LINK,
                detail=f"{readable(walked.path)} goes through a symbolic link.",
                remedy=f"Name the real path: {readable(walked.real_path)}",
            )
        )
    try:
        policy = fscrypt.policy_of(walked.path)
    except fscrypt.NotFscryptError as error:
        raise TargetRefused(
            Refusal(
                reason=Reason.TARGET_NOT_FOUND if walked.seen is None else Reason.WRONG_KIND,
                detail=f"{readable(walked.path)} has no key of its own: {error}",
                remedy="Name a folder that fscrypt encrypts; else overwrite its files, or its whole medium.",
            )
        ) from error
    if policy.version != 2:
        raise TargetRefused(
            Refusal(
                reason=Reason.UNSUPPORTED,
                detail=f"{readable(walked.path)} has a policy of version 1 (key {policy.key}): such keys lie in keyrings of "
                "users and processes, where the kernel does not tell who holds them, and each file's own key gives them away.",
                remedy="Overwrite its files (where its file system does that in place), or its whole medium. To lock it "
                f"meanwhile: keyctl unlink or invalidate every entry fscrypt:{policy.key} (ext4:, f2fs:), then unmount.",
            )
        )
    return KeyIdentity(scheme=SCHEME, key=policy.key, path=walked.path, host=host.machine_id(LIVE))


def plan_of(
    identity: KeyIdentity, profile: Profile, level: Level, allow_downgrade: bool, case: FscryptCase
) -> TargetPlan | Refusal:
    """The steps for a folder, or why there are none that the order would accept."""
    against = key_objection(identity, profile, level, allow_downgrade, case)
    if against is not None:
        return against
    why = _earning(case)
    return TargetPlan(
        path=identity.path,
        technique=Technique.FSCRYPT_KEY_REMOVAL,
        earns=case.level,
        verification=VerificationPlan(kind="none"),
        doubts=[] if case.level is not Level.NONE else [why[:4000]],
        downgrade=""
        if case.level.reaches(level)
        else f"The order asks for {level} and allows less. {why}"[:4000],
    )


def key_objection(
    identity: KeyIdentity, profile: Profile | None, level: Level, allow_downgrade: bool, case: FscryptCase
) -> Refusal | None:
    """Why `profile` (None: any that removes such keys) and `level` do not go with the folder, or None."""
    if profile is not None and Technique.FSCRYPT_KEY_REMOVAL not in profile.techniques:
        return Refusal(
            reason=Reason.PROFILE_NOT_APPLICABLE,
            detail=f"Profile {profile.id} does not remove keys of folders.",
            remedy="Choose one that does: fscrypt-key-removal.",
        )
    if not case.level.reaches(level) and not allow_downgrade:
        return Refusal(
            reason=Reason.LEVEL_NOT_ACHIEVABLE,
            detail=f"The order asks for {level}; {readable(identity.path)} cannot have it. {_earning(case)}"[
                :4000
            ],
            remedy="State what you know (--statement), or allow a downgrade.",
        )
    return None


def stored_unwritable(case: FscryptCase) -> Refusal | None:
    """The refusal where a file that stores the key cannot be overwritten and removed here; nothing is tried."""
    stored = [one.where for one in case.stored if one.what in (POLICY, PROTECTOR)]
    kept = [
        where
        for where in stored
        if not (os.access(where, os.W_OK) and os.access(os.path.dirname(where), os.W_OK | os.X_OK))  # noqa: PTH120
    ]
    if not kept:
        return None
    return Refusal(
        reason=Reason.READ_ONLY,
        detail=f"What stores the key cannot be written: {listing(kept)}.",
        remedy="Mount it for writing; under systemd name it in ReadWritePaths= (docs/keys.md).",
    )


def _earning(case: FscryptCase) -> str:
    return f"Removing the key earns {case.level}: {case.lacking}."


def case_of(identity: KeyIdentity, wish: KeyWish | None, known: list[KeyCopy] | None = None) -> FscryptCase:
    """What is known of the folder's key now; `known` is what stored it when the run began."""
    wish = wish or KeyWish()
    policy = fscrypt.policy_of(identity.path)
    stored = fscrypt_stored.stored(identity.path, policy) if known is None else known
    searched = key_traces.lookable(wish.search)
    found = fscrypt_traces.copies(policy.key, searched, [one.where for one in stored])
    found += held(identity.path, policy.key)
    return fscrypt_case(policy, stored, found, searched, wish.statements)


class FscryptRun:
    """The work on target number `index`, a folder's key, from where its journal stands."""

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
        self._target = order.targets[index]
        self._so_far = ledger.target(index)
        self._steps = Steps(index, ledger, events)
        self._around = around

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause."""
        ordered = self._target.identity
        if not isinstance(ordered, KeyIdentity) or ordered.scheme != SCHEME:
            return self._refused(
                Refusal(
                    reason=Reason.UNSUPPORTED,
                    detail="This agent destroys keys of fscrypt folders only.",
                    remedy="Order a folder: fscrypt:/path",
                )
            )
        try:
            seen = identify(ordered.path)
            if changed := differences(ordered, seen):
                raise TargetRefused(
                    Refusal(
                        reason=Reason.IDENTITY_MISMATCH,
                        detail=readable(
                            f"{ordered.path} is not the target ordered: {'; '.join(changed)}.", 2000
                        ),
                        remedy="Order by the key that the folder has.",
                    )
                )
            case, plan = self._begin(ordered)
        except TargetRefused as error:
            return self._refused(error.refusal)
        return self._work(ordered, case, plan)

    def give_up(self, outcome: Outcome, why: str) -> TargetResult:
        """The result of a folder that is not worked on any more, or never was: nothing is earned."""
        return self._result(Verdict(outcome, Level.NONE, [], why), None)

    def _begin(self, ordered: KeyIdentity) -> tuple[FscryptCase, TargetPlan]:
        """What is known and planned; raises TargetRefused before anything was done."""
        found = self._so_far.key.done(FOUND)
        case = case_of(ordered, self._order.keys, found.copies if found else None)
        plan = plan_of(ordered, self._profile, self._order.level, self._order.allow_downgrade, case)
        if isinstance(plan, Refusal):
            raise TargetRefused(plan)
        if found is None:
            if who := fscrypt.holders(ordered.path):
                raise TargetRefused(
                    Refusal(reason=Reason.IN_USE, detail=busy(who), remedy="End those programs first.")
                )
            if not self._order.allow_downgrade and (kept := stored_unwritable(case)):
                raise TargetRefused(kept)
            medium = MediumFacts(
                path=ordered.path, type="unknown", notes=[f"a folder with {case.policy.cipher}"]
            )
            self._steps.write("planned", plan=plan, before=ordered, medium=medium)
            self._steps.write("opened", identity=ordered)
            self._steps.key_step(KeyStep(name=FOUND, done=True, copies=case.stored))
        return case, plan

    def _work(self, ordered: KeyIdentity, case: FscryptCase, plan: TargetPlan) -> TargetResult | None:
        if self._around.stop.is_set() and self._around.pause.is_set():
            return None
        self._steps.key_step_begun(REMOVE)
        removal = fscrypt.remove(ordered.path, ordered.key)
        word = f"{removal.before:02x}{removal.after:02x}{removal.flags:02x}"
        trouble = ""
        if not removal.complete:
            trouble = removal.error or busy(fscrypt.holders(ordered.path))
        told = f"Key status {removal.before} before, {removal.after} afterwards, flags {removal.flags}."
        evidence = [KeyEvidence(name="key status before, after, removal flags", hex=word)]
        self._steps.key_step(
            KeyStep(name=REMOVE, done=not trouble, detail=told, trouble=trouble, evidence=evidence)
        )
        stored = [self._destroy(one) for one in case.stored] if not trouble else case.stored
        tried = ""
        if not trouble:
            after = fscrypt.stays_readable(ordered.path)
            tried = f"{after.files} files below the folder were tried{'' if after.all else ', not all'}: "
            tried += f"{len(after.open)} can still be opened." if after.open else "none can be opened."
            trouble = tried if after.open else ""
        self._steps.key_step(KeyStep(name=CHECK, done=not trouble, detail=tried, trouble=trouble))
        return self._judged(ordered, case, plan, stored, trouble)

    def _destroy(self, one: KeyCopy) -> KeyCopy:
        """What became of a file that stores the key: overwritten where it lay, then removed."""
        name = f"fscrypt-stored {hashlib.sha256(one.where.encode()).hexdigest()}"
        done = self._so_far.key.done(name)
        if done is not None:
            return done.copies[0]
        if one.what == SHARED:
            return KeyCopy(
                where=one.where,
                what=one.what,
                fate="remains",
                detail="Other keys need it; without the stored policy it does not open this one.",
            )
        if one.what == UNSEEN:
            return one
        self._steps.key_step_begun(name)
        fate, detail = destroy_file(one.where)
        after = KeyCopy(where=one.where, what=one.what, fate=fate, detail=detail[:4000])  # type: ignore[arg-type]
        self._steps.key_step(KeyStep(name=name, done=True, copies=[after]))
        return after

    def _judged(
        self, ordered: KeyIdentity, case: FscryptCase, plan: TargetPlan, stored: list[KeyCopy], trouble: str
    ) -> TargetResult:
        removed, check = self._so_far.key.steps[REMOVE], self._so_far.key.steps[CHECK]
        in_kernel = KeyCopy(
            where="the kernel's keyring of the file system",
            what="the key, unwrapped",
            fate="remains" if trouble else "destroyed",
            detail=f"{removed.detail} {check.detail}".strip(),
        )
        left = [one for one in stored if one.fate != "destroyed" and one.what != SHARED]
        doubts = [*plan.doubts, *(f"{one.where}: {one.detail}" for one in left)]
        after: Identity | None = None
        try:
            after = identify(ordered.path)
        except TargetRefused as error:
            trouble = trouble or error.refusal.detail
        if trouble:
            verdict = Verdict(Outcome.FAILED, Level.NONE, [], trouble)
        elif doubts:
            verdict = Verdict(Outcome.EXCEPTIONS, Level.NONE, doubts)
        else:
            verdict = Verdict(Outcome.SANITIZED, case.level, [])
        readable_still = readable_after(case, trouble)
        readable_still += [f"Everything, by whoever gets at {one.where} and past it." for one in left]
        key = KeyDestruction(
            scheme=SCHEME,
            key=ordered.key,
            conditions=case.conditions,
            copies=[in_kernel, *stored, *case.copies],
            readable=readable_still,
            evidence=removed.evidence,
        )
        told = self._result(verdict, after)
        return replace(told, downgrade=plan.downgrade, not_covered=list(_NOT_COVERED), key=key)

    def _refused(self, refusal: Refusal) -> TargetResult:
        if REMOVE in self._so_far.key.steps:
            return self._result(Verdict(Outcome.FAILED, Level.NONE, [], refusal.detail), None)
        return replace(self._result(Verdict(Outcome.REFUSED, Level.NONE, []), None), refusal=refusal)

    def _result(self, verdict: Verdict, after: Identity | None) -> TargetResult:
        return result_of(self._target, self._so_far, verdict, after, self._around.now(), not_covered=[])
