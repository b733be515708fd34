"""A pass that is tried with several tunings is still one pass, whole and in order."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from expunge_agent.engine import calibration
from expunge_agent.engine.buffers import PAGE
from expunge_agent.engine.sources import KeyedStream
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import verify
from expunge_agent.engine.writer import write_pass
from expunge_agent.protocol.base import Outcome
from support.agents import Bench

MIB = 1 << 20


def test_only_what_is_clearly_quicker_is_taken() -> None:
    default, *others = calibration.candidates(Tuning())
    assert calibration.best([(default, 100.0), (others[0], 104.0)]) is default
    assert calibration.best([(default, 100.0), (others[0], 90.0), (others[1], 120.0)]) is others[1]


@pytest.mark.parametrize("start", [0, 1, 512, 40 * MIB, 64 * MIB - 1, 64 * MIB, 5 * 64 * MIB + 4096])
def test_segments_follow_each_other(start: int) -> None:
    end = calibration.segment(start)
    assert end % calibration.SEGMENT == 0
    assert calibration.SEGMENT // 2 <= end - start <= 2 * calibration.SEGMENT


def test_a_part_of_a_pass_ends_where_it_should(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"old " * 100_000)
    target = Target(os.open(path, os.O_RDWR), path.stat().st_size)
    source = KeyedStream("aes-256-ctr", bytes(32))
    first = write_pass(target, source, end=64 * 1024, tuning=Tuning(chunk=64 * 1024, stripes=2))
    assert (first.complete, first.durable) == (True, 64 * 1024)
    assert path.read_bytes()[64 * 1024 :] == (b"old " * 100_000)[64 * 1024 :]
    for wrong in ({"end": 1}, {"end": target.size + 512}, {"start": 4096, "end": 512}):
        with pytest.raises(ValueError, match="cannot start"):
            write_pass(target, source, **wrong)
    assert write_pass(target, source, start=64 * 1024, tuning=Tuning(stripes=1)).complete
    data = bytearray(target.size)
    source.fill(memoryview(data), 0)
    assert path.read_bytes() == data
    target.close()


def test_a_calibrated_order_is_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SEGMENT", MIB)
    monkeypatch.setattr(calibration, "WORTH_IT", 4 * MIB)
    bench = Bench.make(tmp_path / "state")
    image = tmp_path / "disk.img"
    size = 9 * MIB + 777
    image.write_bytes(os.urandom(size))
    receipt = bench.run(bench.order(image), calibrate=True)
    assert receipt.outcome is Outcome.SANITIZED
    last = receipt.targets[0].passes[-1]
    assert (last.conduct.chunk, last.conduct.stripes) in {
        (one.chunk, one.stripes) for one in calibration.candidates(Tuning(chunk=64 * 1024, stripes=2))
    }
    assert int(last.bytes_written) == size
    assert last.stream is not None
    data = bytearray(size)
    KeyedStream(last.stream.cipher, bytes.fromhex(last.stream.key)).fill(memoryview(data), 0)
    assert image.read_bytes() == data


def test_buffers_are_gone_when_a_part_is_done(tmp_path: Path) -> None:
    """Five candidates would else hold 40 MB until the collector of cycles comes by."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    target = Target(os.open(path, os.O_RDWR), 64 * MIB)
    source = KeyedStream("aes-256-ctr", bytes(32))
    tuning = Tuning(chunk=4 * MIB, stripes=8)
    write_pass(target, source, tuning=tuning)  # what is loaded at first use is not meant
    gc.collect()
    grown = []
    gc.disable()
    try:
        before = mapped()
        for work in (write_pass, verify, write_pass, verify):
            assert work(target, source, tuning=tuning).complete
            grown.append(mapped() - before)
    finally:
        gc.enable()
        target.close()
    assert max(grown) < 8 * MIB


def mapped() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
