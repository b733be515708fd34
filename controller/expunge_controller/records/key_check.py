"""The steps about signing keys: whether each was good when it signed, by its events and by the log.

The rule. A key that was rotated or revoked counts for what was logged before that: the receipt's entry stands before
the event's in the log. A key that was compromised since a time counts only for what the log proves to have been there
before: witnesses signed a checkpoint with the receipt in it by then. Without a witness nobody but those concerned
says when; then their own times must fit, and the step is skipped with that remark, never passed. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from expunge_agent.errors import DocumentError, NotFoundError, VerificationError
from expunge_agent.protocol import sshsig, trust
from expunge_agent.protocol.base import MaybeTimestamp, Timestamp, timestamp
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records import merkle, tiles
from expunge_controller.records.checkpoint import Checkpoint, parse_checkpoint, parse_proof
from expunge_controller.records.document_times import finished, taken_in, time_of
from expunge_controller.records.findings import Checklist
from expunge_controller.records.key_event import (
    AGENT,
    CONTROLLER,
    KeyEvent,
    KeyEventKind,
    check_chain,
    end_before,
    narrowed,
    parse_key_event,
    signers_of,
)
from expunge_controller.records.log_check import LogOutside
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.log_policy import LogPolicy, parse_policy
from expunge_controller.records.note import verified
from expunge_controller.records.stamp_check import stamped_at

WHOLE = "the key events are signed, whole, and those of the enclosed keys"
LOGGED = "the key events are in the log"
GOOD = "the signing key was good when the receipt was logged"
IN_TIME = "every other document is from within the time of its key"
NONE = "the bundle holds no key events"


class _Placed(NamedTuple):
    """An event of the bundle; ``number`` is its entry in the log, None where that is not proven."""

    event: KeyEvent
    number: int | None


def check_keys(
    checks: Checklist,
    files: Mapping[str, bytes],
    signers: list[TrustedSigner],
    enclosed: list[TrustedSigner],
    outside: LogOutside,
) -> None:
    """Take the steps about keys. `signers` are those that count, `enclosed` those of the bundle, `outside` what the
    auditor knows of the log (without a policy the enclosed one counts)."""
    _KeyCheck(checks, files, signers, enclosed, outside).run()


class _KeyCheck:
    """One run over the keys of one bundle."""

    def __init__(
        self,
        checks: Checklist,
        files: Mapping[str, bytes],
        signers: list[TrustedSigner],
        enclosed: list[TrustedSigner],
        outside: LogOutside,
    ) -> None:
        self.checks = checks
        self.files = files
        self.signers = signers
        self.enclosed = enclosed
        self.names = layout.key_event_names(files)
        self.outside = outside
        self.brought = outside.policy is not None
        self.policy = outside.policy or _enclosed_policy(files)

    def run(self) -> None:
        """Take every step."""
        events = self._whole()
        placed = self._logged(events)
        self._good(placed)
        self._in_time(placed)

    def _whole(self) -> list[KeyEvent]:
        if not self.names:
            stray = [name for name in self.files if name.startswith(layout.KEY_FOLDER)]
            windows = any(signer.has_window for signer in self.enclosed)
            if stray or windows:
                self.checks.check(WHOLE, ["keys of limited time are enclosed, and no event says why"])
            else:
                self.checks.skip(WHOLE, NONE)
            return []
        problems = [
            f"{name} is not event {number}"
            for number, name in enumerate(self.names, start=1)
            if name != layout.key_event_name(number)
        ]
        problems += [
            f"{name} proves nothing"
            for name in sorted(self.files)
            if name.startswith(layout.KEY_FOLDER)
            and name.endswith(layout.KEY_PROOF)
            and name.removesuffix(layout.KEY_PROOF) + ".json" not in self.files
        ]
        chains: dict[str, list[bytes]] = {}
        for name in self.names:
            try:
                event = parse_key_event(self.files[name])
                chains.setdefault(event.principal, []).append(self.files[name])
                problems += [f"{name}: {why}" for why in self._signed(name, event)]
            except (DocumentError, VerificationError) as error:
                problems.append(f"{name}: {error.message}")
        events: list[KeyEvent] = []
        due: list[TrustedSigner] = []
        for bodies in chains.values():
            try:
                chain = check_chain(bodies)
            except VerificationError as error:
                problems.append(error.message)
                continue
            events += chain
            due += signers_of(chain)
        with_people = bool(layout.people_names(self.files))
        keys = [one for one in self.enclosed if one.principal.startswith((AGENT, CONTROLLER))]
        if not problems and narrowed(due, with_people) != keys:
            problems.append(f"{layout.TRUST} is not what follows from them")
        self.checks.check(WHOLE, problems, f"{len(events)} events")
        return events

    def _signed(self, name: str, event: KeyEvent) -> list[str]:
        """Why the event is not its issuer's."""
        signature = self.files.get(name + layout.SIGNATURE, b"")
        signer = trust.verify(self.signers, sshsig.KEY_EVENT_NAMESPACE, self.files[name], signature)
        if signer.principal != event.issuer:
            return [f"it says {event.issuer}, its signature is {signer.principal}'s"]
        own = event.principal == event.issuer and event.event is not KeyEventKind.COMPROMISED
        if own and signer.public_line != event.key:
            return ["a controller's key comes and goes with its own signature, and this is another's"]
        return []

    def _logged(self, events: list[KeyEvent]) -> list[_Placed]:
        if not self.names:
            self.checks.skip(LOGGED, NONE)
            return []
        if layout.LOG_POLICY not in self.files and not self.brought:
            self.checks.skip(LOGGED, "the bundle names no log")
            return [_Placed(event, None) for event in events]
        problems: list[str] = []
        numbers: dict[str, int] = {}
        for name in self.names:
            try:
                numbers[self._digest(name)] = self._number(name)
            except (DocumentError, NotFoundError, VerificationError) as error:
                problems.append(f"{layout.key_proof_name(name)}: {error.message}")
        self.checks.check(LOGGED, problems, ", ".join(f"entry {number}" for number in numbers.values()))
        by_event = {self._key(name): numbers.get(self._digest(name)) for name in self.names}
        return [_Placed(event, by_event.get((event.principal, event.seq))) for event in events]

    def _digest(self, name: str) -> str:
        return merkle.leaf_hash(self._entry(name)).hex()

    def _entry(self, name: str) -> bytes:
        signature = self.files.get(name + layout.SIGNATURE, b"")
        return entry_of(EntryKind.KEY_EVENT, self.files[name], signature)

    def _key(self, name: str) -> tuple[str, int]:
        try:
            event = parse_key_event(self.files[name])
        except DocumentError:
            return "", 0
        return event.principal, event.seq

    def _number(self, name: str) -> int:
        """The event's place in the log. Raises DocumentError or VerificationError where it is not proven."""
        proof = parse_proof(self.files.get(layout.key_proof_name(name), b""))
        checkpoint, note = parse_checkpoint(proof.checkpoint)
        signed = verified(note, {*self.policy.keys, *_enclosed_policy(self.files).keys})
        if len(signed) != len(note.signatures):
            raise VerificationError(
                "its checkpoint bears a signature by a key that is not named here, or twice"
            )
        if not {one.key for one in signed} & set(self.policy.logs):
            raise VerificationError("its checkpoint is not signed by this log")
        if self.brought and not self.policy.is_enough(signed):
            raise VerificationError("fewer witnesses than you ask for signed its checkpoint")
        ours = self.files.get(layout.CHECKPOINT, b"")
        if ours and checkpoint.origin != parse_checkpoint(ours)[0].origin:
            raise VerificationError("it is from another log than the receipt's")
        leaf = merkle.leaf_hash(self._entry(name))
        if not merkle.is_included(leaf, proof.number, checkpoint.size, proof.hashes, checkpoint.root):
            raise VerificationError("it does not lead from the event to the checkpoint's root")
        if not self._is_copied(checkpoint):
            raise VerificationError(
                "the log is FORKED, or your copy too old: its checkpoint is not of the copy"
            )
        return proof.number

    def _is_copied(self, checkpoint: Checkpoint) -> bool:
        """Whether the auditor's copy of the log, where there is one, has this checkpoint."""
        if self.outside.copy is None:
            return True
        newest = parse_checkpoint(self.outside.copy_head)[0]
        nodes = tiles.nodes_from(self.outside.copy, newest.size)
        return checkpoint.size <= newest.size and merkle.root(nodes, checkpoint.size) == checkpoint.root

    def _good(self, placed: list[_Placed]) -> None:
        try:
            signer = trust.verify(
                self.signers,
                sshsig.RECEIPT_NAMESPACE,
                self.files.get(layout.RECEIPT, b""),
                self.files.get(layout.RECEIPT + layout.SIGNATURE, b""),
            )
        except VerificationError:
            self.checks.skip(GOOD, "the signature did not check out")
            return
        about = [item for item in placed if item.event.key == signer.public_line]
        problems, remarks = self._began(signer), list[str]()
        explained: set[str] = set()
        for item in about:
            if item.event.event in (KeyEventKind.ROTATED, KeyEventKind.REVOKED):
                self._by_place(item, problems, remarks)
                explained.add(item.event.since)
            elif item.event.event is KeyEventKind.COMPROMISED:
                self._by_time(item.event.since, "it is compromised since", problems, remarks)
                explained.add(end_before(item.event.since))
        ends = {signer.valid_before, *_same_key(signer, self.enclosed)} - {"", *explained}
        if ends:
            self._by_time(min(ends), "it was over at", problems, remarks, last=True)
        if problems or not remarks:
            self.checks.check(GOOD, problems, self._when())
        else:
            self.checks.skip(GOOD, "; ".join(remarks))

    def _began(self, signer: TrustedSigner) -> list[str]:
        at = taken_in(self.files) or finished(self.files)
        if signer.valid_after and at < signer.valid_after:
            return [f"the key counts from {signer.valid_after}, and the receipt came at {at or 'no time'}"]
        return []

    def _by_place(self, item: _Placed, problems: list[str], remarks: list[str]) -> None:
        """A key that was rotated or revoked: what stands before that in the log counts."""
        receipt, event = self._receipt_number(), item.event
        if receipt is None or item.number is None:
            self._by_time(event.since, f"it was {event.event} at", problems, remarks, last=True)
        elif receipt > item.number:
            problems.append(
                f"the key was {event.event} at {event.since} (entry {item.number}), and the receipt is entry {receipt}"
            )

    def _by_time(
        self, end: Timestamp, what: str, problems: list[str], remarks: list[str], last: bool = False
    ) -> None:
        """A key that ended at a time: `last` says that this second still counts."""
        proven = self._proven()
        if proven:
            if proven > end or (proven == end and not last):
                problems.append(
                    f"{what} {end}, and the log proves only that the receipt was there at {proven}"
                )
            return
        own = [at for at in (taken_in(self.files), finished(self.files)) if at]
        if not own or max(own) > end or (max(own) == end and not last):
            problems.append(f"{what} {end}, and the receipt is of {max(own, default='no time')}")
        else:
            remarks.append(
                f"{what} {end}; the receipt is of {max(own)}, earlier, by the word of the machine and the "
                "controller alone: no witness and no time stamp proves it"
            )

    def _receipt_number(self) -> int | None:
        """The receipt's entry, as far as the steps about the log found nothing against it."""
        try:
            proof = parse_proof(self.files.get(layout.PROOF, b""))
            checkpoint, note = parse_checkpoint(proof.checkpoint)
            signed = verified(note, self.policy.keys)
        except (DocumentError, VerificationError):
            return None
        leaf = merkle.leaf_hash(self.files.get(layout.ENTRY, b""))
        good = {one.key for one in signed} & set(self.policy.logs) and merkle.is_included(
            leaf, proof.number, checkpoint.size, proof.hashes, checkpoint.root
        )
        return proof.number if good else None

    def _proven(self) -> MaybeTimestamp:
        """By when the receipt was in the log, by the word of enough witnesses or of a time-stamping authority, the
        earlier; empty where neither says so."""
        if self._receipt_number() is None:
            return ""
        said = (self._witnessed(), stamped_at(self.files, self.outside))
        return min((at for at in said if at), default="")

    def _witnessed(self) -> MaybeTimestamp:
        proof = parse_proof(self.files.get(layout.PROOF, b""))
        found = self.policy.cosigned(verified(parse_checkpoint(proof.checkpoint)[1], self.policy.keys))
        times = sorted(one.time for one in found)
        asked = max(1, self.policy.quorum)
        if len(times) < asked:
            return ""
        try:
            return timestamp(datetime.fromtimestamp(times[asked - 1], UTC))
        except (ValueError, OverflowError, OSError):
            return ""

    def _when(self) -> str:
        proven = self._proven()
        return f"witnessed or stamped at {proven}" if proven else ""

    def _in_time(self, placed: list[_Placed]) -> None:
        problems, remarks = [], []
        lost = {item.event.key for item in placed if item.event.event is KeyEventKind.COMPROMISED}
        for name in layout.signed_names(self.files):
            if name == layout.RECEIPT:
                continue
            try:
                signer = trust.verify(
                    self.signers,
                    layout.namespace_of(name) or "",
                    self.files[name],
                    self.files.get(name + layout.SIGNATURE, b""),
                )
            except VerificationError:
                continue  # the step about its signature says so
            at = time_of(name, self.files)
            farewell = any(
                item.event.event is KeyEventKind.ROTATED
                and item.event.key == signer.public_line
                and (item.event.at, item.event.principal) == (at, signer.principal)
                for item in placed
            ) and name.startswith(layout.KEY_FOLDER)
            if farewell:
                continue  # the log says when it came; a thief of the key could have sent it too
            if not signer.is_good_at(at):
                problems.append(f"{name} is of {at or 'no time'}, its key counts {_words(signer)}")
            elif signer.public_line in lost:
                remarks.append(f"{name} is by a key that was compromised later, and dates itself")
        if problems or not remarks:
            self.checks.check(IN_TIME, problems)
        else:
            self.checks.skip(IN_TIME, "; ".join(remarks[:3]))


def _enclosed_policy(files: Mapping[str, bytes]) -> LogPolicy:
    try:
        return parse_policy(files.get(layout.LOG_POLICY, b"").decode("utf-8"))
    except (DocumentError, UnicodeDecodeError):
        return LogPolicy()


def _same_key(signer: TrustedSigner, others: list[TrustedSigner]) -> set[str]:
    return {other.valid_before for other in others if other.public_line == signer.public_line}


def _words(signer: TrustedSigner) -> str:
    parts = [("from", signer.valid_after), ("until", signer.valid_before)]
    return " ".join(f"{word} {at}" for word, at in parts if at)
