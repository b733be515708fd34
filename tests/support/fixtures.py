"""Fixtures that many tests take: a controller in a folder, a machine of its, its verbs. A test file that needs another
one defines its own by the same name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from expunge_controller.cli import main
from expunge_controller.context import Controller
from expunge_controller.store.rows import MachineRow
from support.controllers import FakeAgent, enrolled, make_controller


class Ran(NamedTuple):
    """A finished command: exit code, output, complaints."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output as one JSON document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Its standard output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    """In the folder ``home``."""
    made = make_controller(tmp_path / "home")
    yield made
    made.store.close()


@pytest.fixture
def agent() -> FakeAgent:
    """Not enrolled yet; without a key for second signatures."""
    return FakeAgent()


@pytest.fixture
def machine(controller: Controller, agent: FakeAgent) -> MachineRow:
    """The agent's, enrolled."""
    return enrolled(controller, agent)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``expunge --home HOME ARGUMENTS`` in this process; HOME is where `controller` is, if nothing else is said."""
    monkeypatch.setattr("os.umask", lambda _mask: 0)

    def call(*arguments: object, home: Path | None = None) -> Ran:
        argv = ["expunge", "--home", str(home or tmp_path / "home"), *(str(part) for part in arguments)]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ran(int(ended.value.code or 0), out, err)

    return call
