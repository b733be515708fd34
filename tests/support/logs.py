"""A log with one witness, in memory, with real keys: what others would show of it, true or false."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_controller.bundle import LogParts, SignedBytes
from expunge_controller.records import merkle
from expunge_controller.records.certificate import CertifiedWitness, LogReference
from expunge_controller.records.checkpoint import Checkpoint, Proof, format_proof
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.log_policy import LogPolicy, Witness
from expunge_controller.records.note import COSIGNATURE, ED25519, Note, NoteKey, format_note, key_of, sign

ORIGIN = "expunge/records-office/0123456789abcdef"
WITNESS = "audit.example/w1"
WITNESSED_AT = 1_772_444_000


def fresh_signer() -> PrivateKeySigner:
    """A new Ed25519 key."""
    return PrivateKeySigner(Ed25519PrivateKey.generate())


class LogWorld:
    """A log whose operator and witness do what a test asks of them."""

    def __init__(self) -> None:
        self.signer, self.witness = fresh_signer(), fresh_signer()
        self.second: dict[bytes, SecondSignatures] = {}  # of the receipts that have them
        self.key: NoteKey = key_of(self.signer, ORIGIN, ED25519)
        self.witness_key: NoteKey = key_of(self.witness, WITNESS, COSIGNATURE)
        self.fixed: dict[int, bytes] = {}
        """Entries that stand where they stand in every tree."""

    @property
    def policy(self) -> LogPolicy:
        """The log, and its witness, who must have signed."""
        return LogPolicy(logs=(self.key,), witnesses=(Witness(key=self.witness_key),), quorum=1)

    def tree(
        self, receipt: SignedBytes, size: int = 7, number: int = 3, other: bytes = b""
    ) -> merkle.MemoryTree:
        """`size` entries, one of them the receipt's; `other` makes the rest unlike those of another tree."""
        tree = merkle.MemoryTree()
        for place in range(size):
            entry = self.fixed.get(place, b"entry %d" % place + other)
            entry = self.entry(receipt) if place == number else entry
            tree.append(merkle.leaf_hash(entry))
        return tree

    def checkpoint(
        self, tree: merkle.MemoryTree, size: int, *, time: int = WITNESSED_AT, witnessed: bool = True
    ) -> bytes:
        """The signed head of the first `size` entries of `tree`; `time` is the witness's."""
        text = Checkpoint(ORIGIN, size, merkle.root(tree.node, size)).text
        lines = [sign(self.signer, self.key, text)]
        if witnessed:
            lines.append(sign(self.witness, self.witness_key, text, time))
        return format_note(Note(text, tuple(lines)))

    def parts(
        self,
        receipt: SignedBytes,
        *,
        size: int = 7,
        number: int = 3,
        witnessed: bool = True,
        other: bytes = b"",
    ) -> LogParts:
        """What a bundle with this receipt holds."""
        tree = self.tree(receipt, size, number, other)
        checkpoint = self.checkpoint(tree, size, witnessed=witnessed)
        proof = Proof(number, tuple(merkle.inclusion_proof(tree.node, number, size)), checkpoint)
        policy = self.policy if witnessed else LogPolicy(logs=(self.key,))
        return LogParts(self.entry(receipt), format_proof(proof), checkpoint, policy)

    def proof(
        self, receipt: SignedBytes, place: int, size: int = 7, *, number: int = 3, time: int = WITNESSED_AT,
        witnessed: bool = True,
    ) -> bytes:  # fmt: skip
        """The proof of entry `place` in a tree with this receipt."""
        tree = self.tree(receipt, size, number)
        checkpoint = self.checkpoint(tree, size, time=time, witnessed=witnessed)
        hashes = merkle.inclusion_proof(tree.node, place, size)
        return format_proof(Proof(place, tuple(hashes), checkpoint))

    def reference(
        self, receipt: SignedBytes, *, size: int = 7, number: int = 3, witnessed: bool = True
    ) -> LogReference:
        """What a certificate says of it."""
        tree = self.tree(receipt, size, number)
        witness = CertifiedWitness(
            key=self.witness_key.text, at=timestamp(datetime.fromtimestamp(WITNESSED_AT, UTC))
        )
        return LogReference(
            log=self.key.text,
            number=U64(number),
            leaf=merkle.leaf_hash(self.entry(receipt)).hex(),
            size=U64(size if witnessed else 0),
            root=merkle.root(tree.node, size).hex() if witnessed else "",
            required=1 if witnessed else 0,
            witnesses=[witness] if witnessed else [],
        )

    def entry(self, receipt: SignedBytes) -> bytes:
        """The log entry of a receipt."""
        second = self.second.get(receipt.body)
        return entry_of(EntryKind.RECEIPT, *receipt, second.mldsa65 if second else b"")
