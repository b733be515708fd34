"""The witness's rules (C2SP tlog-witness, add-checkpoint), without its files and its network. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from expunge_agent.errors import DocumentError, VerificationError
from expunge_controller.records import merkle
from expunge_controller.records.checkpoint import Checkpoint, parse_checkpoint, parse_hash, parse_number
from expunge_controller.records.note import Note, NoteKey, to_base64, verified

MAX_REQUEST = 128 * 1024
SIZE_TYPE = "text/x.tlog.size"


class Request(NamedTuple):
    """A checkpoint put before a witness, with the proof that it continues the one of ``old`` entries."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    note: Note


class Refusal(NamedTuple):
    """An HTTP status and its body. ``is_evidence``: the log signed what it must not have signed."""

    status: int
    body: str
    is_evidence: bool = False


def format_request(old: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The body of an add-checkpoint request."""
    return "\n".join([f"old {old}", *map(to_base64, proof), "", ""]).encode() + checkpoint


def parse_request(data: bytes) -> Request:
    """The request in `data`. Raises DocumentError."""
    head, blank, note = data.partition(b"\n\n")
    lines = head.decode("ascii", "replace").split("\n")
    if not blank or not lines[0].startswith("old ") or len(lines) > 1 + merkle.MAX_PROOF:
        raise DocumentError("That is no add-checkpoint request.", "See C2SP tlog-witness.")
    checkpoint, parsed = parse_checkpoint(note)
    old = parse_number(lines[0].removeprefix("old "))
    return Request(old, tuple(map(parse_hash, lines[1:])), checkpoint, parsed)


def objection(
    request: Request, logs: Mapping[str, Sequence[NoteKey]], seen: Mapping[str, Checkpoint]
) -> Refusal | None:
    """Why the witness will not cosign; None when it will.

    `logs` are the keys trusted for each origin, `seen` the newest checkpoint cosigned of each. The
    order of the checks is that of the specification.
    """
    checkpoint, old = request.checkpoint, request.old
    if checkpoint.origin not in logs:
        return Refusal(404, "This witness does not know that log.\n")
    try:
        if not verified(request.note, logs[checkpoint.origin]):
            return Refusal(403, "No signature by a key of that log.\n")
    except VerificationError as error:
        return Refusal(403, f"{error.message}\n")
    if old > checkpoint.size:
        return Refusal(400, "The old size is larger than the checkpoint's.\n")
    latest = seen.get(checkpoint.origin)
    known = 0 if latest is None else latest.size
    if old != known:
        return Refusal(409, f"{known}\n")
    if checkpoint.size == 0 and checkpoint.root != merkle.EMPTY_ROOT:
        return Refusal(422, "An empty tree has another root.\n", is_evidence=True)
    if latest is None or old == 0:
        return Refusal(422, "A proof from an empty tree must be empty.\n") if request.proof else None
    if merkle.is_consistent(old, checkpoint.size, request.proof, latest.root, checkpoint.root):
        return None
    # Equal sizes with other roots are proof of a fork; a proof that does not hold may only be a bad one.
    return Refusal(422, "The proof does not show that the log only grew.\n", is_evidence=True)
