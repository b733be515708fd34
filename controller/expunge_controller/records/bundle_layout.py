"""What lies where in a bundle, said once for writing, reading and checking. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from expunge_agent.protocol import sshsig

RECEIPT = "receipt.json"
ORDER = "order.json"
CERTIFICATE = "certificate.json"
CERTIFICATE_HTML = "certificate.html"
TRUST = "trust/allowed_signers"
README = "README.txt"
ENTRY = "entry.txt"
PROOF = "receipt.tlog-proof"
CHECKPOINT = "checkpoint.txt"
LOG_POLICY = "trust/log-policy.toml"
LOG_FILES = (ENTRY, PROOF, CHECKPOINT, LOG_POLICY)
CUSTODY_FOLDER = "custody/"
PEOPLE_FOLDER = "people/"
SIGNATURE = ".sig"
_BY_PERSON = re.compile(
    r"(?P<event>custody/(?P<number>[0-9]{3})\.json)\.(?P<person>(?!sig\.)[a-z0-9][a-z0-9_-]{0,63})\.sig"
)

NAMESPACES = {
    RECEIPT: sshsig.RECEIPT_NAMESPACE,
    ORDER: sshsig.ORDER_NAMESPACE,
    CERTIFICATE: sshsig.CERTIFICATE_NAMESPACE,
}


def custody_name(number: int) -> str:
    """The name of custody event `number`, from 1: ``custody/001.json``."""
    return f"{CUSTODY_FOLDER}{number:03}.json"


def custody_signature_name(number: int, person: str) -> str:
    """The name of a person's signature over a custody event: ``custody/001.json.wang.sig``."""
    return f"{custody_name(number)}.{person}{SIGNATURE}"


def person_name(number: int) -> str:
    """The name of person record `number`, from 1: ``people/001.json``."""
    return f"{PEOPLE_FOLDER}{number:03}.json"


def people_names(names: Iterable[str]) -> list[str]:
    """The person records among `names`, in order."""
    return sorted(name for name in names if name.startswith(PEOPLE_FOLDER) and not name.endswith(SIGNATURE))


def people_signatures(files: Mapping[str, bytes]) -> dict[int, dict[str, bytes]]:
    """People's signatures over custody events: event number → person → signature."""
    found: dict[int, dict[str, bytes]] = {}
    for name in sorted(files):
        if match := _BY_PERSON.fullmatch(name):
            found.setdefault(int(match["number"]), {})[match["person"]] = files[name]
    return found


def signed_document(name: str) -> str:
    """The document that the signature file `name` is about."""
    match = _BY_PERSON.fullmatch(name)
    return match["event"] if match else name.removesuffix(SIGNATURE)


def custody_names(names: Iterable[str]) -> list[str]:
    """The custody events among `names`, in the order of their numbers; gaps are the caller's to notice."""
    return sorted(name for name in names if name.startswith(CUSTODY_FOLDER) and not name.endswith(SIGNATURE))


def namespace_of(name: str) -> str | None:
    """The signature namespace of a signed document, None for files that carry no signature."""
    if name.startswith(CUSTODY_FOLDER) and not name.endswith(SIGNATURE):
        return sshsig.CUSTODY_NAMESPACE
    if name.startswith(PEOPLE_FOLDER) and not name.endswith(SIGNATURE):
        return sshsig.PERSON_NAMESPACE
    return NAMESPACES.get(name)


def signed_names(names: Iterable[str]) -> list[str]:
    """The signed documents among `names`: receipt, order, certificate, custody events and person records in order."""
    present = set(names)
    return [name for name in NAMESPACES if name in present] + custody_names(present) + people_names(present)
