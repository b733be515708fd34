"""A real controller on the host, an agent on a machine with drives: from the order to a bundle that an auditor checks.

The guest is set up as docs/operator-guide.md says for a machine that the controller dials: an account that can do
nothing else answers as a forced command of sshd, and what systemd's units start (which the guest has not) is started
by a loop: `expunge-agent run --pending`, as root.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.build import ROOT
from lab.disks import MIB, Backing, Sata
from lab.drives.nvme_served import Served
from lab.guest import HOST, Guest, Machine, free_port
from lab.orders import receipts
from lab.report import Report

RECORD = b"RECORD-OF-A-CUSTOMER"
SIZE = 4
"""MiB of each drive."""
IMPATIENT = "--patience 8 --absence 3 --erase-timeout 30"
PROFILE = """
id = "only-block"
version = 1
title = "Block erase of an NVMe drive"
level = "purge"
authority = "the laboratory"
status = "current"
source = "written for one test"
advice = "for one test"
media = ["ssd"]
techniques = ["nvme-sanitize-block"]
[verification]
kind = "sampled"
after = "last"
rule = "nist-800-88r1"
"""


class Console:
    """Types `expunge` commands of the controller in `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def words(self, *args: str) -> list[str]:
        """The command as a list of words."""
        return [sys.executable, "-m", "expunge_controller", "--home", str(self.home), *args]

    def type(self, *args: str, code: int | None = 0) -> str:
        """Standard output of the command, which has to end with `code`."""
        done = subprocess.run(
            self.words(*args),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
        said = f"expunge {' '.join(args)}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        assert code is None or done.returncode == code, said
        assert "Traceback" not in done.stderr, said
        return done.stdout

    def json(self, *args: str) -> Any:
        """What it prints with --json."""
        return json.loads(self.type(*args, "--json"))


@dataclass
class Site:
    """One machine of a controller's, and a SATA disk in it."""

    guest: Guest
    console: Console
    folder: Path
    sata: Backing

    @contextmanager
    def nvme(self, serial: str, *faults: str) -> Iterator[Served]:
        """A simulated NVMe drive full of records, in the machine."""
        options = ["--size", str(SIZE), "--serial", serial, "--block-seconds", "4", "--crypto-seconds", "4"]
        drive = Served(self.folder, *options, name=serial)
        drive.image.write_bytes(((RECORD + b"\n") * (SIZE << 16))[: SIZE << 20])
        with drive:
            self.guest.run(drive.connect_command(HOST)).ok()
            try:
                self.guest.node(serial, 1)
                for fault in faults:
                    drive.control(f"fault {fault} on")
                yield drive
            finally:
                self.guest.run(f"nvme disconnect -n {drive.nqn}")

    def order(self, serial: str, profile: str, code: int) -> dict[str, Any]:
        """`expunge wipe`, followed to its end; what it says of the result. It has to end with `code`."""
        told = self.console.type("wipe", "ws1", serial, "--profile", profile, "--yes", "--json", code=None)
        assert told, self.said()
        result: dict[str, Any] = json.loads(told.splitlines()[-1])
        assert result.get("exit_code") == code, f"{result}\n{self.said()}"
        return result

    def bundle(self, order_id: str) -> dict[str, Any]:
        """The receipt in the bundle of an order, which `expunge verify` accepts."""
        path = self.folder / f"{order_id}.zip"
        self.console.type("export", order_id, "--output", str(path))
        self.console.type("verify", str(path))
        with zipfile.ZipFile(path) as archive:
            return dict(json.loads(archive.read("receipt.json"))["predicate"])

    def said(self) -> str:
        """The end of the log of the root part."""
        return self.guest.run("tail -n 20 /run/root-part.log").out


def as_installed(guest: Guest) -> None:
    """The account `expunge`, and the folders as systemd-tmpfiles makes them; again after the enrolment."""
    steps = [
        "id expunge >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/lib/expunge --shell /bin/sh expunge",
        "usermod -p '*' expunge",
    ]
    for line in (ROOT / "systemd/tmpfiles.d/expunge.conf").read_text().splitlines():
        if line.startswith(("d ", "z ")):
            kind, path, mode, user, group, *_ = line.split()
            make = f"mkdir -p {path} && " if kind == "d" else f"test ! -e {path} || "
            steps.append(f"{make}{{ chown {user}:{group} {path} && chmod {mode} {path}; }}")
    guest.run(" && ".join(f"{{ {step}; }}" for step in steps)).ok()


@pytest.fixture(scope="module")
def site(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    sata = Backing.make(folder, "sata", 8 * MIB)
    sata.fill()
    console = Console(folder / "controller")
    console.type("init", "--name", "lab")
    with Guest(machine, folder, [Sata("sata", sata, "SATASERIAL")]) as guest:
        host_key = machine.base.host_key.with_suffix(".pub")
        asked = console.json(
            "enrol", "ws1", "--ssh", f"expunge@127.0.0.1:{guest.port}", "--host-key", str(host_key)
        )
        as_installed(guest)
        guest.put("/var/lib/expunge/.ssh/authorized_keys", asked["authorized_keys"].encode() + b"\n")
        guest.run(asked["command"]).ok()
        as_installed(guest)
        spool = "ls -A /var/lib/expunge/spool | grep -q ."
        loop = f"while :; do {spool} && expunge-agent run --pending {IMPATIENT}; sleep 0.5; done"
        guest.spawn(f"sh -c {shlex.quote(loop)}", "/run/root-part.log")
        console.type("enrol", "ws1", "--connect")
        yield Site(guest, console, folder, sata)


def test_the_controller_sees_the_drives(site: Site, lab_report: Report) -> None:
    with site.nvme("SEEN0001"):
        items = site.console.json("inventory", "ws1")["items"]
        serials = {item["identity"].get("serial"): item for item in items}
    assert {"SEEN0001", "SATASERIAL"} <= set(serials)
    # The account may not open a drive, but root carries the orders out: no reason against it.
    assert serials["SEEN0001"]["blocked"] == []
    assert serials["SEEN0001"]["can"] == ""
    assert serials["labstate"]["blocked"]
    lab_report.row("inventory, asked over SSH", "NVMe and SATA", "", "seen", "the system's disk is kept back")


def test_purge_from_the_order_to_a_verified_bundle(site: Site, lab_report: Report) -> None:
    with site.nvme("PURGE001") as drive:
        assert RECORD in drive.image.read_bytes()
        result = site.order("PURGE001", "nist-purge", code=0)
        left = drive.image.read_bytes().count(RECORD)
    lab_report.row(
        "nist-purge, by a controller over SSH", "NVMe", "", result["outcome"], f"{left} records left"
    )
    assert (result["outcome"], left) == ("sanitized", 0)
    receipt = site.bundle(result["order_id"])
    assert receipt["level_achieved"] == "purge"
    assert receipt["targets"][0]["technique"] == "nvme-sanitize-crypto"
    (number,) = result["certificates"]
    certificate = json.loads(site.console.type("certificate", number, "--json"))
    done = certificate["sanitization"]
    assert (done["level_achieved"], done["technique"]) == ("purge", "nvme-sanitize-crypto")
    assert done["erasure"]
    page = re.sub(r"<[^>]*>", " ", site.console.type("certificate", number, "--html"))
    assert "PURGE001" in page
    assert "cryptographic erase: NVMe Sanitize, Crypto Erase" in page
    assert re.search(r"Level achieved\s+\S+\s+purge\b", page)


def test_clear_of_a_sata_disk(site: Site, lab_report: Report) -> None:
    result = site.order("SATASERIAL", "nist-clear", code=0)
    left = len(site.sata.remains())
    lab_report.row(
        "nist-clear, by a controller over SSH", "SATA", "", result["outcome"], f"{left} sectors left"
    )
    assert (result["outcome"], left, site.sata.nonzero()) == ("sanitized", 0, 0)
    assert site.bundle(result["order_id"])["level_achieved"] == "clear"


@pytest.mark.parametrize(
    ("fault", "profile"), [("lies-success", "nist-purge"), ("fails-at-40", "only-block")]
)
def test_a_lying_drive_has_failed_on_both_sides(
    site: Site, lab_report: Report, fault: str, profile: str
) -> None:
    for folder in (site.console.home / "profiles", None):
        if profile == "only-block" and folder is not None:
            folder.mkdir(exist_ok=True)
            (folder / "only-block.toml").write_text(PROFILE)
            site.guest.put("/var/lib/expunge/profiles/only-block.toml", PROFILE.encode())
    serial = f"LIAR{profile[-4:].upper()}"
    with site.nvme(serial, fault) as drive:
        result = site.order(serial, profile, code=4)
        left = drive.image.read_bytes().count(RECORD)
    lab_report.row(
        f"{profile}, by a controller over SSH", "NVMe", fault, result["outcome"], f"{left} records left"
    )
    assert left > 0
    assert (result["outcome"], result["certificates"]) == ("failed", [])
    told = receipts(site.guest)[-1]
    assert (told["outcome"], told["level_achieved"]) == ("failed", "none")
    (job,) = [job for job in site.console.json("jobs") if job["order_id"] == result["order_id"]]
    assert job["outcome"] == "failed"
    site.console.type("certificate", result["order_id"], code=18)
    assert site.bundle(result["order_id"])["level_achieved"] == "none"


def test_a_refusal_comes_back_signed(site: Site, lab_report: Report) -> None:
    """A disk that a hypervisor makes up has no purge: nothing is written, and the receipt says why."""
    before = site.sata.digest()
    result = site.order("SATASERIAL", "nist-purge", code=3)
    lab_report.row("nist-purge, by a controller over SSH", "no drive of its own", "", result["outcome"], "")
    assert site.sata.digest() == before
    (target,) = receipts(site.guest)[-1]["targets"]
    assert target["refusal"]["reason"] == "profile-not-applicable"


def test_an_agent_that_dials(site: Site, lab_report: Report, tmp_path: Path) -> None:
    """The other way round: `expunge-agent serve --dial --run-orders` towards a controller that listens."""
    console, port = Console(tmp_path / "controller"), free_port()
    console.type("init", "--name", "lab2", "--address", HOST, "--port", str(port))
    with (tmp_path / "serve.log").open("wb") as log:
        server = subprocess.Popen(console.words("serve"), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    pid = 0
    try:
        token = console.json("enrol", "ws1")["token"]
        agent = "expunge-agent --state /run/agent-2"
        site.guest.run(f"for i in 1 2 3 4 5; do {agent} enrol {token} && exit; sleep 1; done; exit 1").ok()
        pid = site.guest.spawn(f"{agent} serve --dial --run-orders", "/run/dial.log")
        with site.nvme("DIALS001") as drive:
            other = Site(site.guest, console, tmp_path, site.sata)
            result = other.order("DIALS001", "nist-purge", code=0)
            left = drive.image.read_bytes().count(RECORD)
        lab_report.row(
            "nist-purge, by an agent that dials", "NVMe", "", result["outcome"], f"{left} records left"
        )
        assert (result["outcome"], left) == ("sanitized", 0)
        assert other.bundle(result["order_id"])["level_achieved"] == "purge"
    finally:
        if pid:
            site.guest.run(f"kill {pid}")
        server.terminate()
        server.wait(10)
