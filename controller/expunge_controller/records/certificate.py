"""The certificate: the controller's document about one medium, made from the receipt and the register.

Fields follow NIST SP 800-88 r1 appendix G and r2 §4.6; what is not known says "not recorded".
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import (
    Digest,
    Frozen,
    Level,
    MachineId,
    MaybeDigest,
    Name,
    Outcome,
    Text,
    Timestamp,
)
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import Identity
from expunge_agent.protocol.order import ProfileRef
from expunge_agent.protocol.receipt_erasure import LaidOpen
from expunge_agent.protocol.receipt_files import Files
from expunge_agent.protocol.receipt_keys import KeyDestruction
from expunge_controller.records.review import Review

NOT_RECORDED = "not recorded"


def recorded(text: str) -> str:
    """`text`, or that there is none."""
    return text if text.strip() else NOT_RECORDED


AWAITING: Literal["awaiting validation"] = "awaiting validation"
ATTESTATION = (
    "I attest that the information on this certificate is accurate and complete to the best of my knowledge."
)

Number = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Person(Frozen, frozen=True):
    """A person as appendix G names one. Role or name, as the organisation keeps it."""

    name: Text = NOT_RECORDED
    title: Text = NOT_RECORDED
    organisation: Text = NOT_RECORDED
    location: Text = NOT_RECORDED
    phone: Text = NOT_RECORDED


class MediumRecord(Frozen, frozen=True):
    """What the register knows of a medium and a receipt cannot say. All of it is the operator's word."""

    performed_by: Person = Person()
    vendor: Text = NOT_RECORDED
    property_number: Text = NOT_RECORDED
    source: Text = NOT_RECORDED
    """The user it was taken from, or the property number of the computer it sat in."""
    classification: Text = NOT_RECORDED
    data_backed_up: Literal["yes", "no", "unknown"] = "unknown"
    backup_location: Text = NOT_RECORDED
    classification_after: Text = NOT_RECORDED
    destination: Text = NOT_RECORDED
    """Internal reuse, external reuse, recycling facility, manufacturer or other (the disposition)."""
    destination_details: Text = NOT_RECORDED
    notes: Text = NOT_RECORDED


class Media(Frozen, frozen=True):
    """The medium as the receipt identifies it; sector sizes in bytes, −1 where they were not seen."""

    digest: Digest
    subject: Name
    identity: Identity
    type: Text
    model: Text
    serial: Text
    wwn: Text
    size: U64
    firmware: Text
    logical_sector: int
    physical_sector: int
    path: Text
    notes: list[Text]


class CertifiedPass(Frozen, frozen=True):
    """One pass of the receipt. ``duration_ms`` milliseconds, ``throughput`` bytes per second (0: too short to say)."""

    number: int
    pattern: Text
    bytes_written: U64
    started_at: Text
    finished_at: Text
    duration_ms: U64
    throughput: U64
    complete: bool
    flushed: bool
    io_mode: Text
    times_resumed: int
    error_count: U64
    error_bytes: U64


class CertifiedVerification(Frozen, frozen=True):
    """One read-back of the receipt. ``coverage_ppm``: bytes read per million bytes of the medium."""

    kind: Text
    of_pass: int
    status: Literal["passed", "failed", "incomplete"]
    bytes_read: U64
    coverage_ppm: int
    mismatched_bytes: U64
    unreadable_bytes: U64
    duration_ms: U64
    io_mode: Text
    reads_medium: bool
    rule: Text


class CertifiedCanaries(Frozen, frozen=True):
    """The canaries of the receipt; their key and the offsets of those found stand there only."""

    block: int
    planned: int
    written: int
    looked_for: int
    found: int
    unreadable: int
    samples: int
    telling: int
    kept: int
    samples_unreadable: int


class CertifiedReadBack(Frozen, frozen=True):
    """What the medium held after the command, in bytes. ``coverage_ppm``: bytes read per million of the medium.

    ``zeros``, ``ones`` and ``constant`` are what deallocated blocks read as, too.
    """

    kind: Text
    status: Literal["passed", "failed", "incomplete"]
    bytes_read: U64
    coverage_ppm: int
    unreadable_bytes: U64
    zeros: U64
    ones: U64
    constant: U64
    other: U64
    duration_ms: U64
    io_mode: Text
    reads_medium: bool
    rule: Text


class CertifiedInterruption(Frozen, frozen=True):
    """The run was found unfinished. ``restarted``: the machine had been started anew meanwhile."""

    noticed_at: Timestamp
    decision: Text
    restarted: bool
    what: Text


class CertifiedErasure(Frozen, frozen=True):
    """The drive's own command, as the receipt tells of it. ``answers``: how many raw answers stand there."""

    technique: Name
    accepted: bool
    progress_seen: bool
    ended: Text
    detail: Text
    attempts: int
    started_at: Text
    finished_at: Text
    duration_ms: U64
    settled: bool
    settling: Text
    canaries: CertifiedCanaries | None
    read_back: CertifiedReadBack | None
    changes: list[Text]
    answers: int
    interruptions: list[CertifiedInterruption]
    laid_open: LaidOpen | None = None


class CertifiedSpace(Frozen, frozen=True):
    """How free space was filled, as the receipt tells of it; bytes. Ranges stand there only; −1: not known."""

    filesystem: Name
    size: U64
    free_before: U64
    filled: U64
    rest: U64
    left: U64
    left_by: Text
    reserve: U64
    reserve_why: Text
    ended: Text
    pieces_on_device: U64
    names: U64
    moved: bool
    cleaned_up: bool
    trim: Text


class CertifiedMember(Frozen, frozen=True):
    """A device that the volume lies on. ``depth`` 1: directly. ``digest`` is that of its identity."""

    path: Text
    kind: Text
    type: Text
    name: Text
    digest: Digest
    depth: int


class CertifiedStep(Frozen, frozen=True):
    """Something that stood on the target and was taken down first, and how that ended."""

    what: Name
    on: Text
    ended: Text
    said: Text


class CertifiedVolume(Frozen, frozen=True):
    """What the target lies on, and what was taken down above it."""

    members: list[CertifiedMember]
    steps: list[CertifiedStep]


class Sanitization(Frozen, frozen=True, omit_defaults=True):
    """What was done. ``method`` is the level achieved; verification is measured, never validation.

    ``erasure`` is left out where no command of the drive was given, as it was before there were any;
    ``downgrade`` (why less than the level asked was accepted) where there was none; ``space`` where it was no
    free space; ``volume`` where the target lies on nothing else and nothing stood on it;
    ``key`` where none was destroyed. The bytes that the key's evidence holds stand in the receipt only.
    """

    outcome: Outcome
    method: Level
    level_requested: Text
    level_achieved: Level
    technique: Text
    profile: ProfileRef | None
    tool: Text
    started_at: Timestamp
    finished_at: Timestamp
    clock: Text
    passes: list[CertifiedPass]
    verifications: list[CertifiedVerification]
    verification_status: Literal["passed", "passed with exceptions", "none"]
    exceptions: list[Text]
    not_covered: list[Text]
    limitations: list[Text]
    erasure: CertifiedErasure | None = None
    downgrade: Text = ""
    space: CertifiedSpace | None = None
    volume: CertifiedVolume | None = None
    key: KeyDestruction | None = None
    files: Files | None = None
    """Of a directory: the receipt's own account of its files."""


class CertifiedWitness(Frozen, frozen=True):
    """A witness that confirmed, at that time, that the log only grew. ``key`` is its verifier key."""

    key: Text
    at: Timestamp


class LogReference(Frozen, frozen=True):
    """The receipt's entry in the transparency log, from 0, and who had witnessed it when this was issued.

    ``log`` is the log's verifier key, ``leaf`` the entry's leaf hash. ``size`` and ``root`` are
    those of the checkpoint that the witnesses signed (0 and empty without witnesses);
    ``required`` how many witnesses the controller asked for.
    """

    log: Text
    number: U64
    leaf: Digest
    size: U64
    root: MaybeDigest
    required: int
    witnesses: list[CertifiedWitness]


class Evidence(Frozen, frozen=True, omit_defaults=True):
    """The documents behind it; SHA-256 of their bytes as signed. ``log`` is left out where there was none."""

    receipt: Digest
    receipt_signature: Digest
    """SHA-256 of ``receipt.json.sig``, so that not even its layout can change unnoticed."""
    counter: U64
    target: int
    """Which target of the receipt, from 0."""
    order: Digest
    order_id: Text
    requested_by: Text
    case_number: Text
    reason: Text
    machine_id: MachineId
    hostname: Text
    agent_key: Name
    boot_id: Text
    kernel: Text
    dsse: MaybeDigest = ""
    """Of ``receipt.dsse.json``, with the second signatures; left out, like the key's, where there are none."""
    mldsa65_key: MaybeDigest = ""
    """`keyid` of the key of the ML-DSA-65 signature."""
    log: LogReference | None = None


class Blank(Frozen, frozen=True):
    """Lines to be filled by hand. Empty at issue: nothing attests or validates itself."""

    name: Text = ""
    title: Text = ""
    organisation: Text = ""
    location: Text = ""
    phone: Text = ""
    signature: Text = ""
    date: Text = ""


class Certificate(Frozen, frozen=True, omit_defaults=True):
    """Signed with SSHSIG in the namespace ``expunge-certificate`` over its canonical bytes."""

    format: Literal["expunge/certificate/v1"]
    number: Number
    status: Literal["awaiting validation", "approved", "rejected"]
    issued_at: Timestamp
    issuer: Name
    media: Media
    register: MediumRecord
    sanitization: Sanitization
    evidence: Evidence
    assurance: list[Text]
    """What this certificate does not have behind it, in sentences."""
    attestation_text: Text
    attestation: Blank
    validation: Blank
    concurrence: Blank
    review: Review | None = None
    """What people decided, as custody has it; left out until then."""
    replaces: MaybeDigest = ""
    """SHA-256 of the certificate that this one is issued in place of."""


def parse_certificate(data: bytes) -> Certificate:
    """The certificate in `data`. Raises DocumentError."""
    return canonical.loads(data, Certificate, "certificate")


def freeze_certificate(certificate: Certificate) -> bytes:
    """The bytes that are signed and kept."""
    return canonical.dumps(certificate)
