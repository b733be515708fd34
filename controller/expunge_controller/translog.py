"""The controller's transparency log: its beginning, its signed heads, and proofs out of it.

What is appended is decided in `store`: every document is entered in the transaction that keeps it.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from expunge_agent.errors import DocumentError, NotFoundError, StateError, VerificationError
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_controller import files, keys
from expunge_controller.records import merkle
from expunge_controller.records.checkpoint import Checkpoint, Proof, format_proof, parse_checkpoint
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.log_policy import LogPolicy, parse_policy
from expunge_controller.records.note import (
    ED25519,
    Note,
    NoteKey,
    NoteSignature,
    Signed,
    format_note,
    key_of,
    parse_key,
    parse_signatures,
    sign,
    verified,
)
from expunge_controller.settings import Home
from expunge_controller.store.port import Store, Unit
from expunge_controller.store.rows import CheckpointRow

if TYPE_CHECKING:
    from expunge_controller.context import Controller


class Covered(NamedTuple):
    """A checkpoint that holds an entry, with the cosignatures that count, and who signed it."""

    size: int
    note: bytes
    signed: list[Signed]


def begin(home: Home, name: str, store: Store, now: datetime) -> None:
    """Give the log its key and name, once. What was kept before there was a log is entered then."""
    with store.read() as unit:
        if unit.log.key() is not None:
            return
    signer = keys.ensure_key(home.log_key, f"expunge-{name}-log")
    digest = hashlib.sha256(signer.public_line.encode()).hexdigest()
    key = key_of(signer, f"expunge/{name}/{digest[:16]}", ED25519)
    with store.write() as unit:
        if unit.log.key() is None:
            unit.log.append(entry_of(EntryKind.KEY, key.text.encode()))
            for entry in list(unit.log.documents()):
                unit.log.append(entry)
            unit.log.set_key(key.text, timestamp(now))


def key_in(unit: Unit) -> NoteKey:
    """The log's verifier key; its name is the log's origin. Raises StateError before the log began."""
    text = unit.log.key()
    if text is None:
        raise StateError("This controller's log has not begun.", "Open it with `expunge log head`.")
    try:
        return parse_key(text)
    except DocumentError as error:
        raise StateError("The log's key in the database is damaged.", "Restore it from a backup.") from error


def policy_in(unit: Unit, home: Home) -> LogPolicy:
    """The controller's policy: its own log, the witnesses of ``log-policy.toml``. Raises StateError."""
    own = key_in(unit)
    try:
        policy = parse_policy(home.log_policy.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return LogPolicy(logs=(own,))
    except (DocumentError, UnicodeDecodeError) as error:
        why = error.message if isinstance(error, DocumentError) else "It is not UTF-8."
        raise StateError(f"{home.log_policy}: {why}", "Correct it by hand; docs/log.md shows one.") from error
    return policy._replace(logs=(own,))


def head(controller: Controller, now: datetime) -> CheckpointRow:
    """The checkpoint of the log as it is now, signed if it grew.

    Raises StateError where the tree no longer begins with one that was signed before: nothing is
    signed then.
    """
    with controller.store.write() as unit:
        row = _head(unit, controller.home, now)
    known = _kept_head(controller.home)
    if known is None or known[0].size < row.size:
        files.write_private(controller.home.log_head, row.body)
    return row


def covering(unit: Unit, policy: LogPolicy, number: int) -> Covered | None:
    """The smallest checkpoint with entry `number` in it that as many witnesses as asked for have signed."""
    for row in unit.log.checkpoints_from(number + 1):
        found = covered_by(unit, policy, row)
        if policy.is_enough(found.signed):
            return found
    return None


def covered_by(unit: Unit, policy: LogPolicy, row: CheckpointRow) -> Covered:
    """A checkpoint with the lines of the policy's witnesses. Raises StateError where a line is damaged."""
    try:
        note = parse_checkpoint(row.body)[1]
        lines = {one.witness: one.body for one in unit.log.cosignatures(row.size)}
        found = [lines[one.key.text] for one in policy.witnesses if one.key.text in lines]
        extra: list[NoteSignature] = [line for body in found for line in parse_signatures(body.decode())]
        note = Note(note.text, (*note.signatures, *extra))
        return Covered(row.size, format_note(note), verified(note, policy.keys))
    except (DocumentError, VerificationError, UnicodeDecodeError) as error:
        raise StateError(
            f"The checkpoint of {row.size} entries is damaged.", "Run `expunge log check`."
        ) from error


def number_of(unit: Unit, entry: bytes) -> int:
    """The number of an entry. Raises StateError where it is missing: documents and log do not fit."""
    number = unit.log.number_of(merkle.leaf_hash(entry))
    if number is None:
        raise StateError("A document that is kept here is not in the log.", "Run `expunge log check`.")
    return number


def proof_in(unit: Unit, number: int, found: Covered) -> bytes:
    """The ``.tlog-proof`` of entry `number` in a checkpoint."""
    hashes = merkle.inclusion_proof(unit.log.node, number, found.size)
    return format_proof(Proof(number, tuple(hashes), found.note))


def entry_in(unit: Unit, number: int) -> bytes:
    """Entry `number`. Raises NotFoundError."""
    for row in unit.log.entries(number, number + 1):
        return row.body
    raise NotFoundError(f"The log has no entry {number}.", "See `expunge log show`.")


def _head(unit: Unit, home: Home, now: datetime) -> CheckpointRow:
    size, newest = unit.log.size(), unit.log.newest_checkpoint()
    before = _kept_head(home)
    _must_continue(unit, size, *([before[0]] if before else []), *([_parsed(newest)] if newest else []))
    if newest is not None and newest.size == size:
        return newest
    key = key_in(unit)
    checkpoint = Checkpoint(key.name, size, merkle.root(unit.log.node, size))
    note = Note(checkpoint.text, (sign(_signer(home, key), key, checkpoint.text),))
    row = CheckpointRow(size=size, body=format_note(note), created_at=timestamp(now))
    unit.log.add_checkpoint(row)
    return row


def _signer(home: Home, key: NoteKey) -> PrivateKeySigner:
    signer = keys.load_key(home.log_key)
    if key_of(signer, key.name, ED25519) != key:
        raise StateError(
            f"{home.log_key} is not the key with which this log began.", "Restore it from your backup."
        )
    return signer


def _must_continue(unit: Unit, size: int, *signed: Checkpoint) -> None:
    """tlog-checkpoint, "Signatures": never sign what is inconsistent with what was signed before."""
    for before in signed:
        if before.size > size or merkle.root(unit.log.node, before.size) != before.root:
            raise StateError(
                f"The log has {size} entries and does not continue the {before.size} that were signed before.",
                "Entries were changed or taken out, or an older database was put back: keep it as it is, run "
                "`expunge log check`, and compare with a backup. Nothing was signed.",
            )


def _kept_head(home: Home) -> tuple[Checkpoint, Note] | None:
    try:
        return parse_checkpoint(home.log_head.read_bytes())
    except FileNotFoundError:
        return None
    except DocumentError as error:
        raise StateError(
            f"{home.log_head} is damaged.", "Find out who changed it; restore it from your backup."
        ) from error


def _parsed(row: CheckpointRow) -> Checkpoint:
    try:
        return parse_checkpoint(row.body)[0]
    except DocumentError as error:
        raise StateError(
            f"The checkpoint of {row.size} entries is damaged.", "Run `expunge log check`."
        ) from error
