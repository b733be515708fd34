"""Steps of the check of a bundle that concern the log. Nothing here knows how the files were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import dsse
from expunge_agent.protocol.base import timestamp
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records import merkle, tiles
from expunge_controller.records.certificate import Certificate, LogReference
from expunge_controller.records.checkpoint import Checkpoint, Proof, parse_checkpoint, parse_proof
from expunge_controller.records.findings import Checklist
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.log_policy import LogPolicy, format_policy, parse_policy
from expunge_controller.records.log_words import witness_sentence
from expunge_controller.records.note import Note, Signed, verified

IN_LOG = "the receipt is in the log"
ENTRY_IS = "the log entry is the receipt's"
SIGNED = "the log and its witnesses signed the checkpoint"
TRUSTED = "the log is one the auditor trusts"
WITNESSED = "witnesses confirm that the log only grew"
NAMED = "the certificate names the entry and its witnesses"
SHOWN = "others were shown the same log"


class LogOutside(NamedTuple):
    """What an auditor brings: a policy, checkpoints seen elsewhere (a witness's own), a copy of the log.

    ``copy`` reads a tile of that copy by name and raises NotFoundError or DocumentError;
    ``copy_head`` is its checkpoint, ``now`` the time by which certificates have expired (None: unknown).
    """

    policy: LogPolicy | None = None
    seen: tuple[bytes, ...] = ()
    copy: Callable[[tiles.Tile], bytes] | None = None
    copy_head: bytes = b""
    now: datetime | None = None


class _Head(NamedTuple):
    """A checkpoint whose signatures were looked at."""

    checkpoint: Checkpoint
    note: Note
    signed: list[Signed]


def check_log(
    checks: Checklist, files: Mapping[str, bytes], certificate: Certificate | None, outside: LogOutside
) -> None:
    """Take the steps about the log; they need no database and no network."""
    named = certificate.evidence.log if certificate is not None else None
    if not files.keys() & set(layout.LOG_FILES):
        if named is not None or outside.policy is not None:
            checks.check(IN_LOG, ["the bundle holds no log entry"])
        else:
            checks.skip(IN_LOG, "the bundle is from before there was a log; bring --log-policy to demand one")
        return
    _LogCheck(checks, files, outside).run(certificate)


class _LogCheck:
    """One run over the log files of one bundle."""

    def __init__(self, checks: Checklist, files: Mapping[str, bytes], outside: LogOutside) -> None:
        self.checks = checks
        self.files = files
        self.outside = outside
        self.enclosed = LogPolicy()

    def run(self, certificate: Certificate | None) -> None:
        """Take every step."""
        entry = self._entry()
        head = self._head()
        proof = self._proof(entry, head)
        self._trusted()
        self._witnessed(head)
        self._named(certificate, entry, proof, head)
        self._shown(head)

    @property
    def policy(self) -> LogPolicy:
        """The policy that counts."""
        return self.outside.policy or self.enclosed

    def _file(self, name: str) -> bytes:
        return self.files.get(name, b"")

    def _entry(self) -> bytes:
        due = entry_of(
            EntryKind.RECEIPT,
            self._file(layout.RECEIPT),
            self._file(layout.RECEIPT + layout.SIGNATURE),
            self._file(layout.raw_signature(dsse.MLDSA65)),
        )
        same = self._file(layout.ENTRY) == due
        self.checks.check(ENTRY_IS, [] if same else ["made again from the receipt, it reads differently"])
        return due

    def _head(self) -> _Head | None:
        problems = []
        try:
            text = self._file(layout.LOG_POLICY).decode("utf-8")
            self.enclosed = parse_policy(text)
            exact = format_policy(self.enclosed) == text and len(self.enclosed.logs) == 1
            if not exact or self.enclosed.quorum != len(self.enclosed.witnesses):
                problems.append(f"{layout.LOG_POLICY} is not in the one form that expunge writes")
        except (DocumentError, UnicodeDecodeError):
            problems.append(f"{layout.LOG_POLICY} is not a log policy")
        try:
            checkpoint, note = parse_checkpoint(self._file(layout.CHECKPOINT))
            signed = verified(note, {*self.enclosed.keys, *self.policy.keys})
        except (DocumentError, VerificationError) as error:
            self.checks.check(SIGNED, [*problems, error.message])
            return None
        problems += self._signature_problems(_Head(checkpoint, note, signed))
        detail = f"{checkpoint.origin}, {checkpoint.size} entries"
        return _Head(checkpoint, note, signed) if self.checks.check(SIGNED, problems, detail) else None

    def _signature_problems(self, head: _Head) -> list[str]:
        keys = {one.key for one in head.signed}
        problems = []
        if len(head.note.signatures) != len(head.signed):
            problems.append("it bears a signature by a key that is not named here, or twice")
        for key in self.enclosed.keys:
            if key not in keys:
                problems.append(f"{key.name} did not sign it")
        if head.checkpoint.extra:
            problems.append("it has lines that expunge does not write")
        if any(key.name != head.checkpoint.origin for key in self.enclosed.logs):
            problems.append(f"it is the checkpoint of {head.checkpoint.origin}")
        return problems

    def _proof(self, entry: bytes, head: _Head | None) -> Proof | None:
        try:
            proof = parse_proof(self._file(layout.PROOF))
        except DocumentError as error:
            self.checks.check(IN_LOG, [error.message])
            return None
        if head is None:
            self.checks.skip(IN_LOG, "there is no checkpoint that can be relied on")
            return proof
        problems = []
        if proof.checkpoint != self._file(layout.CHECKPOINT):
            problems.append("the proof is for another checkpoint")
        leaf = merkle.leaf_hash(entry)
        if not merkle.is_included(
            leaf, proof.number, head.checkpoint.size, proof.hashes, head.checkpoint.root
        ):
            problems.append("the proof does not lead from the entry to the checkpoint's root")
        self.checks.check(IN_LOG, problems, f"entry {proof.number} of {head.checkpoint.size}")
        return proof

    def _trusted(self) -> None:
        if self.outside.policy is None:
            self.checks.skip(
                TRUSTED, "log and witnesses are taken from the bundle; bring your own --log-policy"
            )
            return
        trusted = set(self.outside.policy.logs)
        self.checks.check(
            TRUSTED, [f"{key.name} is not in your policy" for key in self.enclosed.logs if key not in trusted]
        )

    def _witnessed(self, head: _Head | None) -> None:
        if head is None:
            self.checks.skip(WITNESSED, "there is no checkpoint that can be relied on")
        elif not self.policy.witnesses:
            self.checks.skip(WITNESSED, "no witness: nobody but the log's operator vouches for it")
        else:
            found = self.policy.cosigned(head.signed)
            short = f"{len(found)} of the {self.policy.quorum} witnesses asked for signed"
            self.checks.check(
                WITNESSED, [] if self.policy.is_enough(head.signed) else [short], ", ".join(map(_said, found))
            )

    def _named(
        self, certificate: Certificate | None, entry: bytes, proof: Proof | None, head: _Head | None
    ) -> None:
        if certificate is None:
            self.checks.skip(NAMED, "there is no certificate")
            return
        log = certificate.evidence.log
        problems = []
        if witness_sentence(log) not in certificate.assurance:
            problems.append("it does not say who witnessed it")
        if log is None and not problems:
            self.checks.skip(NAMED, "the certificate was issued before there was a log")
            return
        if log is not None:
            problems += self._reference_problems(log, entry, proof, head)
        self.checks.check(NAMED, problems)

    def _reference_problems(
        self, log: LogReference, entry: bytes, proof: Proof | None, head: _Head | None
    ) -> list[str]:
        problems = []
        if log.log not in [key.text for key in self.enclosed.logs]:
            problems.append("it names another log")
        if proof is None or int(log.number) != proof.number:
            problems.append(f"it says entry {int(log.number)}, the proof is for another")
        if log.leaf != merkle.leaf_hash(entry).hex():
            problems.append("it names another entry")
        return problems + _witness_problems(log, head)

    def _shown(self, head: _Head | None) -> None:
        outside = self.outside
        if not outside.seen and outside.copy is None:
            self.checks.skip(SHOWN, "bring a witness's checkpoint (--seen) or a copy of the log (--log)")
            return
        if head is None:
            self.checks.check(SHOWN, ["there is no checkpoint that can be relied on"])
            return
        problems: list[str] = []
        others: list[_Head] = []
        for data in (*outside.seen, *([outside.copy_head] if outside.copy is not None else [])):
            try:
                others.append(self._other(data))
            except (DocumentError, VerificationError) as error:
                problems.append(f"a checkpoint that you brought: {error.message}")
        problems += [why for other in others for why in _contradictions(head, other)]
        open_questions = [other for other in others if other.checkpoint.size != head.checkpoint.size]
        if outside.copy is not None and not problems:
            problems += _copy_problems(outside.copy, others[-1].checkpoint, [head, *others])
        elif open_questions and not problems:
            sizes = ", ".join(str(other.checkpoint.size) for other in open_questions)
            self.checks.skip(
                SHOWN,
                f"the bundle's checkpoint has {head.checkpoint.size} entries, yours {sizes}: whether they are "
                "one log only a copy of it can tell (--log)",
            )
            return
        self.checks.check(SHOWN, problems, f"{len(others)} checkpoints compared")

    def _other(self, data: bytes) -> _Head:
        checkpoint, note = parse_checkpoint(data)
        signed = verified(note, {*self.enclosed.keys, *self.policy.keys})
        if not {one.key for one in signed} & set(self.policy.logs):
            raise VerificationError("it is not signed by this log.")
        return _Head(checkpoint, note, signed)


def _witness_problems(log: LogReference, head: _Head | None) -> list[str]:
    """Witnesses that the certificate names and the checkpoint does not show."""
    if log.required > len(log.witnesses):
        return [f"it asks for {log.required} witnesses and names {len(log.witnesses)}"]
    if not log.witnesses:
        return []
    if head is None:
        return ["there is no checkpoint that can be relied on"]
    signed = {(one.key.text, _time(one)) for one in head.signed if one.time}
    problems = [
        f"{witness.key.partition('+')[0]} did not sign at {witness.at}"
        for witness in log.witnesses
        if (witness.key, witness.at) not in signed
    ]
    if (int(log.size), log.root) != (head.checkpoint.size, head.checkpoint.root.hex()):
        problems.append("its witnesses signed another checkpoint")
    return problems


def _contradictions(head: _Head, other: _Head) -> list[str]:
    """What cannot be true of one log that only grows."""
    one, two = head.checkpoint, other.checkpoint
    if one.origin != two.origin:
        return [f"yours is a checkpoint of {two.origin}"]
    if one.size == two.size and one.root != two.root:
        return [f"the log is FORKED: at {one.size} entries, others were shown another root"]
    times = {item.key: item.time for item in other.signed if item.time}
    problems = []
    for item in head.signed:
        theirs = times.get(item.key, 0)
        if item.time and theirs and (item.time - theirs) * (one.size - two.size) < 0:
            problems.append(
                f"{item.key.name} saw {one.size} entries at {_time(item)}, and {two.size} at {_stamp(theirs)}"
            )
    return problems


def _copy_problems(read: Callable[[tiles.Tile], bytes], newest: Checkpoint, heads: list[_Head]) -> list[str]:
    """Checkpoints that are not of the tree in the copy."""
    nodes, problems = tiles.nodes_from(read, newest.size), []
    for head in heads:
        size = head.checkpoint.size
        if size > newest.size:
            problems.append(f"the copy has {newest.size} entries, a checkpoint {size}")
            continue
        try:
            if merkle.root(nodes, size) != head.checkpoint.root:
                problems.append(f"the log is FORKED: the copy has another root at {size} entries")
        except DocumentError as error:
            problems.append(error.message)
    return problems


def _said(one: Signed) -> str:
    return f"{one.key.name} at {_time(one)}"


def _time(one: Signed) -> str:
    return _stamp(one.time)


def _stamp(seconds: int) -> str:
    try:
        return timestamp(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"
