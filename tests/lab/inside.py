"""A simulated ATA or SCSI drive as a program of the guest, and so as one of its disks.

with Inside(guest, "sim1", "ata", "--size", "4", "--fault", "frozen") as drive:
    guest.run(f"hdparm -I {drive.node}")
"""

from __future__ import annotations

import json
import shlex
from types import TracebackType

from lab.guest import Guest


class Inside:
    """A context manager. Its medium is `image`, a file or block device of the guest, and its memory `state`; both
    outlast it. `options` are those of `lab.drives.tcmu`."""

    def __init__(
        self, guest: Guest, name: str, kind: str, *options: str, image: str = "", state: str = ""
    ) -> None:
        self.guest, self.name, self.kind, self.options = guest, name, kind, options
        self.image, self.state = image or f"/run/{name}.img", state or f"/run/{name}.json"
        self.node = ""
        self._pid = 0

    def __enter__(self) -> Inside:
        """Start it (again) with what it remembers. Raises GuestError where the kernel does not take such a drive."""
        words = ["env", "PYTHONPATH=/opt/expunge/tests", "python3", "-m", "lab.drives.tcmu"]
        words += ["--kind", self.kind, "--name", self.name, "--image", self.image, "--state", self.state]
        said = f"/run/{self.name}.out"
        self.guest.run("modprobe -a target_core_user tcm_loop").ok()
        self._pid = self.guest.spawn(shlex.join([*words, *self.options]), said)
        wait = f"for i in $(seq 300); do grep block {said} && exit; sleep 0.1; done; cat {said}; exit 1"
        try:
            self.node = str(json.loads(self.guest.run(wait).ok().out)["block"])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def hasten(self) -> None:
        """Let its clock go as fast as its option --haste says."""
        self.guest.run(f"kill -USR1 {self._pid}").ok()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, unless the guest's power has failed."""
        if self.guest.on:
            gone = f"for i in $(seq 50); do test -d /proc/{self._pid} || break; sleep 0.1; done"
            self.guest.run(f"kill {self._pid}; {gone}")
