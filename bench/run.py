"""The benchmark: ``python bench/run.py``. Measures expunge-agent beside its peers; see docs/performance.md.

Writes only to files in a fresh folder and to loop and zram devices that it makes itself and removes again.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from cases import CASES as DISK_CASES
from cases import KINDS, Bench, Table, say
from measure import ToolFailedError
from peers import Agent, Tools
from report import as_json, goals_text, machine, table_text
from targets import MIB, UnavailableError, UnsafeError, Workspace, disk_problem, leftovers
from vault import vault

_UNITS = {"M": MIB, "G": 1024 * MIB, "T": 1024 * 1024 * MIB}
CASES = {**DISK_CASES, "vault": vault}
MEANT = 2048 * MIB
_NWIPE_SETTINGS = Path("/etc/nwipe")


def size(text: str) -> int:
    """``256M``, ``2G`` as bytes, a multiple of 1 MiB."""
    found = re.fullmatch(r"([1-9]\d*)([MGT])i?B?", text, re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 256M or 2G")
    return int(found[1]) * _UNITS[found[2].upper()]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench/run.py", description="Measure expunge-agent beside its peers."
    )
    parser.add_argument("--size", type=size, default=size("2G"), help="of one target (2G)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run, in turns (5)")
    parser.add_argument(
        "--targets", type=_some(KINDS), default=list(KINDS), help=f"of {','.join(KINDS)} (all)"
    )
    parser.add_argument("--only", type=_some(CASES), default=list(CASES), help=f"of {','.join(CASES)} (all)")
    parser.add_argument("--largest", type=size, default=size("100G"), help="where growth ends (100G)")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure"
    )
    parser.add_argument("--agent", type=Path, help="expunge-agent to measure (.venv/bin, else PATH)")
    parser.add_argument("--nwipe", default="", help="path of a newer nwipe than that on PATH")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    found = parser.parse_args()
    if found.rounds < 1:
        parser.error("--rounds is at least 1")
    return found


def main() -> int:
    """0 when all was measured, 1 when something was not, 130 when interrupted."""
    asked = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    had_settings = _NWIPE_SETTINGS.exists()
    tables: list[Table] = []
    try:
        tools = Tools.find(asked.nwipe)
        about: dict[str, Any] = {**machine(), "size": str(asked.size), "rounds": asked.rounds}
        about["tools"] = tools.versions()
        _introduce(about, tools, asked.folder)
        try:
            _measure(asked, tools, tables)
        finally:
            if tables:
                print(goals_text(tables))
                if asked.size < MEANT:
                    print("  (the goals are meant for --size 2G: on less, start and end weigh more)")
                if asked.json:
                    asked.json.write_text(as_json(tables, about))
    except (UnavailableError, UnsafeError, ToolFailedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("interrupted; everything was detached and removed")
        return 130
    finally:
        if not had_settings:
            shutil.rmtree(_NWIPE_SETTINGS, ignore_errors=True)  # newer versions of nwipe leave them behind
    return 1 if any(table.notes for table in tables) else 0


def _measure(asked: argparse.Namespace, tools: Tools, tables: list[Table]) -> None:
    """Run the cases asked for; each table is shown and kept as soon as it is there."""
    with Workspace(asked.folder, asked.size) as space:
        program = _agent(asked.agent)
        bench = Bench(
            space=space,
            tools=tools,
            agent=Agent(program, space.root / "agent"),
            python=_python_of(program),
            size=asked.size,
            rounds=asked.rounds,
            kinds=asked.targets,
            largest=asked.largest,
        )
        bench.warm()
        for name in asked.only:
            for table in CASES[name](bench):
                tables.append(table)
                print(table_text(table), flush=True)


def _introduce(about: dict[str, Any], tools: Tools, folder: Path) -> None:
    print(", ".join(f"{key}: {value}" for key, value in about.items() if key != "tools"))
    print("; ".join(f"{name}: {version}" for name, version in about["tools"].items()))
    for line in tools.missing():
        print(f"  {line}")
    if problem := disk_problem(folder):
        print(f"  {problem}: name another one with --folder")
    for line in leftovers():
        print(f"  left by an earlier run: {line}")
    sys.stdout.flush()


def _agent(named: Path | None) -> Path:
    beside = [
        Path(__file__).resolve().parent.parent / ".venv/bin/expunge-agent",
        Path(sys.executable).with_name("expunge-agent"),
    ]
    found = named or next((path for path in beside if path.exists()), None) or shutil.which("expunge-agent")
    if found is None or not Path(found).exists():
        raise UnavailableError("There is no expunge-agent: run make install, or name it with --agent.")
    return Path(found).absolute()


def _python_of(program: Path) -> Path:
    """The interpreter that runs the agent, for the comparison."""
    beside = program.with_name("python")
    return beside if os.access(beside, os.X_OK) else Path(sys.executable)


def _some(known: Any) -> Any:
    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not one of {', '.join(known)}")
        return names

    return parse


def _leave(number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
