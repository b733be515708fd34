"""A process that works a vault without a pause until it is killed: ``python -m support.vault_worker ROOT VAULT SEED``.

It writes down what it is about to do and what it has done; before each change of the root it keeps a copy of the
keystore, as a backup would.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from pathlib import Path

from expunge_agent.protocol import canonical
from expunge_agent.vault import work
from expunge_agent.vault.holders import file as file_holder
from expunge_agent.vault.words import new_id
from support.vaults import VaultBench


def content(object_id: str) -> bytes:
    """What is put under an id: up to 200,000 bytes."""
    chance = random.Random(object_id)
    return chance.randbytes(chance.choice((0, 100, 65536, 200_000)))


class Worker:
    def __init__(self, bench: VaultBench, seed: int) -> None:
        self.bench, self.chance = bench, random.Random(seed)
        self.log = os.open(bench.root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(self, **what: str) -> None:
        os.write(self.log, json.dumps(what).encode() + b"\n")

    def put(self) -> None:
        subject, object_id = f"s{self.chance.randrange(10**9)}", new_id()
        (self.bench.root / "source").write_bytes(content(object_id))
        source = os.open(self.bench.root / "source", os.O_RDONLY)
        job = self.bench.job(subject=subject, object=object_id, chunk=65536, source=source)
        self.say(begun="put", object=object_id, subject=subject)
        work.put(canonical.dumps(job))
        self.say(done="put", object=object_id, subject=subject)

    def change(self) -> None:
        with self.bench.held() as held:
            living = [one for one in held.shelf.current().entries if one.wrapped]
        shred = self.chance.choice(living) if living and self.chance.random() < 0.7 else None
        half = self.bench.root / f"half-{new_id()}"
        shutil.copytree(self.bench.folder / "keystore", half)
        (self.bench.root / "backups").mkdir(exist_ok=True)
        half.rename(self.bench.root / "backups" / half.name)
        fields = {"shred": shred.key, "subject": shred.subject} if shred else {}
        self.say(begun="change", **fields)
        work.change(canonical.dumps(self.bench.job(**fields)))
        self.say(done="change", **fields)


def main(root: str, vault: str, seed: str) -> None:
    file_holder.COST = (2, 1, 1)
    worker = Worker(VaultBench(Path(root), vault), int(seed))
    print("ready", flush=True)
    while True:
        worker.put() if worker.chance.random() < 0.5 else worker.change()


if __name__ == "__main__":
    main(*sys.argv[1:])
