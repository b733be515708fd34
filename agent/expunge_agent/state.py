"""The agent's state folder: who this machine is, whom it obeys, and where orders lie.

::

    machine.json            this agent's id, bound to the machine it was made on
    signing_key{,.pub}      signs receipts; readable by root alone
    dial_key{,.pub}         opens the SSH connection to the controller
    trust/allowed_signers   controllers whose orders are obeyed
    controller.json         where to dial, and the host key expected there
    enrolment.json{,.sig}   what this agent says of itself to the controller
    profiles/               custom profiles, one TOML file each
    spool/DIGEST/           orders handed in by `serve`, not yet looked at
    orders/DIGEST/          order, signature, journal, events of an order once taken
    seen/                   nonces and ids of all orders ever taken
    receipts/, outbox/      see `outbox`
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge_agent.devices import host
from expunge_agent.errors import BusyError, NotFoundError, StateError
from expunge_agent.files import explained, read_limited, sync_folder, write_durable
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Digest, Frozen, MachineId, Name
from expunge_agent.protocol.trust import TrustedSigner, format_allowed_signers, parse_allowed_signers

MAX_ORDER = 1024 * 1024
_FOLDERS = ("trust", "profiles", "spool", "orders", "seen", "receipts", "outbox")
_DIGEST = re.compile("[0-9a-f]{64}")


class Machine(Frozen, frozen=True):
    """``binding`` is derived from the machine's own id: a copied state folder is noticed by it."""

    machine_id: MachineId
    binding: str


class ControllerAddress(Frozen, frozen=True):
    """Where to dial, and the public key line of the host key that must answer there."""

    name: Name
    host: str
    port: int
    host_key: str


class State:
    """An existing state folder. Make one with `State.create`, open it with `State.open`."""

    def __init__(self, root: Path, machine: Machine) -> None:
        self.root = root
        self.machine_id = machine.machine_id

    @classmethod
    def open(cls, root: Path) -> State:
        """The state in `root`. Raises StateError when it is missing or copied from another machine."""
        path = root / "machine.json"
        if not path.exists():
            raise StateError(
                f"There is no agent state in {root}.",
                "Enrol this machine (expunge-agent enrol TOKEN), or name the folder with --state.",
            )
        machine = canonical.loads(read_limited(path, 65536), Machine, str(path))
        if machine.binding != host.machine_id():
            raise StateError(
                f"The state in {root} was made on another machine.",
                "A copied agent would sign as two machines: remove the folder and enrol this machine anew.",
            )
        return cls(root, machine)

    @classmethod
    def create(cls, root: Path) -> State:
        """The state in `root`, made now if there is none. Running it again changes nothing."""
        with explained(root):
            root.mkdir(mode=0o750, parents=True, exist_ok=True)
            for name in _FOLDERS:
                (root / name).mkdir(mode=0o770 if name in ("spool", "outbox") else 0o750, exist_ok=True)
        if not (root / "machine.json").exists():
            machine = Machine(machine_id=secrets.token_hex(16), binding=host.machine_id())
            write_durable(root / "machine.json", canonical.dumps(machine))
        return cls.open(root)

    @property
    def signing_key(self) -> Path:
        """The key that signs receipts."""
        return self.root / "signing_key"

    @property
    def dial_key(self) -> Path:
        """The key that opens the SSH connection to the controller."""
        return self.root / "dial_key"

    @property
    def principal(self) -> str:
        """This agent in ``allowed_signers``."""
        return f"agent:{self.machine_id}"

    def trusted(self) -> list[TrustedSigner]:
        """The pinned controllers."""
        path = self.root / "trust" / "allowed_signers"
        return parse_allowed_signers(read_limited(path, 1 << 20).decode()) if path.exists() else []

    def trust(self, signers: list[TrustedSigner]) -> None:
        """Pin these controllers, and no others."""
        write_durable(self.root / "trust" / "allowed_signers", format_allowed_signers(signers).encode())

    def controller(self) -> ControllerAddress:
        """Where to dial. Raises NotFoundError when this agent was enrolled without an address."""
        path = self.root / "controller.json"
        if not path.exists():
            raise NotFoundError(
                "This agent knows no controller to dial.", "Enrol it: expunge-agent enrol TOKEN"
            )
        return canonical.loads(read_limited(path, 65536), ControllerAddress, str(path))

    def order_folder(self, digest: Digest) -> Path:
        """The folder of an order that was taken."""
        return self.root / "orders" / checked_digest(digest)

    def spool(self, digest: Digest, body: bytes, signature: bytes) -> None:
        """Hand an order in, durable on return; again is harmless."""
        folder = self.root / "spool" / checked_digest(digest)
        with explained(folder):
            folder.mkdir(mode=0o770, exist_ok=True)
            write_durable(folder / "order.json.sig", signature)
            write_durable(folder / "order.json", body)  # last: its presence makes the entry complete
            sync_folder(folder.parent)

    def take(self, digest: Digest) -> tuple[bytes, bytes]:
        """The order and its signature, moved from the spool into its own folder at the first call.

        The spool belongs to an unprivileged account, so nothing in it is believed but the bytes
        whose SHA-256 is `digest`. Raises NotFoundError when the order was never handed in.
        """
        folder = self.order_folder(digest)
        spooled = self.root / "spool" / digest
        if not (folder / "order.json").exists():
            if not (spooled / "order.json").exists():
                raise NotFoundError(f"There is no order {digest[:16]}… here.", "See: expunge-agent report")
            body = read_limited(spooled / "order.json", MAX_ORDER)
            if canonical.sha256_hex(body) != digest:
                self._clear_spool(spooled)  # it is no order of that name, and would be tried for ever
                raise StateError(
                    f"The spooled order {digest[:16]}… was altered; it was removed.", "Send it again."
                )
            signature = read_limited(spooled / "order.json.sig", 65536)
            with explained(folder):
                folder.mkdir(mode=0o750, exist_ok=True)
            write_durable(folder / "order.json.sig", signature)
            write_durable(folder / "order.json", body)
            sync_folder(folder.parent)
        self._clear_spool(spooled)
        return read_limited(folder / "order.json", MAX_ORDER), read_limited(folder / "order.json.sig", 65536)

    def claim_once(self, kind: str, value: str, digest: Digest) -> bool:
        """Remember that `value` (a nonce, an order id) belongs to `digest`; False if another order has it."""
        path = self.root / "seen" / f"{kind}-{value}"
        if not path.exists():
            write_durable(path, digest.encode())
        return read_limited(path, 64) == digest.encode()

    def unfinished(self) -> list[Digest]:
        """Orders handed in or begun that have no receipt yet."""
        found = {
            entry.name
            for folder in ("spool", "orders")
            for entry in (self.root / folder).iterdir()
            if _DIGEST.fullmatch(entry.name) and (entry / "order.json").exists()
        }
        return sorted(digest for digest in found if self.receipt_number(digest) is None)

    def receipt_number(self, digest: Digest) -> int | None:
        """The counter of the order's receipt, None while there is none."""
        path = self.order_folder(digest) / "receipt"
        return int(read_limited(path, 20)) if path.exists() else None

    def finish(self, digest: Digest, counter: int) -> None:
        """Note which receipt answered the order."""
        write_durable(self.order_folder(digest) / "receipt", str(counter).encode())

    @contextmanager
    def order_lock(self, digest: Digest) -> Iterator[None]:
        """Hold the order: one process works on it at a time. Raises BusyError."""
        path = self.root / "orders" / f".{checked_digest(digest)}.lock"
        with explained(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            _lock_soon(descriptor, digest)
            yield
        finally:
            os.close(descriptor)

    def is_running(self, digest: Digest) -> bool:
        """Whether some process holds the order now."""
        path = self.root / "orders" / f".{checked_digest(digest)}.lock"
        if not path.exists():
            return False
        with explained(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _clear_spool(self, spooled: Path) -> None:
        with explained(spooled):
            for name in ("order.json", "order.json.sig"):
                (spooled / name).unlink(missing_ok=True)
            if spooled.is_dir():
                spooled.rmdir()


def checked_digest(text: str) -> Digest:
    """`text` if it is an order's digest: it becomes the name of a folder. Raises NotFoundError."""
    if not _DIGEST.fullmatch(text):
        raise NotFoundError(f"{text[:80]!r} is not an order's digest.", "It has 64 hexadecimal digits.")
    return text


def _lock_soon(descriptor: int, digest: Digest) -> None:
    """Lock, trying for a second: `is_running` holds the lock for a moment too."""
    for _ in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return
    raise BusyError(f"Order {digest[:16]}… is being worked on by another process.", "Wait for it.")
