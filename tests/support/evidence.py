"""A small world of evidence: one agent, one controller, an order, its receipt, custody, a certificate.

Everything is built with the product's own types and signed with real keys; tests change one thing at
a time with `msgspec.structs.replace`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from msgspec.structs import replace

from expunge_agent.protocol import canonical, dsse, sshsig
from expunge_agent.protocol.base import Level, Outcome, timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.identity import BlockIdentity, Identity, Target
from expunge_agent.protocol.order import Order, ProfileRef
from expunge_agent.protocol.receipt import (
    NO_RECEIPT_BEFORE,
    AgentInfo,
    Conduct,
    MediumFacts,
    OrderRef,
    PassResult,
    Receipt,
    Stream,
    TargetResult,
    Verification,
    freeze,
)
from expunge_agent.protocol.receipt_erasure import Canaries, DriveAnswer, Erasure, ReadBack
from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.bundle import BundleParts, KeyEventParts, SignedBytes
from expunge_controller.records.canaries import canary_places, sample_places
from expunge_controller.records.certificate import LogReference, MediumRecord, Person, freeze_certificate
from expunge_controller.records.certify import certificate_from
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.custody import CustodyKind, next_event
from expunge_controller.records.key_event import KeyEvent, KeyEventKind
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.render.bundle_readme import readme
from expunge_controller.second_files import envelope_digest
from expunge_profiles.schema import Pass, Profile
from expunge_profiles.schema import Verification as ProfileVerification
from support.logs import LogWorld

MACHINE = "5f0c" * 8
CONTROLLER = "controller:records-office"
START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SIZE = 256 * 1024 * 1024
BOOT = "0d5a3f6e-9f5e-4a55-8d7c-8a3f5d1c2b10"

DISK = BlockIdentity(
    bus="sata", model="EXAMPLE HD-2000", serial="FICT0001234", wwn="0x5000c500a1b2c3d4", size=U64(SIZE)
)

PROFILE = Profile(
    id="random-verified",
    version=1,
    title="Zeros, then a keyed stream, read back in full",
    level="clear",
    authority="an example for tests",
    status="current",
    source="an example for tests",
    advice="An example for tests.",
    media=("hdd", "file"),
    passes=(Pass(fixed="00"), Pass(keyed_stream=True)),
    verification=ProfileVerification(kind="full", after="last"),
)
PROFILE_REF = ProfileRef(id=PROFILE.id, version=PROFILE.version, digest=PROFILE.digest)

PURGE = Profile(
    id="drive-commands",
    version=1,
    title="The drive's own commands, sampled",
    level="purge",
    authority="an example for tests",
    status="current",
    source="an example for tests",
    advice="An example for tests.",
    media=("hdd", "ssd"),
    techniques=("nvme-sanitize-crypto", "nvme-sanitize-block", "ata-sanitize-overwrite"),
    verification=ProfileVerification(kind="sampled", after="last", rule="nist-800-88r1"),
)
PURGE_REF = ProfileRef(id=PURGE.id, version=PURGE.version, digest=PURGE.digest)
CANARY_KEY = "c5" * 32


def nonce(number: int) -> str:
    """A nonce that a reader can tell from others."""
    return f"{number:032x}"


def at(seconds: int) -> str:
    """The contract's timestamp `seconds` after the world began."""
    return timestamp(START + timedelta(seconds=seconds))


def before_the_script(files: dict[str, bytes], signers: list[TrustedSigner]) -> dict[str, bytes]:
    """The bundle as it was written before it had a verify.sh and a SHA256SUMS."""
    old = {
        name: data for name, data in files.items() if name not in ("verify.sh", "SHA256SUMS", "README.txt")
    }
    return {**old, "README.txt": readme(old, signers).encode()}


class World:
    """One agent and one controller with fresh keys. `p256` takes ECDSA keys instead of Ed25519; `second`
    gives the agent an ML-DSA-65 key."""

    def __init__(self, p256: bool = False, second: bool = True) -> None:
        def key() -> PrivateKeySigner:
            return PrivateKeySigner(
                ec.generate_private_key(ec.SECP256R1()) if p256 else Ed25519PrivateKey.generate()
            )

        self.agent, self.controller = key(), key()
        self.agent_signer = TrustedSigner(
            principal=f"agent:{MACHINE}",
            namespaces=(sshsig.RECEIPT_NAMESPACE,),
            public_line=self.agent.public_line,
        )
        self.controller_signer = TrustedSigner(
            principal=CONTROLLER,
            namespaces=(
                sshsig.ORDER_NAMESPACE,
                sshsig.CUSTODY_NAMESPACE,
                sshsig.CERTIFICATE_NAMESPACE,
                sshsig.KEY_EVENT_NAMESPACE,
            ),
            public_line=self.controller.public_line,
        )
        self.signers = [self.controller_signer, self.agent_signer]
        self.second = MLDSA65PrivateKey.generate() if second else None
        self.log = LogWorld()
        self.key_events = [
            self.key_event(CONTROLLER, key=self.controller.public_line),
            self.key_event(f"agent:{MACHINE}", key=self.agent.public_line),
        ]
        self.log.fixed = {place: key_entry(event) for place, event in enumerate(self.key_events, start=1)}

    def order(self, **changes: Any) -> bytes:
        """The bytes of an order for `DISK`."""
        order = Order(
            format="expunge/order/v1",
            order_id="EX-2026-0001",
            machine_id=MACHINE,
            issuer=CONTROLLER,
            issued_at=at(-60),
            not_before=at(-60),
            expires=at(86_400),
            requested_by="records officer",
            case_number="CASE-17",
            reason="lease ended",
            level=Level.CLEAR,
            allow_downgrade=False,
            profile=PROFILE_REF,
            targets=[Target(identity=DISK, hint="/dev/sdz")],
            approvals=[],
            nonce=nonce(1),
        )
        return canonical.dumps(replace(order, **changes))

    def receipt(self, order: bytes, /, **changes: Any) -> Receipt:
        """The receipt of a clean wipe by that order."""
        asked = canonical.loads(order, Order)
        results = [target_result(target) for target in asked.targets]
        receipt = Receipt(
            format="expunge/receipt/v1",
            counter=U64(1),
            previous=NO_RECEIPT_BEFORE,
            nonce=nonce(2),
            outcome=Outcome.SANITIZED,
            refusal=None,
            order=OrderRef(
                digest=canonical.sha256_hex(order),
                order_id=asked.order_id,
                nonce=asked.nonce,
                issuer=asked.issuer,
                requested_by=asked.requested_by,
                case_number=asked.case_number,
            ),
            agent=AgentInfo(
                machine_id=MACHINE,
                hostname="store-17",
                software="expunge-agent 0.1.0",
                python="3.11.2",
                kernel="Linux 6.1.0",
                boot_id=BOOT,
                key=sshsig.fingerprint(self.agent.public_line),
                mldsa65_key=dsse.keyid(self.mldsa65_key) if self.second else "",
            ),
            profile=asked.profile,
            level_requested=asked.level,
            level_achieved=Level.CLEAR,
            targets=results,
            interruptions=[],
            started_at=at(0),
            finished_at=at(9),
            clock="system clock, not synchronised",
            limitations=["The signature proves that this agent says this; not that the medium obeyed."],
        )
        return replace(receipt, **changes)

    @property
    def mldsa65_key(self) -> bytes:
        """The public key of the agent's second signatures."""
        assert self.second is not None
        return dsse.spki_of(self.second.public_key())

    def second_of(self, receipt: SignedBytes) -> SecondSignatures | None:
        """The second signatures of a receipt, made once; None for an agent without a key for them."""
        if self.second is None:
            return None
        made = dsse.sign(self.agent, self.second, receipt.body)
        return self.log.second.setdefault(receipt.body, made)

    def signed_receipt(self, receipt: Receipt) -> SignedBytes:
        """Frozen and signed by the agent."""
        body = freeze(receipt)
        signed = SignedBytes(body, sshsig.sign(self.agent, sshsig.RECEIPT_NAMESPACE, body))
        self.second_of(signed)  # the log names them
        return signed

    def by_controller(self, namespace: str, body: bytes) -> SignedBytes:
        """Signed by the controller."""
        return SignedBytes(body, sshsig.sign(self.controller, namespace, body))

    def key_event(
        self,
        principal: str,
        before: Sequence[SignedBytes] = (),
        by: PrivateKeySigner | None = None,
        **changes: Any,
    ) -> SignedBytes:
        """The next event of a principal's keys; without changes, the enrolment of its first, an hour before the start."""
        event = KeyEvent(
            format="expunge/key-event/v1",
            event=KeyEventKind.ENROLLED,
            principal=principal,
            seq=len(before) + 1,
            previous=canonical.sha256_hex(before[-1].body) if before else "",
            key=self.agent.public_line,
            successor="",
            since=changes.get("at", at(-3600)),
            at=at(-3600),
            reason="",
            actor=CONTROLLER,
            issuer=CONTROLLER,
            evidence="",
            nonce=nonce(300 + len(before)),
        )
        body = canonical.dumps(replace(event, **changes))
        return SignedBytes(body, sshsig.sign(by or self.controller, sshsig.KEY_EVENT_NAMESPACE, body))

    def custody(
        self, receipt: SignedBytes, order: bytes, last: tuple[CustodyKind, ...] = (CustodyKind.WIPED,)
    ) -> list[SignedBytes]:
        """Registered, requested, started, and `last`, which name the receipt."""
        kinds = (CustodyKind.REGISTERED, CustodyKind.REQUESTED, CustodyKind.WIPE_STARTED, *last)
        subject, medium = medium_of(DISK)
        events: list[SignedBytes] = []
        for number, kind in enumerate(kinds):
            body = next_event(
                events[-1].body if events else None,
                medium=medium,
                subject=subject,
                event=kind,
                actor="records officer" if kind is CustodyKind.REGISTERED else f"agent:{MACHINE}",
                at=START + timedelta(seconds=10 * number - 120),
                nonce=nonce(100 + number),
                location="rack 4",
                order="" if kind is CustodyKind.REGISTERED else canonical.sha256_hex(order),
                order_id="" if kind is CustodyKind.REGISTERED else "EX-2026-0001",
                receipt=canonical.sha256_hex(receipt.body) if number >= 3 else "",
            )
            events.append(self.by_controller(sshsig.CUSTODY_NAMESPACE, body))
        return events

    def certificate(self, receipt: SignedBytes, order: bytes, log: LogReference | None = None) -> SignedBytes:
        """The certificate about the receipt's first target."""
        certificate = certificate_from(
            receipt.body,
            receipt.signature,
            0,
            order=canonical.loads(order, Order),
            facts=MediumRecord(
                performed_by=Person(name="A. Example", title="technician"),
                property_number="PN-0042",
                classification="internal",
                data_backed_up="yes",
            ),
            number="C-2026-0001",
            issued_at=START + timedelta(seconds=30),
            issuer=CONTROLLER,
            log=log,
            dsse=envelope_digest(*receipt, self.second_of(receipt)),
        )
        return self.by_controller(sshsig.CERTIFICATE_NAMESPACE, freeze_certificate(certificate))

    def purge_order(self, **changes: Any) -> bytes:
        """The bytes of an order for `DISK` to be purged by a command of its own."""
        return self.order(**({"level": Level.PURGE, "profile": PURGE_REF} | changes))

    def purged(self, order: bytes, /, **changes: Any) -> Receipt:
        """The receipt of a clean purge by that order; `changes` are those of its one target's result."""
        result = erased_result(canonical.loads(order, Order).targets[0], **changes)
        level = result.level_achieved
        return self.receipt(order, targets=[result], outcome=result.outcome, level_achieved=level)

    def parts(self, order: bytes | None = None, **changes: Any) -> BundleParts:
        """A whole bundle; `changes` are those of the receipt."""
        order = order or self.order()
        receipt = self.signed_receipt(self.receipt(order, **changes))
        return BundleParts(
            receipt=receipt,
            custody=self.custody(receipt, order),
            signers=self.signers,
            order=self.by_controller(sshsig.ORDER_NAMESPACE, order),
            certificate=self.certificate(receipt, order, self.log.reference(receipt)),
            log=self.log.parts(receipt),
            second=self.second_of(receipt),
            key_events=[
                KeyEventParts(*event, self.log.proof(receipt, place))
                for place, event in enumerate(self.key_events, start=1)
            ],
        )


def key_entry(event: SignedBytes) -> bytes:
    """The log entry of a key event."""
    return entry_of(EntryKind.KEY_EVENT, event.body, event.signature)


def a_pass(index: int, /, **changes: Any) -> PassResult:
    """Pass `index` of `PROFILE` over all of a medium of `SIZE` bytes."""
    keyed = index == 1
    result = PassResult(
        index=index,
        pattern="keyed stream" if keyed else "00",
        stream=Stream(cipher="aes-256-ctr", key_digest="ab" * 32) if keyed else None,
        fixed="" if keyed else "00",
        bytes_written=U64(SIZE),
        started_at=at(2 * index + 1),
        finished_at=at(2 * index + 2),
        duration_ms=U64(1250),
        complete=True,
        flushed=True,
        io_mode="direct",
        resumed_at=[],
        errors=[],
        error_count=U64(0),
        error_bytes=U64(0),
        conduct=Conduct(chunk=1 << 20, stripes=4),
    )
    return replace(result, **changes)


def a_verification(**changes: Any) -> Verification:
    """A clean full read-back of the last pass of `PROFILE`."""
    result = Verification(
        kind="full",
        of_pass=1,
        bytes_expected=U64(SIZE),
        bytes_read=U64(SIZE),
        mismatched_bytes=U64(0),
        unreadable_bytes=U64(0),
        unreadable=[],
        reads_medium=True,
        mismatches=[],
        mismatch_count=U64(0),
        started_at=at(6),
        finished_at=at(8),
        duration_ms=U64(1800),
        io_mode="direct",
        complete=True,
    )
    return replace(result, **changes)


def target_result(target: Target, **changes: Any) -> TargetResult:
    """A cleanly wiped target."""
    identity: Identity = target.identity
    result = TargetResult(
        target=target,
        outcome=Outcome.SANITIZED,
        refusal=None,
        identity_before=identity,
        identity_opened=identity,
        identity_after=identity,
        medium=MediumFacts(
            path="/dev/sdz", type="hdd", firmware="FW01", logical_sector=512, physical_sector=4096
        ),
        technique="overwrite",
        level_achieved=Level.CLEAR,
        passes=[a_pass(0), a_pass(1)],
        verifications=[a_verification()],
        exceptions=[],
        not_covered=["Remapped sectors cannot be addressed by the host."],
        finished_at=at(7),
    )
    return replace(result, **changes)


def some_canaries(**changes: Any) -> Canaries:
    """Canaries as they are planted on a medium of `SIZE` bytes, all gone."""
    key = bytes.fromhex(CANARY_KEY)
    planted = len(canary_places(SIZE, key))
    result = Canaries(
        key=CANARY_KEY,
        block=4096,
        planned=planted,
        written=planted,
        looked_for=planted,
        found=0,
        unreadable=0,
        samples=len(sample_places(SIZE, key)),
        telling=200,
        kept=0,
    )
    return replace(result, **changes)


def a_read_back(**changes: Any) -> ReadBack:
    """A sampled read-back after a command, mostly zeros."""
    result = ReadBack(
        kind="sampled",
        bytes_expected=U64(SIZE // 8),
        bytes_read=U64(SIZE // 8),
        unreadable_bytes=U64(0),
        unreadable=[],
        zeros=U64(SIZE // 8 - 12_288),
        ones=U64(4096),
        constant=U64(0),
        other=U64(8192),
        io_mode="direct",
        reads_medium=True,
        started_at=at(5),
        finished_at=at(6),
        duration_ms=U64(700),
        complete=True,
        seed="ab" * 16,
        block=4096,
        rule="nist-800-88r1",
    )
    return replace(result, **changes)


def an_erasure(**changes: Any) -> Erasure:
    """A cryptographic erase by the drive as it should go."""
    result = Erasure(
        technique="nvme-sanitize-crypto",
        accepted=True,
        progress_seen=True,
        ended="done",
        attempts=1,
        detail="status 1: the most recent sanitize operation completed",
        started_at=at(1),
        finished_at=at(4),
        duration_ms=U64(2900),
        settled=True,
        settling="",
        canaries=some_canaries(),
        read_back=a_read_back(),
        changes=[],
        answers=[
            DriveAnswer(name="identify controller", hex="00" * 16),
            DriveAnswer(name="sanitize log after", hex="ffff0100"),
        ],
    )
    return replace(result, **changes)


def erased_result(target: Target, **changes: Any) -> TargetResult:
    """A target that was purged by a command of its own."""
    fields: dict[str, Any] = {
        "medium": MediumFacts(
            path="/dev/nvme9n1", type="ssd", firmware="FW01", logical_sector=512, physical_sector=4096
        ),
        "technique": "nvme-sanitize-crypto",
        "level_achieved": Level.PURGE,
        "passes": [],
        "verifications": [],
        "erasure": an_erasure(),
        "not_covered": ["What the controller keeps for itself was not looked at."],
    }
    return target_result(target, **(fields | changes))
