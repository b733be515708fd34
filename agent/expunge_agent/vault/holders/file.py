"""Root keys in files, each sealed by a passphrase (scrypt, RFC 7914).

Destroying one overwrites the file in place, renames it and unlinks it. That is a logical overwrite: on
flash, and wherever the file system writes elsewhere, the old bytes may stay on the medium, where the
passphrase still opens them.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from expunge_agent.core.layout import Layout, left_behind
from expunge_agent.engine.extents import layout
from expunge_agent.errors import NotFoundError, PermissionProblemError, VerificationError
from expunge_agent.files import create_durable, exists, explained, read_limited, sweep, sync_folder
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen
from expunge_agent.vault import keys
from expunge_agent.vault.holders.port import Destruction, FileSettings, Passphrase, not_opened
from expunge_agent.vault.words import Hex, Id

COST = (1 << 15, 8, 3)
"""scrypt's N, r, p: 32 MiB, some tenths of a second."""
_MOST = 4096
_GONE = ".gone"


class Sealed(Frozen, frozen=True):
    """A root key as its file holds it."""

    format: Literal["expunge/vault-root/v1"]
    vault: Id
    root: Id
    n: int
    r: int
    p: int
    salt: Hex
    sealed: Hex


class FileHolder:
    """Root keys of `vault` as files ``root-ID.json``."""

    beyond = False

    def __init__(self, settings: FileSettings, vault: str, passphrase: Passphrase) -> None:
        self._folder = Path(settings.folder)
        self._vault = vault
        self._passphrase = passphrase
        self._opened: dict[str, bytes] = {}
        self.where = f"the folder {self._folder}"

    def create(self, root: str) -> None:
        """Make a root key; see `port.KeyHolder`."""
        with explained(self._folder):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(self._folder, self._path(root).name)
        key, salt = secrets.token_bytes(keys.KEY), secrets.token_bytes(32)
        n, r, p = COST
        sealed = Sealed(
            format="expunge/vault-root/v1",
            vault=self._vault,
            root=root,
            n=n,
            r=r,
            p=p,
            salt=salt.hex(),
            sealed=keys.wrap(self._kek(salt, COST), key, self._about(root)).hex(),
        )
        create_durable(self._path(root), canonical.dumps(sealed), 0o600)

    def has(self, root: str) -> bool:
        """Whether its file is there."""
        return exists(self._path(root))

    def seal(self, root: str, secret: bytes, about: bytes) -> bytes:
        """Seal `secret`."""
        return keys.wrap(self._key(root), secret, about)

    def unseal(self, root: str, sealed: bytes, about: bytes) -> bytes:
        """Open what `seal` sealed."""
        found = keys.unwrap(self._key(root), sealed, about)
        if found is None:
            raise VerificationError(not_opened(self.where), "Restore the newest keystore.")
        return found

    def place(self, root: str) -> Layout:
        """Where the kernel says that the file lies."""
        path = self._path(root)
        if not exists(path):
            return Layout(extents=[])  # `spoil` says that it is gone
        with explained(path):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                return layout(fd)
            finally:
                os.close(fd)

    def spoil(self, root: str, before: Layout) -> tuple[str, ...]:
        """Overwrite the file in place; what the kernel says of its place before and after."""
        self._opened.pop(root, None)
        path = self._path(root)
        if not exists(path):
            return (f"{path} was gone before it was overwritten",)
        with explained(path):
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                seen = os.fstat(fd)
                os.pwrite(fd, secrets.token_bytes(seen.st_size), 0)
                os.fsync(fd)
                after = layout(fd)
            finally:
                os.close(fd)
        doubts = [f"{one} ({path})" for one in before.doubts]
        if not before.doubts and left_behind(before, after):
            doubts.append(f"{path} lies elsewhere since the overwrite: its old bytes were not reached")
        return tuple(doubts)

    def destroy(self, root: str) -> Destruction:
        """Rename and unlink the overwritten file."""
        path = self._path(root)
        with explained(path):
            if exists(path):
                path.rename(path.with_name(_GONE))
            path.with_name(_GONE).unlink(missing_ok=True)
            sweep(self._folder, path.name)
            sync_folder(self._folder)
        return Destruction(f"{path} was overwritten once in its place, renamed and unlinked", False)

    def close(self) -> None:
        """Forget the keys."""
        self._opened.clear()

    def _key(self, root: str) -> bytes:
        if root not in self._opened:
            path = self._path(root)
            if not exists(path):
                raise NotFoundError(
                    f"The root key {root} is not in {self.where}.",
                    "It was destroyed by a shredding or rotation (then take the newest keystore), or the folder "
                    "is not the right one.",
                )
            held = canonical.loads(read_limited(path, _MOST), Sealed, str(path))
            kek = self._kek(bytes.fromhex(held.salt), (held.n, held.r, held.p))
            key = keys.unwrap(kek, bytes.fromhex(held.sealed), self._about(root))
            if key is None:
                raise PermissionProblemError(
                    f"The passphrase does not open {path}.", "Check it; the file may also be damaged."
                )
            self._opened[root] = key
        return self._opened[root]

    def _kek(self, salt: bytes, cost: tuple[int, int, int]) -> bytes:
        n, r, p = cost
        if n > 1 << 20 or r > 32 or p > 16:
            raise VerificationError("The root key's file asks for too much work.", "Restore it.")
        return Scrypt(salt=salt, length=keys.KEY, n=n, r=r, p=p).derive(self._passphrase())

    def _about(self, root: str) -> bytes:
        return keys.about("root key", self._vault, root)

    def _path(self, root: str) -> Path:
        return self._folder / f"root-{root}.json"
