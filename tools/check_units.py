"""Checks systemd/ with systemd's own programs, and the spool script against a systemctl that only notes.

Part of ``make check``. What cannot run here is named and skipped; nothing of the machine's own systemd
is asked or changed. ``--scores`` prints the exposure scores for docs/operator-guide.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SYSTEMD = Path(__file__).parent.parent / "systemd"
PROGRAMS = ("bin/expunge", "bin/expunge-agent", "libexec/expunge-agent-spool")
TEMPLATE = "expunge-agent@.service"
INSTANCE = f"expunge-agent@{'ab' * 32}.service"
SPOOLED, BEGUN, DONE, EMPTY = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)


def main() -> int:
    """0 when all is well, 1 when something is wrong; a sentence for each thing that is."""
    problems = check_spool_script()
    if shutil.which("systemd-analyze") is None:
        print("skipped: systemd-analyze is not installed, so the units were not verified by systemd")
    else:
        problems += verify_units()
        if "--scores" in sys.argv:
            print_scores()
    for problem in problems:
        print(f"problem: {problem}")
    print(f"units: {'ok' if not problems else 'not ok'}")
    return 1 if problems else 0


def units() -> list[Path]:
    """All unit files."""
    return sorted(path for path in SYSTEMD.iterdir() if path.suffix in (".service", ".path", ".timer"))


def verify_units() -> list[str]:
    """What ``systemd-analyze verify`` says, in a root of its own where the programs and all drop-ins exist."""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        target = root / "etc/systemd/system"
        target.mkdir(parents=True)
        for unit in units():
            shutil.copy(unit, target)
        for example in sorted(SYSTEMD.glob("*.d/*.conf.example")):
            (target / example.parent.name).mkdir(exist_ok=True)
            shutil.copy(example, target / example.parent.name / example.stem)
        for name in PROGRAMS:
            program = root / "opt/expunge" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        for unit in units():
            name = INSTANCE if unit.name == TEMPLATE else unit.name
            command = [
                "systemd-analyze",
                "verify",
                "--man=no",
                "--recursive-errors=no",
                f"--root={root}",
                name,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            if done.returncode or said:
                problems.append(f"{unit.name}: {'; '.join(said) or done.returncode}")
    return problems


def print_scores() -> None:
    """The overall exposure of each service: 0 is nothing, 10 is everything."""
    for unit in units():
        if unit.suffix != ".service":
            continue
        command = ["systemd-analyze", "security", "--no-pager", "--offline=yes", str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        score = re.search(r"exposure level for .*: (\d+\.\d)", done.stdout)
        print(f"{unit.name}: {score[1] if score else done.stderr.strip()}")


def check_spool_script() -> list[str]:
    """Runs the spool script over a made-up state folder: exactly the pending orders may be started."""
    with tempfile.TemporaryDirectory() as folder:
        state, tools = Path(folder) / "state", Path(folder) / "tools"
        tools.mkdir()
        make_state(state)
        fake = tools / "systemctl"
        fake.write_text('#!/bin/sh\necho "$*" >>"$EXPUNGE_STATE/asked"\n')
        fake.chmod(0o755)
        done = subprocess.run(
            ["/bin/sh", str(SYSTEMD / "expunge-agent-spool")],
            env={"PATH": f"{tools}:{os.defpath}", "EXPUNGE_STATE": str(state)},
            capture_output=True,
            text=True,
            check=False,
        )
        asked = (state / "asked").read_text().splitlines() if (state / "asked").exists() else []
    wanted = [f"start --no-block expunge-agent@{digest}.service" for digest in (BEGUN, SPOOLED)]
    problems = [] if asked == wanted else [f"expunge-agent-spool started {asked}, not {wanted}"]
    if done.returncode or done.stderr:
        problems.append(f"expunge-agent-spool ended with {done.returncode}: {done.stderr.strip()}")
    return problems


def make_state(state: Path) -> None:
    """One order handed in, one begun, one finished, one without its document, and names that are no orders."""
    names = [SPOOLED, EMPTY, "..;reboot", "A" * 64, "5" * 63, "6" * 65, f"{'7' * 60} $(x)"]
    for name in names:
        (state / "spool" / name).mkdir(parents=True)
        if name != EMPTY:
            (state / "spool" / name / "order.json").write_text("{}")
    for name in (BEGUN, DONE):
        (state / "orders" / name).mkdir(parents=True)
        (state / "orders" / name / "order.json").write_text("{}")
    (state / "orders" / DONE / "receipt").write_text("1")
    (state / "spool" / DONE).mkdir()  # handed in again, and answered already
    (state / "spool" / DONE / "order.json").write_text("{}")


if __name__ == "__main__":
    sys.exit(main())
