"""People with keys: registered at a controller, signing custody events."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from expunge_agent.protocol import sshsig
from expunge_agent.protocol.sshsig import PrivateKeySigner, Signer
from expunge_controller import custodian, people
from expunge_controller.context import Controller
from expunge_controller.custodian import Recorded, Words
from expunge_controller.records.custody import Attachment, CustodyKind
from expunge_controller.records.custody_parts import Participant
from support.controllers import now

PHOTO = Attachment(name="photo.jpg", sha256="ab" * 32)


@dataclass
class Folk:
    """A controller's people, by name."""

    controller: Controller
    keys: dict[str, Signer] = field(default_factory=dict)

    def add(self, name: str, *roles: str, signer: Signer | None = None, at: datetime | None = None) -> Signer:
        """Register `name` with `signer` (default: a new Ed25519 key)."""
        key = signer or PrivateKeySigner(Ed25519PrivateKey.generate())
        people.add(
            self.controller,
            name,
            key.public_line,
            roles=roles,
            full_name=f"{name.title()} Example",
            title="technician",
            organisation="Example Records",
            by="records officer",
            now=at or now(),
        )
        self.keys[name] = key
        return key

    def draft(self, medium: str, kind: CustodyKind, people: dict[str, str], **words: Any) -> bytes:
        """The event about a medium, with people by role."""
        named = [Participant(role=role, person=person) for role, person in people.items()]
        with self.controller.store.read() as unit:
            row = unit.evidence.medium(medium)
            assert row is not None
            return custodian.draft(unit, row, kind, Words(people=named, **words), now())

    def sign(self, body: bytes, *names: str) -> list[bytes]:
        """Their signatures over an event."""
        return [sshsig.sign(self.keys[name], sshsig.CUSTODY_NAMESPACE, body) for name in names]

    def record(self, medium: str, kind: CustodyKind, people: dict[str, str], **words: Any) -> Recorded:
        """Draft, sign by everybody named, record."""
        body = self.draft(medium, kind, people, **words)
        return custodian.record(self.controller, body, self.sign(body, *people.values()), now())


def key_file(path: Path) -> Path:
    """A new private key at `path`, its public half at ``path.pub``."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    path.with_name(path.name + ".pub").write_text(PrivateKeySigner(key).public_line + " somebody\n")
    return path
