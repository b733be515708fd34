"""What a simulated drive keeps: its medium, a sparse image file; and its state, a JSON file.

Two views of the medium. The *physical* one is the image file itself: whoever opens it sees what a
laboratory would read from the flash or the platters. The *logical* one is what the host reads: zeros
where blocks are unmapped (deallocated), although the physical bytes may still be there. That is why a
deallocation is never an erasure here, as on a real drive.

Standard library only: it also runs inside the lab's guest.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from lab.drives.spans import Spans

PIECE = 1 << 20
NOISE_CELL = 1 << 16
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h


class Store:
    """A medium of `size` bytes in the image file `path`.

    With `volatile` it has a write cache that a power cut empties: what was written since the last
    `flush` is undone by `lose_cache`.
    """

    def __init__(self, path: Path, size: int, *, unmapped: list[list[int]] | None = None) -> None:
        self.path, self.size = path, size
        self.unmapped = Spans(unmapped)
        self.volatile = False
        self._undo: list[tuple[int, bytes, list[tuple[int, int]]]] = []
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.lseek(self._fd, 0, os.SEEK_END) < size:  # of a block device, too
            os.ftruncate(self._fd, size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # The logical view

    def read(self, offset: int, length: int) -> bytes:
        """What the host reads: zeros where nothing is mapped."""
        data = self.physical(offset, length)
        holes = self.unmapped.within(offset, offset + length)
        if not holes:
            return data
        seen = bytearray(data)
        for start, end in holes:
            seen[start - offset : end - offset] = bytes(end - start)
        return bytes(seen)

    def write(self, offset: int, data: bytes) -> None:
        """Put the host's data down; it is mapped from now on."""
        holes = self.unmapped.within(offset, offset + len(data))
        if self.volatile:
            self._undo.append((offset, self.physical(offset, len(data)), holes))
        self.put(offset, data)
        if holes:
            self.unmapped.remove(offset, offset + len(data))

    def unmap(self, offset: int, length: int) -> None:
        """Deallocate: the host reads zeros, the physical bytes stay."""
        self.unmapped.add(offset, offset + length)

    def flush(self) -> None:
        self._undo.clear()

    def sync(self) -> None:
        """Everything that was put down outlasts a crash of the machine that runs the simulator."""
        os.fsync(self._fd)

    def lose_cache(self) -> None:
        """Undo what was written since the last flush."""
        for offset, old, holes in reversed(self._undo):
            self.put(offset, old)
            for start, end in holes:
                self.unmapped.add(start, end)
        self._undo.clear()

    # The physical view

    def physical(self, offset: int, length: int) -> bytes:
        """The bytes of the medium, mapped or not."""
        self._check(offset, length)
        return os.pread(self._fd, length, offset)

    def put(self, offset: int, data: bytes) -> None:
        """Write to the medium itself, leaving the map alone."""
        self._check(offset, len(data))
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done

    def fill(self, offset: int, length: int, pattern: bytes) -> None:
        """Overwrite the medium with `pattern`, repeated from the medium's first byte."""
        self._check(offset, length)
        if not any(pattern):
            self._punch(offset, length)
            return
        whole = pattern * (-(-PIECE // len(pattern)) + 1)
        while length:
            phase = offset % len(pattern)
            piece = min(length, PIECE)
            self.put(offset, whole[phase : phase + piece])
            offset, length = offset + piece, length - piece

    def scramble(self, offset: int, length: int, key: bytes) -> None:
        """What is read after the media key was replaced: noise that depends on the new key and the place."""
        self._check(offset, length)
        end = offset + length
        while offset < end:
            cell, phase = divmod(offset, NOISE_CELL)
            piece = min(end - offset, NOISE_CELL - phase)
            noise = hashlib.shake_128(key + cell.to_bytes(8, "little")).digest(phase + piece)
            self.put(offset, noise[phase:])
            offset += piece

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} are outside the medium")

    def _punch(self, offset: int, length: int) -> None:
        if not length:
            return
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
        fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        if fallocate(self._fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length) == 0:
            return
        zeros = bytes(PIECE)
        while length:
            piece = min(length, PIECE)
            self.put(offset, zeros[:piece])
            offset, length = offset + piece, length - piece


class StateFile:
    """A drive's own notes, which outlive its power: one JSON object in a file, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = ""

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None for a drive fresh from the factory."""
        try:
            self._last = self._path.read_text()
        except FileNotFoundError:
            return None
        state: dict[str, Any] = json.loads(self._last)
        return state

    def save(self, state: dict[str, Any], *, durable: bool = False) -> None:
        """Replace the file. `durable` also survives a crash of the host, at the price of two syncs."""
        text = json.dumps(state)
        if text == self._last:
            return
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("w") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(self._path)
        self._last = text
        if durable:
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
