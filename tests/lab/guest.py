"""One guest: a QEMU process without KVM, reached by SSH, killed like a machine whose power fails.

    with Guest(machine, folder, [Sata("sata0", Backing.make(folder, "sata0"))]) as guest:
        print(guest.run("lsblk").out)
        guest.kill()      # the power fails
        guest.boot()      # the same disks, a new start

From inside a guest the host is 10.0.2.2 (whatever listens on the host's 127.0.0.1 answers there).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from lab import image, qemu
from lab.build import Base, build, cache_folder, missing
from lab.disks import Disk, Emmc, Nvme, Ufs
from lab.qmp import Qmp

GUESTS = 2  # more than this at once and all of them crawl
BOOT_SECONDS = 120
SLOT_SECONDS = 900
NODE_SECONDS = 60  # a machine with much else to do
STATE_SIZE = 64 << 20
HOST = "10.0.2.2"  # the host, seen from a guest
SERIALS = ("ID_SERIAL_SHORT", "ID_SCSI_SERIAL", "ID_USB_SERIAL_SHORT")


class GuestError(Exception):
    """The guest did not do what was asked; holds what was said."""


@dataclass(frozen=True)
class Result:
    """A command's end in the guest."""

    command: str
    code: int
    out: str
    err: str

    def ok(self) -> Result:
        """Itself; raises GuestError if the command failed."""
        if self.code:
            raise GuestError(
                f"{self.command!r} ended with {self.code}: {self.err.strip() or self.out.strip()}"
            )
        return self


@dataclass(frozen=True)
class Machine:
    """What every guest starts from: the cached base and an initramfs with the project as it is now."""

    base: Base
    initrd: Path
    cache: Path
    image: BinaryIO
    """The initramfs, held open: others who use the cache may remove it, and a guest starts more than once."""

    @classmethod
    def make(cls, cache: Path | None = None) -> Machine:
        """Build what is missing. Raises CannotBuild."""
        cache = cache or cache_folder()
        base = build(cache)
        held = image.assemble(base, cache).open("rb")
        return cls(base, Path(f"/proc/{os.getpid()}/fd/{held.fileno()}"), cache, held)

    def close(self) -> None:
        """Let go of the initramfs: no guest starts from it any more."""
        self.image.close()


def unavailable() -> str:
    """Why no guest can run here; empty if one can."""
    return missing() or qemu.missing()


class Guest:
    """A context manager: the guest is up inside it, and its process and sockets are gone after it.

    `disks` are shown to the guest in this order; `state` adds a small ext4 disk on /var/lib/expunge, so that
    what the agent keeps outlasts `kill`. `folder` holds the serial log of all starts (`serial.log`).
    """

    def __init__(
        self,
        machine: Machine,
        folder: Path,
        disks: Sequence[Disk | Nvme | Emmc | Ufs] = (),
        *,
        name: str = "guest",
        state: bool = True,
        memory: int = 1536,
        arguments: Sequence[str] = (),
    ) -> None:
        self.machine = machine
        self.folder = folder
        self.disks = list(disks)
        self.name = name
        self.state = state
        self.memory = memory
        self.arguments = list(arguments)
        self.port = 0
        self.boot_seconds = 0.0
        self._qemu: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Guest:
        try:
            # Sockets have short names: a path of more than 107 bytes cannot be bound.
            self._run = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-")))
            self._stack.enter_context(_slot(self.machine.cache))
            self._stack.callback(self.kill)
            known = self._run / "known_hosts"
            key = self.machine.base.host_key.with_suffix(".pub").read_text().split(" ")
            known.write_text(f"lab {key[0]} {key[1]}\n")
            if self.state:
                self._make_state()
            self.boot()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def serial_log(self) -> Path:
        """What the kernel and our init said, of all starts."""
        return self.folder / "serial.log"

    @property
    def pid(self) -> int:
        """QEMU's process."""
        assert self._qemu is not None, "the guest is off"
        return self._qemu.pid

    # Power

    @property
    def on(self) -> bool:
        """Whether it has power."""
        return self._qemu is not None

    def boot(self) -> None:
        """Switch it on and wait until it answers with all disks found. Raises GuestError."""
        assert self._qemu is None, "the guest is on already"
        begun = time.monotonic()
        self.port = free_port()
        with self.serial_log.open("ab") as log:
            self._qemu = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._run
            )
        self._wait_until_ready(begun + BOOT_SECONDS)
        self.boot_seconds = time.monotonic() - begun

    def kill(self) -> None:
        """Cut the power: SIGKILL. What the guest had not yet given to its disks is lost."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None
        self._end_master()

    def reboot(self) -> None:
        """A power cut and a new start with the same disks."""
        self.kill()
        self.boot()

    def qmp(self) -> Qmp:
        """A session with QEMU itself."""
        return Qmp(self._run / "qmp")

    def unplug(self, name: str, timeout: float = 30) -> None:
        """Take the disk with this id away while the guest runs, and wait until it is gone."""
        with self.qmp() as qmp:
            qmp("device_del", id=name)
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            with self.qmp() as qmp:
                if not _has_device(qmp, name):
                    return
            time.sleep(0.1)
        raise GuestError(f"{name} is still there {timeout:.0f} s after it was pulled")

    # Commands and files

    def run(self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float = 120) -> Result:
        """Run a shell command (or a list of words) as root in the guest."""
        text = command if isinstance(command, str) else shlex.join(command)
        try:
            done = subprocess.run(
                [*self._ssh(), text], input=stdin, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"{text!r} did not end within {timeout:.0f} s{self._last_words()}") from error
        return Result(
            text,
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command and go on; its output comes through the returned process (end it yourself)."""
        return subprocess.Popen(
            [*self._ssh(), command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def spawn(self, command: str, log: str = "/run/spawn.log") -> int:
        """Start a command that outlives the session; its output goes to `log` in the guest. Returns its pid."""
        inner = f"setsid sh -c {shlex.quote(f'exec {command}')} >{log} 2>&1 </dev/null & echo $!"
        return int(self.run(inner).ok().out)

    def alive(self, pid: int) -> bool:
        """Whether this process of the guest still runs (a dead one that nobody collected does not)."""
        return self.run(f"grep -q . /proc/{pid}/cmdline").code == 0

    def get(self, path: str) -> bytes:
        """The bytes of a file in the guest."""
        done = subprocess.run([*self._ssh(), f"cat {shlex.quote(path)}"], capture_output=True, check=False)
        if done.returncode:
            raise GuestError(f"{path}: {done.stderr.decode().strip()}")
        return done.stdout

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        name = shlex.quote(path)
        self.run(f"mkdir -p $(dirname {name}) && cat >{name} && chmod {mode:o} {name}", stdin=data).ok()

    def ssh_command(self) -> list[str]:
        """The ssh command that reaches this guest; append what it shall run."""
        return self._ssh()

    # Disks by what they are, never by their node's name

    def node(self, serial: str, nsid: int = 0) -> str:
        """/dev/… of the disk with this serial number (and namespace), as udev knows it.

        Waits a moment for it: the kernel looks for namespaces after `nvme connect` has returned.
        """
        until = time.monotonic() + NODE_SECONDS
        while True:
            disks = self.block_devices()
            for path, found in disks.items():
                serials = {found.get(key) for key in SERIALS}
                if serial in serials and (not nsid or found["nsid"] == str(nsid)):
                    return path
            if time.monotonic() > until:
                raise GuestError(f"no disk with the serial {serial} (namespace {nsid}) in {disks}")
            time.sleep(0.2)

    def block_devices(self) -> dict[str, dict[str, str]]:
        """Whole disks by node, each with what udev found out and `nsid`."""
        code = (
            'for d in /sys/block/*; do echo "== ${d##*/} $(cat $d/nsid 2>/dev/null)"; '
            "sed -n s/^E://p /run/udev/data/b$(cat $d/dev) 2>/dev/null; done; :"
        )
        result: dict[str, dict[str, str]] = {}
        for line in self.run(code).ok().out.splitlines():
            if line.startswith("== "):
                _, name, *nsid = line.split(" ")
                result[f"/dev/{name}"] = current = {"nsid": nsid[0] if nsid else ""}
            elif "=" in line:
                key, value = line.split("=", 1)
                current[key] = value
        return result

    # Inside

    def _command(self) -> list[str]:
        identity = hashlib.sha256(str(self.folder / self.name).encode()).hexdigest()[:32]
        # Where the same code lies at the same address, QEMU translates it once for all processes; and a second
        # emulated processor costs more in waking each other up than it gives. Together this halves all times.
        words = f"console=ttyS0 quiet panic=-1 mitigations=off norandmaps net.ifnames=0 lab.machine={identity} lab.name={self.name}"
        # Five levels of page tables are only slower.
        command = [
            qemu.program(),
            "-machine",
            "q35",
            "-cpu",
            "max,la57=off",
            "-accel",
            "tcg,thread=multi",
        ]
        if shutil.which("setpriv"):  # the guest ends with whoever started it, whatever happens
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        command += ["-smp", "1", "-m", str(self.memory), "-nodefaults", "-display", "none", "-no-reboot"]
        command += ["-kernel", str(self.machine.base.kernel), "-initrd", str(self.machine.initrd)]
        command += ["-append", words + (" lab.state" if self.state else "")]
        command += ["-chardev", _option("file", id="serial", path=str(self.serial_log), append="on")]
        command += ["-serial", "chardev:serial", "-qmp", "unix:qmp,server=on,wait=off"]
        command += ["-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        command += ["-device", "virtio-net-pci,netdev=net0,romfile="]
        command += [
            "-device",
            "virtio-rng-pci",
            "-device",
            "virtio-scsi-pci,id=scsi0",
            "-device",
            "qemu-xhci,id=xhci",
        ]
        for slot, disk in enumerate(self.disks):
            command += disk.arguments(slot)
        if self.state:
            path = str(self.folder / f"{self.name}-state.img")
            layer = {
                "driver": "raw",
                "node-name": "state",
                "file": {"driver": "file", "filename": path, "locking": "off"},
            }
            command += [
                "-blockdev",
                json.dumps(layer),
                "-device",
                "virtio-blk-pci,drive=state,serial=labstate",
            ]
        return command + self.arguments

    def _make_state(self) -> None:
        path = self.folder / f"{self.name}-state.img"
        if path.exists():
            return
        with path.open("xb") as file:
            file.truncate(STATE_SIZE)
        program = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if program is None:
            raise GuestError("needs mkfs.ext4 (apt-get install e2fsprogs)")
        subprocess.run([program, "-q", "-F", str(path)], check=True, capture_output=True)

    def _ssh(self) -> list[str]:
        options = {
            "IdentityFile": self.machine.base.key,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self._run / "known_hosts",
            "HostKeyAlias": "lab",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ConnectTimeout": 5,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 12,
            "ControlMaster": "auto",
            "ControlPath": self._run / "ssh",
            "ControlPersist": 600,
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", *words, "-p", str(self.port), "root@127.0.0.1"]

    def _end_master(self) -> None:
        if (self._run / "ssh").exists():
            subprocess.run(
                [
                    "ssh",
                    "-F",
                    "none",
                    "-o",
                    f"ControlPath={self._run / 'ssh'}",
                    "-O",
                    "exit",
                    "root@127.0.0.1",
                ],
                capture_output=True,
                check=False,
            )

    def _wait_until_ready(self, until: float) -> None:
        while time.monotonic() < until:
            if self._qemu is None or self._qemu.poll() is not None:
                raise GuestError(f"QEMU ended{self._last_words()}")
            if _answers(self.port) and self.run("test -e /run/lab-ready", timeout=30).code == 0:
                return
            time.sleep(0.2)
        raise GuestError(f"the guest was not ready within {BOOT_SECONDS} s{self._last_words()}")

    def _last_words(self) -> str:
        with suppress(OSError):
            text = self.serial_log.read_bytes()[-2000:].decode("utf-8", "replace").strip()
            return f"; the end of its serial log:\n{text}"
        return ""


def _option(kind: str, **options: str) -> str:
    """An argument in QEMU's comma style; a comma in a value is doubled."""
    return ",".join([kind, *(f"{name}={value.replace(',', ',,')}" for name, value in options.items())])


def _has_device(qmp: Qmp, name: str) -> bool:
    return any(each["name"] == name for each in qmp("qom-list", path="/machine/peripheral"))


def free_port() -> int:
    """A port of the host's loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    """Whether sshd has said its first words (QEMU itself accepts at once)."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
        return probe.recv(4) == b"SSH-"
    return False


@contextmanager
def _slot(cache: Path) -> Iterator[None]:
    """One of the few places for guests on this machine; waits for it."""
    files = [(cache / f"guest-{number}.lock").open("a") for number in range(GUESTS)]
    until = time.monotonic() + SLOT_SECONDS
    try:
        while time.monotonic() < until:
            for file in files:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield
                    return
            time.sleep(0.5)
        raise GuestError(f"{GUESTS} guests are running already; waited {SLOT_SECONDS} s for one to end")
    finally:
        for file in files:
            file.close()
