"""People and their keys: each addition and removal is a document of its own, signed by the controller.

Pure: who counted at a moment follows from the documents.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Frozen, Name, Nonce, Text, Timestamp, moment
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.records.custody_parts import PersonName, Role

PREFIX = "person:"
"""A person's principal in ``allowed_signers`` is this and the name."""


class PersonRecord(Frozen, frozen=True):
    """Signed by the controller in the namespace ``expunge-person``. ``key`` is an OpenSSH public key line.

    ``since``: from when on it holds. A removal may reach back, to when the key was lost; ``at`` is
    when it was recorded.
    """

    format: Literal["expunge/person/v1"]
    person: PersonName
    change: Literal["added", "removed"]
    key: Annotated[str, msgspec.Meta(max_length=1000)]
    roles: Annotated[list[Role], msgspec.Meta(max_length=16)]
    full_name: Text
    title: Text
    organisation: Text
    since: Timestamp
    at: Timestamp
    by: Name
    reason: Text
    nonce: Nonce


def parse_person(data: bytes) -> PersonRecord:
    """The record in `data`. Raises DocumentError, VerificationError where the key is none."""
    record = canonical.loads(data, PersonRecord, "person record")
    moment(record.since), moment(record.at)
    sshsig.normal_line(record.key)
    return record


def person_at(records: Iterable[PersonRecord], person: str, at: str) -> PersonRecord | None:
    """The record by which `person` counts at the Timestamp `at`; None where they are not known then.

    A removal takes away what was added before it was recorded, from its ``since`` on.
    """
    found: PersonRecord | None = None
    for record in records:
        if record.person != person:
            continue
        if record.change == "added":
            found = record if record.since <= at else found
        elif record.since <= at:
            found = None
    return found


def known_now(records: Sequence[PersonRecord]) -> list[PersonRecord]:
    """Those who were added and not removed, by name."""
    last = {record.person: record for record in records}
    return [last[name] for name in sorted(last) if last[name].change == "added"]


def principal(person: str) -> str:
    """The person's principal in ``allowed_signers``."""
    return PREFIX + person


def signers_of(records: Iterable[PersonRecord]) -> list[TrustedSigner]:
    """Every person's key that these documents ever named, once each."""
    found: dict[tuple[str, str], TrustedSigner] = {}
    for record in records:
        signer = TrustedSigner(
            principal=principal(record.person),
            namespaces=(sshsig.CUSTODY_NAMESPACE,),
            public_line=record.key,
        )
        found.setdefault((signer.principal, signer.public_line), signer)
    return list(found.values())


def same_name(text: str) -> str:
    """`text` as it is compared with others: case, width and surrounding spaces do not make another person."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
