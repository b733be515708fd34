"""One entry of the log: hashes only, in the one spelling that its leaf is made of. docs/log.md is the same in prose.

expunge log entry v1
kind receipt
body 5f0c…            SHA-256 of the document's bytes
sshsig 91ab…          SHA-256 of its detached signature
mldsa65 77e0…         of its ML-DSA-65 signature (`dsse`), where there is one
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum

from expunge_agent.errors import DocumentError
from expunge_agent.protocol.base import Frozen, MaybeDigest

HEADER = "expunge log entry v1"
_ENTRY = re.compile(
    rf"{HEADER}\nkind (?P<kind>[a-z-]+)\nbody (?P<body>[0-9a-f]{{64}})\n"
    r"(?:sshsig (?P<sshsig>[0-9a-f]{64})\n)?(?:mldsa65 (?P<mldsa65>[0-9a-f]{64})\n)?"
)


class EntryKind(StrEnum):
    """What was entered. The list is closed; ``aside`` is a receipt that failed a check, ``key`` the log's own key, ``stamp`` a time stamp."""

    KEY = "key"
    ENROLMENT = "enrolment"
    KEY_EVENT = "key-event"
    ORDER = "order"
    RECEIPT = "receipt"
    ASIDE = "aside"
    CUSTODY = "custody"
    CERTIFICATE = "certificate"
    STAMP = "stamp"
    PERSON = "person"
    SIGNATURE = "custody-signature"
    """A person's signature over a custody event whose digest is ``body``."""
    LOT = "lot"


class LogEntry(Frozen, frozen=True):
    """A document by its digests; the signatures' are empty where there is none."""

    kind: EntryKind
    body: str
    sshsig: MaybeDigest = ""
    mldsa65: MaybeDigest = ""


def entry_of(kind: EntryKind, body: bytes, sshsig: bytes = b"", mldsa65: bytes = b"") -> bytes:
    """The bytes of the entry for a document and its detached signatures (empty: none)."""
    lines = [HEADER, f"kind {kind}", f"body {_hex(body)}"]
    lines += [f"{name} {_hex(data)}" for name, data in (("sshsig", sshsig), ("mldsa65", mldsa65)) if data]
    return "\n".join([*lines, ""]).encode("ascii")


def parse_entry(data: bytes) -> LogEntry:
    """The entry in `data`. Raises DocumentError."""
    match = _ENTRY.fullmatch(data.decode("ascii", "replace"))
    if match is None or match["kind"] not in list(EntryKind):
        raise DocumentError("That is no entry of a log of expunge.", "See docs/log.md for its form.")
    return LogEntry(
        kind=EntryKind(match["kind"]),
        body=match["body"],
        sshsig=match["sshsig"] or "",
        mldsa65=match["mldsa65"] or "",
    )


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
