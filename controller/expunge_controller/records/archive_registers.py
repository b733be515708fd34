"""The registers of an archive: tables of what its documents say, and made again from them to be compared. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.enrolment import Enrolment
from expunge_agent.protocol.order import Order, parse_order
from expunge_agent.protocol.receipt import Statement, parse_statement
from expunge_controller.records.archive_layout import REGISTERS, Document
from expunge_controller.records.certificate import Certificate, parse_certificate
from expunge_controller.records.csv_text import csv_text
from expunge_controller.records.custody import CustodyEvent, parse_custody_event
from expunge_controller.records.key_event import KeyEvent, parse_key_event
from expunge_controller.records.log_entry import EntryKind
from expunge_controller.records.lot import Lot, parse_lot
from expunge_controller.records.person import PersonRecord, parse_person


class Said(NamedTuple):
    """The documents of an archive, read; each with its SHA-256. What could not be read is not in it."""

    enrolments: list[tuple[str, Enrolment]]
    keys: list[tuple[str, KeyEvent]]
    orders: list[tuple[str, Order]]
    receipts: list[tuple[str, Statement]]
    custody: list[tuple[str, CustodyEvent]]
    certificates: list[tuple[str, Certificate]]
    people: list[tuple[str, PersonRecord]]
    lots: list[tuple[str, Lot]]
    aside: list[str]
    unread: list[str]


def read_documents(documents: Iterable[Document]) -> Said:
    """What the documents say, each kind in the order of its own numbers and times."""
    said = Said([], [], [], [], [], [], [], [], [], [])
    for one in documents:
        digest = hashlib.sha256(one.body).hexdigest()
        try:
            _take(said, one, digest)
        except (DocumentError, VerificationError):
            said.unread.append(digest)
    said.enrolments.sort(key=lambda item: (item[1].at, item[0]))
    said.keys.sort(key=lambda item: (item[1].principal, item[1].seq, item[0]))
    said.orders.sort(key=lambda item: (item[1].issued_at, item[0]))
    said.receipts.sort(
        key=lambda item: (item[1].predicate.agent.machine_id, int(item[1].predicate.counter), item[0])
    )
    said.custody.sort(key=lambda item: (item[1].medium, item[1].seq, item[0]))
    said.certificates.sort(key=lambda item: (item[1].number, item[0]))
    said.people.sort(key=lambda item: (item[1].person, item[1].at, item[0]))
    said.lots.sort(key=lambda item: (item[1].number, item[0]))
    said.aside.sort()
    return said


def registers(said: Said) -> dict[str, bytes]:
    """The tables by file name, CSV with a byte-order mark (spreadsheets show Chinese then)."""
    tables: dict[str, tuple[Sequence[str], list[Sequence[object]]]] = {
        "machines": (("machine_id", "hostname", "signing_key", "enrolled_at", "sha256"), [
            (one.machine_id, one.host.hostname, sshsig.fingerprint(one.signing_key), one.at, digest)
            for digest, one in said.enrolments
        ]),
        "keys": (("principal", "seq", "event", "key", "successor", "since", "at", "reason", "actor", "sha256"), [
            (one.principal, one.seq, one.event, sshsig.fingerprint(one.key), sshsig.fingerprint(one.successor) if one.successor else "", one.since, one.at, one.reason, one.actor, digest)
            for digest, one in said.keys
        ]),
        "orders": (("order_id", "machine_id", "requested_by", "case_number", "reason", "profile", "level", "targets", "issued_at", "expires", "sha256"), [
            (one.order_id, one.machine_id, one.requested_by, one.case_number, one.reason, one.profile.id, one.level, len(one.targets), one.issued_at, one.expires, digest)
            for digest, one in said.orders
        ]),
        "receipts": (("machine_id", "counter", "order_id", "outcome", "level_requested", "level_achieved", "started_at", "finished_at", "sha256"), [
            _receipt(digest, one) for digest, one in said.receipts
        ]),
        "custody": (("medium", "subject", "seq", "event", "standing", "actor", "counterparty", "location", "seal", "at", "order_id", "people", "note", "sha256"), [
            (one.medium, one.subject, one.seq, one.event, one.standing, one.actor, one.counterparty, one.location, one.seal_id, one.at, one.order_id, "; ".join(f"{who.role} {who.person}" for who in one.people), one.note, digest)
            for digest, one in said.custody
        ]),
        "certificates": (("number", "medium", "subject", "model", "serial", "size", "outcome", "level_requested", "level_achieved", "technique", "order_id", "machine_id", "issued_at", "status", "validated_by", "replaces", "sha256"), [
            _certificate(digest, one) for digest, one in said.certificates
        ]),
        "people": (("person", "change", "full_name", "title", "organisation", "roles", "key", "since", "at", "by", "reason", "sha256"), [
            (one.person, one.change, one.full_name, one.title, one.organisation, " ".join(one.roles), sshsig.fingerprint(one.key), one.since, one.at, one.by, one.reason, digest)
            for digest, one in said.people
        ]),
        "lots": (("number", "percent", "since", "until", "checker", "seed_from", "media", "chosen", "at", "sha256"), [
            (one.number, one.percent, one.since, one.until, one.checker, one.seed_from, len(one.population), " ".join(one.chosen), one.at, digest)
            for digest, one in said.lots
        ]),
    }  # fmt: skip
    return {f"{REGISTERS}{name}.csv": csv_text(*table).encode() for name, table in tables.items()}


def _take(said: Said, one: Document, digest: str) -> None:
    match one.kind:
        case EntryKind.ENROLMENT:
            said.enrolments.append((digest, canonical.loads(one.body, Enrolment, "enrolment")))
        case EntryKind.KEY_EVENT:
            said.keys.append((digest, parse_key_event(one.body)))
        case EntryKind.ORDER:
            said.orders.append((digest, parse_order(one.body)))
        case EntryKind.RECEIPT:
            said.receipts.append((digest, parse_statement(one.body)))
        case EntryKind.CUSTODY:
            said.custody.append((digest, parse_custody_event(one.body)))
        case EntryKind.CERTIFICATE:
            said.certificates.append((digest, parse_certificate(one.body)))
        case EntryKind.PERSON:
            said.people.append((digest, parse_person(one.body)))
        case EntryKind.LOT:
            said.lots.append((digest, parse_lot(one.body)))
        case EntryKind.ASIDE:
            said.aside.append(digest)
        case _:
            pass


def _receipt(digest: str, statement: Statement) -> Sequence[object]:
    one = statement.predicate
    order_id = one.order.order_id
    asked = one.level_requested or ""
    return (one.agent.machine_id, int(one.counter), order_id, one.outcome, asked, one.level_achieved, one.started_at, one.finished_at, digest)  # fmt: skip


def _certificate(digest: str, one: Certificate) -> Sequence[object]:
    media, done, evidence = one.media, one.sanitization, one.evidence
    return (
        one.number, media.digest, media.subject, media.model, media.serial, int(media.size), done.outcome,
        done.level_requested, done.level_achieved, done.technique, evidence.order_id, evidence.machine_id,
        one.issued_at, one.status, one.validation.name, one.replaces, digest,
    )  # fmt: skip
