"""Keys as an inventory lists them: that of an encrypted folder, and those of a vault's subjects.

Nothing is locked and no key is needed: a folder's policy is asked of the kernel, subjects stand in the keystore.
"""

from __future__ import annotations

from pathlib import Path

from expunge_agent.core.fscrypt import busy
from expunge_agent.core.guard import listing, readable
from expunge_agent.devices import fscrypt, host
from expunge_agent.devices.paths import walk
from expunge_agent.errors import NotFoundError, RefusedError, StateError
from expunge_agent.fscrypt_run import PREFIX as FSCRYPT
from expunge_agent.fscrypt_run import identify
from expunge_agent.protocol import wire
from expunge_agent.protocol.identity import KeyIdentity
from expunge_agent.vault.keystore import Entry, Keystore
from expunge_agent.vault.look import where
from expunge_agent.vault.session import Place, Settings, settings_of
from expunge_agent.vault.shelf import Shelf
from expunge_agent.vault_run import PREFIX as VAULT
from expunge_agent.vault_run import SCHEME as VAULT_SCHEME

PREFIXES = (FSCRYPT, VAULT)
MOST_SUBJECTS = 1000
"""Subjects listed in one answer; of a larger vault they have to be named."""
_TRIES = 3
"""Looks at a keystore that somebody may be replacing."""


def key_items(text: str, known: Path) -> list[wire.InventoryItem]:
    """What ``fscrypt:FOLDER``, ``vault:FOLDER`` (all subjects) or ``vault:FOLDER#SUBJECT`` (or the id of its key) is here.

    `known` is where this machine keeps what it knows of vaults. Raises ExpungeError, which says why there is none.
    """
    prefix = next(one for one in PREFIXES if text.startswith(one))
    folder, mark, subject = text.removeprefix(prefix).rpartition("#") if prefix == VAULT else ("", "", "")
    if not mark or "/" in subject:
        folder, subject = text.removeprefix(prefix), ""
    if not folder.startswith("/"):
        raise RefusedError(
            f"{readable(folder or text)} is not an absolute path.", f"Write {prefix}/path/of/the/folder."
        )
    return [_folder_item(folder)] if prefix == FSCRYPT else _subject_items(text, folder, subject, known)


def _folder_item(folder: str) -> wire.InventoryItem:
    identity = identify(folder)
    policy = fscrypt.policy_of(identity.path)
    users = fscrypt.holders(identity.path)
    return _item(
        identity,
        FSCRYPT + identity.path,
        blocked=[busy(users)] if users else [],
        notes=[f"a folder with {policy.cipher}, key {policy.key}"],
    )


def _subject_items(text: str, folder: str, subject: str, known: Path) -> list[wire.InventoryItem]:
    walked = walk(folder)
    if walked.symlinks:
        raise RefusedError(
            f"{readable(walked.path)} goes through a symbolic link ({listing(walked.symlinks)}).",
            f"Name the real path: {VAULT}{readable(walked.real_path)}",
        )
    settings, store = _read(Path(walked.path), known)
    if subject:
        entry = store.find(subject) or store.by_key(subject)
        if entry is None:
            raise NotFoundError(
                f"The vault in {readable(walked.path)} has no subject {readable(subject, 200)}.",
                f"See: expunge inventory MACHINE {VAULT}{readable(walked.path)}",
            )
        return [_subject_item(entry, walked.path, settings, text)]
    newest = {entry.subject: entry for entry in store.entries}
    if len(newest) > MOST_SUBJECTS:
        raise RefusedError(
            f"The vault in {readable(walked.path)} has {len(newest)} subjects; {MOST_SUBJECTS} can be listed.",
            f"Name the one that is meant: {text}#SUBJECT",
        )
    return [_subject_item(entry, walked.path, settings, text) for entry in newest.values()]


def _subject_item(entry: Entry, folder: str, settings: Settings, text: str) -> wire.InventoryItem:
    path = f"{VAULT}{folder}#{entry.subject}"
    gone = [f"its key was destroyed at {entry.shredded_at}"] if entry.shredded_at else []
    return _item(
        KeyIdentity(scheme=VAULT_SCHEME, key=entry.key, path=folder, host=host.machine_id()),
        path,
        notes=[
            f"subject {entry.subject} of vault {settings.vault}, made at {entry.made_at}",
            f"root keys: {where(settings.holder)}",
            *gone,
        ],
        asked=[] if text == path else [text],
    )


def _read(folder: Path, known: Path) -> tuple[Settings, Keystore]:
    """Settings and the keystore that counts. Without the vault's lock, so a change in between is looked at again."""
    settings = settings_of(folder)
    floor = Place(folder, known).floor(settings.vault)
    for left in reversed(range(_TRIES)):
        try:
            return settings, Shelf(folder, settings.vault, floor).current()
        except StateError:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


def _item(
    identity: KeyIdentity,
    path: str,
    *,
    notes: list[str],
    blocked: list[str] | None = None,
    asked: list[str] | None = None,
) -> wire.InventoryItem:
    return wire.InventoryItem(
        identity=identity,
        path=path,
        type="key",
        firmware="",
        logical_sector=-1,
        physical_sector=-1,
        blocked=blocked or [],
        notes=notes,
        asked=asked or [],
    )
