"""One pass: every byte as the source says, whatever the sizes, and truthful when it ends early."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.engine.buffers import KIB, aligned
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.problems import TargetShrank
from expunge_agent.engine.sources import KeyedStream, PatternSource, Source
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import SEAL_CIPHER, Tuning, choose
from expunge_agent.engine.writer import write_pass

KEY = bytes(range(32))
SMALL = Tuning(chunk=64 * KIB, stripes=3)
tunings = st.builds(Tuning, chunk=st.sampled_from([64 * KIB, 128 * KIB]), stripes=st.integers(1, 4))
sources = st.one_of(
    st.builds(PatternSource, st.binary(min_size=1, max_size=64)),
    st.just(KeyedStream("aes-256-ctr", KEY)),
    st.just(KeyedStream("aes-256-xts", KEY + KEY[::-1])),
)
sizes = st.one_of(
    st.integers(1, 5000),
    st.integers(1, 500_000),
    st.builds(lambda n, d: max(1, n * 64 * KIB + d), st.integers(1, 7), st.integers(-513, 513)),
)


class Watched:
    """A source that calls `hook(offset)` before each piece."""

    def __init__(self, source: Source, hook: Callable[[int], None]) -> None:
        self._source = source
        self._hook = hook

    def describe(self) -> str:
        return self._source.describe()

    def for_worker(self) -> Watched:
        return Watched(self._source.for_worker(), self._hook)

    def ready(self, offset: int, length: int) -> memoryview | None:
        return None

    def fill(self, view: memoryview, offset: int) -> None:
        self._hook(offset)
        self._source.fill(view, offset)

    def recognise(self, data: bytes, offset: int) -> int | None:
        return self._source.recognise(data, offset)


def content(source: Source, size: int) -> bytes:
    view = aligned(size)
    source.fill(view, 0)
    return bytes(view)


def opened(path: Path, kind: type[Target] = Target) -> Target:
    return kind(os.open(path, os.O_RDWR), path.stat().st_size)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "medium.img"
    path.write_bytes(b"\xa5" * (40 * 64 * KIB + 777))
    return path


@settings(max_examples=150, deadline=None)
@given(size=sizes, source=sources, tuning=tunings, data=st.data())
def test_the_whole_or_the_rest_is_exactly_the_source(
    tmp_path_factory: pytest.TempPathFactory, size: int, source: Source, tuning: Tuning, data: st.DataObject
) -> None:
    start = data.draw(st.one_of(st.just(0), st.integers(0, size)))
    path = tmp_path_factory.mktemp("pass") / "f"
    before = os.urandom(size)
    path.write_bytes(before)
    target = opened(path)
    told: list[int] = []
    try:
        report = write_pass(target, source, start=start, tuning=tuning, checkpoint=told.append)
        border = start - start % target.block if start < size else size
    finally:
        target.close()
    assert path.stat().st_size == size
    assert path.read_bytes() == before[:border] + content(source, size)[border:]
    assert report.complete
    assert report.flushed
    assert not report.stopped
    assert (report.bytes_written, report.durable) == (size - start, size)
    assert (report.problems, report.error_count, report.error_bytes) == ([], 0, 0)
    assert told == ([size] if start < size else [])


@settings(max_examples=60, deadline=None)
@given(size=st.integers(64 * KIB, 1_000_000), source=sources, after=st.integers(0, 14), tuning=tunings)
def test_resume_from_the_durable_offset_gives_the_same_whole(
    tmp_path_factory: pytest.TempPathFactory, size: int, source: Source, after: int, tuning: Tuning
) -> None:
    path = tmp_path_factory.mktemp("resume") / "f"
    path.write_bytes(b"\xa5" * size)
    stop = threading.Event()
    seen: list[int] = []

    def hook(offset: int) -> None:
        seen.append(offset)
        if len(seen) > after:
            stop.set()

    target = opened(path)
    first = write_pass(target, Watched(source, hook), tuning=tuning, stop=stop)
    assert path.read_bytes()[: first.durable] == content(source, size)[: first.durable]
    assert first.stopped == (first.durable < size)
    assert first.complete == (first.durable == size)
    assert first.bytes_written == first.durable
    with path.open("r+b") as file:  # what was not durable may be lost
        file.seek(first.durable)
        file.write(os.urandom(size - first.durable))
    second = write_pass(target, source, start=first.durable, tuning=tuning)
    target.close()
    assert path.read_bytes() == content(source, size)
    assert first.bytes_written + second.bytes_written == size


def test_stop_ends_soon_and_tells_the_truth(image: Path) -> None:
    stop = threading.Event()
    target = opened(image)
    source = Watched(PatternSource(b"\x11"), lambda offset: stop.set() if offset >= 5 * 64 * KIB else None)
    report = write_pass(target, source, tuning=SMALL, stop=stop)
    target.close()
    assert report.stopped
    assert not report.complete
    assert 5 * 64 * KIB < report.durable < 10 * 64 * KIB
    written = image.read_bytes()
    assert written.count(b"\x11") == report.bytes_written == report.durable
    assert set(written[report.durable :]) == {0xA5}


def test_a_stop_before_the_first_byte_writes_nothing(image: Path) -> None:
    stop = threading.Event()
    stop.set()
    target = opened(image)
    report = write_pass(target, PatternSource(b"\x11"), tuning=SMALL, stop=stop)
    target.close()
    assert (report.durable, report.bytes_written, report.stopped, report.complete) == (0, 0, True, False)
    assert set(image.read_bytes()) == {0xA5}


def test_a_checkpoint_speaks_only_of_bytes_written_before_a_flush(image: Path) -> None:
    written: list[tuple[int, int]] = []
    flushed: list[tuple[int, int]] = []
    lock = threading.Lock()

    class Observed(Target):
        def write(self, view: memoryview, offset: int) -> None:
            super().write(view, offset)
            with lock:
                written.append((offset, offset + len(view)))

        def flush(self) -> None:
            with lock:
                before = list(written)
            super().flush()
            flushed[:] = before

    told: list[int] = []

    def checkpoint(durable: int) -> None:
        at = 0
        for start, end in sorted(flushed):
            if start <= at:
                at = max(at, end)
        assert durable <= at
        told.append(durable)

    target = opened(image, Observed)
    slow = Watched(PatternSource(b"\x11"), lambda offset: time.sleep(0.06))
    report = write_pass(target, slow, tuning=SMALL, checkpoint=checkpoint, checkpoint_interval=0.0)
    target.close()
    assert len(told) > 2
    assert told == sorted(set(told))
    assert told[-1] == report.durable == image.stat().st_size


def test_what_a_checkpoint_raises_ends_the_pass_and_comes_through(image: Path) -> None:
    class JournalFullError(Exception):
        pass

    def checkpoint(durable: int) -> None:
        raise JournalFullError(durable)

    target = opened(image)
    slow = Watched(PatternSource(b"\x11"), lambda offset: time.sleep(0.06))
    with pytest.raises(JournalFullError):
        write_pass(target, slow, tuning=SMALL, checkpoint=checkpoint, checkpoint_interval=0.0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stripe-")]
    target.close()
    assert b"\xa5" in image.read_bytes()


def test_what_a_source_raises_comes_through(image: Path) -> None:
    def hook(offset: int) -> None:
        if offset >= 4 * 64 * KIB:
            raise RuntimeError("out of bytes")

    target = opened(image)
    with pytest.raises(RuntimeError, match="out of bytes"):
        write_pass(target, Watched(PatternSource(b"\x11"), hook), tuning=SMALL)
    target.close()


def test_a_file_cut_during_the_pass_is_noticed(image: Path) -> None:
    reached, cut = threading.Event(), threading.Event()

    def hook(offset: int) -> None:
        if offset >= 10 * 64 * KIB:
            reached.set()
            assert cut.wait(10)

    def cutter() -> None:
        assert reached.wait(10)
        os.truncate(image, 3 * 64 * KIB + 5)
        cut.set()

    other = threading.Thread(target=cutter)
    other.start()
    target = opened(image)
    with pytest.raises(TargetShrank) as caught:
        write_pass(target, Watched(PatternSource(b"\x11"), hook), tuning=SMALL)
    other.join()
    target.close()
    # A write under way in the other stripe may have made it a little longer again.
    assert image.stat().st_size in (3 * 64 * KIB + 5, 10 * 64 * KIB, 11 * 64 * KIB)
    report = caught.value.report
    assert not report.complete
    assert report.durable <= 3 * 64 * KIB + 5


def test_progress_comes_at_most_five_times_a_second_and_ends_at_the_end(image: Path) -> None:
    moments: list[tuple[float, Progress]] = []
    target = opened(image)
    slow = Watched(PatternSource(b"\x11"), lambda offset: time.sleep(0.06))
    report = write_pass(
        target, slow, tuning=SMALL, progress=lambda now: moments.append((time.monotonic(), now))
    )
    target.close()
    assert len(moments) > 2
    assert len(moments) <= report.duration_ns / 1e9 * 5 + 2
    dones = [progress.done for _, progress in moments]
    assert dones == sorted(dones)
    assert dones[-1] == moments[-1][1].total == image.stat().st_size
    assert report.rate > 0


@pytest.mark.parametrize("start", [-1, 40 * 64 * KIB + 778])
def test_a_start_outside_is_refused(image: Path, start: int) -> None:
    target = opened(image)
    with pytest.raises(ValueError, match="cannot start"):
        write_pass(target, PatternSource(b"\0"), start=start)
    target.close()


def test_tuning_refuses_what_cannot_work() -> None:
    for wrong in ({"chunk": 100_000}, {"chunk": 8 << 20}, {"stripes": 0}, {"cipher": "rot13"}):
        with pytest.raises(ValueError, match=r"chunk|stripes|cipher"):
            Tuning(**wrong)  # type: ignore[arg-type]
    assert choose(stripes=2).stripes == 2
    assert choose(chunk=512 * 1024).chunk == 512 * 1024
    assert choose(cipher="aes-256-xts").cipher == "aes-256-xts"
    assert choose().cipher in (SEAL_CIPHER, "chacha20")
