"""The agent's state folder: who this machine is, whom it obeys, and where orders lie.

::

    machine.json            this agent's id, bound to the machine it was made on
    signing_key{,.pub}      signs receipts; readable by root alone
    mldsa65_key{,.pub}      signs them a second time (see `second_key`); likewise
    dial_key{,.pub}         opens the SSH connection to the controller
    trust/allowed_signers   controllers whose orders are obeyed
    controller.json         where to dial, and the host key expected there
    signing_key.json        where the signing key is, unless it is that file
    rotation.json{,.sig,.old.sig}   the newest change of signing keys, for the controller
    enrolment.json{,.sig}   what this agent says of itself to the controller
    profiles/               custom profiles, one TOML file each
    spool/DIGEST/           orders handed in by `serve`, not yet looked at
    orders/DIGEST/          order, signature, journal, events of an order once taken
    seen/                   nonces and ids of all orders ever taken
    receipts/, outbox/      see `outbox`
    turns/                  whose turn it is to erase, see `turns`
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from expunge_agent.devices import host
from expunge_agent.errors import NotFoundError, StateError
from expunge_agent.files import (
    create_durable,
    create_folder,
    exists,
    explained,
    locked,
    read_limited,
    write_durable,
)
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Digest, Frozen, MachineId, Name
from expunge_agent.protocol.order import MAX_ORDER
from expunge_agent.protocol.trust import TrustedSigner, format_allowed_signers, parse_allowed_signers

ROTATION = "rotation.json"
_FOLDERS = ("trust", "profiles", "spool", "orders", "seen", "receipts", "outbox", "turns")
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
        if not exists(path):
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
        """The state in `root` with its keys, made now if there is none. Running it again changes nothing."""
        with explained(root):
            root.mkdir(mode=0o750, parents=True, exist_ok=True)
            for name in _FOLDERS:
                (root / name).mkdir(mode=0o770 if name in ("spool", "outbox") else 0o750, exist_ok=True)
        with locked(root / "create.lock", 30.0, "The state folder is being made"):
            if not exists(root / "machine.json"):
                machine = Machine(machine_id=secrets.token_hex(16), binding=host.machine_id())
                write_durable(root / "machine.json", canonical.dumps(machine))
            return cls.open(root)

    @property
    def signing_key(self) -> Path:
        """The key that signs receipts."""
        return self.root / "signing_key"

    @property
    def mldsa65_key(self) -> Path:
        """The key of the second, post-quantum signature of receipts."""
        return self.root / "mldsa65_key"

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
        return parse_allowed_signers(read_limited(path, 1 << 20).decode()) if exists(path) else []

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
        entry = self.root / "spool" / checked_digest(digest)
        create_folder(entry, {"order.json": body, "order.json.sig": signature})

    def take(self, digest: Digest) -> tuple[bytes, bytes]:
        """The order and its signature, moved from the spool into its own folder at the first call.

        The spool belongs to an unprivileged account, so nothing in it is believed but the bytes
        whose SHA-256 is `digest`, and no link in it is followed. Raises NotFoundError when the order
        was never handed in, StateError for an entry that is no order (it is removed).
        """
        folder = self.order_folder(digest)
        if not exists(folder / "order.json"):
            body, signature = self._spooled(digest)
            # Only this side may change what is in it: the network side reads events and receipts.
            create_folder(folder, {"order.json": body, "order.json.sig": signature}, folder_mode=0o750)
        self._clear_spool(digest)
        return read_limited(folder / "order.json", MAX_ORDER), read_limited(folder / "order.json.sig", 65536)

    def claim_once(self, kind: str, value: str, digest: Digest) -> bool:
        """Remember that `value` (a nonce, an order id) belongs to `digest`; False if another order has it."""
        path = self.root / "seen" / f"{kind}-{value}"
        return create_durable(path, digest.encode()) or read_limited(path, 64) == digest.encode()

    def claimed(self, kind: str, value: str, digest: Digest) -> bool:
        """Whether this order claimed `value` before."""
        path = self.root / "seen" / f"{kind}-{value}"
        return exists(path) and read_limited(path, 64) == digest.encode()

    def unfinished(self) -> list[Digest]:
        """Orders handed in or begun that have no receipt yet."""
        found = {
            entry.name
            for folder in ("spool", "orders")
            for entry in (self.root / folder).iterdir()
            if _DIGEST.fullmatch(entry.name)
        }
        return sorted(digest for digest in found if self.receipt_number(digest) is None)

    def receipt_number(self, digest: Digest) -> int | None:
        """The counter of the order's receipt, None while there is none."""
        path = self.order_folder(digest) / "receipt"
        return int(read_limited(path, 20)) if exists(path) else None

    def finish(self, digest: Digest, counter: int) -> None:
        """Note which receipt answered the order."""
        write_durable(self.order_folder(digest) / "receipt", str(counter).encode())

    @contextmanager
    def order_lock(self, digest: Digest) -> Iterator[None]:
        """Hold the order: one process works on it at a time. Raises BusyError."""
        path = self.root / "orders" / f".{checked_digest(digest)}.lock"
        marker = self._marker(digest)
        with locked(path, 1.0, f"Order {digest[:16]}… is being worked on"):
            write_durable(marker, host.process_token(os.getpid()).encode())
            try:
                yield
            finally:
                marker.unlink(missing_ok=True)

    def is_running(self, digest: Digest) -> bool:
        """Whether some process works on the order now; asked without any right to hold it."""
        marker = self._marker(digest)
        try:
            token = read_limited(marker, 200).decode("ascii", "replace")
        except StateError:
            return False
        return host.is_process(token)

    def _marker(self, digest: Digest) -> Path:
        return self.root / "orders" / f".{checked_digest(digest)}.running"

    def _spooled(self, digest: Digest) -> tuple[bytes, bytes]:
        """Body and signature of a spool entry, whoever made it."""
        try:
            entry = os.open(
                self.root / "spool" / digest, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError as error:
            raise NotFoundError(
                f"There is no order {digest[:16]}… here.", "See: expunge-agent report"
            ) from error
        except OSError as error:
            self._clear_spool(digest)
            raise StateError(
                f"The spool entry {digest[:16]}… is no folder; it was removed.", "Send it again."
            ) from error
        try:
            body = read_limited(Path("order.json"), MAX_ORDER, entry)
            signature = read_limited(Path("order.json.sig"), 65536, entry)
        except StateError as error:
            self._clear_spool(digest)
            raise StateError(
                f"{error.message} The spool entry was removed.", "Send the order again."
            ) from error
        finally:
            os.close(entry)
        if canonical.sha256_hex(body) != digest:
            self._clear_spool(digest)  # it is no order of that name, and would be tried for ever
            raise StateError(
                f"The spooled order {digest[:16]}… was altered; it was removed.", "Send it again."
            )
        return body, signature

    def _clear_spool(self, digest: Digest) -> None:
        """Remove a spool entry whatever it is; what cannot be removed is harmless, the order has its folder."""
        entry = self.root / "spool" / digest
        if entry.is_symlink() or not entry.is_dir():
            with suppress(OSError):
                entry.unlink(missing_ok=True)
            return
        for left in [entry, *entry.parent.glob(f".{digest}.*")]:  # the latter after a kill of `spool`
            shutil.rmtree(left, ignore_errors=True)  # follows no link (shutil.rmtree.avoids_symlink_attacks)


def checked_digest(text: str) -> Digest:
    """`text` if it is an order's digest: it becomes the name of a folder. Raises NotFoundError."""
    if not _DIGEST.fullmatch(text):
        raise NotFoundError(f"{text[:80]!r} is not an order's digest.", "It has 64 hexadecimal digits.")
    return text
