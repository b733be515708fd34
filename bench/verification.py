"""How fast evidence is checked: ``python bench/verification.py``. Receipts one by one beside ssh-keygen, and whole bundles."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from expunge_agent.protocol import sshsig, trust
from expunge_agent.protocol.receipt import parse_statement
from expunge_controller.bundle_read import check_bundle
from expunge_controller.records.consistency import evidence_problems
from expunge_controller.records.findings import failures
from expunge_profiles.load import builtin

PROFILE = "random-verified"


def main() -> int:
    """0 when everything was measured and every check passed."""
    parser = argparse.ArgumentParser(prog="bench/verification.py", description="Measure the checks.")
    parser.add_argument("--receipts", type=int, default=10_000, help="how many checks of a receipt (10000)")
    parser.add_argument("--peer", type=int, default=200, help="how many runs of ssh-keygen (200)")
    parser.add_argument("--bundle", type=Path, help="a bundle to check as well, such as the demo's")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="expunge-verification-") as folder:
        receipts(Path(folder), asked.receipts, asked.peer)
    return bundles(asked.bundle) if asked.bundle is not None else 0


def receipts(folder: Path, count: int, peer: int) -> None:
    """A real receipt, checked over and over: its signature, then its claims against its evidence too."""
    image = folder / "disk.img"
    image.write_bytes(b"record " * 9362)
    agent = [sys.executable, "-m", "expunge_agent", "--state", str(folder / "state")]
    subprocess.run(
        [*agent, "wipe", str(image), "--profile", PROFILE, "--yes"], check=True, capture_output=True
    )
    subprocess.run([*agent, "report", "1", "--out", str(folder / "out")], check=True, capture_output=True)
    body = (folder / "out/receipt.json").read_bytes()
    signature = (folder / "out/receipt.json.sig").read_bytes()
    line = sshsig.verify(signature, sshsig.RECEIPT_NAMESPACE, body)
    principal = f"agent:{parse_statement(body).predicate.agent.machine_id}"
    signer = trust.TrustedSigner(
        principal=principal, namespaces=(sshsig.RECEIPT_NAMESPACE,), public_line=line
    )
    profile = builtin()[PROFILE]

    def whole() -> None:
        trust.verify([signer], sshsig.RECEIPT_NAMESPACE, body, signature)
        if evidence_problems(parse_statement(body).predicate, profile):
            raise SystemExit("the receipt does not check out")

    alone = rate(lambda: trust.verify([signer], sshsig.RECEIPT_NAMESPACE, body, signature), count)
    full = rate(whole, count)
    (folder / "signers").write_text(trust.format_allowed_signers([signer]))
    stock = ["ssh-keygen", "-Y", "verify", "-f", str(folder / "signers"), "-I", principal]
    stock += ["-n", sshsig.RECEIPT_NAMESPACE, "-s", str(folder / "out/receipt.json.sig")]
    theirs = rate(lambda: subprocess.run(stock, input=body, check=True, capture_output=True), peer)
    say(
        f"signatures of receipts ({len(body):,} bytes)",
        f"{alone:,.0f}/s, {alone / theirs:,.0f} times ssh-keygen's {theirs:,.0f}/s",
    )
    say("signature, form, and claims against evidence", f"{full:,.0f}/s")


def bundles(path: Path) -> int:
    """Whole bundles: every step."""
    profiles = {profile.digest: profile for profile in builtin().values()}
    failed = failures(check_bundle(path, None, profiles))
    say(
        f"whole bundles ({path.stat().st_size:,} bytes)",
        f"{rate(lambda: check_bundle(path, None, profiles), 50):,.0f}/s",
    )
    print(json.dumps([step.title for step in failed]) if failed else "every step passed or was skipped")
    return 1 if failed else 0


def rate(work: Callable[[], object], count: int) -> float:
    """How often a second `work` is done."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return count / (time.perf_counter() - began)


def say(what: str, figure: str) -> None:
    """One line of the report."""
    print(f"{what:<52}{figure}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
