"""Who else has a file open: one walk through /proc answers for one moment, the next moment needs another."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from expunge_agent.devices.look import look
from expunge_agent.devices.openers import Index
from expunge_agent.devices.opening import TargetRefused, open_target
from expunge_agent.devices.usage import Eyes
from expunge_agent.protocol.receipt import Reason

OPEN = "import sys; f = open(sys.argv[1], 'rb'); print(flush=True); sys.stdin.read()"
MAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
fd = os.open(sys.argv[1], os.O_RDONLY)
assert libc.mmap(None, 4096, 1, 2, fd, 0) != ctypes.c_void_p(-1).value
os.close(fd)
print(flush=True)
sys.stdin.read()
"""
"""mmap(2) itself: Python's module keeps a descriptor of its own."""


@contextmanager
def helper(code: str, path: Path) -> Iterator[str]:
    """Another process that runs `code`; its number."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            yield str(process.pid)
        finally:
            process.kill()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "disk.img"
    path.write_bytes(b"x" * 8192)
    return path


def pids(index: Index, seen: os.stat_result) -> list[str]:
    return [process.split()[0] for process in index.of_file(seen).processes]


def test_an_index_is_of_one_moment_and_a_fresh_one_sees_what_came_later(image: Path) -> None:
    seen, early = image.stat(), Index()
    assert pids(early, seen) == []
    with ExitStack() as stack:
        both = sorted(stack.enter_context(helper(OPEN, image)) for _ in range(2))
        assert pids(early, seen) == []
        assert sorted(pids(Index(), seen)) == both
        assert "python" in Index().of_file(seen).processes[0]
    assert pids(Index(), seen) == []


def test_shared_eyes_are_for_one_moment_and_looking_without_them_is_anew(image: Path) -> None:
    other = image.with_name("other.img")
    other.write_bytes(b"y")
    eyes = Eyes.open()
    assert look(other, eyes=eyes) == look(other)
    with helper(OPEN, image) as pid:
        assert look(image, eyes=eyes).usage.opened_by == ()
        assert [process.split()[0] for process in look(image).usage.opened_by] == [pid]


def test_before_opening_and_before_each_step_it_is_looked_anew(image: Path) -> None:
    medium = look(image).medium
    assert medium is not None
    with open_target(image, medium.identity, write=True) as opened:
        opened.recheck()
        with helper(OPEN, image), pytest.raises(TargetRefused) as caught:
            opened.recheck()
        assert caught.value.refusal.reason is Reason.IN_USE
        opened.recheck()
    with helper(OPEN, image), pytest.raises(TargetRefused) as caught:
        open_target(image, medium.identity, write=True).close()
    assert caught.value.refusal.reason is Reason.IN_USE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may ask of another process's mappings")
def test_a_file_that_is_only_mapped(image: Path) -> None:
    with helper(MAP, image) as pid:
        links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert image not in links
        assert pids(Index(), image.stat()) == [pid]


def test_a_file_that_was_deleted_is_still_open(image: Path) -> None:
    seen = image.stat()
    with helper(OPEN, image) as pid:
        image.unlink()
        assert pids(Index(), seen) == [pid]
        image.write_bytes(b"another")  # of another inode: the deleted one is held
        assert pids(Index(), image.stat()) == []


def test_what_this_process_has_open_or_mapped_itself_does_not_count(image: Path) -> None:
    with image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert pids(Index(), image.stat()) == []
