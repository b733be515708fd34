"""Build what a laboratory guest boots from: Debian's kernel, a root in memory, the agent's dependencies.

    python tests/lab/build.py [--cache DIR]

Everything comes from Debian packages (from wherever this machine's apt takes them) and from
requirements/agent.txt (from wherever this machine's pip takes them). The result is kept in a folder outside
the project: $EXPUNGE_LAB_CACHE, or expunge-lab in the user's cache folder. A build is keyed by what it is made
from, made beside its place and renamed into it when it is whole.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import json
import lzma
import os
import py_compile
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.cpio import Cpio

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONTENTS = HERE / "contents.toml"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (36, 35, 34, 31, 28, 24, 17)] + [
    "manylinux2014_x86_64"
]


class CannotBuild(Exception):
    """The laboratory cannot be built here; says what is missing and what to do."""


@dataclass(frozen=True)
class Base:
    """A whole build: `kernel` (vmlinux for PVH), `root` and `deps` (initramfs parts), `key` (SSH key of the lab)."""

    folder: Path
    facts: dict[str, str]

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinux"

    @property
    def root(self) -> Path:
        return self.folder / "root.cpio"

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def host_key(self) -> Path:
        return self.folder / "host_key"


def cache_folder() -> Path:
    """Where builds are kept."""
    if given := os.environ.get("EXPUNGE_LAB_CACHE"):
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "expunge-lab"


def missing() -> str:
    """What a guest needs that this machine has not, as one sentence; empty if nothing."""
    needed = {
        "qemu-system-x86_64": "qemu-system-x86",
        "ssh": "openssh-client",
        "ssh-keygen": "openssh-client",
    }
    absent = sorted({package for program, package in needed.items() if not shutil.which(program)})
    if os.uname().machine != "x86_64":
        return f"the laboratory's guests are x86-64, this machine is {os.uname().machine}"
    return f"needs {', '.join(absent)} (apt-get install {' '.join(absent)})" if absent else ""


def missing_to_build() -> str:
    """What building needs beyond that."""
    if not shutil.which("apt-get"):
        return "the laboratory is built from Debian packages, and this machine has no apt-get"
    if not shutil.which("mmdebstrap"):
        return "needs mmdebstrap (apt-get install mmdebstrap)"
    return ""


def base_key() -> str:
    """Digest of all that the base is made from."""
    made_from = [CONTENTS, HERE / "build.py", HERE / "cpio.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in made_from)).hexdigest()[:16]


def find(cache: Path) -> Base | None:
    """The whole build that fits this code, or None."""
    folder = cache / f"base-{base_key()}"
    try:
        return Base(folder, json.loads((folder / "facts.json").read_text()))
    except OSError:
        return None


def build(cache: Path) -> Base:
    """The build that fits this code, made now if it is not there. Raises CannotBuild."""
    if found := find(cache):
        return found
    if reason := missing() or missing_to_build():
        raise CannotBuild(reason)
    cache.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="half-built-", dir=cache) as scratch:
        work = Path(scratch) / "base"
        work.mkdir()
        facts = _debian(work)
        for name in ("key", "host_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "expunge-lab", "-f", str(work / name))
        facts["seconds"] = f"{time.monotonic() - begun:.0f}"
        (work / "facts.json").write_text(json.dumps(facts, indent=1))
        final = cache / f"base-{base_key()}"
        try:
            work.rename(final)
        except OSError:  # another build was faster
            if not (final / "facts.json").exists():
                raise
    found = find(cache)
    if found is None:
        raise CannotBuild(f"{final} vanished while it was built; try again")
    return found


def dependencies(cache: Path, python: str) -> Path:
    """requirements/agent.txt installed for the guest's `python` ("3.11") as an initramfs part at opt/expunge."""
    locked = ROOT / "requirements" / "agent.txt"
    made_from = [locked.read_bytes(), python.encode(), (HERE / "cpio.py").read_bytes()]
    if compiles_for(python):
        made_from.append(b"compiled")
    key = hashlib.sha256(b"".join(made_from)).hexdigest()
    final = cache / f"deps-{key[:16]}.cpio"
    if final.exists():
        return final
    with tempfile.TemporaryDirectory(prefix="half-built-", dir=cache) as scratch:
        lib, part = Path(scratch, "lib"), Path(scratch, "part")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
        ]
        pip += [
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--implementation",
            "cp",
            "--python-version",
            python,
        ]
        pip += [option for each in PLATFORMS for option in ("--platform", each)]
        _run(*pip, "--target", str(lib), "-r", str(locked))
        with part.open("wb") as out:
            archive = Cpio(out)
            archive.tree(lib, "opt/expunge/lib")
            if compiles_for(python):
                precompile(lib, "opt/expunge/lib")
                archive.tree(lib, "opt/expunge/lib", compiled=True)
            archive.close()
        part.rename(final)
    return final


def compiles_for(python: str) -> bool:
    """Whether what this Python compiles is read by the guest's ("3.11")."""
    return python == f"{sys.version_info.major}.{sys.version_info.minor}"


def precompile(folder: Path, under: str) -> None:
    """Compile all Python below `folder`, which will lie at /`under` in the guest: there it takes many seconds."""
    compileall.compile_dir(
        folder,
        quiet=2,
        stripdir=str(folder),
        prependdir=f"/{under}",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def apt_sources() -> list[str]:
    """One-line apt sources of Debian's own main archive, as this machine uses it."""
    sources = set()
    for paragraph in _run("apt-get", "indextargets", "Created-By: Packages").strip().split("\n\n"):
        entry = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        uri, suite, component = entry.get("Repo-URI"), entry.get("Codename", ""), entry.get("Component")
        if entry.get("Origin") == "Debian" and uri and component == "main" and "backports" not in suite:
            sources.add(f"deb {uri} {suite} {component}")
    if not sources:
        raise CannotBuild("apt knows no archive of Debian's (is this Debian? has apt-get update been run?)")
    return sorted(sources)


def _debian(work: Path) -> dict[str, str]:
    """Write `vmlinux` and `root.cpio` into `work`; return what they are."""
    tar = work / "root.tar"
    contents = tomllib.loads(CONTENTS.read_text())
    drop = " ".join(f"kernel/{each}" for each in contents["no_modules"])
    install_kernel = f"""chroot "$1" sh -ec '
        cd /tmp
        apt-get -qq download $(apt-cache depends {contents["kernel"]} | sed -n "s/^ *Depends: //p")
        dpkg-deb --fsys-tarfile linux-image-*.deb | tar -xC / --keep-directory-symlink
        rm linux-image-*.deb
        m=$(echo /lib/modules/*)
        (cd "$m" && rm -rf {drop})
        depmod "${{m##*/}}"'"""
    command = ["mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(contents['packages'])}"]
    command += [f"--dpkgopt=path-exclude=/{path}/*" for path in contents["no_paths"]]
    command += [f"--customize-hook={install_kernel}", "--format=tar", "", str(tar), "-"]
    _run(*command, stdin="\n".join(apt_sources()) + "\n")
    with tarfile.open(tar) as archive:
        names = archive.getnames()
        boot = next(name for name in names if "/boot/vmlinuz-" in f"/{name.removeprefix('./')}")
        python = next(name for name in names if _is_python(name)).rsplit("python", 1)[1]
        image = archive.extractfile(boot)
        assert image is not None
        (work / "vmlinux").write_bytes(unpack_kernel(image.read()))
    with tarfile.open(tar) as archive, (work / "root.cpio").open("wb") as out:
        root = Cpio(out)
        for name in ("dev", "boot", "var/cache", "var/log", "var/lib/expunge"):
            root.folder(name)
        root.tar(archive, tuple(contents["left_out"]))
        root.close()
    tar.unlink()
    return {"kernel": boot.rsplit("vmlinuz-", 1)[1], "python": python}


def _is_python(name: str) -> bool:
    """usr/bin/python3.11, not its helpers."""
    base = name.rsplit("/", 1)[-1]
    return "usr/bin/" in name and base.startswith("python3.") and base[8:].isdigit()


def unpack_kernel(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage; QEMU starts it directly by its PVH note.

    Where the payload lies: the kernel's Documentation/x86/boot.rst, setup_sects (0x1F1), payload_offset
    (0x248) and payload_length (0x24C).
    """
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = (sectors + 1) * 512 + offset
    payload = image[begin : begin + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        kernel = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        if not shutil.which("zstd"):
            raise CannotBuild("needs zstd to unpack this kernel (apt-get install zstd)")
        # The last four bytes are the size of the ELF file, not zstd's.
        kernel = subprocess.run(["zstd", "-dc"], input=payload[:-4], capture_output=True, check=True).stdout
    else:
        raise CannotBuild(f"this kernel is packed in a way that is not known here ({payload[:6].hex()})")
    if not kernel.startswith(b"\x7fELF"):
        raise CannotBuild("what was unpacked from the kernel image is not an ELF file")
    return kernel


def _run(*command: str, stdin: str = "") -> str:
    """Run a program; raise CannotBuild with its complaint."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"{command[0]} ended with {done.returncode}:\n{done.stderr.strip()[-3000:]}")
    return done.stdout


def main() -> int:
    """Build, and say where and how long it took."""
    parser = argparse.ArgumentParser(description="Build what the virtual laboratory boots from (cached).")
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where builds are kept")
    cache = parser.parse_args().cache.absolute()
    begun = time.monotonic()
    try:
        base = build(cache)
        deps = dependencies(cache, base.facts["python"])
    except CannotBuild as error:
        print(f"the laboratory cannot be built: {error}", file=sys.stderr)
        return 1
    megabytes = base.root.stat().st_size >> 20
    print(f"{base.folder}: kernel {base.facts['kernel']}, root {megabytes} MiB, {deps.name}")
    print(f"{time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
