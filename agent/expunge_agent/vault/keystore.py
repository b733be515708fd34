"""The keystore: every subject's data key, wrapped by the vault key, which the root key wraps. Pure.

A keystore is never changed: each change is the next *generation*, a document of its own. The vault key
is drawn anew with each root, so a keystore of an older root is worth nothing once that root is gone.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Digest, Frozen, MaybeTimestamp, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.vault import keys
from expunge_agent.vault.words import Hex, Id, Subject

MOST_BYTES = 128 * 1024 * 1024
"""Bytes of a keystore: some 300,000 subjects."""


class Told(Frozen, frozen=True):
    """How far the vault's journal had come: ``records`` in it, and the ``sum`` of the last. A journal that has
    not got them was cut or put back."""

    records: U64
    sum: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]


class Entry(Frozen, frozen=True):
    """One subject; its key was made in generation ``made_in``. ``wrapped`` (nonce, ciphertext, tag) is bound to vault, subject, key and ``generation``,
    the one in which it was wrapped; it is empty once the key was destroyed, in generation ``generation``."""

    subject: Subject
    key: Id
    made_at: Timestamp
    made_in: U64
    generation: U64
    wrapped: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{120})?\Z")]
    shredded_at: MaybeTimestamp = ""


class Keystore(Frozen, frozen=True):
    """``root``: the root key that wraps ``vault_key``. ``previous``: SHA-256 of the generation before, zeros
    for the first. ``mac``: HMAC-SHA256, by a key derived from the vault key, over the canonical bytes with
    an empty ``mac``."""

    format: Literal["expunge/vault-keystore/v1"]
    vault: Id
    generation: U64
    previous: Digest
    root: Id
    vault_key: Hex
    journal: Told
    entries: list[Entry]
    mac: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""

    def find(self, subject: str) -> Entry | None:
        """The subject's entry that counts: the newest of that name."""
        return next((one for one in reversed(self.entries) if one.subject == subject), None)

    def by_key(self, key: str) -> Entry | None:
        """The entry of a key id."""
        return next((one for one in self.entries if one.key == key), None)


@dataclass(frozen=True)
class Unlocked:
    """A keystore whose vault key is at hand, and whose MAC was checked."""

    store: Keystore
    vault_key: bytes

    def data_key(self, entry: Entry) -> bytes:
        """The subject's key. Raises VerificationError where it does not open."""
        found = keys.unwrap(
            _wrapping(self.vault_key), bytes.fromhex(entry.wrapped), _bound(self.store, entry)
        )
        if found is None:
            raise VerificationError(
                f"The key of subject {entry.subject} does not open.", "Restore the newest keystore."
            )
        return found


def first(vault: str, root: str, vault_key: bytes, sealed: bytes) -> Keystore:
    """Generation 1, without a subject. `sealed` is `vault_key` as the root key sealed it."""
    empty = Keystore(
        format="expunge/vault-keystore/v1",
        vault=vault,
        generation=U64(1),
        previous="0" * 64,
        root=root,
        vault_key=sealed.hex(),
        journal=Told(records=U64(0), sum=""),
        entries=[],
    )
    return _signed(empty, vault_key)


def with_subject(before: Unlocked, subject: str, key: str, now: Timestamp, journal: Told) -> Unlocked:
    """The next generation, with a fresh data key for `subject`."""
    store = _next(before.store, journal)
    here = store.generation
    entry = Entry(subject=subject, key=key, made_at=now, made_in=here, generation=here, wrapped="")
    entry = _wrapped(before.vault_key, store, entry, secrets.token_bytes(keys.KEY))
    store = msgspec.structs.replace(store, entries=[*store.entries, entry])
    return Unlocked(_signed(store, before.vault_key), before.vault_key)


def witnessing(before: Unlocked, journal: Told) -> Unlocked:
    """The next generation, the same but for what it says of the journal."""
    return Unlocked(_signed(_next(before.store, journal), before.vault_key), before.vault_key)


def rerooted(
    before: Unlocked, root: str, vault_key: bytes, sealed: bytes, shred: str, now: Timestamp, journal: Told
) -> Unlocked:
    """The next generation under another root and another vault key; without the key `shred`, if it is not empty."""
    store = msgspec.structs.replace(_next(before.store, journal), root=root, vault_key=sealed.hex())
    entries = []
    for entry in before.store.entries:
        if entry.key == shred:
            gone = {"wrapped": "", "shredded_at": now, "generation": store.generation}
            entries.append(msgspec.structs.replace(entry, **gone))
        elif entry.wrapped:
            moved = msgspec.structs.replace(entry, generation=store.generation)
            entries.append(_wrapped(vault_key, store, moved, before.data_key(entry)))
        else:
            entries.append(entry)
    store = msgspec.structs.replace(store, entries=entries)
    return Unlocked(_signed(store, vault_key), vault_key)


def parse(data: bytes, what: str) -> Keystore:
    """The keystore in `data`, in its one form; the MAC is checked by `check`. Raises DocumentError."""
    store = canonical.loads(data, Keystore, what)
    if canonical.dumps(store) != data:
        raise DocumentError(f"The {what} is not in its one form.", "Restore it.")
    return store


def check(store: Keystore, vault_key: bytes) -> Unlocked:
    """`store` with its MAC checked. Raises VerificationError."""
    if not hmac.compare_digest(_mac(store, vault_key), store.mac):
        raise VerificationError(
            f"Generation {store.generation} of the keystore was altered.",
            "Restore the newest keystore from a backup taken since the last rotation.",
        )
    return Unlocked(store, vault_key)


def vault_key_bound(vault: str, root: str) -> bytes:
    """What the wrapped vault key is bound to."""
    return keys.about("vault key", vault, root)


def _next(before: Keystore, journal: Told) -> Keystore:
    return msgspec.structs.replace(
        before,
        generation=U64(before.generation + 1),
        previous=canonical.sha256_hex(canonical.dumps(before)),
        journal=journal,
        mac="",
    )


def _wrapped(vault_key: bytes, store: Keystore, entry: Entry, data_key: bytes) -> Entry:
    sealed = keys.wrap(_wrapping(vault_key), data_key, _bound(store, entry))
    return msgspec.structs.replace(entry, wrapped=sealed.hex())


def _bound(store: Keystore, entry: Entry) -> bytes:
    return keys.about("data key", store.vault, entry.subject, entry.key, str(int(entry.generation)))


def _wrapping(vault_key: bytes) -> bytes:
    return keys.derive(vault_key, b"", b"expunge-vault/v1 wrapping")


def _signed(store: Keystore, vault_key: bytes) -> Keystore:
    return msgspec.structs.replace(store, mac=_mac(store, vault_key))


def _mac(store: Keystore, vault_key: bytes) -> str:
    key = keys.derive(vault_key, b"", b"expunge-vault/v1 keystore")
    return hmac.digest(key, canonical.dumps(msgspec.structs.replace(store, mac="")), "sha256").hex()
