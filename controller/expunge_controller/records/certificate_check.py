"""Whether a certificate repeats its receipt and order truly: field by field, not by making it again.

Written apart from `certify`, so that a mistake there is not made twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.identity import BlockIdentity
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import PassResult, Receipt, TargetResult, Verification
from expunge_agent.protocol.receipt_erasure import Erasure
from expunge_controller.records.certificate import (
    ATTESTATION,
    NOT_RECORDED,
    Blank,
    Certificate,
    CertifiedErasure,
    CertifiedPass,
    CertifiedVerification,
    CertifiedVolume,
)
from expunge_controller.records.certify_review import reviewed
from expunge_controller.records.consistency import SUCCESS, medium_of
from expunge_controller.records.extent import size_of
from expunge_controller.records.key_checks import looked_at
from expunge_controller.records.space_checks import certified_space_problems

Fact = tuple[str, Any, Any]
"""A field's name, what the certificate says, what the receipt or order says."""


def certificate_problems(
    certificate: Certificate,
    receipt: Receipt,
    body: bytes,
    signature: bytes,
    order: Order | None,
    envelope: bytes = b"",
) -> list[str]:
    """Each place where `certificate` says something else than the receipt (`body`, `signature`) and order.

    `envelope` is that of the second signatures, empty where there are none.
    """
    proof = certificate.evidence
    if proof.receipt != canonical.sha256_hex(body):
        return ["it is about another receipt"]
    if proof.target >= len(receipt.targets) or proof.target < 0:
        return [f"the receipt has no target number {proof.target}"]
    result = receipt.targets[proof.target]
    if result.outcome not in SUCCESS:
        return [f"it certifies a target whose outcome is {result.outcome}"]
    facts: list[Fact] = [
        ("DSSE envelope", proof.dsse, canonical.sha256_hex(envelope) if envelope else ""),
        ("ML-DSA-65 key", proof.mldsa65_key, receipt.agent.mldsa65_key),
        *_document_facts(certificate, signature, receipt, order),
        *_media_facts(certificate, result),
        *_sanitization_facts(certificate, receipt, result),
    ]
    problems = [f"{name}: it says {said!s}, the evidence {due!s}" for name, said, due in facts if said != due]
    problems += _passes(certificate.sanitization.passes, result.passes)
    problems += _verifications(certificate, result)
    problems += _erasure(certificate.sanitization.erasure, receipt, result)
    problems += certified_space_problems(certificate.sanitization.space, result)
    problems += _volume(certificate.sanitization.volume, result)
    return problems


def _document_facts(
    certificate: Certificate, signature: bytes, receipt: Receipt, order: Order | None
) -> Iterator[Fact]:
    proof, said, agent = certificate.evidence, receipt.order, receipt.agent
    yield "receipt signature", proof.receipt_signature, canonical.sha256_hex(signature)
    yield "counter", proof.counter, receipt.counter
    yield "order", proof.order, said.digest
    yield "order id", proof.order_id, _or_unknown(said.order_id)
    yield "requested by", proof.requested_by, _or_unknown(said.requested_by)
    yield "case number", proof.case_number, _or_unknown(said.case_number)
    yield "reason", proof.reason, _or_unknown(order.reason if order else "")
    yield "machine", proof.machine_id, agent.machine_id
    yield "host name", proof.hostname, _or_unknown(agent.hostname)
    yield "agent key", proof.agent_key, agent.key
    yield "boot id", proof.boot_id, _or_unknown(agent.boot_id)
    yield "kernel", proof.kernel, _or_unknown(agent.kernel)
    yield "assurance", bool(certificate.assurance), True
    yield "attestation text", certificate.attestation_text, ATTESTATION
    yield "attestation", certificate.attestation, Blank()
    due = reviewed(certificate, certificate.review)  # what was decided is compared with custody elsewhere
    for name in ("status", "validation", "concurrence"):
        # Whoever filled these lines in otherwise did not do it on this document.
        yield name, getattr(certificate, name), getattr(due, name)


def _media_facts(certificate: Certificate, result: TargetResult) -> Iterator[Fact]:
    media, identity, seen = certificate.media, result.target.identity, result.medium
    subject, digest = medium_of(identity)
    yield "medium", media.digest, digest
    yield "subject", media.subject, subject
    yield "identity", media.identity, identity
    yield "size", media.size, identity.size
    for name in ("model", "serial", "wwn"):
        due = getattr(identity, name) if isinstance(identity, BlockIdentity) else ""
        yield name, getattr(media, name), _or_unknown(due)
    for name in ("type", "firmware", "path"):
        yield name, getattr(media, name), _or_unknown(getattr(seen, name) if seen else "")
    yield "logical sector", media.logical_sector, seen.logical_sector if seen else -1
    yield "physical sector", media.physical_sector, seen.physical_sector if seen else -1
    yield "notes", media.notes, seen.notes if seen else []


def _sanitization_facts(certificate: Certificate, receipt: Receipt, result: TargetResult) -> Iterator[Fact]:
    done = certificate.sanitization
    yield "outcome", done.outcome, result.outcome
    yield "method", done.method, result.level_achieved
    yield "level requested", done.level_requested, _or_unknown(str(receipt.level_requested or ""))
    yield "level achieved", done.level_achieved, result.level_achieved
    yield "technique", done.technique, _or_unknown(result.technique)
    yield "profile", done.profile, receipt.profile
    yield "tool", done.tool, receipt.agent.software
    yield "started", done.started_at, receipt.started_at
    yield "finished", done.finished_at, receipt.finished_at
    yield "clock", done.clock, _or_unknown(receipt.clock)
    yield "exceptions", done.exceptions, result.exceptions
    yield "downgrade", done.downgrade, result.downgrade
    yield "not covered", done.not_covered, result.not_covered
    yield "limitations", done.limitations, receipt.limitations
    yield "key", done.key, None if result.key is None else replace(result.key, evidence=[])
    read_back = any(check.kind != "none" for check in result.verifications)
    read_back = read_back or (result.erasure is not None and result.erasure.read_back is not None)
    read_back = read_back or looked_at(result)
    read_back = read_back or (result.files is not None and result.files.verification is not None)
    yield "files", done.files, result.files
    passed = "passed" if result.outcome is Outcome.SANITIZED else "passed with exceptions"
    yield "verification status", done.verification_status, passed if read_back else "none"


def _passes(said: list[CertifiedPass], runs: list[PassResult]) -> Iterator[str]:
    if len(said) != len(runs):
        yield f"it lists {len(said)} passes, the receipt {len(runs)}"
        return
    for one, run in zip(said, runs, strict=True):
        speed = run.bytes_written * 1000 // run.duration_ms if run.duration_ms else 0
        differing = [
            name
            for name, due in (
                ("number", run.index + 1),
                ("finished_at", _or_unknown(run.finished_at)),
                ("throughput", speed),
                ("times_resumed", len(run.resumed_at)),
            )
            if getattr(one, name) != due
        ]
        same = (
            "pattern", "bytes_written", "started_at", "duration_ms", "complete", "flushed", "io_mode",
            "error_count", "error_bytes",
        )  # fmt: skip
        differing += [name for name in same if getattr(one, name) != getattr(run, name)]
        if differing:
            yield f"pass {run.index + 1} differs in {', '.join(differing)}"


def _verifications(certificate: Certificate, result: TargetResult) -> Iterator[str]:
    said, checks = certificate.sanitization.verifications, result.verifications
    if len(said) != len(checks):
        yield f"it lists {len(said)} verifications, the receipt {len(checks)}"
        return
    for number, (one, check) in enumerate(zip(said, checks, strict=True), start=1):
        if not _same_verification(one, check, size_of(result)):
            yield f"verification {number} differs"


def _same_verification(one: CertifiedVerification, check: Verification, size: int) -> bool:
    bad = check.mismatched_bytes + check.unreadable_bytes + check.mismatch_count
    whole = check.complete and check.bytes_read >= check.bytes_expected
    coverage = min(check.bytes_read * 1_000_000 // size, 1_000_000) if size else 0
    same = (
        "kind",
        "bytes_read",
        "mismatched_bytes",
        "unreadable_bytes",
        "duration_ms",
        "io_mode",
        "reads_medium",
    )
    return (
        one.status == ("failed" if bad else "passed" if whole else "incomplete")
        and one.of_pass == check.of_pass + 1
        and one.coverage_ppm == coverage
        and one.rule == _or_unknown(check.rule)
        and all(getattr(one, name) == getattr(check, name) for name in same)
    )


def _erasure(said: CertifiedErasure | None, receipt: Receipt, result: TargetResult) -> Iterator[str]:
    due = result.erasure
    if said is None or due is None:
        if (said is None) is not (due is None):
            yield f"it tells of {'no' if said is None else 'a'} command of the drive, the receipt does otherwise"
        return
    for name in (
        "technique", "accepted", "progress_seen", "ended", "detail", "attempts", "duration_ms", "settled",
        "settling", "changes", "laid_open",
    ):  # fmt: skip
        if getattr(said, name) != getattr(due, name):
            yield f"the drive's command differs in {name}"
    for name in ("started_at", "finished_at"):
        if getattr(said, name) != _or_unknown(getattr(due, name)):
            yield f"the drive's command differs in {name}"
    if said.answers != len(due.answers):
        yield f"it counts {said.answers} answers of the drive, the receipt has {len(due.answers)}"
    broken = [
        (one.noticed_at, str(one.decision), one.boot_id_after != one.boot_id_before, one.what)
        for one in receipt.interruptions
    ]
    if broken != [(one.noticed_at, one.decision, one.restarted, one.what) for one in said.interruptions]:
        yield "its interruptions are not the receipt's"
    yield from _gone(said, due, due.reach(int(result.target.identity.size)))


def _volume(said: CertifiedVolume | None, result: TargetResult) -> Iterator[str]:
    """What the target lies on, and what stood on it."""
    members, steps = (said.members, said.steps) if said is not None else ([], [])
    told = [(one.path, one.kind, one.type, one.name, one.digest, one.depth) for one in members]
    due = [(one.path, one.kind, one.type, *medium_of(one.identity), one.depth) for one in result.members]
    if told != due:
        yield "what the target lies on is not what the receipt says"
    taken = [(one.what, one.on, str(one.ended), one.said) for one in result.deactivated]
    if [(one.what, one.on, one.ended, one.said) for one in steps] != taken:
        yield "what was taken down is not what the receipt says"


def _gone(said: CertifiedErasure, due: Erasure, size: int) -> Iterator[str]:
    """Canaries and read-back."""
    if (said.canaries is None) is not (due.canaries is None):
        yield "canaries stand in only one of certificate and receipt"
    elif said.canaries is not None:
        for name in said.canaries.__struct_fields__:
            if getattr(said.canaries, name) != getattr(due.canaries, name):
                yield f"its canaries differ in {name}"
    if (said.read_back is None) is not (due.read_back is None):
        yield "a read-back stands in only one of certificate and receipt"
    if said.read_back is None or due.read_back is None:
        return
    one, read = said.read_back, due.read_back
    same = (
        "kind", "bytes_read", "unreadable_bytes", "zeros", "ones", "constant", "other", "duration_ms", "io_mode",
        "reads_medium",
    )  # fmt: skip
    whole = read.complete and read.bytes_read >= read.bytes_expected
    bad = bool(read.unreadable_bytes or read.unreadable)
    facts = [(name, getattr(one, name), getattr(read, name)) for name in same]
    facts += [
        ("status", one.status, "failed" if bad else "passed" if whole else "incomplete"),
        ("coverage_ppm", one.coverage_ppm, read.bytes_read * 1_000_000 // size if size else 0),
        ("rule", one.rule, _or_unknown(read.rule)),
    ]
    yield from (f"its read-back differs in {name}" for name, is_said, is_due in facts if is_said != is_due)


def _or_unknown(text: str) -> str:
    return text if text.strip() else NOT_RECORDED
