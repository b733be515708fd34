"""Everything at once: two kinds of signatures, a witness, a time stamp, keys that end, people who decide, PDFs, an archive."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from expunge_agent.errors import RefusedError
from expunge_agent.protocol import dsse
from expunge_agent.protocol.base import timestamp
from expunge_controller import key_history, rotating
from expunge_controller.bundle_read import read_bundle
from expunge_controller.cli import main
from expunge_controller.context import Controller
from expunge_controller.keys import load_key
from expunge_controller.records import key_check, stamp_check
from expunge_controller.records.custody import CustodyKind
from expunge_controller.settings import load_config
from expunge_controller.store.sqlite import open_store
from support.controllers import now
from support.office import Office
from support.pdfs import needs_font

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
K = CustodyKind
HOUR = timedelta(hours=1)


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
    (office.folder / "seen.txt").write_bytes(office.seen)

    # A key that ends in the second in which it came never counted: the rotation may be of this very second.
    stolen = timestamp(now() + timedelta(seconds=2))
    time.sleep(3)  # what the witness signed before counts for ever
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
