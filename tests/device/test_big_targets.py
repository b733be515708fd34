"""Targets of more than 2^32 sectors: sparse, so that only the places that are touched exist.

What must hold at such offsets: the stream is the right one there, nothing is written anywhere else
(a wrapped offset would leave data near the start), totals and journal do not overflow, and memory
does not grow with the target.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from expunge_agent.core.pass_progress import Checkpoint
from expunge_agent.devices import host
from expunge_agent.engine.buffers import KIB, MIB, aligned
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.ranges import Range, samples
from expunge_agent.engine.sources import CIPHERS, KeyedStream, PatternSource
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import verify
from expunge_agent.engine.writer import write_pass
from expunge_agent.journal import Journal
from expunge_agent.ledger import Ledger
from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.wipe import run_order
from support.agents import NOW, Bench, Crash, surroundings

TIB = 1 << 40
BORDER = (1 << 32) * 512
"""Sector 2^32: where a 32-bit sector number starts again at 0."""
SIZE = BORDER + TIB // 2 + 5 * MIB + 3 * 4096
TUNING = Tuning(chunk=256 * KIB, stripes=3)
MEMORY = 24 * MIB  # chunk × stripes, threads, a few MiB of Python's; the target has 2.5 TiB
PATTERN = bytes(range(7))


def expected(cipher: str, key: bytes, start: int, length: int) -> bytes:
    """The stream at [start, start + length), by the cipher's definition, in one call a border."""
    if cipher == "aes-256-ctr":
        assert start % 16 == 0
        counter = (start // 16).to_bytes(16, "big")
        return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(bytes(length))
    if cipher == "chacha20":
        wrap = 64 << 32  # the library refuses to count its lower 32 bits over
        if start % wrap + length > wrap:
            first = wrap - start % wrap
            return expected(cipher, key, start, first) + expected(cipher, key, start + first, length - first)
        nonce = (start // 64).to_bytes(8, "little") + bytes(8)
        return Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(bytes(length))
    unit = 256 * KIB
    first = start // unit
    whole = b"".join(
        Cipher(algorithms.AES(key), modes.XTS(number.to_bytes(16, "little"))).encryptor().update(bytes(unit))
        for number in range(first, -(-(start + length) // unit))
    )
    return whole[start - first * unit :][:length]


def key_of(cipher: str) -> bytes:
    return bytes(range(CIPHERS[cipher].key_bytes))


def sparse(path: Path, size: int) -> Path:
    """An empty file of `size` bytes; skips where the file system has none so large."""
    with path.open("wb") as file:
        try:
            os.truncate(file.fileno(), size)
        except OSError as error:
            if error.errno in (errno.EFBIG, errno.EINVAL, errno.ENOSPC):
                pytest.skip(f"needs a file system with files of {size} bytes: {error.strerror}")
            raise
    return path


def there(path: Path, start: int, length: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), length, start)


def extents(path: Path) -> list[tuple[int, int]]:
    """Where the file holds data, as its file system tells (lseek(2), SEEK_DATA)."""
    found = []
    with path.open("rb") as file:
        end, size = 0, os.fstat(file.fileno()).st_size
        while end < size:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, end))
    return found


def only_data_in(path: Path, start: int, end: int) -> None:
    """Nothing was written outside [start, end); a file system allocates whole pages."""
    found = extents(path)
    assert found
    assert all(start // 4096 * 4096 <= first and last <= -(-end // 4096) * 4096 for first, last in found), (
        found
    )


@contextmanager
def little_memory() -> Iterator[None]:
    """The peak of resident memory inside grows by less than MEMORY."""
    clear = Path("/proc/self/clear_refs")
    clear.write_text("5")  # proc(5): the peak starts again at what is resident now
    before = status("VmRSS")
    yield
    grown = status("VmHWM") - before
    assert grown < MEMORY, f"{grown} bytes more"


def status(field: str) -> int:
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


class StopsAfter(Target):
    """A target that sets `stop` once `most` bytes were written."""

    def __init__(self, fd: int, size: int, stop: threading.Event, most: int) -> None:
        self.stop, self.most = stop, most
        self.places: list[int] = []
        super().__init__(fd, size)

    def write(self, view: memoryview, offset: int) -> None:
        super().write(view, offset)
        self.places.append(offset)
        self.most -= len(view)
        if self.most <= 0:
            self.stop.set()


Opened = Callable[..., tuple[Target, Path]]


@pytest.fixture
def big(lab, tmp_path: Path) -> Iterator[Opened]:
    """A loop device over a sparse file as a target, and the file."""
    made: list[Target] = []

    def make(sector: int = 512, size: int = SIZE, folder: Path = tmp_path, **stopping: object) -> tuple:
        image = sparse(folder / "big.img", size)
        device = lab.loop(image, "--sector-size", str(sector))
        fd = os.open(device, os.O_RDWR | os.O_EXCL)
        assert os.lseek(fd, 0, os.SEEK_END) == size
        kind = StopsAfter if stopping else Target
        made.append(kind(fd, size, **stopping))
        assert made[-1].block == sector
        return made[-1], image

    yield make
    for target in made:
        target.close()


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("sector", [512, 4096])
def test_the_end_of_a_big_target(big: Opened, sector: int, cipher: str) -> None:
    target, image = big(sector)
    start = SIZE - 5 * MIB - 4096  # no multiple of a chunk
    shown: list[Progress] = []
    told: list[int] = []
    with little_memory():
        report = write_pass(
            target,
            KeyedStream(cipher, key_of(cipher)),
            start=start,
            tuning=TUNING,
            progress=shown.append,
            checkpoint=told.append,
        )
        back = verify(
            target, KeyedStream(cipher, key_of(cipher)), [Range(start, SIZE - start)], tuning=TUNING
        )
    assert report.complete
    assert (report.start, report.bytes_written, report.durable) == (start, SIZE - start, SIZE)
    assert told == [SIZE]
    assert (shown[-1].done, shown[-1].total) == (SIZE, SIZE)
    assert back.clean
    assert back.bytes_read == SIZE - start
    assert there(image, start, SIZE - start) == expected(cipher, key_of(cipher), start, SIZE - start)
    only_data_in(image, start, SIZE)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_across_sector_2_to_the_32(big: Opened, cipher: str) -> None:
    """Stopped shortly after; resumed from there, stopped again."""
    stop = threading.Event()
    target, image = big(stop=stop, most=4 * MIB)
    source = KeyedStream(cipher, key_of(cipher))
    start = BORDER - 2 * MIB - 512
    with little_memory():
        report = write_pass(target, source, start=start, tuning=TUNING, stop=stop)
    assert report.stopped
    assert not report.complete
    assert BORDER + MIB <= report.durable <= BORDER + 4 * MIB
    assert report.bytes_written == report.durable - start
    stop.clear()
    target.most = MIB  # type: ignore[attr-defined]
    again = write_pass(target, source, start=report.durable, tuning=TUNING, stop=stop)
    end = again.durable
    assert report.durable + MIB <= end < SIZE
    assert min(target.places) == start  # type: ignore[attr-defined]
    assert there(image, start, end - start) == expected(cipher, key_of(cipher), start, end - start)
    only_data_in(image, start, end)
    assert verify(target, source, [Range(start, end - start)], tuning=TUNING).clean


@pytest.mark.parametrize("border", [1 << 31, 1 << 32, 512 << 31, BORDER], ids=lambda at: f"{at:#x}")
def test_the_verifier_finds_one_wrong_byte_beside_a_border(big: Opened, border: int) -> None:
    """One byte turned over on either side of a border, in the file behind the device."""
    stop = threading.Event()
    target, image = big(stop=stop, most=2 * MIB)
    source = PatternSource(PATTERN)
    start = border - MIB
    report = write_pass(target, source, start=start, tuning=TUNING, stop=stop)
    end = report.durable
    assert border < end
    found = bytearray(there(image, start, end - start))
    assert found == bytes(PATTERN[at % 7] for at in range(start, end))
    wrong = [border - 1, border]
    assert verify(target, source, [Range(start, end - start)], tuning=TUNING).clean
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), bytes(found[at - start] ^ 0xFF for at in wrong), wrong[0])
        os.fsync(file.fileno())
    back = verify(target, source, [Range(start, end - start)], tuning=TUNING)
    assert back.mismatched_bytes == 2
    assert [(one.start, one.end) for one in back.mismatches] == [(border - 1, border + 1)]


def test_a_stream_that_belongs_2_tib_away_is_recognised(big: Opened) -> None:
    """What a drive leaves whose addresses wrap at sector 2^32: the end of the target at its start."""
    target, image = big()
    key = key_of("aes-256-ctr")
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), expected("aes-256-ctr", key, BORDER + MIB, MIB), MIB)
        os.fsync(file.fileno())
    back = verify(target, KeyedStream("aes-256-ctr", key), [Range(MIB, MIB)], tuning=TUNING)
    assert not back.clean
    assert any(f"+{BORDER}" in one.what for one in back.mismatches), back.mismatches


def test_the_samples_of_a_big_target(big: Opened) -> None:
    """The plan covers all of it without growing; its first and last places are read."""
    target, image = big()
    with little_memory():
        plan = list(samples(SIZE, target.block, bytes(16)))
    assert plan[0].start == 0
    assert plan[-1].end == SIZE
    assert all(one.end <= other.start for one, other in itertools.pairwise(plan))
    assert all(one.start % 512 == one.end % 512 == 0 for one in plan)
    assert sum(one.length for one in plan) * 10 >= SIZE
    for section in range(0, 1000, 37):
        first, last = section * SIZE // 1000 - 512, (section + 1) * SIZE // 1000 + 512
        assert sum(first <= one.start and one.end <= last for one in plan) >= 2
    last = plan[-1]
    tail = Range(max(last.start, last.end - MIB - 512), min(last.length, MIB + 512))
    assert verify(target, PatternSource(b"\0"), [Range(0, 512), tail], tuning=TUNING).clean
    assert extents(image) == []


def test_a_big_file_with_an_odd_tail(tmp_path: Path) -> None:
    size = SIZE + 777
    image = sparse(tmp_path / "big.img", size)
    start = size - 3 * MIB - (size - 3 * MIB) % 4096
    source = KeyedStream("aes-256-ctr", key_of("aes-256-ctr"))
    with closing(Target(os.open(image, os.O_RDWR), size)) as target, little_memory():
        report = write_pass(target, source, start=start, tuning=TUNING)
        assert report.complete
        assert report.bytes_written == size - start
        assert verify(target, source, [Range(start, size - start)], tuning=TUNING).clean
    assert image.stat().st_size == size
    assert there(image, start, size - start) == expected(
        "aes-256-ctr", key_of("aes-256-ctr"), start, size - start
    )
    only_data_in(image, start, size)


def test_more_than_2_to_the_32_sectors_of_4096_bytes(big: Opened) -> None:
    """16 TiB and more, in memory, as ext4 has no such files."""
    shm = Path("/dev/shm")
    if not shm.is_dir():
        pytest.skip("needs /dev/shm")
    folder = shm / f"expunge-big-{os.getpid()}"
    folder.mkdir()
    try:
        size = (4096 << 32) + TIB + 5 * 4096
        stop = threading.Event()
        target, image = big(4096, size, folder, stop=stop, most=3 * MIB)
        source = KeyedStream("chacha20", key_of("chacha20"))
        for start in ((4096 << 32) - MIB, size - 2 * MIB):
            stop.clear()
            target.most = 3 * MIB  # type: ignore[attr-defined]
            with little_memory():
                report = write_pass(target, source, start=start, tuning=TUNING, stop=stop)
            length = report.durable - start
            assert length >= 2 * MIB
            assert there(image, start, length) == expected("chacha20", key_of("chacha20"), start, length)
            assert verify(target, source, [Range(start, length)], tuning=TUNING).clean
        assert report.complete
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_an_order_on_a_big_device_goes_on_near_its_end(
    lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal says that all but the last MiB is durable, as after hours of work; numbers stay exact.

    Holes read as the zeros that were "written", so what is read back below the resume is right.
    """
    image = sparse(tmp_path / "big.img", SIZE)
    device = lab.loop(image)
    bench = Bench.make(tmp_path / "state")
    digest = bench.hand_in(*bench.sign(bench.order(Path(device), policy="zero")))

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Target, "write", crash)
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings())
    durable = SIZE - 5 * MIB
    with Journal(bench.state.order_folder(digest) / "journal.jsonl", host.boot_id()) as journal:
        done = Checkpoint(durable=U64(durable), elapsed_ms=U64(7_200_000), written=U64(durable))
        Ledger(journal, lambda: NOW).record("checkpoint", target=0, **{"pass": 0, "checkpoint": done})
    with little_memory():
        sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    assert Outbox(bench.state.root).get(1).digest == sealed.digest
    receipt = bench.checked(sealed)
    assert receipt.outcome is Outcome.EXCEPTIONS, "nothing was read back"
    assert receipt.level_achieved is Level.NONE
    (taken,) = receipt.targets[0].passes
    assert taken.complete
    assert (int(taken.bytes_written), [int(at) for at in taken.resumed_at]) == (SIZE, [durable])
    assert taken.duration_ms >= 7_200_000
    assert int(receipt.targets[0].target.identity.size) == SIZE
    only_data_in(image, durable, SIZE)


def test_the_buffers_are_the_size_of_a_chunk() -> None:
    """The measure of memory can fail."""
    with pytest.raises(AssertionError, match="bytes more"), little_memory():
        view = aligned(MEMORY + 4 * MIB)
        for at in range(0, len(view), 4096):
            view[at] = 1
