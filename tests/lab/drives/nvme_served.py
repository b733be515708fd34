"""Starts a simulated NVMe drive in a process of its own, for a guest to connect to.

with Served(folder, "--size", "64", "--fault", "lies-success") as drive:
    guest.run(drive.connect_command("10.0.2.2")).ok()
    drive.control("power cut")
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

TESTS = Path(__file__).parents[2]


class Served:
    """A context manager; `folder` holds the drive's files, which are used again when it is started again.

    `arguments` are those of `lab.drives.nvme_tcp`.
    """

    def __init__(self, folder: Path, *arguments: str, name: str = "nvme") -> None:
        self.image, self.state = folder / f"{name}.img", folder / f"{name}.json"
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.nqn = ""

    def __enter__(self) -> Served:
        files = ["--image", str(self.image), "--state", str(self.state)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lab.drives.nvme_tcp", *files, *self._arguments],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            hello = self._answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.port, self.nqn = hello["port"], hello["nqn"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        process.stdin.close()  # which ends it
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def kill(self) -> None:
        """SIGKILL: the drive has lost its power and only its files are left. Enter again to start it."""
        if self._process is not None:
            self._process.kill()
            self.__exit__(None, None, None)

    def control(self, line: str) -> dict[str, Any]:
        """Give a line of the control protocol; the drive's status. Raises ValueError if it was not understood."""
        assert self._process is not None and self._process.stdin is not None, "the drive is not served"
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def connect_command(self, host: str) -> str:
        """What a guest runs to have the drive as /dev/nvmeX; `host` is this machine as the guest sees it."""
        return (
            f"modprobe nvme-tcp && nvme connect -t tcp -a {host} -s {self.port} -n {self.nqn} -i 1"
            " --reconnect-delay 2 --ctrl-loss-tmo 30 && udevadm settle"
        )

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError("the simulated drive ended")
        answer: dict[str, Any] = json.loads(line)
        return answer
