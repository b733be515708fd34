"""The vault beside age and openssl: the same file sealed and opened, durable at the end."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cases import Bench, Contender, Table
from measure import ToolFailedError
from peers import Job
from targets import MIB, Target, UnavailableError


def vault(bench: Bench) -> Iterator[Table]:
    """Put and get of one file. Every contender ends with fsync; dd only copies, as the limit."""
    for work, title in (("put", "sealing a file"), ("get", "opening it again")):
        table = Table(f"vault-{work}", "file", f"Vault: {title} of {bench.size // MIB} MiB")
        try:
            with bench.space.lend("file", bench.size) as targets:
                yield bench.turns(table, _contenders(_Cellar(bench, targets[0]), work))
        except (UnavailableError, ToolFailedError) as error:
            table.notes.append(f"not measured: {error}")
            yield table


class _Cellar:
    """A vault and the peers' keys in the bench's folder, and what each made of the source."""

    def __init__(self, bench: Bench, source: Target) -> None:
        self.bench, self.source = bench, source
        self.folder = bench.space.root / "vaults"
        self.folder.mkdir(exist_ok=True)
        self.vault = self.folder / "vault"
        self.secret = self.folder / "pass"
        self.secret.write_text("bench\n")
        self.log = self.folder / "log"
        if not self.vault.exists():
            self.ours("create", self.vault).measure(self.log)
        self.recipient = self._age_key()

    def ours(self, verb: str, *arguments: object) -> Job:
        words = [str(one) for one in arguments]
        return self.bench.agent.call("vault", verb, *words, "--passphrase-file", str(self.secret))

    def put(self) -> Job:
        """Into an empty vault: what was there is removed before the clock runs."""
        for path in (self.vault / "objects").iterdir():
            path.unlink()
        return self.ours("put", self.vault, "subject", self.source.path)

    def sealed(self) -> str:
        """The id of the source as an object, sealed now."""
        found = re.search(r"Object ([0-9a-f]{32})", self.put().measure(self.log).output)
        if found is None:
            raise ToolFailedError("expunge-agent named no object")
        return found[1]

    def shell(self, script: str) -> Job:
        """A peer that knows no fsync, and sync(1) after it."""
        out = self.folder / "out"
        out.unlink(missing_ok=True)
        return Job([[["sh", "-c", f"{script} && sync {shlex.quote(str(out))}"]]])

    def _age_key(self) -> str:
        path = self.folder / "age.key"
        if "age" not in self.bench.tools.paths:
            return ""
        if not path.exists():
            subprocess.run(["age-keygen", "-o", str(path)], check=True, capture_output=True)
        found = re.search(r"age1[0-9a-z]+", path.read_text())
        return found[0] if found else ""


def _contenders(cellar: _Cellar, work: str) -> list[Contender]:
    source, folder = [cellar.source], cellar.folder
    plain, out = shlex.quote(str(cellar.source.path)), shlex.quote(str(folder / "out"))
    ctr = f"openssl enc -aes-256-ctr -nosalt -K {'5a' * 32} -iv {'00' * 16}"
    copy = Contender("dd", source, lambda: cellar.shell(f"dd if={plain} of={out} bs=1M status=none"), "dd")
    if work == "put":
        return [
            copy,
            Contender("expunge", source, cellar.put),
            Contender(
                "age", source, lambda: cellar.shell(f"age -r {cellar.recipient} -o {out} {plain}"), "age"
            ),
            Contender("openssl", source, lambda: cellar.shell(f"{ctr} -in {plain} -out {out}"), "openssl"),
        ]
    object_id = cellar.sealed()
    sealed = {name: shlex.quote(str(folder / f"sealed.{name}")) for name in ("age", "openssl")}
    if "age" in cellar.bench.tools.paths:
        cellar.shell(f"age -r {cellar.recipient} -o {sealed['age']} {plain} && : > {out}").measure(cellar.log)
    if "openssl" in cellar.bench.tools.paths:
        cellar.shell(f"{ctr} -in {plain} -out {sealed['openssl']} && : > {out}").measure(cellar.log)
    key = shlex.quote(str(folder / "age.key"))
    return [
        copy,
        Contender("expunge", source, lambda: _opening(cellar, object_id)),
        Contender("age", source, lambda: cellar.shell(f"age -d -i {key} -o {out} {sealed['age']}"), "age"),
        Contender(
            "openssl", source, lambda: cellar.shell(f"{ctr} -d -in {sealed['openssl']} -out {out}"), "openssl"
        ),
    ]


def _opening(cellar: _Cellar, object_id: str) -> Job:
    out: Path = cellar.folder / "out"
    out.unlink(missing_ok=True)
    return cellar.ours("get", cellar.vault, object_id, "--out", out, "--no-record")
