"""The keystore's generations on disk, which of them counts, and the record that none may be older than.

::

    keystore/00000000000000000007.json   a generation, written whole, synced, renamed into place
    keystore/head.json                   which one counts: number and SHA-256

A second record lies outside the vault (the *floor*, in the agent's state folder): a vault folder put back
from a backup is older than it, and is refused. Two generations are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from expunge_agent.errors import DocumentError, StateError
from expunge_agent.files import exists, explained, read_limited, sweep, sync_folder, write_durable
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Digest, Frozen
from expunge_agent.protocol.canonical import U64
from expunge_agent.vault.keystore import MOST_BYTES, Keystore, parse
from expunge_agent.vault.words import Id

_FILE = re.compile(r"[0-9]{20}\.json")
KEPT = 2
ROLLED_BACK = (
    "A keystore of before a shredding opens nothing, and going on with one of before a new subject would lose "
    "that subject's data: put the newest keystore folder back."
)


class Mark(Frozen, frozen=True):
    """A generation of a vault's keystore, by number, digest and root."""

    vault: Id
    generation: U64
    digest: Digest
    root: Id


def mark(store: Keystore) -> Mark:
    """The mark of `store`."""
    digest = canonical.sha256_hex(canonical.dumps(store))
    return Mark(vault=store.vault, generation=store.generation, digest=digest, root=store.root)


class Shelf:
    """The keystores of one vault, in ``folder/keystore``; `floor` is the path of the record outside."""

    def __init__(self, folder: Path, vault: str, floor: Path) -> None:
        self._folder = folder / "keystore"
        self._vault = vault
        self._floor = floor

    def prepare(self) -> None:
        """Make the folders, and clear away what killed writes left in them."""
        for folder in (self._folder, self._floor.parent):
            with explained(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(folder, "*.json")

    def clear_unborn(self) -> None:
        """Remove what a killed `create` left: the first keystore, without a subject. Raises StateError where there is more."""
        found = self._numbers()
        stores = [self._read(number) for number in found]
        if found not in ([], [1]) or any(store is None or store.entries for store in stores):
            raise StateError(
                f"{self._folder} holds keys of a vault whose vault.json is missing.",
                "Put vault.json back from a backup, or name another folder.",
            )
        with explained(self._folder):
            (self._folder / "head.json").unlink(missing_ok=True)
        self._remove(found)

    def current(self) -> Keystore:
        """The generation that counts; what a killed write left is passed over.

        Raises StateError where it is missing, damaged, or older than what was seen before.
        """
        head, floor = self._read_mark(self._folder / "head.json"), self._read_mark(self._floor)
        found = self._numbers()
        least = max((int(one.generation) for one in (head, floor) if one), default=0)
        if not found or found[-1] < least:
            seen = f"generation {found[-1]}" if found else "nothing"
            raise StateError(
                f"The keystore was rolled back: this machine has seen generation {least} of it, here is {seen}.",
                ROLLED_BACK,
            )
        for number in reversed(found):
            if number < least:
                break
            store = self._read(number)
            if store is not None and self._fits(store, head, floor):
                return store
        raise StateError(
            f"Generation {least or found[-1]} of the keystore is damaged: it is not what was written.",
            f"Put {self._path(least or found[-1])} back from a backup of the same generation.",
        )

    def put(self, store: Keystore) -> None:
        """Make `store` the one that counts; durable on return, and never half there."""
        write_durable(self._path(int(store.generation)), canonical.dumps(store), 0o600)
        self.settle(store)

    def settle(self, store: Keystore) -> None:
        """Say, inside the vault and outside, that `store` is the one; older ones beyond `KEPT` go."""
        for path in (self._folder / "head.json", self._floor):
            if self._read_mark(path) != mark(store):
                write_durable(path, canonical.dumps(mark(store)), 0o600)
        kept = [number for number in self._numbers() if number <= store.generation][-KEPT:]
        self._remove(number for number in self._numbers() if number not in kept)

    def drop_other_roots(self, root: str) -> list[int]:
        """Unlink every generation that does not belong to `root`; their numbers."""
        others = [
            number
            for number in self._numbers()
            if (store := self._read(number)) is None or store.root != root
        ]
        self._remove(others)
        return others

    def others(self, root: str) -> list[Keystore]:
        """The generations on disk that belong to another root."""
        read = (self._read(number) for number in self._numbers())
        return [store for store in read if store is not None and store.root != root]

    def _fits(self, store: Keystore, head: Mark | None, floor: Mark | None) -> bool:
        """Whether `store` is the very one that was marked, or follows it."""
        here = mark(store)
        for known in (head, floor):
            if known is None or known.generation < here.generation - 1:
                continue
            if known.generation == here.generation and known != here:
                return False
            if known.generation == here.generation - 1 and known.digest != store.previous:
                return False
        return store.vault == self._vault

    def _read(self, number: int) -> Keystore | None:
        path = self._path(number)
        try:
            store = parse(read_limited(path, MOST_BYTES), str(path))
        except DocumentError:
            return None  # torn: never said to be there
        return store if store.generation == number else None

    def _read_mark(self, path: Path) -> Mark | None:
        if not exists(path):
            return None
        try:
            found = canonical.loads(read_limited(path, 4096), Mark, str(path))
        except DocumentError:
            if path == self._floor:
                raise
            return None  # the newest generation says it too
        if found.vault != self._vault:
            raise StateError(f"{path} is of another vault.", "Put the right one back.")
        return found

    def _numbers(self) -> list[int]:
        with explained(self._folder):
            return sorted(
                int(entry.name[:20]) for entry in self._folder.iterdir() if _FILE.fullmatch(entry.name)
            )

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:020d}.json"

    def _remove(self, numbers: Iterable[int]) -> None:
        gone = False
        for number in list(numbers):
            with explained(self._folder):
                self._path(number).unlink(missing_ok=True)
            gone = True
        if gone:
            with explained(self._folder):
                sync_folder(self._folder)
