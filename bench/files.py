"""Files per second: many small files shredded, beside ``shred -u -n1`` and a plain unlink, in one run.

``python bench/files.py [--files 10000] [--rounds 3] [--folder DIR]``, as root. On an ext4 of its own, on a loop device
over a file in DIR. Every way ends with the same guarantee: contents overwritten and flushed before a name goes (``unlink``
overwrites nothing: it is the limit that the file system sets).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SIZE = 4096
IN_ONE_FOLDER = 100


def main() -> None:
    """Run the rounds, and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        times = measured(Path(scratch), options.files, options.rounds)
    base = statistics.median(times["shred -u -n1"])
    print(
        f"{options.files} files of {SIZE} bytes, ext4 on a loop device, median of {options.rounds}, whole process"
    )
    for name, seconds in times.items():
        taken = statistics.median(seconds)
        print(f"{name:40} {options.files / taken:8.0f} files/s   {base / taken:6.2f} x shred")


def measured(scratch: Path, count: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round by way; the ways take turns."""
    image, mount = scratch / "disk", scratch / "mnt"
    with image.open("wb") as file:
        file.truncate(count * SIZE * 2 + (256 << 20))
    device = run("losetup", "--find", "--show", str(image)).strip()
    mount.mkdir()
    try:
        run("mkfs.ext4", "-q", "-F", "-N", str(count * 2), device)
        run("mount", device, str(mount))
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, way in ways(scratch).items():
                folder = mount / "records"
                fill(folder, count)
                began = time.monotonic()
                way(folder)
                run("sync", "-f", str(mount))
                times.setdefault(name, []).append(time.monotonic() - began)
                left = [path for path in folder.rglob("*") if path.is_file()]
                if left:
                    raise SystemExit(f"{name} left {len(left)} files")
                shutil.rmtree(folder)
        return times
    finally:
        subprocess.run(["umount", str(mount)], check=False, capture_output=True)
        run("losetup", "--detach", device)


def ways(scratch: Path) -> dict[str, Callable[[Path], object]]:
    """What is compared: how each makes away with the files below a folder."""
    agent = [sys.executable, "-m", "expunge_agent", "--state", str(scratch / "state"), "wipe"]
    found = 'find "$0" -type f -print0 | xargs -0 '

    def expunge(profile: str) -> Callable[[Path], object]:
        return lambda folder: run(*agent, str(folder), "--profile", profile, "--yes", codes=(0, 5))

    return {
        "expunge, one random pass": expunge("random"),
        "expunge, one pass and read-back": expunge("nist-clear"),
        "shred -u -n1": lambda folder: run("sh", "-c", found + "shred -u -n1", str(folder)),
        "unlink alone": lambda folder: run("sh", "-c", found + "rm", str(folder)),
    }


def fill(folder: Path, count: int) -> None:
    """The files, all of them on the device."""
    data = os.urandom(SIZE)
    for number in range(count):
        path = folder / f"{number // IN_ONE_FOLDER:04d}" / f"record-{number:06d}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    run("sync", "-f", str(folder))


def run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run a program, and give what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
