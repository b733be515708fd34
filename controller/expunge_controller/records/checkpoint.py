"""Checkpoints (C2SP tlog-checkpoint) and proofs to take along (C2SP tlog-proof)."""

from __future__ import annotations

import re
from typing import NamedTuple

from expunge_agent.errors import DocumentError
from expunge_controller.records import merkle
from expunge_controller.records.note import Note, from_base64, parse_note, to_base64

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
MAX_SIZE = 2**63 - 1
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(NamedTuple):
    """A log's head: who (``origin``), how many entries, and their root. ``extra`` are extension lines."""

    origin: str
    size: int
    root: bytes
    extra: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text that is signed."""
        return "\n".join([self.origin, str(self.size), to_base64(self.root), *self.extra, ""])


class Proof(NamedTuple):
    """That entry ``number`` is in the tree of ``checkpoint``, a signed note byte for byte."""

    number: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes


def parse_number(text: str) -> int:
    """A count in ASCII decimal without leading zeros. Raises DocumentError."""
    if not _NUMBER.fullmatch(text) or int(text) > MAX_SIZE:
        raise DocumentError(f"{text[:30]!r} is not a number of entries.", "Get it again from its source.")
    return int(text)


def parse_hash(text: str) -> bytes:
    """A SHA-256 in base64. Raises DocumentError."""
    data = from_base64(text)
    if len(data) != merkle.HASH_SIZE:
        raise DocumentError(f"{text[:50]!r} is not a SHA-256 hash.", "Get it again from its source.")
    return data


def parse_text(text: str) -> Checkpoint:
    """The checkpoint that a note's text holds. Raises DocumentError."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise DocumentError("That is no checkpoint: lines are missing.", "Get it again from its source.")
    return Checkpoint(lines[0], parse_number(lines[1]), parse_hash(lines[2]), tuple(lines[3:]))


def parse_checkpoint(data: bytes) -> tuple[Checkpoint, Note]:
    """The checkpoint in the signed note `data`, signatures unchecked. Raises DocumentError."""
    note = parse_note(data)
    return parse_text(note.text), note


def format_proof(proof: Proof) -> bytes:
    """The bytes of a ``.tlog-proof``."""
    lines = [PROOF_HEADER, f"index {proof.number}", *map(to_base64, proof.hashes), "", ""]
    return "\n".join(lines).encode() + proof.checkpoint


def parse_proof(data: bytes) -> Proof:
    """The proof in `data`; extra data is refused, nothing of ours has any. Raises DocumentError."""
    head, blank, checkpoint = data.partition(b"\n\n")
    lines = head.decode("ascii", "replace").split("\n")
    if not blank or lines[0] != PROOF_HEADER or len(lines) < 2 or not lines[1].startswith("index "):
        raise DocumentError("That is no tlog-proof.", "Get it again from its source.")
    if len(lines) > 2 + merkle.MAX_PROOF:
        raise DocumentError("That tlog-proof has too many hashes.", "Get it again from its source.")
    index = parse_number(lines[1].removeprefix("index "))
    return Proof(index, tuple(map(parse_hash, lines[2:])), checkpoint)
