"""What lies where in an archive, said once for writing, reading and checking. Pure."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from expunge_controller.records.log_entry import EntryKind

MANIFEST = "MANIFEST.txt"
SIGNATURE = "MANIFEST.txt.sig"
NAMESPACE = "expunge-archive"
INDEX = "index.html"
README = "README.txt"
BUNDLES = "bundles/"
DOCUMENTS = "documents/"
REGISTERS = "registers/"
LOG = "log/"
CHECKPOINTS = "checkpoints/"
SIGNERS = "trust/allowed_signers"
LOG_POLICY = "trust/log-policy.toml"
DERIVED = (INDEX, README)
"""Made from the documents alone, beside the registers."""


class Document(NamedTuple):
    """A document and its signatures as the log entered them; those that there are not are empty."""

    kind: EntryKind
    body: bytes
    signature: bytes
    mldsa65: bytes = b""


def document_name(document: Document) -> str:
    """The name of a document: ``documents/receipt/5f0c….json``, by its SHA-256; of people's signatures, of which an
    event may have several, by theirs.
    """
    named = document.signature if document.kind is EntryKind.SIGNATURE else document.body
    ending = ".tsr" if document.kind is EntryKind.STAMP else ".json"
    return f"{DOCUMENTS}{document.kind}/{hashlib.sha256(named).hexdigest()}{ending}"


def bundle_name(order_id: str, target: int) -> str:
    """The bundle about target `target` (from 1) of an order."""
    return f"{BUNDLES}{order_id}-{target}.zip"


def manifest_text(digests: dict[str, str]) -> str:
    """The manifest, in the form that ``sha256sum -c`` reads, sorted."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
