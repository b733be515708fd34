"""Receipts: sealed once under the agent's next counter, and kept in the outbox until acknowledged.

``receipts/000000000007/`` holds one receipt for ever; ``outbox/000000000007`` is a note that the
controller has not acknowledged it yet. The counter is the highest number there is, plus one, so
it cannot get out of step with what was sealed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from expunge_agent.files import (
    create_folder,
    exists,
    explained,
    locked,
    read_limited,
    sync_folder,
    write_durable,
)
from expunge_agent.protocol.base import Digest
from expunge_agent.protocol.canonical import dumps, loads, sha256_hex
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.receipt import MAX_RECEIPT, NO_RECEIPT_BEFORE

_NUMBER = re.compile("[0-9]{12}")
PATIENCE = 60.0
"""Seconds to wait for another order that is being sealed."""


SECOND = "receipt.second.json"


class Signed(NamedTuple):
    """A receipt's bytes, its armored SSHSIG, and its second signatures (None: made before there were any)."""

    body: bytes
    signature: bytes
    second: SecondSignatures | None = None


@dataclass(frozen=True)
class Sealed:
    """A receipt as it lies on disk; see `Signed`."""

    counter: int
    order: Digest
    body: bytes
    signature: bytes
    second: SecondSignatures | None = None

    @property
    def digest(self) -> Digest:
        """SHA-256 of the receipt's bytes."""
        return sha256_hex(self.body)


class Outbox:
    """All receipts of this agent, in ``root/receipts`` and ``root/outbox``."""

    def __init__(self, root: Path) -> None:
        self._receipts = root / "receipts"
        self._pending = root / "outbox"
        self._lock = root / "seal.lock"

    def seal(
        self,
        order: Digest,
        make: Callable[[int, Digest], Signed],
        announce: Callable[[int], None],
    ) -> Sealed:
        """Seal the receipt of `order` under the next counter; durable on return.

        `make(counter, previous digest)` gives it. `announce(counter)` is called
        before the receipt becomes visible, so that a journal can say which number to look at
        after a crash.
        """
        with self._locked():
            self._repair()
            last = self._numbers()[-1:]
            counter = last[0] + 1 if last else 1
            previous = self.get(last[0]).digest if last else NO_RECEIPT_BEFORE
            signed = make(counter, previous)
            announce(counter)
            self._publish(counter, order, signed)
            return Sealed(counter, order, *signed)

    def get(self, counter: int) -> Sealed:
        """The receipt with this number. Raises StateError when there is none."""
        folder = self._receipts / _name(counter)
        return Sealed(
            counter,
            read_limited(folder / "order", 64).decode("ascii"),
            read_limited(folder / "receipt.json", MAX_RECEIPT),
            read_limited(folder / "receipt.json.sig", 65536),
            loads(read_limited(folder / SECOND, 65536), SecondSignatures, SECOND)
            if exists(folder / SECOND)
            else None,
        )

    def attach(self, counter: int, paths: Iterable[Path]) -> None:
        """Keep lists that the receipt names by their digests beside it, under their own names."""
        folder = self._receipts / _name(counter)
        for path in paths:
            with explained(path), suppress(FileExistsError):
                (folder / path.name).hardlink_to(path)
        with explained(folder):
            sync_folder(folder)

    def find(self, counter: int, order: Digest) -> Sealed | None:
        """The receipt with this number if it is the one of `order` (see `seal`, announce)."""
        if not (self._receipts / _name(counter)).exists():
            return None
        sealed = self.get(counter)
        return sealed if sealed.order == order else None

    def all(self) -> Iterator[Sealed]:
        """Every receipt, oldest first."""
        for counter in self._numbers():
            yield self.get(counter)

    def pending(self) -> list[int]:
        """Numbers of the receipts that wait for an acknowledgement, oldest first.

        The folder belongs to an unprivileged account: a note without a receipt is none.
        """
        noted = {int(entry.name) for entry in self._pending.iterdir() if _NUMBER.fullmatch(entry.name)}
        return sorted(noted.intersection(self._numbers()))

    def acknowledge(self, digest: Digest) -> bool:
        """Take the receipt with this digest out of the outbox; False when none waits."""
        for counter in self.pending():
            if self.get(counter).digest == digest:
                note = self._pending / _name(counter)
                with explained(note):
                    note.unlink(missing_ok=True)
                    sync_folder(self._pending)
                return True
        return False

    def repair(self) -> None:
        """After a crash: receipts that were published but not yet put into the outbox get there."""
        with self._locked():
            self._repair()

    def _repair(self) -> None:
        """Posting follows publishing under one lock, so all unposted receipts are the newest ones."""
        unposted = []
        for counter in reversed(self._numbers()):
            if (self._receipts / _name(counter) / "posted").exists():
                break
            unposted.append(counter)
        for counter in reversed(unposted):
            self._post(counter)

    def _publish(self, counter: int, order: Digest, signed: Signed) -> None:
        files = {
            "order": order.encode(),
            "receipt.json": signed.body,
            "receipt.json.sig": signed.signature,
        }
        if signed.second is not None:
            files[SECOND] = dumps(signed.second)
        if not create_folder(self._receipts / _name(counter), files):
            raise AssertionError(f"receipt {counter} was there already")
        self._post(counter)

    def _post(self, counter: int) -> None:
        write_durable(self._pending / _name(counter), b"", 0o660)
        write_durable(self._receipts / _name(counter) / "posted", b"")

    def _numbers(self) -> list[int]:
        return sorted(int(entry.name) for entry in self._receipts.iterdir() if _NUMBER.fullmatch(entry.name))

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self._lock, PATIENCE, "Receipts are being sealed")


def _name(counter: int) -> str:
    return f"{counter:012d}"
