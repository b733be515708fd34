"""Quality-control lots: drawn from the register and the log, kept, and checked again."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from expunge_agent.errors import BusyError, NotFoundError, RefusedError, UsageError, VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_controller import people, translog
from expunge_controller.context import Controller
from expunge_controller.records import merkle
from expunge_controller.records.checkpoint import Checkpoint, parse_checkpoint
from expunge_controller.records.custody import CustodyEvent, CustodyKind, parse_custody_event
from expunge_controller.records.custody_people import RESULTS
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.lot import Lot, LotMedium, draw, lot_problems, parse_lot, result_problems
from expunge_controller.records.note import verified
from expunge_controller.records.person import person_at
from expunge_controller.store.custody_rows import LotRow
from expunge_controller.store.port import Unit


def create(
    controller: Controller,
    *,
    percent: int,
    since: datetime,
    until: datetime,
    checker: str,
    seed: bytes | None,
    now: datetime,
) -> LotRow:
    """Draw a lot and keep it. `seed`: a checkpoint of this log that was brought; None: the first with all of it.

    Raises UsageError for a period that is not over or a checker who is none, NotFoundError where no medium was
    sanitized in it, VerificationError for a checkpoint that is not this log's or too old.
    """
    if since > until or until > now:
        raise UsageError(
            "The period has to be over when the lot is drawn.", "Give --from and --until that have passed."
        )
    with controller.store.read() as unit:
        _must_check(unit, checker, timestamp(now))
        population = population_of(unit, timestamp(since), timestamp(until), timestamp(now))
    if not population:
        raise NotFoundError("No medium's last result is a wipe of that period.", "See `expunge media list`.")
    last = max(int(one.entry) for one in population)
    note = seed or _first_seed(controller, last, now)
    with controller.store.write() as unit:
        checkpoint = checked_seed(unit, controller, note, last)
        if population_of(unit, timestamp(since), timestamp(until), timestamp(now)) != population:
            raise BusyError("A result came in while the lot was drawn.", "Draw it again.")
        media = [one.medium for one in population]
        lot = Lot(
            format="expunge/lot/v1",
            number=f"LOT-{now:%Y}-{len(unit.custody.lots()) + 1:04d}",
            percent=percent,
            since=timestamp(since),
            until=timestamp(until),
            checker=checker,
            seed_from="first" if seed is None else "brought",
            checkpoint=note.decode(),
            population=population,
            chosen=draw(media, percent, checkpoint.root),
            at=timestamp(now),
            issuer=controller.principal,
        )
        return _kept(unit, controller, lot)


def _first_seed(controller: Controller, last: int, now: datetime) -> bytes:
    """The first checkpoint with entry `last` in it, signed now where there is none."""
    with controller.store.read() as unit:
        found = next(iter(unit.log.checkpoints_from(last + 1)), None)
    return (found or translog.head(controller, now)).body


def _kept(unit: Unit, controller: Controller, lot: Lot) -> LotRow:
    body = canonical.dumps(lot)
    signature = sshsig.sign(controller.signer, sshsig.LOT_NAMESPACE, body)
    row = LotRow(number=lot.number, body=body, signature=signature, created_at=lot.at)
    unit.custody.add_lot(row)
    return row


def population_of(unit: Unit, since: str, until: str, at: str) -> list[LotMedium]:
    """Every medium whose last result before the Timestamp `at` is a wipe of the period; by digest.

    What is of that very second is left out: more of it may still come.
    """
    found = []
    for medium in unit.evidence.media():
        chain = [parse_custody_event(row.body) for row in unit.evidence.custody(medium.digest)]
        results = [event for event in chain if event.event in RESULTS and event.at < at]
        last = results[-1] if results else None
        if last is None or last.event is not CustodyKind.WIPED or not since <= last.at <= until:
            continue
        receipt = unit.evidence.receipt(last.receipt)
        if receipt is None:
            continue
        entry = translog.number_of(
            unit, entry_of(EntryKind.RECEIPT, receipt.body, receipt.signature, receipt.mldsa65)
        )
        found.append(
            LotMedium(medium=last.medium, subject=last.subject, receipt=last.receipt, entry=U64(entry))
        )
    return sorted(found, key=lambda one: one.medium)


def checked_seed(unit: Unit, controller: Controller, note: bytes, last: int) -> Checkpoint:
    """The checkpoint in `note`, signed by this log, true of it, and with entry `last` in it.

    Raises VerificationError, DocumentError.
    """
    checkpoint, signed = parse_checkpoint(note)
    key = translog.key_in(unit)
    if key not in [one.key for one in verified(signed, [key])]:
        raise VerificationError(
            "The checkpoint is not signed by this log.", "Bring one of this controller's log."
        )
    if checkpoint.size > unit.log.size() or merkle.root(unit.log.node, checkpoint.size) != checkpoint.root:
        raise VerificationError(
            "The checkpoint is not of this log as it is.", "Run `expunge log check --against` it."
        )
    if checkpoint.size <= last:
        raise VerificationError(
            f"The checkpoint holds {checkpoint.size} entries; the last medium's receipt is entry {last}.",
            "Take one that was signed later.",
        )
    return checkpoint


def find(unit: Unit, number: str) -> tuple[Lot, LotRow]:
    """The lot with this number. Raises NotFoundError."""
    for row in unit.custody.lots():
        if row.number == number:
            return parse_lot(row.body), row
    raise NotFoundError(f"There is no lot {number}.", "See `expunge lot list`.")


def problems_here(unit: Unit, controller: Controller, lot: Lot, data: bytes) -> list[str]:
    """What is wrong with a lot of this controller: in itself, with its seed, with the media it was drawn from."""
    problems = lot_problems(lot, data)
    last = max(int(one.entry) for one in lot.population)
    try:
        checkpoint = checked_seed(unit, controller, lot.checkpoint.encode(), last)
    except VerificationError as error:
        return [*problems, error.message]
    first = next(iter(unit.log.checkpoints_from(last + 1)), None)
    if lot.seed_from == "first" and (first is None or first.size != checkpoint.size):
        problems.append("an earlier checkpoint held all of its media, and was not taken")
    if population_of(unit, lot.since, lot.until, lot.at) != lot.population:
        problems.append("its media are not those that were sanitized in its period")
    return problems


def state_of(unit: Unit, lot: Lot, medium: str) -> Literal["open", "passed", "failed"]:
    """How the check of a drawn medium came out."""
    for row in unit.evidence.custody(medium):
        event: CustodyEvent = parse_custody_event(row.body)
        if event.quality is not None and event.quality.lot == lot.number:
            return "passed" if event.event is CustodyKind.QUALITY_PASSED else "failed"
    return "open"


def assigned_problems(unit: Unit, event: CustodyEvent) -> list[str]:
    """Why a quality check is not one that a lot asked for, of this medium, result and person; none for other events."""
    if event.quality is None:
        return []
    try:
        lot, _ = find(unit, event.quality.lot)
    except NotFoundError as error:
        return [error.message]
    problems = result_problems(lot, event)
    if state_of(unit, lot, event.medium) != "open":
        problems.append(f"{lot.number} has its result for this medium already")
    return problems


def _must_check(unit: Unit, checker: str, at: str) -> None:
    person = person_at(people.records_in(unit), checker, at)
    if person is None or "checker" not in person.roles:
        raise RefusedError(
            f"{checker} is not registered as checker.", "expunge people add NAME --key FILE --role checker"
        )
