"""A real agent state in a folder, and a controller's key that it obeys."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from expunge_agent.devices.look import look
from expunge_agent.engine.tuning import Tuning
from expunge_agent.outbox import Sealed
from expunge_agent.protocol import canonical, dsse, sshsig
from expunge_agent.protocol.base import Level, timestamp
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.order import Order, ProfileRef
from expunge_agent.protocol.receipt import Receipt, parse_statement
from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_agent.protocol.trust import TrustedSigner
from expunge_agent.signing import load_or_create_key
from expunge_agent.state import State
from expunge_agent.surroundings import Surroundings
from expunge_agent.wipe import run_order
from expunge_profiles.load import builtin

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
PRINCIPAL = "controller:test"


@dataclass
class Bench:
    """An agent (`state`) and the controller whose orders it obeys."""

    state: State
    controller: PrivateKeySigner = field(
        default_factory=lambda: PrivateKeySigner(Ed25519PrivateKey.generate())
    )

    @classmethod
    def make(cls, folder: Path) -> Bench:
        """A fresh agent in `folder`, enrolled with one controller key."""
        bench = cls(State.create(folder))
        load_or_create_key(bench.state.signing_key)
        bench.state.trust(
            [
                TrustedSigner(
                    principal=PRINCIPAL,
                    namespaces=(sshsig.ORDER_NAMESPACE,),
                    public_line=bench.controller.public_line,
                )
            ]
        )
        return bench

    def order(self, *paths: Path, policy: str = "random-verified", **changes: object) -> Order:
        """An order for these files as they are now; `changes` replace its fields."""
        chosen = builtin()[policy]
        fields: dict[str, object] = {
            "format": "expunge/order/v1",
            "order_id": f"test-{secrets.token_hex(4)}",
            "machine_id": self.state.machine_id,
            "issuer": PRINCIPAL,
            "issued_at": timestamp(NOW),
            "not_before": timestamp(NOW),
            "expires": timestamp(NOW + timedelta(hours=1)),
            "requested_by": "operator",
            "case_number": "CASE-1",
            "reason": "decommissioned",
            "level": Level.CLEAR,
            "allow_downgrade": False,
            "profile": ProfileRef(id=chosen.id, version=chosen.version, digest=chosen.digest),
            "targets": [target_of(path) for path in paths],
            "approvals": [],
            "nonce": secrets.token_hex(16),
        }
        return Order(**{**fields, **changes})  # type: ignore[arg-type]

    def sign(self, order: Order) -> tuple[bytes, bytes]:
        """(body, signature) by the controller."""
        body = canonical.dumps(order)
        return body, sshsig.sign(self.controller, sshsig.ORDER_NAMESPACE, body)

    def hand_in(self, body: bytes, signature: bytes) -> str:
        """Spool the order; its digest."""
        digest = canonical.sha256_hex(body)
        self.state.spool(digest, body, signature)
        return digest

    def run(self, order: Order, **around: object) -> Receipt:
        """Hand the order in, carry it out, and return the receipt, its signature checked."""
        digest = self.hand_in(*self.sign(order))
        sealed = run_order(self.state, digest, surroundings(**around))
        assert sealed is not None
        return self.checked(sealed)

    def checked(self, sealed: Sealed) -> Receipt:
        """The receipt in `sealed`, which this agent must have signed, with both keys."""
        line = sshsig.verify(sealed.signature, sshsig.RECEIPT_NAMESPACE, sealed.body)
        assert line == load_or_create_key(self.state.signing_key).public_line
        receipt = parse_statement(sealed.body).predicate
        assert sealed.second is not None
        dsse.verify_classic(line, sealed.second.classic, sealed.body)
        dsse.verify_mldsa65(sealed.second.mldsa65_key, sealed.second.mldsa65, sealed.body)
        assert receipt.agent.mldsa65_key == dsse.keyid(sealed.second.mldsa65_key)
        return receipt


class Crash(BaseException):
    """Stands for kill -9: nothing after it runs."""


def finished(bench: Bench, digest: str) -> Receipt:
    """The receipt of an order that was handed in, run from where it stands to its end."""
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    return bench.checked(sealed)


def surroundings(**changes: object) -> Surroundings:
    """Built-in profiles, a clock that stands at `NOW`, small chunks."""
    fields: dict[str, object] = {
        "profiles": builtin(),
        "now": lambda: NOW,
        "stop": threading.Event(),
        "pause": threading.Event(),
        "tuning": Tuning(chunk=64 * 1024, stripes=2),
        "checkpoint_seconds": 0.01,
    }
    return Surroundings(**{**fields, **changes})  # type: ignore[arg-type]


def target_of(path: Path) -> Target:
    """The file at `path` by its identity."""
    medium, _ = look(path)
    assert medium is not None
    return Target(identity=medium.identity, hint=str(path))
