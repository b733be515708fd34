"""One function a tool: how it is asked to do a job, and how it says how long the work itself took.

Every tool ends only when its data is durable (fsync), and starts on a target that exists already.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Command, Run, ToolFailedError, run
from targets import MIB, Target

PACKAGES = {
    "fio": "fio",
    "nwipe": "nwipe",
    "shred": "coreutils",
    "scrub": "scrub",
    "dd": "coreutils",
    "openssl": "openssl",
    "age": "age",
}
FASTEST_PRNG = ("splitmix64", "xoroshiro256_prng", "add_lagg_fibonacci_prng", "isaac64", "twister")
"""nwipe's generators, fastest first by its own --prng-benchmark; the first that it offers is used."""

_UNTOLD = "version not told"
_ASKED = {"openssl": "version", "nwipe": "-V"}
KEYED, CHECKED = "bench-keyed", "bench-keyed-verified"
WIPED = (0, 5)
"""Exit codes of a wipe whose passes came to their end; 5: nothing was read back, so nothing is earned."""
_PROFILE = """\
id = "{id}"
version = 1
title = "Benchmark: one keyed stream"
level = "clear"
authority = "benchmark only"
status = "current"
source = "bench/peers.py"
advice = "For measuring; not for media that leave service."
media = ["hdd", "ssd", "file", "virtual", "memory"]
seal = true
[verification]
{verification}
[[pass]]
keyed-stream = true
"""


@dataclass(frozen=True)
class Job:
    """Steps one after the other, each of commands that run at once; `inside` reads seconds from the output."""

    steps: Sequence[Sequence[Command]]
    jail: tuple[Path, ...] = ()
    inside: Callable[[str], float | None] = lambda _: None
    good: Sequence[int] = (0,)

    def measure(self, log: Path) -> Run:
        """Do it. Raises ToolFailedError."""
        total: Run | None = None
        for step in self.steps:
            done = run(step, log, self.jail, self.good)
            done = Run(done.seconds, done.cpu, done.peak, done.output, self.inside(done.output))
            total = done if total is None else total.then(done)
        if total is None:
            raise ValueError("a job without a step")
        return total


@dataclass(frozen=True)
class Tools:
    """The peers that are there, by name."""

    paths: dict[str, str]
    nwipe_help: str = ""

    @classmethod
    def find(cls, nwipe: str = "") -> Tools:
        """Look on PATH; `nwipe` may name a newer build."""
        paths = {name: found for name in PACKAGES if (found := shutil.which(name))}
        if nwipe:
            paths["nwipe"] = nwipe
        text = _said(paths["nwipe"], "--help") if "nwipe" in paths else ""
        return cls(paths, text)

    def missing(self) -> list[str]:
        """A line for each tool that is not there."""
        return [
            f"{name} is missing (Debian package {package}); its rows are left out"
            for name, package in PACKAGES.items()
            if name not in self.paths
        ]

    def versions(self) -> dict[str, str]:
        """What each says it is."""
        told = {name: _said(path, _ASKED.get(name, "--version")) for name, path in self.paths.items()}
        found = {name: (text.strip().splitlines() or [_UNTOLD])[0] for name, text in told.items()}
        return {**found, "nwipe's generator": self.prng} if "nwipe" in found else found

    @property
    def prng(self) -> str:
        """The generator nwipe is run with."""
        return next((name for name in FASTEST_PRNG if re.search(rf"\b{name}\b", self.nwipe_help)), "twister")

    def fio(self, work: str, targets: Sequence[Target]) -> Job:
        """The limit: libaio, queue depth 4, 1 MiB, direct; `work` is random, zeros or read."""
        command = [self.paths["fio"], "--output-format=json", "--ioengine=libaio", "--iodepth=4", "--bs=1M"]
        command += ["--direct=1", "--fallocate=none", "--allow_file_create=0"]
        command += ["--rw=read"] if work == "read" else ["--rw=write", "--end_fsync=1", "--overwrite=1"]
        command += ["--zero_buffers=1"] if work == "zeros" else []
        for number, target in enumerate(targets):
            command += [f"--name=job{number}", f"--filename={target.path}", f"--size={target.size}"]
        return Job([[command]], _nodes(targets), _fio_seconds)

    def fio_write_read(self, targets: Sequence[Target]) -> Job:
        """Write, then read, as two processes."""
        write, read = self.fio("random", targets), self.fio("read", targets)
        return Job([*write.steps, *read.steps], write.jail, _fio_seconds)

    def nwipe(self, work: str, targets: Sequence[Target], log: Path, *, verify: bool = False) -> Job:
        """One pass of `work` (random or zeros) and no final blanking.

        `--autonuke` with device paths wipes only those (main() in nwipe.c scans for devices only when
        none was given). Beyond that it sees no others: it runs with a private /dev.
        """
        if not targets or not all(target.block for target in targets):
            raise ToolFailedError("nwipe is given block devices only, and never none")
        command = [self.paths["nwipe"], "--autonuke", "--nogui", "--nowait", "--noblank", "--rounds=1"]
        command += [f"--method={'zero' if work == 'zeros' else 'random'}"]
        command += [f"--verify={'last' if verify else 'off'}", f"--logfile={log}", f"--prng={self.prng}"]
        command += ["--PDFreportpath=noPDF"] if "PDFreportpath" in self.nwipe_help else []
        command += ["--directio"] if "--directio" in self.nwipe_help else []
        return Job([[[*command, *(str(target.path) for target in targets)]]], _nodes(targets))

    def shred(self, work: str, target: Target) -> Job:
        """One pass: `-n1`, or for zeros `-n0 -z`. Through the page cache, with fdatasync at the end."""
        passes = ["-n0", "-z"] if work == "zeros" else ["-n1"]
        return Job([[[self.paths["shred"], *passes, "-x", str(target.path)]]], _nodes([target]))

    def scrub(self, work: str, target: Target) -> Job:
        """One pass (fillzero or random), no signature."""
        pattern = "fillzero" if work == "zeros" else "random"
        return Job(
            [[[self.paths["scrub"], "-R", "-f", "-S", "-p", pattern, str(target.path)]]], _nodes([target])
        )

    def dd(self, work: str, target: Target) -> Job:
        """From /dev/urandom or /dev/zero, 1 MiB, direct."""
        source = "/dev/zero" if work == "zeros" else "/dev/urandom"
        return Job([[[self.paths["dd"], f"if={source}", *_dd_out(target)]]], _nodes([target]))

    def openssl(self, target: Target) -> Job:
        """AES-256-CTR of zeros through a pipe into dd."""
        key, start = secrets.token_hex(32), secrets.token_hex(16)
        script = (
            '"$0" enc -aes-256-ctr -nosalt -K "$1" -iv "$2" -in /dev/zero 2>/dev/null | { shift 2; "$@"; }'
        )
        out = [self.paths["dd"], *_dd_out(target)]
        return Job([[["sh", "-c", script, self.paths["openssl"], key, start, *out]]], _nodes([target]))


class Agent:
    """Ours: ``expunge-agent`` with a state folder of its own in the bench's folder."""

    def __init__(self, program: Path, folder: Path) -> None:
        """`folder`: an empty one for state and receipts."""
        self.program = program
        self._folder = folder
        self._base = [str(program), "--state", str(folder / "state")]
        own = folder / "state/profiles"
        own.mkdir(parents=True)
        for name, verification in ((KEYED, 'kind = "none"'), (CHECKED, 'kind = "full"\nafter = "last"')):
            (own / f"{name}.toml").write_text(_PROFILE.format(id=name, verification=verification))

    def wipe(self, profile: str, targets: Sequence[Target]) -> Job:
        """One order over all `targets`."""
        return Job([[self._wipe(profile, targets)]], inside=self._seconds, good=WIPED)

    def wipe_apart(self, profile: str, targets: Sequence[Target]) -> Job:
        """One process a target, all at once: what a scheduler could gain."""
        return Job([[self._wipe(profile, [target]) for target in targets]], good=WIPED)

    def verify(self, target: Target, receipt: Path) -> Job:
        """Read all of `target` back and compare it with what `receipt` says was left there."""
        return self.call("verify", str(target.path), "--receipt", str(receipt))

    def call(self, *arguments: str) -> Job:
        """Anything else."""
        return Job([[[*self._base, *arguments]]])

    def receipt(self, output: str) -> Path:
        """A copy of the receipt that `expunge-agent wipe` announced in `output`, its signature beside it."""
        found = re.search(r"^Receipt (\d+):", output, re.MULTILINE)
        if found is None:
            raise ToolFailedError("expunge-agent named no receipt")
        folder = self._folder / f"receipt-{found[1]}"
        self.call("report", found[1], "--out", str(folder)).measure(self._folder / "report.log")
        return folder / "receipt.json"

    def _seconds(self, output: str) -> float | None:
        """The time in passes and verifications, as the receipt has it; of several targets it has no total."""
        results = json.loads(self.receipt(output).read_bytes())["predicate"]["targets"]
        if len(results) != 1:
            return None
        return (
            sum(int(one["duration_ms"]) for kind in ("passes", "verifications") for one in results[0][kind])
            / 1000
        )

    def _wipe(self, profile: str, targets: Sequence[Target]) -> Command:
        return [*self._base, "wipe", *(str(one.path) for one in targets), "--profile", profile, "--yes"]


def _fio_seconds(output: str) -> float:
    """The longest job's run time, writing (with the final fsync) or reading."""
    report = json.loads(output[output.index("{") :])
    return max(int(job[way]["runtime"]) for job in report["jobs"] for way in ("read", "write")) / 1000


def _dd_out(target: Target) -> list[str]:
    count = target.size // MIB
    return [
        f"of={target.path}",
        "bs=1M",
        f"count={count}",
        "iflag=fullblock",
        "oflag=direct",
        "conv=fsync,notrunc",
    ]


def _nodes(targets: Sequence[Target]) -> tuple[Path, ...]:
    """The devices a tool may see; none for files, which need no private /dev."""
    return tuple(target.path for target in targets if target.block)


def _said(*command: str) -> str:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout or done.stderr)
