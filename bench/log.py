"""How the log grows: ``python bench/log.py``. A million entries by default, in a folder of its own; see docs/performance.md."""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from expunge_controller import log_audit, log_tiles, translog
from expunge_controller.context import Controller, opened, utc_now
from expunge_controller.init import init
from expunge_controller.records import merkle
from expunge_controller.records.findings import failures
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.settings import Config, Home

BATCH = 10_000
ALONE = 200
ASKED = 1000


def main() -> int:
    """0 when all was measured and every proof was right."""
    parser = argparse.ArgumentParser(prog="bench/log.py", description="Measure the transparency log.")
    parser.add_argument("--entries", type=int, default=1_000_000, help="how many (1000000)")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="expunge-log-", dir=asked.folder) as folder:
        home = Home(Path(folder) / "home")
        init(home, Config(name="bench", address="127.0.0.1", port=4722))
        with opened(home) as controller:
            return _measure(controller, asked.entries, Path(folder))


def _measure(controller: Controller, entries: int, folder: Path) -> int:
    seconds = _timed(lambda: _fill(controller, entries))
    say("append, 10,000 a transaction", f"{entries / seconds:,.0f} entries/s ({seconds:.0f} s)")
    seconds = _timed(lambda: [_append(controller) for _ in range(ALONE)])
    say("append, one a transaction, synced", f"{seconds / ALONE * 1000:.2f} ms")
    seconds = _timed(lambda: translog.head(controller, utc_now()))
    say("sign the head", f"{seconds * 1000:.1f} ms")
    with controller.store.read() as unit:
        size = unit.log.size()
    _proofs(controller, size)
    database = controller.home.database.stat().st_size
    say("database", f"{database / 1e6:,.0f} MB, {database / size:.0f} bytes an entry")
    seconds = _timed(lambda: log_tiles.publish(controller, folder / "tiles", utc_now()))
    files = [path.stat().st_size for path in (folder / "tiles").rglob("*") if path.is_file()]
    say("publish as tiles", f"{seconds:.0f} s, {len(files):,} files, {sum(files) / 1e6:,.0f} MB")
    policy = None
    copied: list[bool] = []
    seconds = _timed(
        lambda: copied.append(
            bool(failures(log_audit.check_copy(log_tiles.Copy(folder / "tiles"), policy, [])))
        )
    )
    say("check the copy", f"{seconds:.0f} s")
    found: list[str] = []
    seconds = _timed(
        lambda: found.extend(step.title for step in failures(log_audit.check_own(controller, [])))
    )
    say("check the log, entry by entry", f"{seconds:.0f} s")
    # The entries stand for no documents here; everything else has to be right.
    return 0 if found == [log_audit.DOCUMENTS] and copied == [False] else 1


def _fill(controller: Controller, entries: int) -> None:
    for start in range(0, entries, BATCH):
        with controller.store.write() as unit:
            for number in range(start, min(start + BATCH, entries)):
                unit.log.append(entry_of(EntryKind.RECEIPT, b"%d" % number, b"signature %d" % number))


def _append(controller: Controller) -> None:
    with controller.store.write() as unit:
        unit.log.append(entry_of(EntryKind.RECEIPT, random.randbytes(16), b"signature"))


def _proofs(controller: Controller, size: int) -> None:
    dice = random.Random(1)
    inclusion, consistency, checks = [], [], []
    with controller.store.read() as unit:
        root = merkle.root(unit.log.node, size)
        for _ in range(ASKED):
            number, old = dice.randrange(size), dice.randrange(1, size)
            leaf, old_root = unit.log.node(0, number), merkle.root(unit.log.node, old)
            begun = time.perf_counter()
            proof = merkle.inclusion_proof(unit.log.node, number, size)
            inclusion.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            grown = merkle.consistency_proof(unit.log.node, old, size)
            consistency.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            good = merkle.is_included(leaf, number, size, proof, root)
            checks.append(time.perf_counter() - begun)
            if not good or not merkle.is_consistent(old, size, grown, old_root, root):
                sys.exit(f"a proof of entry {number} or from {old} is wrong")
    for name, times in (
        ("inclusion proof", inclusion),
        ("consistency proof", consistency),
        ("check one", checks),
    ):
        worst = sorted(times)[int(len(times) * 0.99)]
        say(name, f"median {statistics.median(times) * 1000:.2f} ms, 99 of 100 under {worst * 1000:.2f} ms")


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def say(what: str, figure: str) -> None:
    """One line of the report."""
    print(f"{what:<36}{figure}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
