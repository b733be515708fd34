"""What the laboratory showed: command, device, fault, and the outcome in the receipt."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One erase that was watched from outside. `fault` is empty for a good device."""

    command: str
    device: str
    fault: str
    outcome: str
    truth: str


@dataclass
class Report:
    """Rows in the order in which they were seen, and facts about the laboratory."""

    rows: list[Row] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def row(
        self, command: str, device: str, fault: str, outcome: str, truth: str, *, harmless: bool = False
    ) -> None:
        """Keep a row. A fault must never end as `sanitized`, but for one that costs nothing but time (`harmless`)."""
        self.rows.append(Row(command, device, fault, outcome, truth))
        assert harmless or not fault or outcome != "sanitized", self.rows[-1]

    def markdown(self, tests: list[tuple[str, str, float]]) -> str:
        """The whole report."""
        lines = ["# What the laboratory showed", ""]
        lines += ["A pass proves the agent's logic and the kernel's path, not sanitization on hardware.", ""]
        lines += [
            f"- kernel of the guests: {self.facts.get('kernel', 'none was started')}",
            f"- {_qemu()}",
            "",
        ]
        lines += [
            "| Command | Device | Fault | Outcome in the receipt | Seen from outside |",
            "|---|---|---|---|---|",
        ]
        for row in self.rows:
            cells = (row.command, row.device, row.fault or "none", f"`{row.outcome}`", row.truth)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        counts = {
            outcome: sum(test[1] == outcome for test in tests) for outcome in ("passed", "failed", "skipped")
        }
        lines += ["", f"## Tests: {', '.join(f'{number} {word}' for word, number in counts.items())}", ""]
        lines += ["| Test | Outcome | Seconds |", "|---|---|---|"]
        lines += [f"| {name} | {outcome} | {seconds:.1f} |" for name, outcome, seconds in tests]
        return "\n".join(lines) + "\n"


def _qemu() -> str:
    try:
        done = subprocess.run(
            ["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return "no QEMU"
    return done.stdout.splitlines()[0] if done.stdout else "no QEMU"
