"""Replacing the root key: a rotation keeps every data key, a shredding leaves one out.

Each step is journalled before it is taken, and each can be taken again: whoever opens the vault next
finishes what a kill or a power cut broke off. The order:

1. ``changing``: from which root to which, and which key is left out;
2. the new root key is made at the holder;
3. the next generation is written: a new vault key under the new root, the data keys wrapped anew;
4. it is read back, and every key in it is opened; ``written``;
5. ``destroying``, with where the old root key is stored: that is made worthless in its place; ``spoiled``; then it is
   destroyed at the holder;
6. it is looked for, the old keystores are tried, and unlinked; ``changed``.

Until 6 the subject counts as being shredded, and is never called shredded.
"""

from __future__ import annotations

import secrets

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.canonical import U64
from expunge_agent.vault import keys, keystore
from expunge_agent.vault.holders.port import Destruction
from expunge_agent.vault.keystore import Unlocked
from expunge_agent.vault.locks import alone
from expunge_agent.vault.session import Session, opens
from expunge_agent.vault.story import Change, Gone
from expunge_agent.vault.words import new_id


def rotate(held: Session, shred: str = "", subject: str = "", order: str = "") -> Change:
    """Replace the root key, leaving out the key `shred` where it is given. Raises BusyError."""
    finish(held)
    store = held.shelf.current()
    with alone(held.folder):
        held.unlock(store)  # a wrong passphrase is noticed before anything is begun
        change = Change(
            shred=shred,
            subject=subject,
            from_root=store.root,
            to_root=new_id(),
            generation=U64(store.generation + 1),
            order=order,
            at=held.now,
        )
        held.record("changing", change=change, before=canonical.sha256_hex(canonical.dumps(store)))
        _carry_on(held, change)
    return change


def finish(held: Session) -> Change | None:
    """Go on with a change that broke off; None where there is none."""
    change = held.story.pending
    if change is not None:
        with alone(held.folder):
            _carry_on(held, change)
    return change


def _carry_on(held: Session, change: Change) -> None:
    store = held.shelf.current()
    if store.root != change.to_root:
        before = held.unlock(store)  # or a wrong passphrase would seal the new root key
        held.holder.create(change.to_root)
        held.shelf.put(_rerooted(held, before, change).store)
    kept = _read_back(held, change)
    held.record("written", generation=change.generation)
    if held.story.spoiled is None:
        if held.story.place is None:
            held.record("destroying", root=change.from_root, place=held.holder.place(change.from_root))
        held.record("spoiled", doubts=_spoiled(held, change))
    destruction = held.holder.destroy(change.from_root)
    held.record("changed", gone=_looked_for(held, change, destruction, kept))


def _rerooted(held: Session, before: Unlocked, change: Change) -> Unlocked:
    vault_key = secrets.token_bytes(keys.KEY)
    bound = keystore.vault_key_bound(held.vault, change.to_root)
    sealed = held.holder.seal(change.to_root, vault_key, bound)
    return keystore.rerooted(
        before, change.to_root, vault_key, sealed, change.shred, change.at, held.witness()
    )


def _read_back(held: Session, change: Change) -> int:
    """Open every key of the new generation as it lies on disk, before the old root goes; how many."""
    after = held.unlock()
    live = [entry for entry in after.store.entries if entry.wrapped]
    for entry in live:
        after.data_key(entry)
    if any(entry.key == change.shred for entry in live):
        raise VerificationError("The new keystore still holds the key to be shredded.", "Report this.")
    held.shelf.settle(after.store)
    return len(live)


def _spoiled(held: Session, change: Change) -> list[str]:
    """What is in doubt of the old root key's overwrite, by where it lay before the first attempt at it."""
    if held.story.place is None:
        raise AssertionError("spoiled before its place was journalled")
    return list(held.holder.spoil(change.from_root, held.story.place))


def _looked_for(held: Session, change: Change, destruction: Destruction, kept: int) -> Gone:
    """What is seen of the old root after its end."""
    doubts = [*(held.story.spoiled or ()), *destruction.doubts]
    if held.holder.has(change.from_root):
        doubts.append(f"the holder still shows the root key {change.from_root}")
    still = [
        f"generation {store.generation} under root {store.root}"
        for store in held.shelf.others(change.to_root)
        if opens(held, store)
    ]
    dropped = held.shelf.drop_other_roots(change.to_root)
    after = held.shelf.current()
    return Gone(
        how=destruction.how,
        beyond=destruction.beyond,
        doubts=doubts,
        evidence=list(destruction.evidence),
        dropped=[U64(number) for number in dropped],
        digest_before=held.story.before,
        digest_after=canonical.sha256_hex(canonical.dumps(after)),
        opens=still,
        kept=U64(kept),
    )
