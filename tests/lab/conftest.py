"""Fixtures of the laboratory. Its tests run when asked for by their marker (`make lab`, or `pytest -m lab tests/lab`)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lab.build import CannotBuild
from lab.guest import Machine, unavailable
from lab.report import Ran, Report

HERE = Path(__file__).parent
REPORT = pytest.StashKey[Report]()
BEGUN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """--lab-report FILE."""
    parser.addoption("--lab-report", metavar="FILE", help="write what the laboratory showed as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    """One report for all tests of this process; with xdist, the workers' reports come together in the first."""
    config.stash[REPORT] = Report()
    config.stash[BEGUN] = time.monotonic()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of xdist has ended, and hands over what it saw."""
    node.config.stash[REPORT].take(getattr(node, "workeroutput", {}).get("lab", {"rows": [], "facts": {}}))


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
    """Keep how each test ended, and the time of all its phases."""
    seen = TESTS.get(report.nodeid)
    seconds = (seen.seconds if seen else 0.0) + report.duration
    outcome = seen.outcome if seen and (report.passed or seen.outcome == "failed") else report.outcome
    why = seen.why if seen else ""
    if report.skipped:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    TESTS[report.nodeid] = Ran(report.nodeid, outcome, seconds, why)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report if it was asked for; a worker of xdist hands its own over."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["lab"] = config.stash[REPORT].packed()
    elif path := config.getoption("lab_report", None):
        took = time.monotonic() - config.stash[BEGUN]
        Path(path).write_text(config.stash[REPORT].markdown(list(TESTS.values()), took))


TESTS: dict[str, Ran] = {}


@pytest.fixture(scope="session")
def lab_report(pytestconfig: pytest.Config) -> Report:
    """Where tests say what they saw."""
    return pytestconfig.stash[REPORT]


@pytest.fixture(scope="session")
def machine(lab_report: Report) -> Iterator[Machine]:
    """What guests start from, built now if need be; skips where there can be none."""
    if reason := unavailable():
        pytest.skip(f"no virtual machine can run here: {reason}")
    try:
        made = Machine.make()
    except CannotBuild as error:
        pytest.skip(f"the laboratory cannot be built here: {error}")
    lab_report.facts.update(made.base.facts)
    with closing(made):
        yield made
