"""A controller and an agent as real programs on loopback, with a wire between them that can be cut."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from expunge_controller.context import opened
from expunge_controller.settings import Home
from expunge_controller.store.rows import OrderStatus

PATIENCE = 60.0


class Wire:
    """Forwards one loopback port to another; `cut` breaks every connection that goes through it."""

    def __init__(self, to: int) -> None:
        self.to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Break all connections; how many there were."""
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def close(self) -> None:
        """Stop forwarding."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to), 5)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open -= {source, sink}
        source.close()


class Fleet:
    """One controller, one agent that dials it through a `Wire`, everything in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "controller"
        self.state = folder / "agent"
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.wire = Wire(self.port)

    def expunge(self, *args: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Type an ``expunge`` command."""
        return self._type("expunge_controller", "--home", self.home, args, code)

    def expunge_agent(self, *args: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Type an ``expunge-agent`` command."""
        return self._type("expunge_agent", "--state", self.state, args, code)

    def json(self, *args: str) -> Any:
        """What ``expunge ARGS --json`` prints."""
        return json.loads(self.expunge(*args, "--json").stdout)

    def begin(self, name: str = "ws1") -> None:
        """Controller made and started, agent enrolled and connected."""
        self.expunge("init", "--name", "test", "--port", str(self.wire.port))
        self.start_controller()
        self.expunge_agent("enrol", self.json("enrol", name)["token"])
        self.start_agent()
        self.until("the agent has called in", lambda: bool(self.json("machines")[0]["last_seen"]))

    def start_controller(self) -> None:
        """``expunge serve``, listening behind the wire; returns when it listens."""
        self._start(
            "controller", "expunge_controller", "--home", self.home, "serve", "--port", str(self.port)
        )
        self.until("the controller listens", self._listens)

    def start_agent(self) -> None:
        """``expunge-agent serve --dial --run-orders``."""
        options = ("serve", "--dial", "--run-orders", "--checkpoint-seconds", "0.05")
        self._start("agent", "expunge_agent", "--state", self.state, *options)

    def kill(self, name: str) -> None:
        """kill -9 the controller or the agent's serving side."""
        process = self.programs.pop(name)
        process.kill()
        process.wait()

    def kill_runs(self) -> int:
        """kill -9 every process that carries out an order of this agent; how many there were."""
        found = [pid for pid in _processes_with(str(self.state)) if "run" in _words(pid)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)

    def until(self, what: str, holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until `holds`."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain until {what}\n{self.logs()}"
            time.sleep(0.05)

    def outcome(self, order_id: str) -> str:
        """The outcome of an order as the controller's database has it, empty while it is open."""
        with opened(Home(self.home)) as controller, controller.store.read() as unit:
            (row,) = unit.orders.find(order_id)
            return row.outcome if row.status is OrderStatus.FINISHED else ""

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-2500:]}"
            for path in [*self.folder.glob("*.log"), self.state / "run.log"]
            if path.exists()
        )

    def end(self) -> None:
        """End every process of this fleet."""
        for name in list(self.programs):
            self.kill(name)
        self.kill_runs()
        self.wire.close()

    def _listens(self) -> bool:
        process = self.programs["controller"]
        assert process.poll() is None, self.logs()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _start(self, name: str, module: str, option: str, folder: Path, *args: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.programs[name] = subprocess.Popen(
                [sys.executable, "-m", module, option, str(folder), *args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _type(
        self, module: str, option: str, folder: Path, args: tuple[str, ...], code: int | None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", module, option, str(folder), *args],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE * 2,
        )
        said = f"{' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        assert code is None or done.returncode == code, said + self.logs()
        assert "Traceback" not in done.stderr, said
        return done


@contextlib.contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """A running fleet in `folder`, ended whatever happens."""
    made = Fleet(folder)
    try:
        made.begin()
        yield made
    finally:
        made.end()


def _processes_with(text: str) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and text in _words(int(name))]


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
