"""Fixtures of the laboratory. Its tests run when asked for by their marker (`make lab`, or `pytest -m lab tests/lab`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.build import CannotBuild
from lab.guest import Guest, Machine, unavailable
from lab.report import Report

HERE = Path(__file__).parent
REPORT = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """--lab-report FILE."""
    parser.addoption("--lab-report", metavar="FILE", help="write what the laboratory showed as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    """One report for all tests."""
    config.stash[REPORT] = Report()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every test here boots a virtual machine."""
    if item.path.is_relative_to(HERE):
        item.add_marker(pytest.mark.lab)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `-m … lab …` these tests are left out, not skipped: `make test` stays short."""
    if re.search(r"\blab\b", config.option.markexpr):
        return
    left_out = [item for item in items if item.get_closest_marker("lab")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("lab")]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep how each test ended."""
    if report.when == "call" or report.outcome != "passed":
        TESTS.append((report.nodeid, report.outcome, report.duration))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report if it was asked for."""
    if path := session.config.getoption("lab_report", None):
        Path(path).write_text(session.config.stash[REPORT].markdown(TESTS))


TESTS: list[tuple[str, str, float]] = []


@pytest.fixture(scope="session")
def lab_report(pytestconfig: pytest.Config) -> Report:
    """Where tests say what they saw."""
    return pytestconfig.stash[REPORT]


@pytest.fixture(scope="session")
def machine(lab_report: Report) -> Machine:
    """What guests start from, built now if need be; skips where there can be none."""
    if reason := unavailable():
        pytest.skip(f"no virtual machine can run here: {reason}")
    try:
        made = Machine.make()
    except CannotBuild as error:
        pytest.skip(f"the laboratory cannot be built here: {error}")
    lab_report.facts.update(made.base.facts)
    return made


@pytest.fixture
def power(machine: Machine, tmp_path: Path) -> Iterator[Any]:
    """`power(*disks, **options)` starts a guest of this test's own; it is off when the test ends."""
    with ExitStack() as stack:

        def start(*disks: Any, **options: Any) -> Guest:
            return stack.enter_context(Guest(machine, tmp_path, disks, **options))

        yield start
