"""Everything at once: two kinds of signatures, a witness, a time stamp, keys that end, people who decide, PDFs, an archive."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from expunge_agent.errors import RefusedError
from expunge_agent.protocol import canonical, dsse, sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.rotation import KeyRotation, granted
from expunge_controller import fleet, key_history, rotating, translog, witness
from expunge_controller.bundle_read import read_bundle
from expunge_controller.cli import main
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.keys import load_key
from expunge_controller.records import key_check, stamp_check
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.custody import CustodyKind
from expunge_controller.settings import load_config
from expunge_controller.stamping import stamp_head
from expunge_controller.store.rows import MachineRow, OrderRow
from expunge_controller.store.sqlite import open_store
from expunge_controller.witness import WitnessState
from expunge_controller.witness_client import cosign
from expunge_controller.witness_http import WitnessServer
from support.authenticator import Authenticator
from support.authorities import TimeAuthority
from support.controllers import FakeAgent, disk, make_controller, now, ordered, quiet_log
from support.evidence import World
from support.pdfs import needs_font
from support.people import Folk

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
K = CustodyKind
HOUR = timedelta(hours=1)


class Office:
    """A controller with a witness and a time-stamping authority, and a machine with a P-256 and an ML-DSA-65 key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.controller: Controller = make_controller(folder / "home")
        with self.controller.store.read() as unit:
            log_key = translog.key_in(unit)
        self.witness_key = witness.make(folder / "witness", "audit.example/w1", [log_key.text])
        state = WitnessState(folder / "witness", lambda: int(now().timestamp()))
        self.server = WitnessServer(state, "127.0.0.1", 0, quiet_log())
        self.server.start()
        self.authority = TimeAuthority(folder / "tsa", "tsa", 365)
        text = f'quorum = 1\n[[witness]]\nvkey = "{self.witness_key.text}"\n'
        self.controller.home.log_policy.write_text(
            text + f'url = "{self.server.address}"\n' + self.authority.policy()
        )
        self.policy = folder / "policy.toml"
        log = f'[[log]]\nvkey = "{log_key.text}"\n'
        self.policy.write_text(text + log + self.authority.policy(url=False))
        self.agent = FakeAgent(world=World(p256=True))
        token = fleet.create_token(self.controller, "alpha", valid_for=HOUR, ssh=None, now=now())
        body, signature = self.agent.enrolment(token, mldsa65_key=self.agent.world.mldsa65_key)
        fleet.enrol(
            self.controller, body, signature, proven_key=self.agent.dial_line, dialled=None, now=now()
        )
        self.folk = Folk(self.controller)
        self.folk.add("fay", "validator", signer=Authenticator(ecdsa=True))
        self.folk.add("sue", "second")
        self.count = 0

    @property
    def machine(self) -> MachineRow:
        with self.controller.store.read() as unit:
            return fleet.machine_named(unit, "alpha")

    def wiped(self) -> OrderRow:
        """A disk of its own, wiped; witnessed, certified, stamped."""
        self.count += 1
        order = ordered(self.controller, self.machine, disk(self.count))
        before = {"previous": self.machine.last_digest} if self.machine.last_digest else {}
        receipt = self.agent.receipt(order.body, counter=U64(self.count), **before)
        second = self.agent.world.second_of(receipt)
        stored = store_receipt(self.controller, self.agent.machine_id, *receipt, second=second, now=now())
        assert not stored.reasons
        self.witnessed()
        return order

    def witnessed(self) -> None:
        (answer,) = cosign(self.controller, now())[0]
        assert answer.problem is None
        stamp_head(self.controller, datetime.now(UTC))

    def medium(self, number: int) -> str:
        return medium_of(disk(number))[1]

    def rotate(self) -> None:
        """The machine takes another key."""
        token = rotating.rotation_token(self.controller, self.machine, valid_for=HOUR, now=now())
        new = World(p256=True).agent
        document = KeyRotation(
            format="expunge/key-rotation/v1",
            machine_id=self.agent.machine_id,
            old_key=self.agent.signing.public_line,
            new_key=new.public_line,
            at=timestamp(now()),
        )
        body = canonical.dumps(granted(document, token.secret))
        signatures = [sshsig.sign(key, sshsig.ROTATION_NAMESPACE, body) for key in (new, self.agent.signing)]
        rotating.take_rotation(self.controller, self.agent.machine_id, body, *signatures, now())
        self.agent.world.agent = new

    def close(self) -> None:
        self.server.stop()
        self.authority.stop()
        self.controller.store.close()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.close()


Run = Callable[..., Any]


@pytest.fixture
def run(office: Office, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr("os.umask", lambda _mask: 0)

    def call(*arguments: object, code: int = 0) -> str:
        argv = ["expunge", "--home", str(office.controller.home.path), *(str(part) for part in arguments)]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert int(ended.value.code or 0) == code, (
            arguments[0],
            err,
            [one for one in out.split("{") if "failed" in one],
        )
        return out

    return call


def verified(run: Run, office: Office, bundle: Path, code: int = 0) -> dict[str, str]:
    """The steps as an auditor sees them who brings everything."""
    signers = office.folder / "signers"
    run("keys", "signers", "-o", signers)
    said = run(
        "verify", bundle, "--signers", signers, "--log-policy", office.policy, "--mldsa-key",
        dsse.keyid(office.agent.world.mldsa65_key), "--json", code=code,
    )  # fmt: skip
    return {step["title"]: step["status"] for step in json.loads(said)["steps"]}


def text_of(bundle: Path) -> str:
    """What one reads in its PDF."""
    pdf = bundle.with_suffix(".pdf")
    pdf.write_bytes(read_bundle(bundle)["certificate.pdf"])
    done = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True)
    return done.stdout


def newest(office: Office) -> bytes:
    """What the witness signed last."""
    with office.controller.store.read() as unit:
        origin = translog.key_in(unit).name
    found = WitnessState(office.folder / "witness", lambda: 0).newest(
        hashlib.sha256(origin.encode()).hexdigest()
    )
    assert found is not None
    return found


@needs_font
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext (poppler-utils)")
def test_one_story_of_everything(office: Office, run: Run) -> None:
    first = office.wiped()
    office.folk.record(office.medium(1), K.APPROVED, {"validator": "fay"})
    office.folk.record(office.medium(1), K.CONCURRED, {"second": "sue"})
    office.witnessed()
    office.rotate()
    second = office.wiped()
    bundles = {}
    for order in (first, second):
        bundles[order.order_id] = office.folder / f"{order.order_id}.zip"
        run("export", order.order_id, "-o", bundles[order.order_id], "--pdf")
        steps = verified(run, office, bundles[order.order_id])
        assert "failed" not in steps.values()
        assert steps[key_check.GOOD] == "passed"
        assert steps[stamp_check.STAMPED] == "passed", steps
    approved, plain = map(text_of, bundles.values())
    assert "Fay Example (fay)" in approved
    assert "awaiting validation" not in approved
    assert "awaiting validation" in plain
    (office.folder / "seen.txt").write_bytes(newest(office))

    stolen = timestamp(now() + timedelta(seconds=1))
    time.sleep(2)  # what the witness signed before counts for ever
    key_history.compromised(
        office.controller, office.machine, since=stolen, fingerprint="", reason="a disk was stolen", actor="A",
        now=now(),
    )  # fmt: skip
    office.witnessed()
    for order, path in bundles.items():
        assert "failed" not in verified(run, office, path).values(), "written before it was known"
        run("export", order, "-o", path, "--pdf")
        steps = verified(run, office, path)
        assert "failed" not in steps.values(), "seen by the witness before"
        assert steps[key_check.GOOD] == "passed"

    line = rotating.rotate_controller(office.controller, reason="yearly", actor="A", now=now())
    office.controller.store.close()
    home = office.controller.home
    office.controller = Controller(
        home, load_config(home), open_store(home.database), load_key(home.order_key)
    )
    assert office.controller.signer.public_line == line
    office.folk.controller = office.controller
    office.folk.record(office.medium(2), K.APPROVED, {"validator": "fay"})
    office.witnessed()
    for order, path in bundles.items():
        assert "failed" not in verified(run, office, path).values(), "older ones stay good"
        run("export", order, "-o", path, "--pdf")
        assert "failed" not in verified(run, office, path).values()

    said = run("certificate", "show", second.order_id, "--json")
    assert json.loads(said)["number"].endswith("-000002.2")
    assert "CERT" in run("register", "destruction", "--json")
    steps = json.loads(run("log", "check", "--against", office.folder / "seen.txt", "--json"))["steps"]
    assert all(step["status"] == "passed" for step in steps)
    run("archive", "create", office.folder / "archive", code=RefusedError.exit_code)
    assert not (office.folder / "archive").exists(), "the newest time stamp is not witnessed yet"
    run("log", "cosign")
    run("archive", "create", office.folder / "archive")
    signers = office.folder / "signers"
    run("keys", "signers", "-o", signers)
    run(
        "archive",
        "check",
        office.folder / "archive",
        "--signers",
        signers,
        "--log-policy",
        office.policy,
        "--json",
    )
    registers = {path.stem: path.read_text() for path in (office.folder / "archive/registers").iterdir()}
    assert "Fay Example (fay)" in registers["certificates"]
    assert "validator fay" in registers["custody"]
    assert registers["people"].count("added") == 2
    kinds = {path.name for path in (office.folder / "archive/documents").iterdir()}
    assert {"person", "custody-signature", "stamp", "key-event", "certificate"} <= kinds
