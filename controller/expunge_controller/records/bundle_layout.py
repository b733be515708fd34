"""What lies where in a bundle, said once for writing, reading and checking. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from expunge_agent.protocol import sshsig

RECEIPT = "receipt.json"
ORDER = "order.json"
CERTIFICATE = "certificate.json"
CERTIFICATE_HTML = "certificate.html"
CERTIFICATE_PDF = "certificate.pdf"
TRUST = "trust/allowed_signers"
README = "README.txt"
ENTRY = "entry.txt"
PROOF = "receipt.tlog-proof"
CHECKPOINT = "checkpoint.txt"
LOG_POLICY = "trust/log-policy.toml"
LOG_FILES = (ENTRY, PROOF, CHECKPOINT, LOG_POLICY)
CUSTODY_FOLDER = "custody/"
SIGNATURE = ".sig"

NAMESPACES = {
    RECEIPT: sshsig.RECEIPT_NAMESPACE,
    ORDER: sshsig.ORDER_NAMESPACE,
    CERTIFICATE: sshsig.CERTIFICATE_NAMESPACE,
    CERTIFICATE_PDF: sshsig.CERTIFICATE_NAMESPACE,
}


def custody_name(number: int) -> str:
    """The name of custody event `number`, from 1: ``custody/001.json``."""
    return f"{CUSTODY_FOLDER}{number:03}.json"


def custody_names(names: Iterable[str]) -> list[str]:
    """The custody events among `names`, in the order of their numbers; gaps are the caller's to notice."""
    return sorted(name for name in names if name.startswith(CUSTODY_FOLDER) and not name.endswith(SIGNATURE))


def namespace_of(name: str) -> str | None:
    """The signature namespace of a signed document, None for files that carry no signature."""
    if name.startswith(CUSTODY_FOLDER) and not name.endswith(SIGNATURE):
        return sshsig.CUSTODY_NAMESPACE
    return NAMESPACES.get(name)


def signed_names(names: Iterable[str]) -> list[str]:
    """The signed documents among `names`: receipt, order, certificate and its PDF, custody events in order."""
    present = set(names)
    return [name for name in NAMESPACES if name in present] + custody_names(present)
