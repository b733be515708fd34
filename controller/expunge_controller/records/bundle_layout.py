"""What lies where in a bundle, said once for writing, reading and checking. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from expunge_agent.protocol import dsse, sshsig

RECEIPT = "receipt.json"
ORDER = "order.json"
CERTIFICATE = "certificate.json"
CERTIFICATE_HTML = "certificate.html"
CERTIFICATE_PDF = "certificate.pdf"
TRUST = "trust/allowed_signers"
README = "README.txt"
SCRIPT = "verify.sh"
SUMS = "SHA256SUMS"
ENTRY = "entry.txt"
PROOF = "receipt.tlog-proof"
CHECKPOINT = "checkpoint.txt"
LOG_POLICY = "trust/log-policy.toml"
LOG_FILES = (ENTRY, PROOF, CHECKPOINT, LOG_POLICY)
DSSE = "receipt.dsse.json"
CUSTODY_FOLDER = "custody/"
STAMP_FOLDER = "stamps/"
KEY_FOLDER = "key-events/"
KEY_PROOF = ".tlog-proof"
PEOPLE_FOLDER = "people/"
SIGNATURE = ".sig"
_BY_PERSON = re.compile(
    r"(?P<event>custody/(?P<number>[0-9]{3})\.json)\.(?P<person>(?!sig\.)[a-z0-9][a-z0-9_-]{0,63})\.sig"
)

NAMESPACES = {
    RECEIPT: sshsig.RECEIPT_NAMESPACE,
    ORDER: sshsig.ORDER_NAMESPACE,
    CERTIFICATE: sshsig.CERTIFICATE_NAMESPACE,
    CERTIFICATE_PDF: sshsig.CERTIFICATE_NAMESPACE,
}


def raw_signature(algorithm: str) -> str:
    """The file of a raw signature over the receipt's PAE (see `dsse`)."""
    return f"receipt.{algorithm}.sig"


def raw_key(algorithm: str) -> str:
    """The file of the public key to that, PEM."""
    return f"trust/receipt.{algorithm}.pem"


def classic_algorithm(names: Iterable[str]) -> str:
    """How the signing key signed the PAE, as far as the names of the files tell."""
    there = set(names)
    p256 = {raw_signature(dsse.ECDSA_P256), raw_key(dsse.ECDSA_P256)} & there
    ed25519 = {raw_signature(dsse.ED25519), raw_key(dsse.ED25519)} & there
    return dsse.ECDSA_P256 if p256 and not ed25519 else dsse.ED25519


def second_names(names: Iterable[str]) -> set[str]:
    """The files of the second signatures, all of which are there or none, beside files of these `names`."""
    kinds = (classic_algorithm(names), dsse.MLDSA65)
    return {DSSE, *map(raw_signature, kinds), *map(raw_key, kinds)}


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


def stamp_name(number: int) -> str:
    """The name of time stamp `number`, from 1: ``stamps/001.tsr``."""
    return f"{STAMP_FOLDER}{number:03}.tsr"


def stamp_proof_name(number: int) -> str:
    """The name of the proof of what that stamp is on: ``stamps/001.tlog-proof``."""
    return f"{STAMP_FOLDER}{number:03}.tlog-proof"


def key_event_name(number: int) -> str:
    """The name of key event `number`, from 1; its proof has another ending: ``key-events/001.tlog-proof``."""
    return f"{KEY_FOLDER}{number:03}.json"


def key_event_names(names: Iterable[str]) -> list[str]:
    """The key events among `names`, in the order of their numbers."""
    return sorted(name for name in names if name.startswith(KEY_FOLDER) and name.endswith(".json"))


def key_proof_name(name: str) -> str:
    """The name of the log's proof for the key event `name`."""
    return name.removesuffix(".json") + KEY_PROOF


def namespace_of(name: str) -> str | None:
    """The signature namespace of a signed document, None for files that carry no signature."""
    if name.startswith(CUSTODY_FOLDER) and not name.endswith(SIGNATURE):
        return sshsig.CUSTODY_NAMESPACE
    if name.startswith(KEY_FOLDER) and name.endswith(".json"):
        return sshsig.KEY_EVENT_NAMESPACE
    if name.startswith(PEOPLE_FOLDER) and not name.endswith(SIGNATURE):
        return sshsig.PERSON_NAMESPACE
    return NAMESPACES.get(name)


def signed_names(names: Iterable[str]) -> list[str]:
    """The signed documents among `names`: receipt, order, certificate and its PDF, then custody events, key events and person
    records in order."""
    present = set(names)
    numbered = (custody_names, key_event_names, people_names)
    return [name for name in NAMESPACES if name in present] + [
        name for of in numbered for name in of(present)
    ]
