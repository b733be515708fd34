"""What a vault holds, without a secret: for whoever keeps backups of it. Signed by the agent's key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from expunge_agent.protocol.base import Digest, Frozen, MachineId, MaybeTimestamp, Text, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.vault.header import Header
from expunge_agent.vault.look import where
from expunge_agent.vault.objects import headers, object_path
from expunge_agent.vault.session import Session
from expunge_agent.vault.shelf import mark
from expunge_agent.vault.story import Copy
from expunge_agent.vault.words import Id, Subject

_PIECE = 1 << 20


class ManifestSubject(Frozen, frozen=True):
    """A subject: its key's id, and the generation in which the key was wrapped or left out."""

    subject: Subject
    key: Id
    generation: U64
    made_at: Timestamp
    shredded_at: MaybeTimestamp


class ManifestObject(Frozen, frozen=True):
    """A sealed object as it lies there: bytes and SHA-256 of its file."""

    object: Id
    key: Id
    made_at: Timestamp
    size: U64
    sha256: Digest


class Manifest(Frozen, frozen=True):
    """``keystore``: SHA-256 of the generation that counts. ``copies``: backups that were recorded.
    ``damaged``: files among the objects that are none."""

    format: Literal["expunge/vault-manifest/v1"]
    vault: Id
    machine_id: MachineId
    made_at: Timestamp
    holder: Text
    generation: U64
    root: Id
    keystore: Digest
    subjects: list[ManifestSubject]
    objects: list[ManifestObject]
    copies: list[Copy]
    damaged: list[Text]


def manifest(held: Session, machine_id: str, progress: Callable[[int], None]) -> Manifest:
    """The manifest of a vault that is held; reads every object once."""
    store = held.shelf.current()
    done = 0
    things: list[ManifestObject] = []
    damaged: list[str] = []
    for top in headers(held.folder):
        if not isinstance(top, Header):
            damaged.append(top.message)
            continue
        size, digest = _digest(object_path(held.folder, top.object), done, progress)
        done += size
        things.append(
            ManifestObject(object=top.object, key=top.key, made_at=top.made_at, size=U64(size), sha256=digest)
        )
    return Manifest(
        format="expunge/vault-manifest/v1",
        vault=held.vault,
        machine_id=machine_id,
        made_at=held.now,
        holder=where(held.settings.holder),
        generation=store.generation,
        root=store.root,
        keystore=mark(store).digest,
        subjects=[
            ManifestSubject(
                subject=one.subject,
                key=one.key,
                generation=one.generation,
                made_at=one.made_at,
                shredded_at=one.shredded_at,
            )
            for one in store.entries
        ],
        objects=things,
        copies=held.story.copies,
        damaged=damaged,
    )


def _digest(path: Path, before: int, progress: Callable[[int], None]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as handle:
        while piece := handle.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            progress(before + size)
    return size, digest.hexdigest()
