"""Signed notes and their keys (C2SP signed-note), with the two signature types that a log needs.

Type 0x01 is an Ed25519 signature of the text, made by a log. Type 0x04 is a witness's cosignature
with a time (C2SP tlog-cosignature, "Ed25519 signed message"). Base64 is read in one spelling only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Iterable
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.sshsig import Signer

ED25519 = 0x01
COSIGNATURE = 0x04
MAX_NOTE = 64 * 1024
MAX_SIGNATURES = 64
"""The standard asks for 16 at least."""
MAX_TIME = 2**63 - 1
_NAME = re.compile(r"[^\s+]+")
_LINE = re.compile(r"— (\S+) (\S+)")
_ID, _TIME, _RAW = 4, 8, 64


class NoteKey(NamedTuple):
    """A verifier key: who signs, how, and the 32 bytes of the Ed25519 public key."""

    name: str
    kind: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        """SHA-256(name ‖ 0x0A ‖ type ‖ public key), the first four bytes."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:_ID]

    @property
    def text(self) -> str:
        """The key as others configure it (vkey): ``name+key id+base64(type ‖ public key)``."""
        return f"{self.name}+{self.key_id.hex()}+{to_base64(bytes([self.kind]) + self.public)}"


class NoteSignature(NamedTuple):
    """One signature line."""

    name: str
    key_id: bytes
    raw: bytes

    @property
    def line(self) -> str:
        """The line without its end."""
        return f"— {self.name} {to_base64(self.key_id + self.raw)}"


class Note(NamedTuple):
    """``text`` ends with a newline; ``signatures`` are unchecked until `verified`."""

    text: str
    signatures: tuple[NoteSignature, ...]


class Signed(NamedTuple):
    """A signature that checked out. ``time`` is POSIX seconds, 0 for a log's own."""

    key: NoteKey
    time: int


def key_of(signer: Signer, name: str, kind: int) -> NoteKey:
    """The verifier key of an Ed25519 `signer`. Raises DocumentError for a name that cannot stand in a line."""
    if not _NAME.fullmatch(name):
        raise DocumentError(
            f"{name[:80]!r} cannot name a key.", "Leave out spaces and plus signs, as in example.com/witness."
        )
    return NoteKey(name, kind, sshsig.public_blob(signer.public_line)[-32:])


def sign(signer: Signer, key: NoteKey, text: str, time: int = 0) -> NoteSignature:
    """The line of `signer`, whose key is `key`, under `text`; `time` (POSIX seconds) for a cosignature."""
    if key.kind == ED25519:
        raw = signer.signature_blob(text.encode())[-_RAW:]
    else:
        raw = struct.pack(">Q", time) + signer.signature_blob(cosigned_message(text, time))[-_RAW:]
    return NoteSignature(key.name, key.key_id, raw)


def to_base64(data: bytes) -> str:
    """Standard base64 (RFC 4648 §4)."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes:
    """What `to_base64` wrote; raises DocumentError for every other spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DocumentError(f"{text[:40]!r} is not base64.", "Get it again from its source.") from error
    if to_base64(data) != text:
        raise DocumentError(f"{text[:40]!r} is not base64 as it is written.", "Get it again from its source.")
    return data


def parse_key(text: str) -> NoteKey:
    """The key that a vkey spells. Raises DocumentError."""
    name, plus, rest = text.partition("+")
    given_id, _, encoded = rest.partition("+")
    remedy = "It looks like NAME+0a1b2c3d+BASE64; `expunge log head` and `expunge witness show` print them."
    if not plus or not _NAME.fullmatch(name):
        raise DocumentError(f"{text[:80]!r} is not a verifier key.", remedy)
    data = from_base64(encoded)
    if len(data) != 33 or data[0] not in (ED25519, COSIGNATURE):
        raise DocumentError(f"The key of {name[:80]!r} is not one that is known here (Ed25519).", remedy)
    key = NoteKey(name, data[0], data[1:])
    if given_id != key.key_id.hex():
        raise DocumentError(f"The key id of {name[:80]!r} does not belong to the key.", remedy)
    return key


def parse_note(data: bytes) -> Note:
    """The note in `data`, signatures unchecked. Raises DocumentError."""
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad("it is not UTF-8") from error
    if len(data) > MAX_NOTE:
        raise _bad("it is far too long")
    if re.search(r"[\x00-\x09\x0b-\x1f]", whole):
        raise _bad("it holds control characters")
    text, blank, tail = whole.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise _bad("its signatures are missing")
    return Note(text + "\n", parse_signatures(tail))


def parse_signatures(text: str) -> tuple[NoteSignature, ...]:
    """The signature lines of `text`, each with its newline. Raises DocumentError."""
    lines = text.split("\n")
    if lines.pop() or not 1 <= len(lines) <= MAX_SIGNATURES:
        raise _bad("its signatures are missing, or too many")
    return tuple(map(_signature, lines))


def format_note(note: Note) -> bytes:
    """The bytes of a note."""
    return (note.text + "\n" + "".join(f"{one.line}\n" for one in note.signatures)).encode()


def cosigned_message(text: str, time: int) -> bytes:
    """What a witness signs of a checkpoint's `text` (tlog-cosignature, "Ed25519 signed message")."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def verified(note: Note, keys: Iterable[NoteKey]) -> list[Signed]:
    """The signatures by known `keys`, each key once; those by others are ignored (signed-note, "Signatures").

    Raises VerificationError when a signature that bears a known key's name and id does not check out.
    """
    known = {(key.name, key.key_id): key for key in keys}
    found: dict[NoteKey, int] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        try:
            time = _check(key, note.text, signature.raw)
        except (InvalidSignature, ValueError) as error:
            raise VerificationError(
                f"The signature of {key.name} does not belong to this text.", "Keep the copy as evidence."
            ) from error
        found.setdefault(key, time)
    return [Signed(key, time) for key, time in found.items()]


def _check(key: NoteKey, text: str, raw: bytes) -> int:
    public = Ed25519PublicKey.from_public_bytes(key.public)
    if key.kind == ED25519:
        public.verify(raw, text.encode())
        return 0
    if len(raw) != _TIME + _RAW:
        raise InvalidSignature
    (time,) = struct.unpack(">Q", raw[:_TIME])
    if time > MAX_TIME:
        raise InvalidSignature
    public.verify(raw[_TIME:], cosigned_message(text, time))
    return int(time)


def _signature(line: str) -> NoteSignature:
    match = _LINE.fullmatch(line)
    if match is None or not _NAME.fullmatch(match[1]):
        raise _bad("a signature line is damaged")
    data = from_base64(match[2])
    if len(data) <= _ID:
        raise _bad("a signature is too short")
    return NoteSignature(match[1], data[:_ID], data[_ID:])


def _bad(why: str) -> DocumentError:
    return DocumentError(f"That is no signed note: {why}.", "Get it again from its source.")
