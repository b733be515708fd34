"""The cases: who does what on which target, in turns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from measure import Run, ToolFailedError
from peers import CHECKED, KEYED, Agent, Job, Tools
from targets import MIB, Target, UnavailableError, Workspace

KINDS = ("loop", "file", "zram")
MANY = 8
SMALL = 4 * MIB
STARTS = 4
"""Start-up is measured this many times a round: it is short, and wanders most."""


@dataclass
class Row:
    """What one contender did, a run a round (None: it failed). `size`: bytes of medium finished a run."""

    label: str
    size: int
    runs: list[Run | None] = field(default_factory=list)


@dataclass
class Table:
    """One case on one kind of target, or why it could not be measured."""

    case: str
    kind: str
    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Contender:
    """Who runs: `job` is made anew for each run, on `targets`."""

    label: str
    targets: Sequence[Target]
    job: Callable[[], Job]
    needs: str = ""


@dataclass(frozen=True)
class Bench:
    """What all cases share. `size` and `largest` in bytes."""

    space: Workspace
    tools: Tools
    agent: Agent
    python: Path
    size: int
    rounds: int
    kinds: Sequence[str]
    largest: int

    def turns(self, table: Table, contenders: Sequence[Contender], rounds: int | None = None) -> Table:
        """All `contenders` one after the other, `rounds` times over. One that fails is left out from then on."""
        rounds = self.rounds if rounds is None else rounds
        able = [one for one in contenders if not one.needs or one.needs in self.tools.paths]
        rows = {one.label: Row(one.label, sum(target.size for target in one.targets)) for one in able}
        failed: set[str] = set()
        for number in range(rounds):
            for one in able:
                run = None
                if one.label not in failed:
                    say(f"{table.case} on {table.kind}, round {number + 1} of {rounds}: {one.label}")
                    try:
                        run = self.once(one)
                    except ToolFailedError as error:
                        failed.add(one.label)
                        table.notes.append(f"{one.label} failed: {error}")
                rows[one.label].runs.append(run)
        table.rows += rows.values()
        return table

    def warm(self) -> None:
        """One small wipe and check that nobody measures: afterwards Python's compiled files are there."""
        with self.space.lend("file", MIB) as targets:
            self.space.check(targets[0])
            self.agent.verify(targets[0], _receipt(self, KEYED, targets)).measure(
                self.space.root / "first.log"
            )

    def once(self, one: Contender) -> Run:
        """One run on settled targets that are checked to be ours."""
        for target in one.targets:
            self.space.check(target)
            self.space.settle(target)
        return one.job().measure(self.space.root / "output.log")


def say(text: str) -> None:
    """What goes on, for whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def write(bench: Bench) -> Iterator[Table]:
    """One pass of random data: ours is a keyed stream."""
    for kind in bench.kinds:
        yield _pass(bench, "write", kind, "One pass of random data (ours: keyed stream)", "random")


def zeros(bench: Bench) -> Iterator[Table]:
    """One pass of zeros; not on zram, which stores no zeros."""
    for kind in bench.kinds:
        if kind != "zram":
            yield _pass(bench, "zeros", kind, "One pass of zeros", "zeros")


def _pass(bench: Bench, case: str, kind: str, title: str, work: str) -> Table:
    table = Table(case, kind, title)
    try:
        with bench.space.lend(kind, bench.size) as targets:
            return bench.turns(table, list(_writers(bench, work, targets[0])))
    except UnavailableError as error:
        table.notes.append(f"not measured: {error}")
        return table


def _writers(bench: Bench, work: str, target: Target) -> Iterator[Contender]:
    tools, one = bench.tools, [target]
    profile = "zero" if work == "zeros" else KEYED
    yield Contender("fio", one, lambda: tools.fio(work, one), "fio")
    yield Contender("expunge", one, lambda: bench.agent.wipe(profile, one))
    if target.block:
        log = bench.space.root / "nwipe.log"
        yield Contender("nwipe", one, lambda: tools.nwipe(work, one, log), "nwipe")
    yield Contender("shred", one, lambda: tools.shred(work, target), "shred")
    yield Contender("scrub", one, lambda: tools.scrub(work, target), "scrub")
    yield Contender("dd", one, lambda: tools.dd(work, target), "dd")
    if work == "random":
        yield Contender("openssl | dd", one, lambda: tools.openssl(target), "openssl")


def verify(bench: Bench) -> Iterator[Table]:
    """Full verification against a receipt, beside a plain read of the same data."""
    for kind in bench.kinds:
        table = Table("verify", kind, "Full verification of a keyed stream (fio: reading only)")
        try:
            with bench.space.lend(kind, bench.size) as targets:
                bench.space.check(targets[0])
                receipt = _receipt(bench, KEYED, targets)
                contenders = [
                    Contender("fio", targets, partial(bench.tools.fio, "read", targets), "fio"),
                    Contender(
                        "expunge",
                        targets,
                        partial(bench.agent.verify, targets[0], receipt),
                    ),
                ]
                bench.turns(table, contenders)
        except (UnavailableError, ToolFailedError) as error:
            table.notes.append(f"not measured: {error}")
        yield table


def both(bench: Bench) -> Iterator[Table]:
    """A random pass and its full verification in one go."""
    for kind in bench.kinds:
        table = Table("both", kind, "A pass of random data and its full verification")
        try:
            with bench.space.lend(kind, bench.size) as targets:
                bench.turns(table, list(_checkers(bench, targets)))
        except UnavailableError as error:
            table.notes.append(f"not measured: {error}")
        yield table


def _checkers(bench: Bench, one: Sequence[Target]) -> Iterator[Contender]:
    tools, log = bench.tools, bench.space.root / "nwipe.log"
    yield Contender("fio", one, lambda: tools.fio_write_read(one), "fio")
    yield Contender("expunge", one, lambda: bench.agent.wipe(CHECKED, one))
    if one[0].block:
        yield Contender("nwipe", one, lambda: tools.nwipe("random", one, log, verify=True), "nwipe")


def many(bench: Bench) -> Iterator[Table]:
    """Eight targets at once against one of the same total size."""
    share = bench.size // MANY // MIB * MIB
    for kind in bench.kinds:
        table = Table(
            "many", kind, f"{MANY} targets of {share // MIB} MiB against one of {MANY * share // MIB} MiB"
        )
        if not share:
            table.notes.append(f"not measured: --size is too small for {MANY} targets")
            yield table
            continue
        try:
            with ExitStack() as stack:
                one = stack.enter_context(bench.space.lend(kind, MANY * share))
                several = stack.enter_context(bench.space.lend(kind, share, MANY))
                bench.turns(table, list(_crowd(bench, one, several)))
        except UnavailableError as error:
            table.notes.append(f"not measured: {error}")
        yield table


def _crowd(bench: Bench, one: Sequence[Target], several: Sequence[Target]) -> Iterator[Contender]:
    tools, agent, log = bench.tools, bench.agent, bench.space.root / "nwipe.log"
    yield Contender("fio", several, lambda: tools.fio("random", several), "fio")
    yield Contender("expunge", several, lambda: agent.wipe(KEYED, several))
    yield Contender("expunge, one target", one, lambda: agent.wipe(KEYED, one))
    yield Contender(f"expunge, {MANY} processes", several, lambda: agent.wipe_apart(KEYED, several))
    if several[0].block:
        yield Contender("nwipe", several, lambda: tools.nwipe("random", several, log), "nwipe")


def startup(bench: Bench) -> Iterator[Table]:
    """How long until something happens, and what a job costs however small the target is."""
    bare = Job([[[str(bench.python), "-c", "pass"]]])
    contenders = [
        Contender("python -c pass", (), lambda: bare),
        Contender("expunge-agent --version", (), lambda: bench.agent.call("--version")),
        Contender("expunge-agent inventory", (), lambda: bench.agent.call("inventory")),
        Contender("expunge-agent profiles", (), lambda: bench.agent.call("profiles")),
    ]
    yield bench.turns(Table("startup", "-", "Start-up"), contenders, STARTS * bench.rounds)
    kind = next((kind for kind in bench.kinds if kind != "zram"), "file")
    table = Table("startup", kind, "A whole job on 1 MiB: what start and end of a job cost")
    try:
        with bench.space.lend(kind, MIB) as targets:
            yield bench.turns(table, list(_writers(bench, "random", targets[0])))
    except UnavailableError as error:
        table.notes.append(f"not measured: {error}")
        yield table


def growth(bench: Bench) -> Iterator[Table]:
    """From 1 MiB to the largest size, and from 1 to 64 targets."""
    sizes = [size for size in (MIB, 16 * MIB, 256 * MIB, 1024 * MIB, 16384 * MIB) if size < bench.largest]
    for size in [*sizes, bench.largest]:
        yield _grown(bench, size)
    table = Table("growth", "file", f"Growth: targets of {SMALL // MIB} MiB each, keyed stream")
    with bench.space.lend("file", SMALL, 64) as targets:
        contenders = [
            Contender(
                f"{count} targets",
                targets[:count],
                partial(bench.agent.wipe, KEYED, targets[:count]),
            )
            for count in (1, 2, 4, 8, 16, 32, 64)
        ]
        yield bench.turns(table, contenders)


def _grown(bench: Bench, size: int) -> Table:
    """Zeros over a zram device, which stores none: how the program scales, not a medium. The receipt of it
    serves to verify the holes of a sparse loop device of the same size, too."""
    table = Table(
        "growth", "zram", f"Growth: zeros over zram, and a sparse loop device, of {size // MIB} MiB"
    )
    rounds = bench.rounds if size <= 1024 * MIB else 1
    try:
        with ExitStack() as stack:
            zram = stack.enter_context(bench.space.lend("blank", size))
            sparse = stack.enter_context(bench.space.lend("sparse", size))
            receipts: list[Path] = []

            def verifying(on: Sequence[Target]) -> Job:
                if not receipts:
                    receipts.append(_receipt(bench, "zero", zram))
                return bench.agent.verify(on[0], receipts[0])

            contenders = [
                Contender("write zeros, zram", zram, lambda: bench.agent.wipe("zero", zram)),
                Contender("verify zeros, zram", zram, lambda: verifying(zram)),
                Contender("verify holes, loop", sparse, lambda: verifying(sparse)),
            ]
            if size <= bench.size:
                loop = stack.enter_context(bench.space.lend("loop", size))
                contenders.append(
                    Contender("write keyed stream, loop", loop, lambda: bench.agent.wipe(KEYED, loop))
                )
            bench.turns(table, contenders, rounds)
    except UnavailableError as error:
        table.notes.append(f"not measured: {error}")
    return table


def _receipt(bench: Bench, profile: str, targets: Sequence[Target]) -> Path:
    say(f"a wipe of {sum(one.size for one in targets) // MIB} MiB, for its receipt (not measured)")
    done = bench.agent.wipe(profile, targets).measure(bench.space.root / "first.log")
    return bench.agent.receipt(done.output)


CASES: dict[str, Callable[[Bench], Iterator[Table]]] = {
    "write": write,
    "zeros": zeros,
    "verify": verify,
    "both": both,
    "many": many,
    "startup": startup,
    "growth": growth,
}
