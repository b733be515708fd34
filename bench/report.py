"""Medians, ratios, goals: as text for people and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from cases import MANY, Row, Table
from measure import Run

GIB = 1 << 30
MB = 1_000_000
OURS, LIMIT = "expunge", "fio"


def values(row: Row, of: Callable[[Run], float | None]) -> list[float]:
    """One figure a round, failed ones left out."""
    found = [of(run) for run in row.runs if run is not None]
    return [value for value in found if value is not None]


def rate(row: Row) -> list[float]:
    """MB/s (10^6) of medium finished, whole process."""
    return values(row, lambda run: row.size / run.seconds / MB)


def ratio(row: Row, to: Row | None) -> float | None:
    """How many times as fast as `to`: the median of the ratios within each round."""
    if to is None:
        return None
    pairs = zip(row.runs, to.runs, strict=True)
    found = [
        (row.size / mine.seconds) / (to.size / theirs.seconds)
        for mine, theirs in pairs
        if mine is not None and theirs is not None
    ]
    return median(found) if found else None


def table_text(table: Table) -> str:
    """One table, ready to print."""
    head = f"\n{table.title} [{table.case}, {table.kind}]"
    lines = _start_lines(table) if table.case == "startup" else _rate_lines(table)
    return "\n".join([head, *(lines if table.rows else []), *(f"  {note}" for note in table.notes)])


def _rate_lines(table: Table) -> list[str]:
    rows = {row.label: row for row in table.rows}
    cells = [["", "MB/s", "min–max", "× fio", "× ours", "inside", "ms", "CPU s/GiB", "peak MB"]]
    for row in table.rows:
        rates = rate(row)
        if not rates:
            cells.append([row.label, *["-"] * 8])
            continue
        inside = values(row, lambda run, size=row.size: size / run.inside / MB if run.inside else None)  # type: ignore[misc]
        cells.append(
            [
                row.label,
                f"{median(rates):.0f}",
                f"{min(rates):.0f}–{max(rates):.0f}",
                _number(ratio(row, rows.get(LIMIT))),
                _number(ratio(row, rows.get(OURS))),
                f"{median(inside):.0f}" if inside else "-",
                f"{1000 * median(values(row, lambda run: run.seconds)):.0f}",
                f"{median(_cpu(row)):.2f}",
                f"{max(values(row, lambda run: run.peak)) / MB:.0f}",
            ]
        )
    return _columns(cells)


def _start_lines(table: Table) -> list[str]:
    cells = [["", "ms", "min–max", "CPU ms", "peak MB"]]
    for row in table.rows:
        times = [1000 * value for value in values(row, lambda run: run.seconds)]
        if times:
            cpu = 1000 * median(values(row, lambda run: run.cpu))
            peak = max(values(row, lambda run: run.peak)) / MB
            cells.append(
                [
                    row.label,
                    f"{median(times):.0f}",
                    f"{min(times):.0f}–{max(times):.0f}",
                    f"{cpu:.0f}",
                    f"{peak:.0f}",
                ]
            )
    return _columns(cells)


def _cpu(row: Row) -> list[float]:
    return values(row, lambda run: run.cpu / (row.size / GIB))


def _peak(run: Run) -> float:
    return float(run.peak)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    return [
        "  "
        + "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in cells
    ]


def goals(tables: Sequence[Table]) -> list[tuple[str, str, bool]]:
    """What is wanted, what was measured, and whether that is enough; only of what was measured."""
    found: list[tuple[str, str, bool]] = []

    def least(text: str, value: float | None, wanted: float) -> None:
        if value is not None:
            found.append((f"{text} ≥ {wanted:g}", f"{value:.2f}", value >= wanted))

    def most(text: str, value: float | None, wanted: float) -> None:
        if value is not None:
            found.append((f"{text} ≤ {wanted:g}", f"{value:.2f}", value <= wanted))

    for table in tables:
        rows = {row.label: row for row in table.rows}
        ours = rows.get(OURS)
        name = f"{table.case} on {table.kind}: "
        if ours is not None and rate(ours):
            wanted = {"write": [(LIMIT, 1.0), ("nwipe", 2.0), ("shred", 4.0)], "both": [("nwipe", 2.5)]}
            for peer, times in wanted.get(
                table.case, [(LIMIT, 1.0)] if table.case in ("zeros", "verify") else []
            ):
                if table.kind != "zram" or peer == "nwipe":
                    least(f"{name}times {peer}", ratio(ours, rows.get(peer)), times)
            if table.case in ("write", "zeros", "verify", "both"):
                most(f"{name}CPU s per GiB", median(_cpu(ours)), 0.6 if table.case == "both" else 0.3)
                most(f"{name}peak MB", max(values(ours, lambda run: run.peak)) / MB, 64)
            alone = rows.get("expunge, one target")
            if table.case == "many" and alone is not None and rate(alone):
                least(f"{name}times one target", ratio(ours, alone), 0.9)
                crowd, single = max(values(ours, _peak)), max(values(alone, _peak))
                most(f"{name}MB for each further target", (crowd - single) / (MANY - 1) / MB, 16)
        if table.case == "startup":
            for label, allowed in (("expunge-agent --version", 60), ("expunge-agent inventory", 300)):
                took = values(rows[label], lambda run: 1000 * run.seconds) if label in rows else []
                most(f"{label}, ms", median(took) if took else None, allowed)
    return found


def goals_text(tables: Sequence[Table]) -> str:
    """The goals as a list."""
    reached = goals(tables)
    if not reached:
        return ""
    cells = [
        ["Goal", "measured", ""],
        *([text, value, "yes" if good else "NO"] for text, value, good in reached),
    ]
    return "\n".join(["", "Goals", *_columns(cells)])


def machine() -> dict[str, str]:
    """What was measured on, without its name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
    load = os.getloadavg()[0]
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": f"{load:.2f}",
    }


def as_json(tables: Sequence[Table], about: dict[str, Any]) -> str:
    """Everything measured, run by run: seconds, CPU seconds, bytes."""
    plain = []
    for table in tables:
        one = asdict(table)
        for row in one["rows"]:
            for run in row["runs"]:
                if run is not None:
                    del run["output"]
        plain.append(one)
    reached = [{"goal": text, "measured": value, "reached": good} for text, value, good in goals(tables)]
    return (
        json.dumps({"about": about, "tables": plain, "goals": reached}, ensure_ascii=False, indent=2) + "\n"
    )
