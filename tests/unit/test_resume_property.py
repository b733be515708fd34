"""Kill and resume at random points: whatever is lost, the whole ends as the source says, to the byte.

A *point* is one kill that struck. After each, all that no checkpoint vouched for may be lost: random
blocks above it are spoilt, as a power cut may leave them. EXPUNGE_POINTS sets the number of points,
EXPUNGE_TEST_SEED repeats a run, EXPUNGE_TEST_CASE takes one case of it alone (how the worker threads
interleave is the system's affair, so that a rare failure may need several tries).
"""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from expunge_agent.core.plan import PassPlan
from expunge_agent.engine import writer
from expunge_agent.engine.buffers import KIB
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.sources import CIPHERS, Source
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.writer import WriteReport, write_pass
from expunge_agent.techniques.overwrite_work import source_of
from expunge_profiles.expand import Fixed, expand
from expunge_profiles.schema import Pass, Profile, Verification

POINTS = 700
SECTOR = 512
GUARD = 3 * 4096 + 5  # bytes of the file beyond the target, which must stay as they are
NOISE = random.Random(0).randbytes(8 << 20)
SHM = Path("/dev/shm")
SYNCED: set[int] = set()
"""Inodes that fsync(2) was called for since the last flush began."""
KINDS = ("byte", "2", "3", "7", "64", "complement", "random byte", *CIPHERS)
KILLS = (
    "stop",
    "write",
    "torn write",
    "before flush",
    "after flush",
    "before checkpoint",
    "after checkpoint",
)


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


@dataclass
class Kill:
    """When this run ends: at the write that brings it to `after` bytes, or at flush or checkpoint `number`."""

    how: str
    after: int
    number: int
    struck: bool = False

    def strike(self) -> None:
        """Die here."""
        self.struck = True
        raise Killed


@dataclass(frozen=True)
class Case:
    """What stays the same over all runs of one pass."""

    number: int
    kind: str
    source: Callable[[], Source]
    expected: bytes
    block: int | None
    place: str
    guard: int
    failing_flush: bool

    @property
    def size(self) -> int:
        return len(self.expected)


class WatchedTarget(Target):
    """A target that keeps account of what was written and what a flush made durable, and dies on demand."""

    def __init__(self, fd: int, size: int, *, case: Case, kill: Kill | None, stop: threading.Event) -> None:
        self.case = case
        self.kill = kill
        self.stop = stop
        self.written = 0
        self.fail_flush = False
        self.repaired = False
        self.lazy = 0.0
        sectors = -(-size // SECTOR)
        self.durable = bytearray(sectors)
        """One for each sector written and flushed since this run began."""
        self._seen = bytearray(sectors)
        self._waiting: list[tuple[int, int]] = []
        self._flushes = 0
        self._account = threading.Lock()
        super().__init__(fd, size, block=case.block)

    def _open_direct(self, block: int | None) -> tuple[int, int]:
        return (-1, self.block) if self.case.place == "buffered" else super()._open_direct(block)

    def write(self, view: memoryview, offset: int) -> None:
        end = offset + len(view)
        assert 0 <= offset < end <= self.size
        if self.lazy:
            time.sleep(self.lazy)
        kill, strike = self.kill, False
        with self._account:
            first, last = offset // SECTOR, -(-end // SECTOR)
            assert self.repaired or 1 not in self._seen[first:last], f"{offset} written twice"
            self._seen[first:last] = bytes([1]) * (last - first)
            before, self.written = self.written, self.written + len(view)
            if kill is not None and kill.how in ("stop", "write", "torn write"):
                strike = not kill.struck and before <= kill.after < self.written
                kill.struck |= strike
        if strike and kill is not None and kill.how == "write":
            raise Killed
        if strike and kill is not None and kill.how == "torn write":
            kept = len(view) * 2 // 3 // self.block * self.block
            if kept:
                super().write(view[:kept], offset)
            raise Killed
        super().write(view, offset)
        with self._account:
            self._waiting.append((offset, end))
        if strike:
            self.stop.set()

    def flush(self) -> None:
        self._flushes += 1
        kill = self.kill
        strike = kill is not None and kill.number == self._flushes
        if strike and kill is not None and kill.how == "before flush":
            kill.strike()
        with self._account:
            covered, self._waiting = self._waiting, []
        SYNCED.clear()
        super().flush()
        assert os.fstat(self._fd).st_ino in SYNCED, "a flush that asked nothing of the system"
        if self.fail_flush and covered:
            self.fail_flush, self.repaired = False, True
            self._lose(covered)
            raise OSError(errno.EIO, "the flush failed, and what was on its way is lost")
        for start, end in covered:
            first, last = start // SECTOR, -(-end // SECTOR)
            self.durable[first:last] = bytes([1]) * (last - first)
        if strike and kill is not None and kill.how == "after flush":
            kill.strike()

    def _lose(self, ranges: list[tuple[int, int]]) -> None:
        for start, end in ranges:
            os.pwrite(self._fd, NOISE[start:end], start)
        super().flush()


class Life:
    """One pass over one file, through all its kills."""

    def __init__(self, case: Case, chance: random.Random, path: Path) -> None:
        self.case = case
        self.chance = chance
        self.path = path
        self.checkpoint = 0
        """The last durable offset that was recorded."""
        self.told = 0
        self.checkpoints = 0
        self.gained = 0
        self.midway = 0
        """Resumes from within the target."""
        self.kills: Counter[str] = Counter()
        self.reader = -1

    def live(self) -> None:
        """Run, die and resume until the pass is complete; then read everything back."""
        size, guard = self.case.size, self.case.guard
        beyond = NOISE[-guard:] if guard else b""
        self.path.write_bytes(NOISE[1 : size + 1] + beyond)
        self.reader = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        os.posix_fadvise(self.reader, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead into what is being written
        try:
            for _ in range(self.chance.randint(1, 3)):
                if self.run(self.draw_kill()):
                    break
                self.spoil()
            else:
                assert self.run(None), "the last run came to no end"
        finally:
            os.close(self.reader)
        wrong = first_difference(self.path.read_bytes(), self.case.expected + beyond)
        assert wrong < 0, f"in the end byte {wrong} of {size} is not what was to be written"
        assert self.checkpoint == self.gained == size

    def draw_kill(self) -> Kill:
        left = max(1, self.case.size - self.checkpoint)
        return Kill(
            self.chance.choice(KILLS), self.chance.randrange(left), self.chance.choice((1, 1, 2, 2, 3, 4))
        )

    def run(self, kill: Kill | None) -> bool:
        """One run from the last checkpoint on; whether it came to its end."""
        chance, start = self.chance, self.checkpoint
        self.midway += 0 < start < self.case.size
        stop = threading.Event()
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        target = WatchedTarget(fd, self.case.size, case=self.case, kill=kill, stop=stop)
        target.lazy = chance.choice((0, 0.0003, 0.001, 0.002))
        target.fail_flush = self.case.failing_flush and chance.random() < 0.7
        tuning = Tuning(
            chunk=chance.choice((64, 64, 64, 64, 128, 256, 1024)) * KIB,
            stripes=chance.randint(1, 4),
        )
        self.told, self.checkpoints = start, 0
        shown: list[Progress] = []
        try:
            report = write_pass(
                target,
                self.case.source(),
                start=start,
                tuning=tuning,
                progress=shown.append,
                checkpoint=lambda durable: self.note(target, kill, start, durable),
                checkpoint_interval=chance.choice((0, 0, 0, 3600)),
                stop=stop,
            )
        except Killed:
            assert kill is not None
            self.kills[kill.how] += 1
            return False
        finally:
            assert not [one for one in threading.enumerate() if one.name.startswith("stripe-")]
            target.close()
            self.gained += self.checkpoint - start
        return self.check_report(report, target, start, shown, kill)

    def note(self, target: WatchedTarget, kill: Kill | None, start: int, durable: int) -> None:
        """A checkpoint: what it vouches for is on the file and was flushed."""
        assert self.told < durable <= self.case.size
        first, last = start // SECTOR, -(-durable // SECTOR)
        unflushed = target.durable.find(0, first, last)
        assert unflushed < 0, f"a checkpoint at {durable}: {unflushed * SECTOR} was not flushed"
        found = os.pread(self.reader, durable - self.told, self.told)
        wrong = first_difference(found, self.case.expected[self.told : durable])
        assert wrong < 0, f"a checkpoint at {durable}: {self.told + wrong} is not what was to be written"
        self.told = durable
        self.checkpoints += 1
        strike = kill is not None and kill.number == self.checkpoints
        if strike and kill is not None and kill.how == "before checkpoint":
            kill.strike()
        self.checkpoint = durable
        if strike and kill is not None and kill.how == "after checkpoint":
            kill.strike()

    def check_report(
        self,
        report: WriteReport,
        target: WatchedTarget,
        start: int,
        shown: list[Progress],
        kill: Kill | None,
    ) -> bool:
        """The report says what the file and the account say; whether the pass is complete."""
        size = self.case.size
        stopped = kill is not None and kill.how == "stop" and kill.struck
        self.kills["stop"] += stopped and not report.complete
        assert (report.problems, report.error_count, report.error_bytes) == ([], 0, 0)
        assert report.start == start
        # A stop may cut the repair after a failed flush short; then less is durable than was written.
        assert report.durable == self.checkpoint
        assert report.flushed or (stopped and target.repaired)
        assert report.bytes_written == report.durable - start
        assert report.complete == (report.durable == size)
        assert report.complete or stopped
        assert report.stopped == (stopped and not report.complete)
        assert target.written == report.bytes_written or target.repaired
        dones = [one.done for one in shown]
        assert dones == sorted(dones)
        assert all(start <= done <= size for done in dones)
        if report.complete:
            assert dones[-1] == size
        return report.complete

    def spoil(self) -> None:
        """Power was lost: above the checkpoint anything may stand."""
        size = self.case.size
        with self.path.open("r+b") as file:
            for _ in range(self.chance.randint(0, 6)):
                sectors = -(-(size - self.checkpoint) // SECTOR)
                if not sectors:
                    return
                first = self.checkpoint + self.chance.randrange(sectors) * SECTOR
                last = min(size, first + self.chance.randint(1, 200) * SECTOR)
                file.seek(first)
                file.write(NOISE[first + 7 : last + 7])


def first_difference(found: bytes, expected: bytes) -> int:
    """Where two contents begin to differ, −1 where they do not."""
    if found == expected:
        return -1
    pairs = enumerate(zip(found, expected, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(found), len(expected)))


def draw_case(number: int, chance: random.Random) -> Case:
    size = draw_size(chance)
    kind = KINDS[number % len(KINDS)]
    step, expected = draw_source(kind, size, chance)
    return Case(
        number=number,
        kind=kind,
        source=lambda: source_of(step),
        expected=expected,
        block=chance.choice((None, 512, 4096)),
        place=chance.choice(("disk", "disk", "disk", "disk", "memory", "buffered")),
        guard=chance.choice((0, GUARD)),
        failing_flush=chance.random() < 0.15,
    )


def draw_size(chance: random.Random) -> int:
    """One byte to several chunks, with a liking for borders."""
    which = chance.random()
    if which < 0.12:
        return chance.randint(1, 5000)
    if which < 0.4:
        unit = chance.choice((512, 4096))
        return max(1, chance.randint(1, 600_000 // unit) * unit + chance.choice((-1, 0, 1)))
    if which < 0.95:
        return chance.randint(2, 16) * 64 * KIB + chance.choice((0, 1, -1, 777, -513, 4095))
    return chance.randint(1, 4) * 1024 * KIB + chance.choice((0, 777, 512, -4097))


def draw_source(kind: str, size: int, chance: random.Random) -> tuple[PassPlan, bytes]:
    """A pass as a journal keeps it, and what it must leave, worked out here."""
    if kind in CIPHERS:
        key = chance.randbytes(CIPHERS[kind].key_bytes)
        return PassPlan(cipher=kind, key=key.hex()), stream(kind, key, size)
    if kind == "complement":
        before = chance.randbytes(chance.randint(1, 64))
        pattern = bytes(255 - byte for byte in before)
        first = Pass(fixed=before.hex()) if len(before) == 1 else Pass(pattern=before.hex())
        step = expanded(0, first, Pass(complement=True))
    elif kind == "random byte":
        pattern = chance.randbytes(1)
        step = expanded(pattern[0], Pass(random_byte=True))
    else:
        pattern = chance.randbytes(1 if kind == "byte" else int(kind))
        step = Fixed(pattern)
    return PassPlan(fixed=step.pattern.hex()), (pattern * (size // len(pattern) + 1))[:size]


def expanded(drawn: int, *passes: Pass) -> Fixed:
    """The last of `passes` as the profile code expands it; `drawn` is the byte a random byte gets."""
    profile = Profile(
        id="own",
        version=1,
        title="own",
        level="clear",
        authority="none",
        status="current",
        source="own",
        advice="none",
        media=("file",),
        passes=passes,
        verification=Verification(kind="none"),
    )
    step = expand(profile, lambda: drawn)[-1]
    assert isinstance(step, Fixed)
    return step


def stream(cipher: str, key: bytes, size: int) -> bytes:
    """The keyed stream from offset 0 by the cipher's definition, in as few calls as there can be."""
    if cipher == "aes-256-ctr":
        return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))
    if cipher == "chacha20":
        return Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor().update(bytes(size))
    assert cipher == "aes-256-xts"
    unit, out = bytes(256 * KIB), bytearray()
    for number in range(-(-size // len(unit))):
        tweak = number.to_bytes(16, "little")
        out += Cipher(algorithms.AES(key), modes.XTS(tweak)).encryptor().update(unit)
    return bytes(out[:size])


def noting(sync: Callable[[int], None]) -> Callable[[int], None]:
    """The same call, but noting the inode that it was good for."""

    def call(fd: int) -> None:
        sync(fd)
        SYNCED.add(os.fstat(fd).st_ino)

    return call


@pytest.mark.slow
def test_a_pass_that_is_killed_anywhere_and_resumed_leaves_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = int(os.environ.get("EXPUNGE_POINTS", POINTS))
    seed = os.environ.get("EXPUNGE_TEST_SEED") or str(random.randrange(1 << 32))
    only = os.environ.get("EXPUNGE_TEST_CASE")
    print(f"EXPUNGE_TEST_SEED={seed}")
    monkeypatch.setattr(writer, "TICK", 0.0005)  # flushes and checkpoints in the middle of small passes
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    struck: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    midway = 0
    number = int(only or 0)
    while struck.total() < wanted:
        chance = random.Random(f"{seed}/{number}")
        case = draw_case(number, chance)
        folder = SHM if case.place == "memory" and SHM.is_dir() else tmp_path
        path = folder / f"expunge-resume-{os.getpid()}.img"
        life = Life(case, chance, path)
        try:
            life.live()
        except BaseException as error:
            error.add_note(f"EXPUNGE_TEST_SEED={seed} EXPUNGE_TEST_CASE={number}")
            error.add_note(f"{case.kind}, {case.size} bytes, block {case.block}, {case.place}")
            raise
        finally:
            path.unlink(missing_ok=True)
        struck += life.kills
        midway += life.midway
        kinds[case.kind] += life.kills.total()
        number += 1
        if only:
            return
    print(
        f"{struck.total()} points in {number} passes, {midway} resumed midway: {dict(struck)}; {dict(kinds)}"
    )
    if wanted >= POINTS:
        assert set(struck) == set(KILLS)
        assert set(kinds) == set(KINDS)
        assert midway * 4 > wanted, "most resumes begin at the start or the end"
        assert min(struck.values()) * 40 > wanted, "some kinds of kill hardly ever strike"
