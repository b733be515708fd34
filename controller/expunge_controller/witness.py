"""A witness: a small program that somebody else than the log's operator runs, apart from every controller.

Its folder holds its key, the logs it watches, and of each the newest checkpoint it cosigned. It
answers only after that is on the disk.
"""

from __future__ import annotations

import hashlib
import json
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from expunge_agent.errors import DocumentError, ExpungeError, NotFoundError, StateError, UsageError
from expunge_agent.protocol.base import Frozen
from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_controller import files, keys
from expunge_controller.records.checkpoint import Checkpoint, parse_checkpoint
from expunge_controller.records.note import (
    COSIGNATURE,
    ED25519,
    Note,
    NoteKey,
    format_note,
    key_of,
    parse_key,
    sign,
    verified,
)
from expunge_controller.records.witnessing import SIZE_TYPE, Request, objection, parse_request

CONFIG = "witness.toml"
KEY = "witness_key"
PLAIN = "text/plain; charset=utf-8"
MAX_REFUSED = 1000
"""Checkpoints kept as evidence against logs; more would let a log fill the disk."""


class WitnessConfig(Frozen, frozen=True):
    """``witness.toml``: what the witness is called, and the verifier keys of the logs it watches."""

    name: str
    logs: Annotated[list[str], msgspec.Meta(max_length=1000)] = []


class Reply(NamedTuple):
    """What goes back over HTTP."""

    status: int
    body: bytes
    kind: str = PLAIN


@dataclass(frozen=True)
class _Seen:
    checkpoint: Checkpoint
    time: int


def make(folder: Path, name: str, logs: list[str]) -> NoteKey:
    """Make a witness's folder; its verifier key. Raises UsageError where there is one, DocumentError for bad keys."""
    if (folder / CONFIG).exists():
        raise UsageError(f"{folder} is a witness's folder already.", "Use it, or name another one.")
    for text in logs:
        _log_key(text)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = keys.ensure_key(folder / KEY, f"expunge-witness-{name}")
    key = key_of(signer, name, COSIGNATURE)
    _save(folder, WitnessConfig(name=name, logs=logs))
    return key


def add_log(folder: Path, vkey: str) -> None:
    """Watch a further log, from the next start on. Raises DocumentError, NotFoundError."""
    _log_key(vkey)
    config = _load(folder)
    if vkey not in config.logs:
        _save(folder, msgspec.structs.replace(config, logs=[*config.logs, vkey]))


class WitnessState:
    """An opened witness. Safe to use from several threads, and beside other processes on the folder."""

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        """`clock` gives POSIX seconds. Raises NotFoundError, StateError, PermissionProblemError."""
        config = _load(folder)
        self._folder = folder
        self._clock = clock
        self._signer: PrivateKeySigner = keys.load_key(folder / KEY)
        self._lock = threading.Lock()
        self.key = key_of(self._signer, config.name, COSIGNATURE)
        self.logs: dict[str, list[NoteKey]] = {}
        for text in config.logs:
            key = _log_key(text)
            self.logs.setdefault(key.name, []).append(key)

    def add_checkpoint(self, body: bytes) -> Reply:
        """Cosign the checkpoint in a request, or say why not; the answer's state is on the disk before it."""
        try:
            request = parse_request(body)
        except DocumentError as error:
            return Reply(400, f"{error.message}\n".encode())
        busy = files.locked(self._folder / "lock", "The witness is busy.", "Try again.", patience=5.0)
        with self._lock, busy:
            seen = self._seen(request.checkpoint.origin) if request.checkpoint.origin in self.logs else None
            known = {request.checkpoint.origin: seen.checkpoint} if seen else {}
            no = objection(request, self.logs, known)
            if no is not None:
                if no.is_evidence:
                    self._keep_evidence(body)
                return Reply(no.status, no.body.encode(), SIZE_TYPE if no.status == 409 else PLAIN)
            return self._cosign(request, seen)

    def newest(self, origin_hash: str) -> bytes | None:
        """The newest checkpoint cosigned of the log whose origin has this SHA-256 (lower-case hexadecimal)."""
        known = {_hash(origin): origin for origin in self.logs}
        if origin_hash not in known:
            return None
        path = self._path(known[origin_hash])
        return path.read_bytes() if path.exists() else None

    def sizes(self) -> dict[str, int]:
        """How many entries were seen of each log, by origin."""
        found = {origin: self._seen(origin) for origin in self.logs}
        return {origin: seen.checkpoint.size if seen else 0 for origin, seen in found.items()}

    def _cosign(self, request: Request, seen: _Seen | None) -> Reply:
        origin, text = request.checkpoint.origin, request.note.text
        # Whoever compares two cosignatures must find the larger tree to be the later one.
        time = max(self._clock(), seen.time if seen else 0, 1)
        line = sign(self._signer, self.key, text, time)
        theirs = {(key.name, key.key_id) for key in self.logs[origin]}
        kept = [one for one in request.note.signatures if (one.name, one.key_id) in theirs]
        path = self._path(origin)
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True)
            files.sync_folder(path.parent.parent)
            files.sync_folder(self._folder)
        files.write_private(path, format_note(Note(text, (*kept[:8], line))))
        return Reply(200, f"{line.line}\n".encode())

    def _seen(self, origin: str) -> _Seen | None:
        path = self._path(origin)
        try:
            checkpoint, note = parse_checkpoint(path.read_bytes())
            (own,) = verified(note, [self.key])
        except FileNotFoundError:
            return None
        except (ExpungeError, ValueError) as error:
            raise StateError(
                f"{path} is damaged.", "Restore it from a backup; without it the witness must not go on."
            ) from error
        if checkpoint.origin != origin:
            raise StateError(f"{path} is another log's.", "Restore it from a backup.")
        return _Seen(checkpoint, own.time)

    def _path(self, origin: str) -> Path:
        return self._folder / "logs" / _hash(origin) / "checkpoint"

    def _keep_evidence(self, body: bytes) -> None:
        """Keep what a log signed and must not have signed, once."""
        folder = self._folder / "refused"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / hashlib.sha256(body).hexdigest()
        if not path.exists() and sum(1 for _ in folder.iterdir()) < MAX_REFUSED:
            files.write_private(path, body)


def _load(folder: Path) -> WitnessConfig:
    path = folder / CONFIG
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), WitnessConfig)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"There is no witness in {folder}.", "Make one with `expunge witness init`."
        ) from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise StateError(f"{path} is not right: {error}.", "Correct it by hand.") from error


def _save(folder: Path, config: WitnessConfig) -> None:
    lines = [f"name = {json.dumps(config.name, ensure_ascii=False)}", "logs = ["]
    lines += [f"  {json.dumps(text, ensure_ascii=False)}," for text in config.logs]
    files.write_private(folder / CONFIG, "\n".join([*lines, "]", ""]).encode())


def _log_key(text: str) -> NoteKey:
    key = parse_key(text)
    if key.kind != ED25519:
        raise DocumentError(f"{key.name} is not the key of a log.", "`expunge log head` prints that.")
    return key


def _hash(origin: str) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()
