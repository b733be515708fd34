"""One target of an order that is a subject's key in a vault: find it, weigh it, shred it, say what came of it.

The vault's own journal knows how far it is (`vault.change`): an order that is taken up again finds there
whether its change was begun, and finishes it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from msgspec.structs import replace

from expunge_agent.core.outcome import Verdict
from expunge_agent.core.technique import Technique
from expunge_agent.devices import host
from expunge_agent.errors import BusyError, ExpungeError, NotFoundError
from expunge_agent.events import EventLog
from expunge_agent.ledger import Ledger
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level, Outcome, timestamp
from expunge_agent.protocol.event import EventKind
from expunge_agent.protocol.identity import KeyIdentity
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import MediumFacts, Reason, Refusal, TargetResult
from expunge_agent.protocol.receipt_keys import KeyDestruction
from expunge_agent.results import result_of
from expunge_agent.surroundings import Surroundings
from expunge_agent.vault import work
from expunge_agent.vault.access import perform
from expunge_agent.vault.findings import destruction, doubts_before, expected, verdict
from expunge_agent.vault.keystore import Entry
from expunge_agent.vault.look import looking, where
from expunge_agent.vault.session import Place, Settings, settings_of
from expunge_agent.vault.story import Statement, Story
from expunge_profiles.schema import Profile

SCHEME = "vault"
PREFIX = "vault:"
"""Before a vault's folder, with ``#SUBJECT`` for the key of a subject."""
_ONE_AT_A_TIME = threading.Lock()
STATE_IT = (
    "Say what is known (expunge-agent vault note --condition …, or --statement in the order), or allow less "
    "(--allow-downgrade); the receipt then says what is missing."
)


class VaultRun:
    """The work on target number `index`, like `target_run.TargetRun`."""

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
        if not isinstance(identity, KeyIdentity):
            raise AssertionError("not a key")
        self._order, self._profile, self._index = order, profile, index
        self._target, self._identity = order.targets[index], identity
        self._digest = canonical.digest(order)
        self._ledger, self._events, self._around = ledger, events, around
        self._folder = Path(identity.path)
        self._root = ""

    def carry_out(self) -> TargetResult | None:
        """The target's result; None when the run was asked to pause.

        One key at a time: each shredding has its vault for itself.
        """
        with _ONE_AT_A_TIME:
            return self._attempt()

    def _attempt(self) -> TargetResult | None:
        begun = self._ledger.target(self._index).vault.begun
        refusal, entry = self._prepare()
        if entry is None or (refusal is not None and not begun):
            return self._ended(refusal or _gone(), begun=begun)
        trouble = ""
        if self._look()[1].shredding(entry.key) is None:
            if self._around.pause.is_set():
                return None
            try:
                self._shred(entry)
            except ExpungeError as error:
                if self._is_untouched():
                    reason = Reason.IN_USE if isinstance(error, BusyError) else Reason.NOT_PERMITTED
                    refusal = Refusal(reason=reason, detail=error.message, remedy=error.remedy)
                    return self._ended(refusal, begun=False)
                trouble = error.message
        return self._judge(entry, trouble)

    def give_up(self, outcome: Outcome, why: str) -> TargetResult:
        """The result of a key that is not worked on any more, or never was: nothing is earned."""
        refused = self._ended(_gone(), begun=False)
        return replace(refused, outcome=outcome, refusal=None, failure=why)

    def _prepare(self) -> tuple[Refusal | None, Entry | None]:
        """What stands in the way, and the key's entry."""
        if self._identity.host != host.machine_id():
            return Refusal(
                reason=Reason.IDENTITY_MISMATCH,
                detail="The order names a vault of another machine.",
                remedy="Order it for the machine that has the vault.",
            ), None
        if Technique.VAULT_SHRED not in self._profile.techniques:
            return Refusal(
                reason=Reason.PROFILE_NOT_APPLICABLE,
                detail=f"Profile {self._profile.id} does not allow {Technique.VAULT_SHRED}.",
                remedy="Choose the profile vault-shred, or for purge vault-shred-purge.",
            ), None
        try:
            settings, story, entry = self._look()
            self._add_words(story, self._root)
        except ExpungeError as error:
            return Refusal(reason=Reason.TARGET_NOT_FOUND, detail=error.message, remedy=error.remedy), None
        if story.shredding(entry.key) is not None:
            return None, entry  # nothing is left to do but to say what became of it
        most, missing = expected(story, entry, self._root, beyond=settings.beyond)
        if not most.reaches(self._order.level) and not self._order.allow_downgrade:
            return Refusal(
                reason=Reason.LEVEL_NOT_ACHIEVABLE,
                detail=f"Shredding this key earns {most} at the most, {self._order.level} is asked. {missing}."[
                    :4000
                ],
                remedy=STATE_IT,
            ), entry
        return None, entry

    def _look(self) -> tuple[Settings, Story, Entry]:
        settings = settings_of(self._folder)
        with looking(self._place(), timestamp(self._around.now())) as held:
            store = held.shelf.current()
            entry, self._root = store.by_key(self._identity.key), store.root
            if entry is None:
                raise NotFoundError(
                    f"The vault in {self._folder} has no key {self._identity.key}.",
                    "See: expunge-agent vault list",
                )
            return settings, held.story, entry

    def _add_words(self, story: Story, root: str) -> None:
        """Let what the order states count, of the root key `root` and those before it."""
        for one in self._order.keys.statements if self._order.keys is not None else []:
            story.take_word(
                Statement(
                    id=one.id,
                    holds=one.holds,
                    why="stated in the order",
                    at=self._order.issued_at,
                    by=one.said_by,
                    root=root,
                )
            )

    def _is_untouched(self) -> bool:
        """Whether the vault's own journal knows nothing of a change for this key."""
        pending = self._look()[1].pending
        return pending is None or pending.shred != self._identity.key

    def _shred(self, entry: Entry) -> None:
        self._events.emit(
            EventKind.STEP_STARTED,
            target=self._index,
            step=0,
            steps=1,
            title="replacing the root key",
            total=1,
        )
        access = self._around.vaults
        if access is None:
            raise NotFoundError("No passphrase of the vault is at hand.", "Name it with --passphrase-file.")
        job = access.job(
            self._folder,
            timestamp(self._around.now()),
            shred=entry.key,
            subject=entry.subject,
            order=self._digest,
        )
        self._ledger.record("shred-starting", target=self._index)
        perform(work.change, job)

    def _judge(self, entry: Entry, trouble: str) -> TargetResult:
        settings, story, _ = self._look()
        found = story.shredding(entry.key)
        if found is None:
            why = f"The shredding was begun and did not end: {trouble} Whoever opens the vault next goes on."
            return self._result(entry, settings, (Outcome.INTERRUPTED, Level.NONE, [], why), None, "")
        change, gone = found
        self._add_words(story, change.from_root)
        key = destruction(
            story,
            change,
            gone,
            made_in=entry.made_in,
            where=where(settings.holder),
            folder=str(self._folder),
            is_there=_is_there,
        )
        before = doubts_before(story, entry.made_in, change.generation - 1)
        earlier = (
            ""
            if change.order == self._digest
            else f"The shredding was begun before this order, at {change.at}."
        )
        wanted = Level.NONE if self._order.allow_downgrade else self._order.level
        return self._result(entry, settings, verdict(gone, key, wanted, before), key, earlier)

    def _result(
        self,
        entry: Entry,
        settings: Settings,
        said: tuple[Outcome, Level, list[str], str],
        key: KeyDestruction | None,
        earlier: str,
    ) -> TargetResult:
        outcome, level, exceptions, failure = said
        notes = [f"subject {entry.subject} of vault {settings.vault}", f"root keys: {where(settings.holder)}"]
        wanted = self._order.level
        less = "" if level.reaches(wanted) else f"{level} was earned, {wanted} was asked."
        return replace(
            self._told(Verdict(outcome, level, exceptions, failure)),
            identity_before=self._identity,
            identity_opened=self._identity,
            identity_after=self._identity,
            medium=MediumFacts(
                path=str(self._folder),
                type="unknown" if settings.beyond else "file",
                notes=[*notes, *([earlier] if earlier else [])],
            ),
            technique=Technique.VAULT_SHRED.value,
            not_covered=["The ciphertext stays where it is, and copies of it where they are."],
            downgrade=less if outcome is Outcome.SANITIZED else "",
            key=key,
        )

    def _ended(self, refusal: Refusal, *, begun: bool) -> TargetResult:
        """It was refused; or, once begun, what became of it cannot be seen any more."""
        if not begun:
            return replace(self._told(Verdict(Outcome.REFUSED, Level.NONE, [])), refusal=refusal)
        why = f"The shredding was begun, and then: {refusal.detail}"[:4000]
        told = self._told(Verdict(Outcome.UNKNOWN, Level.NONE, [], why))
        return replace(told, technique=Technique.VAULT_SHRED.value)

    def _told(self, verdict: Verdict) -> TargetResult:
        """The result without what the vault has to say of it."""
        so_far = self._ledger.target(self._index)
        return result_of(self._target, so_far, verdict, None, self._around.now(), not_covered=[])

    def _place(self) -> Place:
        access = self._around.vaults
        if access is None:
            raise NotFoundError("This run knows no vaults.", "Name the state folder with --state.")
        return Place(self._folder, access.known)


def _is_there(path: str) -> bool | None:
    """Whether something lies at `path` now; None where that cannot be told (a medium that went away, a folder of others)."""
    try:
        os.stat(path)  # noqa: PTH116 - Path.exists takes some failures for an answer
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return None
    return True


def _gone() -> Refusal:
    return Refusal(
        reason=Reason.TARGET_NOT_FOUND,
        detail="The vault does not know this key.",
        remedy="See: expunge-agent vault list",
    )
