"""The head of a sealed object: whose it is, how it is cut, and the keys that follow from it.

On disk: 8 bytes ``EXPVLT1\\n``, the length of the header as 4 bytes big-endian, the header (canonical
JSON), the chunks (`stream`). The object's key is derived from the subject's data key and all of these
bytes, so whoever alters one of them finds another key, which opens nothing.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec

from expunge_agent.errors import DocumentError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Timestamp
from expunge_agent.vault import keys
from expunge_agent.vault.words import Id, Subject

MAGIC = b"EXPVLT1\n"
MOST = 16384
"""Bytes of a header."""
LEAST_CHUNK, MOST_CHUNK = 64 * 1024, 1024 * 1024


class Header(Frozen, frozen=True):
    """``chunk``: bytes of plaintext a chunk. ``prefix``: of the nonces, hexadecimal. ``label``: what the
    owner calls the object, sealed by the subject's key, so that it goes when the key goes."""

    format: Literal["expunge/vault-object/v1"]
    vault: Id
    object: Id
    subject: Subject
    key: Id
    made_at: Timestamp
    chunk: Annotated[int, msgspec.Meta(ge=LEAST_CHUNK, le=MOST_CHUNK)]
    prefix: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{14}\Z")]
    label: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){28,4096}\Z")]


def encode(header: Header) -> bytes:
    """The bytes in front of the chunks."""
    body = canonical.dumps(header)
    return MAGIC + len(body).to_bytes(4, "big") + body


def decode(data: bytes, what: str) -> tuple[Header, bytes]:
    """The header at the beginning of `data` and exactly the bytes it takes. Raises DocumentError."""
    length = int.from_bytes(data[8:12], "big")
    if data[:8] != MAGIC or not 0 < length <= MOST or len(data) < 12 + length:
        raise DocumentError(f"{what} is not an object of a vault.", "Restore it from a backup, or remove it.")
    raw = data[: 12 + length]
    header = canonical.loads(raw[12:], Header, what)
    if encode(header) != raw:
        raise DocumentError(f"The header of {what} is not in its one form.", "Restore it from a backup.")
    return header, raw


def object_key(data_key: bytes, raw: bytes) -> bytes:
    """The key of the chunks behind the header `raw`."""
    return keys.derive(data_key, hashlib.sha256(raw).digest(), b"expunge-vault/v1 object")


def seal_label(data_key: bytes, object_id: str, label: str) -> str:
    """The label as the header holds it."""
    key = keys.derive(data_key, bytes.fromhex(object_id), b"expunge-vault/v1 label")
    return keys.wrap(key, label.encode(), keys.about("label", object_id)).hex()


def open_label(data_key: bytes, header: Header) -> str | None:
    """The label, None where this key does not open it."""
    key = keys.derive(data_key, bytes.fromhex(header.object), b"expunge-vault/v1 label")
    found = keys.unwrap(key, bytes.fromhex(header.label), keys.about("label", header.object))
    return None if found is None else found.decode("utf-8", "replace")
