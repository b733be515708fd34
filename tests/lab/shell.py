"""Start a guest to play with: a shell in it, or one command.

python tests/lab/shell.py                       disks of every kind, an SSH shell
python tests/lab/shell.py -c 'nvme list'        one command, then off
python tests/lab/shell.py --keep                print how to reach it, stay until Ctrl-C
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.build import CannotBuild, cache_folder
from lab.disks import Backing, Disk, Namespace, Nvme, Sata, Scsi, Uas, Usb
from lab.guest import Guest, GuestError, Machine


def every_kind(folder: Path, size: int = 16 << 20) -> list[Disk | Nvme]:
    """One disk of each kind, an NVMe controller with 512- and 4096-byte namespaces."""
    spaces = (
        Namespace(1, Backing.make(folder, "nvme0-1", size), 512),
        Namespace(2, Backing.make(folder, "nvme0-2", size), 4096),
    )
    return [
        Nvme("nvme0", spaces),
        Sata("sata0", Backing.make(folder, "sata0", size)),
        Scsi("scsi-a", Backing.make(folder, "scsi-a", size)),
        Usb("usb0", Backing.make(folder, "usb0", size)),
        Uas("uas0", Backing.make(folder, "uas0", size)),
    ]


def main() -> int:
    """Build if need be, boot, hand over."""
    parser = argparse.ArgumentParser(description="Start a laboratory guest.")
    parser.add_argument("-c", "--command", help="run this in the guest, then switch it off")
    parser.add_argument("--keep", action="store_true", help="stay until Ctrl-C instead of opening a shell")
    parser.add_argument("--bare", action="store_true", help="no disks")
    parser.add_argument("--cache", type=Path, default=cache_folder())
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            closing(Machine.make(arguments.cache.absolute())) as machine,
            tempfile.TemporaryDirectory(prefix="expunge-lab-") as name,
        ):
            folder = Path(name)
            with Guest(machine, folder, [] if arguments.bare else every_kind(folder)) as guest:
                print(
                    f"booted in {guest.boot_seconds:.1f} s; disks and serial.log in {folder}", file=sys.stderr
                )
                if arguments.keep:
                    print(shlex.join(guest.ssh_command()), flush=True)
                    while True:
                        time.sleep(3600)
                extra = [arguments.command] if arguments.command else []
                return subprocess.run([*guest.ssh_command(), *extra], check=False).returncode
    except (CannotBuild, GuestError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
