"""The initramfs of a guest: the cached base, the cached dependencies, and everything of the project made fresh."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from lab.build import HERE, ROOT, Base, CannotBuild, compiles_for, dependencies, precompile
from lab.cpio import Cpio

WHEEL, TESTS = "opt/expunge/wheel", "opt/expunge/tests/lab"
KEPT = 4  # images of a few hundred megabytes each
# Simulated drives all hang on the one host adapter or network, and here many are to be at work at once.
AGENT = """#!/bin/sh
export EXPUNGE_ERASING_PER_CONTROLLER=${EXPUNGE_ERASING_PER_CONTROLLER:-0}
exec /usr/bin/python3 -c 'import sys; from expunge_agent.cli import main; sys.exit(main())' "$@"
"""
SSHD = """HostKey /etc/ssh/lab_host_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
MaxSessions 64
MaxStartups 64
AcceptEnv LANG
Subsystem sftp internal-sftp
"""


def assemble(base: Base, cache: Path) -> Path:
    """An initramfs with the project as it is now; the newest few are kept. Raises CannotBuild."""
    python = base.facts["python"]
    deps = dependencies(cache, python)
    fresh = overlay(base)
    made_from = fresh + base.folder.name.encode() + deps.name.encode()
    digest = hashlib.sha256(made_from).hexdigest()[:16]
    final = cache / f"boot-{digest}.cpio"
    if not final.exists():
        handle, name = tempfile.mkstemp(prefix="half-built-", dir=cache)
        try:
            with open(handle, "wb") as out:
                for part in (base.root, deps):
                    with part.open("rb") as file:
                        _copy(file.fileno(), out.fileno(), part.stat().st_size)
                out.seek(0, os.SEEK_END)
                out.write(fresh)
                if compiles_for(python):
                    out.write(compiled())
            os.replace(name, final)
        except BaseException:
            os.unlink(name)
            raise
    os.utime(final)
    for old in sorted(cache.glob("boot-*.cpio"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    return final


def overlay(base: Base) -> bytes:
    """A cpio archive: our init, the lab's keys, the project's wheel unpacked, and tests/lab."""
    out = io.BytesIO()
    archive = Cpio(out)
    archive.file("init", (HERE / "guest-init.sh").read_bytes(), 0o755)
    archive.file("etc/ssh/lab_host_key", base.host_key.read_bytes(), 0o600)
    archive.file("etc/ssh/sshd_config", SSHD.encode())
    archive.folder("root/.ssh", 0o700)
    archive.file("root/.ssh/authorized_keys", base.key.with_suffix(".pub").read_bytes(), 0o600)
    archive.file("usr/local/bin/expunge-agent", AGENT.encode(), 0o755)
    places = "/opt/expunge/lib\n/opt/expunge/wheel\n/opt/expunge/tests\n"
    archive.file("usr/lib/python3/dist-packages/expunge.pth", places.encode())
    for name, data in wheel():
        archive.file(f"{WHEEL}/{name}", data)
    archive.tree(HERE, TESTS)
    archive.close()
    return out.getvalue()


def compiled() -> bytes:
    """A cpio archive: the project and tests/lab once more, compiled."""
    out = io.BytesIO()
    archive = Cpio(out)
    with tempfile.TemporaryDirectory(prefix="expunge-lab-compiled-") as scratch:
        unpacked, tests = Path(scratch, "wheel"), Path(scratch, "lab")
        for name, data in wheel():
            path = unpacked / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        shutil.copytree(HERE, tests, ignore=shutil.ignore_patterns("__pycache__"))
        for folder, under in ((unpacked, WHEEL), (tests, TESTS)):
            precompile(folder, under)
            archive.tree(folder, under, compiled=True)
    archive.close()
    return out.getvalue()


def wheel() -> list[tuple[str, bytes]]:
    """The files of the project's wheel, built now from this tree."""
    with tempfile.TemporaryDirectory(prefix="expunge-lab-wheel-") as folder:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuild(f"the project's wheel: {done.stderr.strip()[-2000:]}")
        (built,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(built) as archive:
            names = sorted(name for name in archive.namelist() if not name.endswith("/"))
            return [(name, archive.read(name)) for name in names]


def _copy(source: int, to: int, size: int) -> None:
    """Append `size` bytes within the kernel; a file system that can shares the blocks."""
    while size:
        size -= os.copy_file_range(source, to, size)
