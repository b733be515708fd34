"""The rows of the store, as values: what the rest of the controller sees of the database."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from expunge_agent.protocol.dsse import SecondSignatures


class Reach(StrEnum):
    """Who dials whom."""

    DIAL_IN = "dial-in"
    SSH = "ssh"


class OrderStatus(StrEnum):
    """How far an order has come.

    ``attention``: a person must look (the agent rejected it, or its receipt was kept aside).
    ``expired``: it was never handed to the agent and may no longer be; ``cancelled``: nor will it.
    """

    CREATED = "created"
    SENT = "sent"
    ACCEPTED = "accepted"
    RUNNING = "running"
    FINISHED = "finished"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    ATTENTION = "attention"


OPEN = (OrderStatus.CREATED, OrderStatus.SENT, OrderStatus.ACCEPTED, OrderStatus.RUNNING)
"""Statuses in which the controller still has something to do with the agent."""


@dataclass(frozen=True, kw_only=True)
class SshAddress:
    """How a machine is dialled. Empty user and port 0 leave it to the user's ssh config.

    ``host_key`` is a public key line, or a fingerprint (``SHA256:…``) until the first connection.
    """

    user: str
    host: str
    port: int
    host_key: str


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """A one-time enrolment token; only the SHA-256 of its secret is kept. Times are RFC 3339.

    ``problem`` is why the last attempt to dial it failed (see `problems`), empty after a success.
    """

    secret_digest: str
    name: str
    reach: Reach
    ssh: SshAddress | None
    created_at: str
    expires_at: str
    used_at: str | None
    machine_id: str | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class MachineRow:
    """An enrolled machine. ``facts`` is the JSON of what it said of itself.

    ``counter`` and ``last_digest`` are those of its newest authentic receipt; ``note`` is
    something a person should know (a second agent with the same key); ``problem`` is why the last
    attempt to dial it failed (see `problems`), empty after a success. ``mldsa65_key`` is that of its
    second signatures (see `dsse`), None while it has shown none.
    """

    machine_id: str
    name: str
    signing_key: str
    dial_key: str
    reach: Reach
    ssh: SshAddress | None
    enrolled_at: str
    enrolment: bytes
    enrolment_signature: bytes
    facts: str
    last_seen: str | None = None
    counter: int = 0
    last_digest: str | None = None
    note: str = ""
    problem: str = ""
    mldsa65_key: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class MediumRow:
    """A registered medium. ``digest`` is that of its canonical ``identity`` (JSON); paper has no machine."""

    digest: str
    identity: bytes
    machine_id: str | None
    hint: str
    property_number: str
    source: str
    classification: str
    label: str
    registered_at: str


@dataclass(frozen=True, kw_only=True)
class OrderRow:
    """An order and how far it has come. ``rev`` counts its changes; ``outcome`` is set by its receipt.

    ``problem`` is the code of the failure with which the agent answered it last, empty once the
    agent has it; somebody follows the order while ``followed_until`` is not over.
    """

    digest: str
    order_id: str
    machine_id: str
    body: bytes
    signature: bytes
    status: OrderStatus
    outcome: str
    rev: int
    created_at: str
    updated_at: str
    expires_at: str
    note: str
    problem: str = ""
    followed_until: str = ""


@dataclass(frozen=True, kw_only=True)
class ReceiptRow:
    """A receipt that passed every check; ``second`` is None where its agent had no key for it."""

    digest: str
    order_digest: str
    machine_id: str
    counter: int
    outcome: str
    body: bytes
    signature: bytes
    received_at: str
    second: SecondSignatures | None = None

    @property
    def mldsa65(self) -> bytes:
        """The ML-DSA-65 signature, empty where there is none: as its log entry names it."""
        return b"" if self.second is None else self.second.mldsa65


@dataclass(frozen=True, kw_only=True)
class AsideRow:
    """A receipt that failed a check, with the reasons; kept as it came.

    ``counter`` is 0 unless the machine that delivered it signed it, with every key it is known to have.
    """

    digest: str
    machine_id: str
    order_digest: str
    counter: int
    reasons: tuple[str, ...]
    body: bytes
    signature: bytes
    received_at: str
    second: SecondSignatures | None = None

    @property
    def mldsa65(self) -> bytes:
        """What came as the ML-DSA-65 signature, empty where nothing did."""
        return b"" if self.second is None else self.second.mldsa65


@dataclass(frozen=True, kw_only=True)
class CustodyRow:
    """One signed custody event of a medium; ``seq`` counts from 1 without a gap."""

    medium: str
    seq: int
    event: str
    order_digest: str
    body: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class CertificateRow:
    """A certificate about one target of one receipt."""

    number: str
    receipt_digest: str
    order_digest: str
    target: int
    medium: str
    body: bytes
    signature: bytes
    issued_at: str


@dataclass(frozen=True, kw_only=True)
class RequestRow:
    """An inventory question to a machine, and its answer (JSON) or failure (a sentence)."""

    request_id: int
    machine_id: str
    paths: tuple[str, ...]
    created_at: str
    status: str
    answer: bytes


@dataclass(frozen=True, kw_only=True)
class KeyEventRow:
    """An event of a signing key's life. ``document`` is the rotation that the machine signed with its new key
    (``document_signature``) and its old one (``endorsement``); all empty where there is none."""

    principal: str
    seq: int
    event: str
    key: str
    successor: str
    body: bytes
    signature: bytes
    document: bytes = b""
    document_signature: bytes = b""
    endorsement: bytes = b""


@dataclass(frozen=True, kw_only=True)
class EntryRow:
    """An entry of the log. ``above`` are the hashes of the larger complete subtrees that end with it."""

    number: int
    body: bytes
    leaf: bytes
    above: bytes


@dataclass(frozen=True, kw_only=True)
class CheckpointRow:
    """A checkpoint as the log signed it, without the witnesses' lines."""

    size: int
    body: bytes
    created_at: str


@dataclass(frozen=True, kw_only=True)
class CosignatureRow:
    """A witness's signature line (with its newline) on the checkpoint of ``size``; ``witness`` is its vkey."""

    size: int
    witness: str
    body: bytes
    received_at: str


@dataclass(frozen=True, kw_only=True)
class StampRow:
    """A time stamp (RFC 3161 response, DER) on the checkpoint of ``size``; ``at`` is the authority's time."""

    digest: str
    size: int
    authority: str
    body: bytes
    at: str
    received_at: str


@dataclass(frozen=True, kw_only=True)
class AwaitingRow:
    """A certificate that may not be issued before witnesses signed; ``entry`` is its receipt's in the log."""

    receipt_digest: str
    target: int
    medium: str
    entry: int
