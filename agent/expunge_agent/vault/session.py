"""One vault, held: settings, journal, keystore, and its root key's holder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from expunge_agent.devices import host
from expunge_agent.errors import (
    DocumentError,
    NotFoundError,
    RefusedError,
    StateError,
    UsageError,
    VerificationError,
)
from expunge_agent.files import create_durable, exists, explained, read_limited
from expunge_agent.journal import DamagedJournalError, Journal
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.vault import keys, keystore
from expunge_agent.vault.holders.port import HolderSettings, KeyHolder, Passphrase
from expunge_agent.vault.holders.table import open_holder
from expunge_agent.vault.keystore import Entry, Keystore, Told, Unlocked
from expunge_agent.vault.locks import store_lock
from expunge_agent.vault.shelf import Shelf
from expunge_agent.vault.story import Story, apply, fold
from expunge_agent.vault.words import Id, new_id

WITHOUT_SETTINGS = "Put its vault.json back from a backup, or name another folder."


class Settings(Frozen, frozen=True):
    """``vault.json``: which vault this is, and who keeps its root key; no secret is in it. ``beyond``: whether the
    holder discards keys beyond a logical overwrite, as it seemed when the vault was made."""

    format: Literal["expunge/vault/v1"]
    vault: Id
    holder: HolderSettings
    made_at: Timestamp
    beyond: bool


@dataclass(frozen=True)
class Place:
    """Where a vault lies, and where this machine keeps what it knows of vaults (outside of them)."""

    folder: Path
    known: Path

    def floor(self, vault: str) -> Path:
        """The record of the newest generation seen."""
        return self.known / vault / "newest.json"


def settings_of(folder: Path) -> Settings:
    """The settings of the vault in `folder`. Raises NotFoundError, DocumentError."""
    path = folder / "vault.json"
    if not exists(path):
        raise NotFoundError(f"There is no vault in {folder}.", "Make one: expunge-agent vault create")
    return canonical.loads(read_limited(path, 65536), Settings, str(path))


class Session:
    """What can be done while the vault's lock is held; made by `session`."""

    def __init__(
        self, place: Place, settings: Settings, journal: Journal, passphrase: Passphrase, now: Timestamp
    ) -> None:
        self.place, self.settings, self.now = place, settings, now
        self.folder = place.folder
        self.vault = settings.vault
        self.shelf = Shelf(place.folder, settings.vault, place.floor(settings.vault))
        self._journal = journal
        self._passphrase = passphrase
        self._holder: KeyHolder | None = None
        self.story: Story = _story(journal)

    @property
    def holder(self) -> KeyHolder:
        """Who keeps the root key, asked for at first use."""
        if self._holder is None:
            self._holder = open_holder(self.settings.holder, self.vault, self._passphrase)
        return self._holder

    def close(self) -> None:
        """Let go of the holder."""
        if self._holder is not None:
            self._holder.close()

    def record(self, kind: str, **data: object) -> None:
        """Journal, durable on return, and take it into the story."""
        plain = canonical.parse(canonical.dumps(data))
        apply(self.story, self._journal.append(kind, self.now, plain))

    def gap(self) -> str:
        """What the journal lacks, in words, of the records that the keystore knows; empty where it has them."""
        store = self.shelf.current()
        count = int(store.journal.records)
        if count == 0 or self._journal.sums[count - 1 : count] == [store.journal.sum]:
            return ""
        return (
            f"the journal was cut or put back: generation {store.generation} knows {count} records of another"
        )

    def witness(self) -> Told:
        """How far the journal has come, for the next keystore; what is missing in it is written down before."""
        if why := self.gap():
            self.record("journal-gap", why=why)
        sums = self._journal.sums
        return Told(records=U64(len(sums)), sum=sums[-1] if sums else "")

    def unlock(self, store: Keystore | None = None) -> Unlocked:
        """The keystore that counts (or `store`) with its vault key, checked. Raises VerificationError."""
        store = store or self.shelf.current()
        bound = keystore.vault_key_bound(self.vault, store.root)
        vault_key = self.holder.unseal(store.root, bytes.fromhex(store.vault_key), bound)
        return keystore.check(store, vault_key)

    def entry(self, subject: str) -> Entry:
        """A subject whose key is there. Raises NotFoundError, RefusedError."""
        store = self.shelf.current()
        entry = store.find(subject)
        if entry is None:
            raise NotFoundError(f"The vault has no subject {subject!r}.", "See: expunge-agent vault list")
        if not entry.wrapped:
            raise RefusedError(
                f"Subject {subject} was shredded at {entry.shredded_at}; nobody can read its data.",
                "Nothing can be done. New data needs a new subject.",
            )
        return entry

    def add_subject(self, subject: str) -> Unlocked:
        """The keystore with `subject` in it, made a subject now if it is new. Raises RefusedError."""
        unlocked = self.unlock()
        if unlocked.store.find(subject) is None:
            unlocked = keystore.with_subject(unlocked, subject, new_id(), self.now, self.witness())
            self.shelf.put(unlocked.store)
        self.entry(subject)
        self.shelf.settle(unlocked.store)
        return unlocked


@contextmanager
def session(place: Place, passphrase: Passphrase, now: Timestamp) -> Iterator[Session]:
    """Hold the vault of `place`. Raises BusyError, and StateError where it is damaged."""
    settings = settings_of(place.folder)
    if not exists(place.folder / "journal.jsonl"):
        raise StateError(
            f"The journal of the vault in {place.folder} is missing: which copies there are is not known.",
            "Put journal.jsonl back from the newest backup.",
        )
    with (
        store_lock(place.folder),
        Journal(place.folder / "journal.jsonl", host.boot_id()) as journal,
        closing(Session(place, settings, journal, passphrase, now)) as held,
    ):
        held.shelf.prepare()
        yield held


def create(place: Place, holder: HolderSettings, vault: str, passphrase: Passphrase, now: Timestamp) -> None:
    """A new vault with a root key; killed half way, there is none, and it can be made again.

    Raises UsageError where the folder holds something.
    """
    folder = place.folder
    with explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if exists(folder / "vault.json"):
            raise UsageError(f"There is a vault in {folder} already.", "Name another folder.")
        (folder / "objects").mkdir(mode=0o700, exist_ok=True)
        if any((folder / "objects").iterdir()):
            raise UsageError(f"{folder} holds objects, and no vault.json.", WITHOUT_SETTINGS)
    root, vault_key = new_id(), secrets.token_bytes(keys.KEY)
    shelf = Shelf(folder, vault, place.floor(vault))
    with store_lock(folder), closing(open_holder(holder, vault, passphrase)) as keeper:
        shelf.prepare()
        shelf.clear_unborn()
        (folder / "journal.jsonl").unlink(missing_ok=True)
        keeper.create(root)
        sealed = keeper.seal(root, vault_key, keystore.vault_key_bound(vault, root))
        shelf.put(keystore.first(vault, root, vault_key, sealed))
        with Journal(folder / "journal.jsonl", host.boot_id()) as journal:
            journal.append("created", now, {"vault": vault})
        settings = Settings(
            format="expunge/vault/v1", vault=vault, holder=holder, made_at=now, beyond=keeper.beyond
        )
        if not create_durable(folder / "vault.json", canonical.dumps(settings), 0o600):
            raise UsageError(f"There is a vault in {folder} already.", "Name another folder.")


def opens(held: Session, store: Keystore) -> bool:
    """Whether an old keystore still opens with what the holder has."""
    try:
        held.unlock(store)
    except (VerificationError, NotFoundError):
        return False
    return True


def _story(journal: Journal) -> Story:
    try:
        return fold(journal.records)
    except (DocumentError, KeyError, TypeError, ValueError) as error:
        raise DamagedJournalError(
            f"The vault's journal holds a record that this version does not understand ({error}).",
            "Use the version of expunge that wrote it, or put the journal back from a backup.",
        ) from error
