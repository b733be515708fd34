"""Steps of the check of a bundle that concern the time: stamps on the log's head (RFC 3161). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol.base import MaybeTimestamp, moment, timestamp
from expunge_agent.protocol.receipt import Statement
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records import merkle
from expunge_controller.records.checkpoint import parse_checkpoint, parse_proof
from expunge_controller.records.findings import Checklist
from expunge_controller.records.log_check import LogOutside
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.log_policy import Authority, LogPolicy, parse_policy
from expunge_controller.records.note import verified
from expunge_controller.records.stamp import Stamp, check_stamp

STAMPED = "an authority stamped when the receipt was in the log"
TRUSTED = "the time-stamping authority is one the auditor trusts"
FITS = "the receipt's times fit the time stamp"
CLOCKS = timedelta(days=1)
"""How far a machine's clock may be ahead before its receipt's times are called impossible."""


def check_stamps(
    checks: Checklist, files: Mapping[str, bytes], receipt: Statement | None, outside: LogOutside
) -> None:
    """Take the steps about the time. A stamp counts by its authority's certificate at the stamp's time; where that
    has expired since, only under a later stamp made while it held.
    """
    names = {name for name in files if name.startswith(layout.STAMP_FOLDER)}
    if not names:
        checks.skip(
            STAMPED, "the bundle holds no time stamp: times are those of machines, controller, witnesses"
        )
        return
    enclosed = _enclosed(files)
    brought = outside.policy.authorities if outside.policy is not None else ()
    stamps, problems = _chain(files, names, enclosed, brought or enclosed.authorities)
    last = stamps[-1] if stamps else None
    if problems or last is None:
        checks.check(STAMPED, problems)
    elif outside.now is not None and last.until < outside.now:
        checks.skip(
            STAMPED,
            f"stamped at {_when(stamps[0])} by {stamps[0].by}, but the certificate of the last stamp expired on "
            f"{timestamp(last.until)} and none renews it: it rests on that key having been kept safe since",
        )
    else:
        renewed = f", renewed {len(stamps) - 1} times" if len(stamps) > 1 else ""
        checks.check(STAMPED, [], f"not later than {_when(stamps[0])}, by {stamps[0].by}{renewed}")
    if brought:
        checks.check(TRUSTED, problems and ["no stamp by an authority of your policy"])
    else:
        checks.skip(
            TRUSTED, "its certificates are taken from the bundle; bring them in your own --log-policy"
        )
    _fits(checks, receipt, stamps)


def stamped_at(files: Mapping[str, bytes], outside: LogOutside) -> MaybeTimestamp:
    """By when the receipt was in the log by the word of a time-stamping authority; empty where none says so.

    Where the auditor brought a policy, only its authorities count; without one those enclosed do.
    """
    names = {name for name in files if name.startswith(layout.STAMP_FOLDER)}
    enclosed = _enclosed(files)
    counted = outside.policy.authorities if outside.policy is not None else enclosed.authorities
    stamps, problems = _chain(files, names, enclosed, counted)
    expired = bool(stamps) and outside.now is not None and stamps[-1].until < outside.now
    return "" if problems or expired or not stamps else _when(stamps[0])


def _fits(checks: Checklist, receipt: Statement | None, stamps: list[Stamp]) -> None:
    if receipt is None or not stamps:
        checks.skip(FITS, "there is no receipt or no stamp that can be relied on")
        return
    ended = receipt.predicate.finished_at
    late = moment(ended) > stamps[0].at + CLOCKS
    checks.check(FITS, [f"it says it was finished at {ended}, and was in the log before"] if late else [])


def _enclosed(files: Mapping[str, bytes]) -> LogPolicy:
    try:
        return parse_policy(files.get(layout.LOG_POLICY, b"").decode("utf-8"))
    except (DocumentError, UnicodeDecodeError):
        return LogPolicy()


def _chain(
    files: Mapping[str, bytes], names: set[str], enclosed: LogPolicy, authorities: tuple[Authority, ...]
) -> tuple[list[Stamp], list[str]]:
    """The stamps in their order, each on a checkpoint with the one before in it, as far as they hold."""
    count = len(names) // 2
    due = {
        made(number)
        for number in range(1, count + 1)
        for made in (layout.stamp_name, layout.stamp_proof_name)
    }
    if names != due:
        return [], ["stamps and their proofs are not numbered from 001 without a gap, in pairs"]
    entry, stamps = files.get(layout.ENTRY, b""), list[Stamp]()
    for number in range(1, count + 1):
        response, proof = files[layout.stamp_name(number)], files[layout.stamp_proof_name(number)]
        try:
            stamp = _stamp(entry, proof, response, enclosed, authorities)
        except (DocumentError, VerificationError) as error:
            return stamps, [f"{layout.stamp_name(number)}: {error.message}"]
        if stamps and stamp.at > stamps[-1].until:
            return stamps, [f"{layout.stamp_name(number)} came after the certificate before it had expired"]
        stamps.append(stamp)
        entry = entry_of(EntryKind.STAMP, response)
    return stamps, []


def _stamp(
    entry: bytes, proof: bytes, response: bytes, enclosed: LogPolicy, authorities: tuple[Authority, ...]
) -> Stamp:
    """The stamp on the checkpoint of `proof`, which has `entry` in it. Raises DocumentError, VerificationError."""
    parsed = parse_proof(proof)
    checkpoint, note = parse_checkpoint(parsed.checkpoint)
    keys = {one.key for one in verified(note, enclosed.logs)}
    if not keys or len(note.signatures) != len(keys) or checkpoint.extra:
        raise VerificationError("Its checkpoint is not signed by this log alone.")
    leaf = merkle.leaf_hash(entry)
    if not merkle.is_included(leaf, parsed.number, checkpoint.size, parsed.hashes, checkpoint.root):
        raise VerificationError("Its proof does not lead from what it is about to the checkpoint's root.")
    problem = VerificationError("No time-stamping authority is named.")
    for authority in authorities:
        try:
            return check_stamp(response, note.text.encode(), authority.roots)
        except VerificationError as error:
            problem = error
    raise problem


def _when(stamp: Stamp) -> str:
    return timestamp(stamp.at)
