"""Fixtures that many tests take: an agent at work, documents, a controller in a folder, its machine, its verbs. A test
file that needs another one defines its own by the same name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from expunge_controller.bundle import BundleParts
from expunge_controller.cli import main
from expunge_controller.context import Controller
from expunge_controller.store.rows import MachineRow
from support.agents import Bench
from support.controllers import FakeAgent, enrolled, make_controller
from support.evidence import World
from support.ran import Ran

Run = Callable[..., Ran]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An agent's state folder, and orders for it."""
    return Bench.make(tmp_path / "state")


@pytest.fixture(scope="module")
def world() -> World:
    """Keys, and documents signed with them."""
    return World()


@pytest.fixture(scope="module")
def parts(world: World) -> BundleParts:
    """What a bundle about a clean wipe is made of."""
    return world.parts()


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
