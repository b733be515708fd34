"""A vault in a folder, worked in this very process: no child, a cheap passphrase."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from expunge_agent.protocol import canonical
from expunge_agent.vault import work
from expunge_agent.vault.holders import file as file_holder
from expunge_agent.vault.holders.port import FileSettings
from expunge_agent.vault.session import Place, Session, session
from expunge_agent.vault.words import new_id
from expunge_agent.vault.work import Answer, Job

NOW = "2026-11-22T12:00:00Z"
PASSPHRASE = b"correct horse"


@dataclass
class VaultBench:
    """The vault in ``root/vault``; its root keys in ``root/keys``; what the machine knows in ``root/known``."""

    root: Path
    vault: str

    @classmethod
    def make(cls, root: Path, monkeypatch: pytest.MonkeyPatch) -> VaultBench:
        """A fresh vault; scrypt does next to no work."""
        monkeypatch.setattr(file_holder, "COST", (2, 1, 1))
        bench = cls(root, new_id())
        holder = FileSettings(folder=str(root / "keys"))
        work.create(canonical.dumps(bench.job(holder=holder, vault=bench.vault)))
        return bench

    @property
    def folder(self) -> Path:
        return self.root / "vault"

    @property
    def place(self) -> Place:
        return Place(self.folder, self.root / "known")

    def job(self, passphrase: str = PASSPHRASE.decode(), **more: object) -> Job:
        """For one work: the passphrase can be read from it once."""
        fields = {
            "folder": str(self.folder),
            "known": str(self.root / "known"),
            "now": NOW,
            "passphrase": _in_a_pipe(passphrase.encode()),
        }
        return Job(**{**fields, **more})  # type: ignore[arg-type]

    def put(self, subject: str, data: bytes, chunk: int = 65536) -> str:
        """Seal `data`; the object's id."""
        path, object_id = self.root / "source", new_id()
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        work.put(
            canonical.dumps(self.job(subject=subject, object=object_id, label="L", chunk=chunk, source=fd))
        )
        return object_id

    def get(self, object_id: str, **more: Any) -> bytes:
        """Open an object. Raises what the work raises; then nothing lies under the name."""
        out = self.root / "out"
        out.unlink(missing_ok=True)
        try:
            work.get(canonical.dumps(self.job(object=object_id, path=str(out), by="tester", **more)))
        except BaseException:
            assert not out.exists()
            raise
        return out.read_bytes()

    def change(self, shred: str = "") -> None:
        """Rotate the root, or shred a subject."""
        with self.held() as held:
            key = held.entry(shred).key if shred else ""
        work.change(canonical.dumps(self.job(shred=key, subject=shred)))

    def check(self) -> Answer:
        return canonical.loads(work.check(canonical.dumps(self.job())), Answer)

    @contextmanager
    def held(self) -> Iterator[Session]:
        with session(self.place, lambda: PASSPHRASE, NOW) as held:
            yield held


def _in_a_pipe(secret: bytes) -> int:
    """The reading end of a pipe with nothing else in it."""
    reading, writing = os.pipe()
    os.write(writing, secret)
    os.close(writing)
    return reading
