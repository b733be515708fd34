"""What the laboratory showed: command, device, fault, and the outcome in the receipt."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import astuple, dataclass, field
from typing import Any

from lab import qemu

SLOWEST = 10


@dataclass(frozen=True, order=True)
class Row:
    """One erase that was watched from outside. `fault` is empty for a good device."""

    command: str
    device: str
    fault: str
    outcome: str
    truth: str


@dataclass(frozen=True)
class Ran:
    """How a test ended: its id, `passed`, `failed` or `skipped`, its seconds with set-up, and why it was skipped."""

    name: str
    outcome: str
    seconds: float
    why: str = ""

    @property
    def file(self) -> str:
        """The module's name."""
        return self.name.partition("::")[0].rpartition("/")[2]


@dataclass
class Report:
    """Rows, and facts about the laboratory."""

    rows: list[Row] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def row(
        self, command: str, device: str, fault: str, outcome: str, truth: str, *, harmless: bool = False
    ) -> None:
        """Keep a row. A fault must never end as `sanitized`, but for one that costs nothing but time (`harmless`)."""
        self.rows.append(Row(command, device, fault, outcome, truth))
        assert harmless or not fault or outcome != "sanitized", self.rows[-1]

    def packed(self) -> dict[str, Any]:
        """Itself, for another process."""
        return {"rows": [astuple(row) for row in self.rows], "facts": self.facts}

    def take(self, packed: dict[str, Any]) -> None:
        """Add what another process has `packed`."""
        self.rows += [Row(*row) for row in packed["rows"]]
        self.facts.update(packed["facts"])

    def markdown(self, tests: list[Ran], seconds: float) -> str:
        """The whole report of a run of `tests` that took `seconds`."""
        return (
            "\n".join([*self._head(tests, seconds), *self._shown(), *_skipped(tests), *_times(tests)]) + "\n"
        )

    def _head(self, tests: list[Ran], seconds: float) -> list[str]:
        return [
            "# What the laboratory showed",
            "",
            f"{_counted(tests)}, {len(self.rows)} rows, in {_clock(seconds)}.",
            "",
            "A pass proves the agent's logic and the kernel's path, not sanitization on hardware.",
            "",
            f"- kernel of the guests: {self.facts.get('kernel', 'none was started')}",
            f"- {qemu.version()}, without KVM, on {os.cpu_count()} cores",
            f"- load of the machine at the end: {os.getloadavg()[0]:.1f}",
            "",
        ]

    def _shown(self) -> list[str]:
        lines = ["## Command, device, fault, outcome", ""]
        lines += _table("Command", "Device", "Fault", "Outcome in the receipt", "Seen from outside")
        for row in sorted(self.rows):
            fault = row.fault or "none"
            lines.append(_line(row.command, row.device, fault, f"`{row.outcome}`", row.truth))
        return [*lines, ""]


def _skipped(tests: list[Ran]) -> list[str]:
    skipped = [test for test in tests if test.outcome == "skipped"]
    if not skipped:
        return []
    lines = ["## Skipped", "", *_table("Test", "Why")]
    return [*lines, *(_line(test.name, test.why) for test in skipped), ""]


def _times(tests: list[Ran]) -> list[str]:
    lines = ["## Times", "", *_table("File", "Tests", "Seconds")]
    for file in sorted({test.file for test in tests}):
        of_it = [test for test in tests if test.file == file]
        lines.append(_line(file, _counted(of_it), f"{sum(test.seconds for test in of_it):.0f}"))
    lines += ["", f"The {SLOWEST} slowest, with what they set up for the others of their file:", ""]
    lines += _table("Test", "Seconds")
    slowest = sorted(tests, key=lambda test: -test.seconds)[:SLOWEST]
    lines += [_line(test.name, f"{test.seconds:.0f}") for test in slowest]
    lines += ["", "## Tests", "", *_table("Test", "Outcome", "Seconds")]
    named = sorted(tests, key=lambda test: test.file)
    return lines + [
        _line(test.name.rpartition("/")[2], test.outcome, f"{test.seconds:.1f}") for test in named
    ]


def _counted(tests: list[Ran]) -> str:
    """ "3 passed, 1 skipped"."""
    counts = Counter(test.outcome for test in tests)
    shown = [f"{counts[one]} {one}" for one in ("passed", "failed", "skipped") if counts[one]]
    return ", ".join(shown) or "no tests"


def _clock(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _table(*heads: str) -> list[str]:
    return [_line(*heads), "|" + "---|" * len(heads)]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
