"""The second signatures of a receipt: what must be there, and whether it is right. See `dsse`.

Whether they are due stands in the receipt itself, signed with SSHSIG: where it names an ML-DSA-65 key, an envelope
without that key's signature is one from which it was taken.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import dsse, sshsig
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.receipt import Receipt, Statement
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.findings import Checklist
from expunge_controller.records.log_entry import parse_entry

SECOND = "the second signatures are right (DSSE, ML-DSA-65)"
ENVELOPE = "the DSSE envelope holds the receipt and its signatures"
CLASSIC = "the signing key signed the envelope's content too"
MLDSA65 = "the ML-DSA-65 signature is by the key that the receipt names"
TRUSTED = "the ML-DSA-65 key is one the auditor trusts"
NONE = "the receipt names no ML-DSA-65 key: its agent had none yet"


def check_second(
    checks: Checklist,
    receipt: Receipt,
    body: bytes,
    signature: bytes,
    second: SecondSignatures | None,
    known: bytes | None,
) -> None:
    """Record whether a receipt that arrived bears the second signatures that are due.

    `known` is the machine's ML-DSA-65 key as it was shown before, None where none was.
    """
    named = receipt.agent.mldsa65_key
    if second is None and not named and known is None:
        checks.skip(SECOND, NONE)
    elif second is None:
        checks.check(SECOND, ["they are missing, and this agent has an ML-DSA-65 key"])
    else:
        checks.check(SECOND, _problems(named, body, signature, second, known), dsse.keyid(second.mldsa65_key))


def _problems(
    named: str, body: bytes, signature: bytes, second: SecondSignatures, known: bytes | None
) -> list[str]:
    problems = _mldsa65_problems(named, body, second)
    if known is not None and known != second.mldsa65_key:
        problems.append(f"this agent's ML-DSA-65 key is {dsse.keyid(known)}")
    try:
        line = sshsig.verify(signature, sshsig.RECEIPT_NAMESPACE, body)
        dsse.verify_classic(line, second.classic, body)
    except VerificationError as error:
        problems.append(error.message)
    return problems


def _mldsa65_problems(named: str, body: bytes, second: SecondSignatures) -> list[str]:
    try:
        dsse.verify_mldsa65(second.mldsa65_key, second.mldsa65, body)
    except VerificationError as error:
        return [error.message]
    keyid = dsse.keyid(second.mldsa65_key)
    return [] if named == keyid else [f"the receipt names {named or 'no key'}, the signature is by {keyid}"]


def check_second_files(
    checks: Checklist,
    files: Mapping[str, bytes],
    statement: Statement | None,
    trusted: Collection[str] | None,
) -> None:
    """Take the steps about a bundle's envelope, raw signatures and keys; `trusted` are keyids of the auditor's."""
    names = set(files)
    named = "" if statement is None else statement.predicate.agent.mldsa65_key
    if not layout.second_names(names) & names:
        _check_absence(checks, files, named, trusted)
        return
    body, algorithm = files.get(layout.RECEIPT, b""), layout.classic_algorithm(names)
    problems: list[str] = []
    try:
        line = sshsig.verify(
            files.get(layout.RECEIPT + layout.SIGNATURE, b""), sshsig.RECEIPT_NAMESPACE, body
        )
        second = SecondSignatures(
            classic=files.get(layout.raw_signature(algorithm), b""),
            mldsa65=files.get(layout.raw_signature(dsse.MLDSA65), b""),
            mldsa65_key=dsse.spki_in(files.get(layout.raw_key(dsse.MLDSA65), b"")),
        )
    except VerificationError as error:
        for title in (ENVELOPE, CLASSIC, MLDSA65, TRUSTED):
            checks.check(title, [error.message])
        return
    same = files.get(layout.DSSE) == dsse.envelope(body, line, second)
    checks.check(ENVELOPE, [] if same else ["made again from the files beside it, it reads differently"])
    checks.check(CLASSIC, _classic_problems(files, line, algorithm, second, body), algorithm)
    keyid = dsse.keyid(second.mldsa65_key)
    problems += _mldsa65_problems(named, body, second)
    checks.check(MLDSA65, problems, keyid)
    if trusted is None:
        checks.skip(TRUSTED, "it is named by the receipt alone; bring its --mldsa-key")
    else:
        checks.check(TRUSTED, [] if keyid in trusted else [f"{keyid} is not one of yours"], keyid)


def _classic_problems(
    files: Mapping[str, bytes], line: str, algorithm: str, second: SecondSignatures, body: bytes
) -> list[str]:
    problems = []
    try:
        dsse.verify_classic(line, second.classic, body)
    except VerificationError as error:
        problems.append(error.message)
    if algorithm != dsse.algorithm(line):
        problems.append(f"the receipt's key signs as {dsse.algorithm(line)}")
    if files.get(layout.raw_key(algorithm)) != dsse.pem_of(dsse.spki_of_line(line)):
        problems.append(f"{layout.raw_key(algorithm)} is not the key of {layout.RECEIPT}{layout.SIGNATURE}")
    return problems


def _check_absence(
    checks: Checklist, files: Mapping[str, bytes], named: str, trusted: Collection[str] | None
) -> None:
    """No second signature is there: right only where nothing says that there was one."""
    problems = ["the receipt names an ML-DSA-65 key, and its signature is missing"] if named else []
    try:
        if parse_entry(files.get(layout.ENTRY, b"")).mldsa65:
            problems.append("the log entry names an ML-DSA-65 signature, and it is missing")
    except DocumentError:
        pass  # another step says so
    for title in (ENVELOPE, CLASSIC, MLDSA65):
        if problems:
            checks.check(title, problems)
        else:
            checks.skip(title, NONE)
    if trusted is None:
        checks.skip(TRUSTED, NONE)
    else:
        checks.check(TRUSTED, ["you asked for one, and there is no such signature"])
