"""Talk to a running QEMU over its QMP socket (JSON lines; QEMU's docs/interop/qmp-spec)."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any


class QmpError(Exception):
    """QEMU refused a command; holds its words."""


class Qmp:
    """A session; use it as a context manager."""

    def __init__(self, path: Path, timeout: float = 30) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("rb")
            json.loads(self._lines.readline())  # the greeting
            self("qmp_capabilities")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Qmp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def __call__(self, command: str, **arguments: Any) -> Any:
        """Execute `command`, return its answer; events that arrive meanwhile are left out."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := self._lines.readline():
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise QmpError(f"{command}: {answer['error']['desc']}")
        raise QmpError(f"{command}: QEMU is gone")

    def wait_for(self, event: str, **data: object) -> dict[str, Any]:
        """The next event of this name whose data has these values."""
        while line := self._lines.readline():
            answer = json.loads(line)
            found = answer.get("data", {})
            if answer.get("event") == event and all(found.get(name) == value for name, value in data.items()):
                return found
        raise QmpError(f"{event}: QEMU is gone")
