"""The vault by its command line: one folder with state, passphrase and vault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge_agent.outbox import Outbox
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.receipt import Receipt, parse_statement
from expunge_agent.signing import load_key


@dataclass
class VaultCli:
    """``root/vault``, worked by ``expunge-agent --state root/state vault …``."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    secret: str = "correct horse"

    def __post_init__(self) -> None:
        (self.root / "pass").write_text(self.secret + "\n")

    @property
    def folder(self) -> Path:
        return self.root / "vault"

    def command(self, verb: str, *arguments: str) -> list[str]:
        base = [sys.executable, "-m", "expunge_agent", "--state", str(self.root / "state"), "vault", verb]
        return [*base, str(self.folder), *arguments]

    def start(self, verb: str, *arguments: str, **how: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(verb, *arguments), env=self.env, **how)

    def run(
        self, verb: str, *arguments: str, stdin: bytes = b"", code: int = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a verb; its exit code must be `code`, and there is never a traceback."""
        done = subprocess.run(self.command(verb, *arguments), env=self.env, input=stdin, capture_output=True)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode == code, (done.returncode, done.stdout.decode()[-2000:], done.stderr.decode())
        return done

    def json(self, verb: str, *arguments: str, **how: Any) -> Any:
        return json.loads(self.run(verb, *arguments, "--json", **how).stdout)

    @property
    def env(self) -> dict[str, str]:
        own = {"EXPUNGE_VAULT_PASSPHRASE_FILE": str(self.root / "pass")}
        return {**os.environ, **own, **self.environment}

    def put(self, subject: str, data: bytes) -> str:
        """Seal `data`; the object's id."""
        found: str = self.json("put", subject, "-", stdin=data)["object"]
        return found

    def get(self, object_id: str, **how: Any) -> bytes:
        """The object, through standard output, not noted."""
        return self.run("get", object_id, "--out", "-", "--no-record", **how).stdout

    def states(self) -> dict[str, str]:
        """How each subject stands, by the first word."""
        return {one["subject"]: one["state"].split(" 2")[0] for one in self.json("list")["subjects"]}

    def receipts(self) -> list[Receipt]:
        """All receipts, each with a good signature of this agent."""
        line = load_key(self.root / "state" / "signing_key").public_line
        found = []
        for sealed in Outbox(self.root / "state").all():
            assert sshsig.verify(sealed.signature, sshsig.RECEIPT_NAMESPACE, sealed.body) == line
            found.append(parse_statement(sealed.body).predicate)
        return found
