"""``make demo``: the main job for real, from a fresh controller to a bundle an auditor can check.

Works in ``.demo`` (or ``DEMO_DIR``) without root: a controller and an agent as two programs on
loopback, and a disk image as the medium. Every command is shown as a user would type it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from records import count_records, write_image
from rich.console import Console
from rich.table import Table

SIZE = 256 * 1024 * 1024
MARKER = ".expunge-demo"
BIN = Path(sys.executable).parent
CONSOLE = Console(highlight=False, markup=False, emoji=False)


class DemoError(Exception):
    """A step did not do what it should."""


class Demo:
    """The folder of the demo, its two programs, and the commands typed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.controller = folder / "controller"
        self.agent = folder / "agent"
        self.image = folder / "disk.img"
        self.bundle = folder / "bundle.zip"
        self.processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.rows: list[tuple[str, str]] = []

    def prepare(self) -> None:
        """An empty folder of our own; anything else in its place is left alone."""
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / MARKER).exists():
                raise DemoError(
                    f"{self.folder} is not empty and not of an earlier demo; choose another DEMO_DIR."
                )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARKER).write_text("made by `make demo`; it may be deleted\n")
        free = shutil.disk_usage(self.folder).free
        if free < 2 * SIZE:
            raise DemoError(
                f"The demo needs {2 * SIZE >> 20} MiB in {self.folder}; {free >> 20} MiB are free."
            )

    def expunge(self, *args: str, show: bool = True) -> subprocess.CompletedProcess[str]:
        """Type an ``expunge`` command; its output goes to the screen, or is returned if not shown."""
        return self._type(["expunge", "--home", str(self.controller), *args], show)

    def expunge_agent(self, *args: str, show: bool = True) -> subprocess.CompletedProcess[str]:
        """Type an ``expunge-agent`` command."""
        return self._type(["expunge-agent", "--state", str(self.agent), *args], show)

    def start(self, name: str, *command: str) -> None:
        """Start a program of the demo; what it logs goes to ``NAME.log``."""
        self._echo([*command, "&"])
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.processes.append((name, process))

    def wait_until(self, what: str, condition: str, *args: str) -> None:
        """Ask ``expunge ARGS --json`` until `condition` stands in the answer."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for name, process in self.processes:
                if process.poll() is not None:
                    raise DemoError(f"The {name} ended early; see {self.folder / name}.log")
            if (
                condition
                in self._run([str(BIN / "expunge"), "--home", str(self.controller), *args, "--json"]).stdout
            ):
                return
            time.sleep(0.3)
        raise DemoError(f"Waited in vain until {what}.")

    def stop(self) -> None:
        """End the programs that this demo started."""
        for _, process in reversed(self.processes):
            process.terminate()
        for _, process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def shell(self, command: str) -> None:
        """Run one line as a shell would, in the demo's folder."""
        CONSOLE.print(f"$ {command}", style="bold cyan", soft_wrap=True)
        if (
            subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=self.folder, check=False).returncode
            != 0
        ):
            raise DemoError("That command should have succeeded.")

    def _type(self, command: list[str], show: bool) -> subprocess.CompletedProcess[str]:
        self._echo(command)
        real = [str(BIN / command[0]), *command[1:]]
        sys.stdout.flush()
        done = subprocess.run(real, check=False, text=True) if show else self._run(real)
        if done.returncode != 0:
            raise DemoError(
                f"{command[0]} {command[3]} ended with exit code {done.returncode}. {done.stderr or ''}"
            )
        return done

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, check=False, text=True, capture_output=True)

    def _echo(self, command: list[str]) -> None:
        text = " ".join(word if word == "&" else shlex.quote(word) for word in command)
        CONSOLE.print(f"$ {text if len(text) < 400 else text[:200] + '…'}", style="bold cyan", soft_wrap=True)


def title(number: int, text: str) -> None:
    """Say what comes next."""
    CONSOLE.print(f"\n{number}. {text}", style="bold")


def run(demo: Demo) -> None:
    """The seven steps."""
    title(1, "A controller in a folder of its own: keys, database, SSH endpoint on loopback")
    demo.expunge("init", "--name", "demo", "--port", "0")
    demo.start("controller", "expunge", "--home", str(demo.controller), "serve")

    title(2, "An agent as a separate program, enrolled with a one-time token; it dials the controller")
    token = json.loads(demo.expunge("enrol", "workstation-7", "--json", show=False).stdout)["token"]
    _wait_for_endpoint(demo)
    demo.expunge_agent("enrol", token)
    demo.start("agent", "expunge-agent", "--state", str(demo.agent), "serve", "--dial", "--run-orders")
    demo.wait_until("the agent has called in", '"last_seen": "2', "machines")
    demo.expunge("machines")

    title(3, f"A disk image of {SIZE >> 20} MiB full of recognisable records, registered as a medium")
    records = write_image(demo.image, SIZE)
    before = count_records(demo.image)
    CONSOLE.print(f"{demo.image}: {records:,} records written, {before:,} found by searching for them")
    if before != records:
        raise DemoError("The search does not find what was written, so it would prove nothing later.")
    demo.expunge(
        "media",
        "register",
        "workstation-7",
        str(demo.image),
        "--property-number",
        "INV-0042",
        "--classification",
        "personal",
    )

    title(4, "The wipe: two passes, one of them a keyed random stream, then everything is read back")
    began = time.monotonic()
    demo.expunge(
        "wipe", "workstation-7", str(demo.image), "--profile", "random-verified",
        "--case", "CASE-2026-001", "--reason", "leaves service", "--yes",
    )  # fmt: skip
    seconds = time.monotonic() - began

    title(5, "The receipt came over SSH and was checked; custody and certificate are written; the bundle")
    (job,) = json.loads(demo.expunge("jobs", "--json", show=False).stdout)
    order = job["order_id"]
    demo.expunge("receipts")
    demo.expunge("custody", "INV-0042")
    _approve(demo, order)
    demo.expunge("certificate", order, "--output", str(demo.folder / "certificate"))
    demo.expunge("export", order, "--output", str(demo.bundle))

    title(6, "The proof: our verifier, stock ssh-keygen alone, and the search for the records")
    demo.expunge("verify", str(demo.bundle))
    _stock_tools(demo)
    after = count_records(demo.image)
    CONSOLE.print(f"{demo.image}: {after:,} of {records:,} records found")
    if after:
        raise DemoError("Records are still there.")
    _summary(demo, records, after, seconds)


def _wait_for_endpoint(demo: Demo) -> None:
    """Until the controller's log says that it listens."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if "serving" in (demo.folder / "controller.log").read_text():
            return
        if demo.processes[0][1].poll() is not None:
            break
        time.sleep(0.1)
    raise DemoError(f"The controller did not start; see {demo.folder}/controller.log")


def _approve(demo: Demo, order: str) -> None:
    """A person's decision, signed with a key of their own; without ssh-keygen under a name only, and shown as such."""
    shown = demo.expunge("certificate", order, "--json", show=False).stdout
    number = json.loads(shown)["number"]
    if shutil.which("ssh-keygen") is None:
        demo.expunge("certificate", "approve", number, "--by", "somebody trying the demo", "--name-only")
        return
    key = demo.folder / "validator"
    demo.shell(f"ssh-keygen -q -t ed25519 -N '' -C demo -f {key.name}")
    demo.expunge("people", "add", "validator", "--key", f"{key}.pub", "--role", "validator")
    demo.expunge("certificate", "approve", number, "--by", "validator", "--key", str(key))


def _stock_tools(demo: Demo) -> None:
    """The receipt's signature, with OpenSSH's own program and nothing of ours."""
    if shutil.which("ssh-keygen") is None:
        CONSOLE.print("skipped: ssh-keygen is not installed (package openssh-client)", style="yellow")
        return
    unpacked = demo.folder / "bundle"
    with zipfile.ZipFile(demo.bundle) as archive:
        archive.extractall(unpacked)
    agent = json.loads((unpacked / "receipt.json").read_bytes())["predicate"]["agent"]["machine_id"]
    demo.shell(
        "cd bundle && ssh-keygen -Y verify -f trust/allowed_signers "
        f"-I agent:{agent} -n expunge-receipt -s receipt.json.sig < receipt.json"
    )


def _summary(demo: Demo, records: int, after: int, seconds: float) -> None:
    receipt = (
        json.loads((demo.folder / "bundle" / "receipt.json").read_bytes())["predicate"]
        if (demo.folder / "bundle").exists()
        else json.loads(zipfile.ZipFile(demo.bundle).read("receipt.json"))["predicate"]
    )
    (target,) = receipt["targets"]
    title(7, "What happened")
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("what")
    table.add_column("result")
    table.add_column("throughput", justify="right")
    for one in target["passes"]:
        table.add_row(
            f"pass {one['index'] + 1}: {one['pattern']}", f"{int(one['bytes_written']):,} bytes", _rate(one)
        )
    for one in target["verifications"]:
        wrong = int(one["mismatched_bytes"]) + int(one["unreadable_bytes"])
        read = f"{int(one['bytes_read']):,} bytes read, {wrong} wrong"
        table.add_row(f"verification of pass {one['of_pass'] + 1}", read, _rate(one, "bytes_read"))
    table.add_row(
        "outcome", f"{receipt['outcome']}, level {receipt['level_achieved']}", f"{seconds:.1f} s in all"
    )
    table.add_row("records found", f"{records:,} before, {after} after", "")
    CONSOLE.print(table)
    files = Table(show_edge=False, pad_edge=False, show_header=False)
    for what, path in (
        ("image", demo.image),
        ("controller", demo.controller),
        ("certificate", demo.folder / "certificate"),
        ("bundle", demo.bundle),
        ("logs", demo.folder / "controller.log"),
    ):
        files.add_row(what, str(path))
    CONSOLE.print(files)
    CONSOLE.print("\nTry next:", style="bold")
    for command in (
        f"unzip -p {demo.bundle} README.txt",
        f"{BIN}/expunge-agent verify {demo.image} --receipt {demo.folder}/bundle/receipt.json",
        f"{BIN}/expunge --home {demo.controller} profiles list",
        f"{BIN}/expunge-agent --state {demo.agent} inventory",
    ):
        CONSOLE.print(f"  {command}", soft_wrap=True)


def _rate(step: dict[str, str], key: str = "bytes_written") -> str:
    return f"{int(step[key]) / 1e3 / max(int(step['duration_ms']), 1):,.0f} MB/s"


@contextlib.contextmanager
def cleaned_up(demo: Demo) -> Iterator[None]:
    """Whatever happens, no program of the demo is left behind."""

    def leave(*_: object) -> NoReturn:
        sys.exit(130)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
    try:
        yield
    finally:
        demo.stop()


def main() -> None:
    """Run the demo; exit code 1 with a sentence if a step fails."""
    demo = Demo(Path(os.environ.get("DEMO_DIR", ".demo")).absolute())
    began = time.monotonic()
    try:
        demo.prepare()
        with cleaned_up(demo):
            run(demo)
    except DemoError as error:
        CONSOLE.print(f"demo: {error}", style="bold red")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    CONSOLE.print(
        f"\nDone in {time.monotonic() - began:.0f} s; no process is left running.", style="bold green"
    )


if __name__ == "__main__":
    main()
