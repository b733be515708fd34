"""Checking a lot from its file: no controller, no database, no network."""

from __future__ import annotations

from pathlib import Path

from expunge_agent.errors import DocumentError, NotFoundError, VerificationError
from expunge_agent.protocol import sshsig, trust
from expunge_controller.bundle_read import read_log_policy, read_trusted
from expunge_controller.files import read_small
from expunge_controller.records.checkpoint import parse_checkpoint
from expunge_controller.records.findings import Checklist, Step
from expunge_controller.records.log_policy import LogPolicy
from expunge_controller.records.lot import Lot, lot_problems, parse_lot
from expunge_controller.records.note import verified

MAX_FILE = 64 * 1024 * 1024


def check_file(path: Path, signers: Path | None, log_policy: Path | None) -> list[Step]:
    """The steps of the check of a lot's document at `path`, its signature beside it (``.sig``).

    Raises NotFoundError, DocumentError and what reading the auditor's own files raises.
    """
    body = read_small(path, MAX_FILE, "a lot")
    lot = parse_lot(body)
    checks = Checklist()
    checks.check(
        "drawn again, the same media come out", lot_problems(lot, body), f"{len(lot.chosen)} media drawn"
    )
    _signature(checks, lot, body, path, signers)
    _checkpoint(checks, lot, None if log_policy is None else read_log_policy(log_policy))
    checks.skip("no medium was left out", "only the register knows: compare with the bundles that you hold")
    return checks.steps


def _signature(checks: Checklist, lot: Lot, body: bytes, path: Path, signers: Path | None) -> None:
    title = "the controller signed it"
    if signers is None:
        checks.skip(title, "bring your own allowed_signers (--signers)")
        return
    try:
        armored = read_small(path.with_name(path.name + ".sig"), MAX_FILE, "a lot")
        who = trust.verify(read_trusted(signers), sshsig.LOT_NAMESPACE, body, armored)
    except (NotFoundError, VerificationError) as error:
        checks.check(title, [error.message])
        return
    checks.check(title, [] if who.principal == lot.issuer else [f"it says {lot.issuer}"], who.principal)


def _checkpoint(checks: Checklist, lot: Lot, policy: LogPolicy | None) -> None:
    title = "its seed is a checkpoint that log and witnesses signed"
    if policy is None:
        checks.skip(title, "bring a policy that names the log and its witnesses (--log-policy)")
        return
    try:
        checkpoint, note = parse_checkpoint(lot.checkpoint.encode())
        signed = verified(note, policy.keys)
    except (DocumentError, VerificationError) as error:
        checks.check(title, [error.message])
        return
    names = {one.key.name for one in signed if one.key in policy.logs}
    problems = [] if checkpoint.origin in names else ["the log of the policy did not sign it"]
    if not policy.is_enough(signed):
        problems.append(f"{len(policy.cosigned(signed))} of {policy.quorum} witnesses signed it")
    checks.check(title, problems, f"{checkpoint.size} entries")
