"""The I/O commands of a simulated NVMe drive (NVM Command Set 1.0 §3.2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lab.drives import nvme_status as st
from lab.drives.nvme_erase import Notes
from lab.drives.nvme_pages import MDTS, PAGE, Namespace
from lab.drives.spans import Spans
from lab.drives.store import Store

FLUSH, WRITE, READ, WRITE_UNCORRECTABLE, COMPARE, WRITE_ZEROES, DATASET = 0, 1, 2, 4, 5, 8, 9
ALL_NAMESPACES = 0xFFFFFFFF


@dataclass(frozen=True)
class Command:
    """A submission queue entry without its pointers: opcode, namespace, command dwords 10 to 15."""

    opcode: int
    nsid: int = 0
    cdw10: int = 0
    cdw11: int = 0
    cdw12: int = 0
    cdw13: int = 0
    cdw14: int = 0
    cdw15: int = 0


@dataclass(frozen=True)
class Reply:
    """Status (type × 100h + code), dwords 0 and 1 of the completion, and what is transferred to the host."""

    status: int = st.SUCCESS
    result: int = 0
    data: bytes = b""


class Blocks:
    """Reads and writes the namespaces' blocks."""

    def __init__(self, notes: Notes, store: Store, faults: set[str]) -> None:
        self.notes, self.store, self.faults = notes, store, faults

    def do(self, command: Command, ns: Namespace, data: bytes) -> Reply:
        """Carry out one command on an attached namespace."""
        if command.opcode == FLUSH:
            self.store.flush()
            return Reply()
        if command.opcode == DATASET:
            return self._dataset(command, ns, data)
        work = {
            READ: self._read,
            WRITE: self._write,
            COMPARE: self._compare,
            WRITE_ZEROES: self._zeroes,
            WRITE_UNCORRECTABLE: self._spoil,
        }.get(command.opcode)
        if work is None:
            return Reply(st.INVALID_OPCODE)
        first = command.cdw10 | command.cdw11 << 32
        count = (command.cdw12 & 0xFFFF) + 1
        if first + count > ns.blocks:
            return Reply(st.LBA_OUT_OF_RANGE)
        moves = command.opcode in (READ, WRITE, COMPARE)
        if moves and count << ns.shift > PAGE << MDTS:
            return Reply(st.INVALID_FIELD)
        return work(command, ns, first, count, data)

    def _pieces(self, ns: Namespace, first: int, count: int) -> list[tuple[int, int]]:
        """Where blocks lie on the medium: (offset, length); in two with a wrapped capacity."""
        start, end = first << ns.shift, (first + count) << ns.shift
        if "wraps-capacity" not in self.faults:
            return [(ns.base + start, end - start)]
        half = (ns.blocks // 2) << ns.shift
        pieces = []
        while start < end:
            stop = min(end, (start // half + 1) * half)
            pieces.append((ns.base + start % half, stop - start))
            start = stop
        return pieces

    def _read(self, command: Command, ns: Namespace, first: int, count: int, data: bytes) -> Reply:
        pieces = self._pieces(ns, first, count)
        bad = Spans(ns.bad)
        if any(bad.within(offset, offset + length) for offset, length in pieces):
            self._count("media_errors", 1)
            return Reply(st.UNRECOVERED_READ)
        self._count("reads", 1)
        self._count("bytes_read", count << ns.shift)
        return Reply(data=b"".join(self.store.read(offset, length) for offset, length in pieces))

    def _write(self, command: Command, ns: Namespace, first: int, count: int, data: bytes) -> Reply:
        if len(data) != count << ns.shift:
            return Reply(st.SGL_LENGTH)
        self._count("writes", 1)
        self._count("bytes_written", len(data))
        self._put(ns, first, count, data)
        return Reply()

    def _put(self, ns: Namespace, first: int, count: int, data: bytes) -> None:
        self.notes.written = True
        if "drops-writes" in self.faults:
            return
        done = 0
        for offset, length in self._pieces(ns, first, count):
            self.store.write(offset, data[done : done + length])
            done += length
            if ns.bad:
                bad = Spans(ns.bad)
                bad.remove(offset, offset + length)
                ns.bad = bad.as_list()

    def _compare(self, command: Command, ns: Namespace, first: int, count: int, data: bytes) -> Reply:
        reply = self._read(command, ns, first, count, b"")
        if reply.status:
            return reply
        return Reply(st.SUCCESS if reply.data == data else st.COMPARE_FAILURE)

    def _zeroes(self, command: Command, ns: Namespace, first: int, count: int, data: bytes) -> Reply:
        if command.cdw12 & 1 << 25:  # DEAC
            self._deallocate(ns, first, count)
        else:
            self._put(ns, first, count, bytes(count << ns.shift))
        return Reply()

    def _spoil(self, command: Command, ns: Namespace, first: int, count: int, data: bytes) -> Reply:
        bad = Spans(ns.bad)
        for offset, length in self._pieces(ns, first, count):
            bad.add(offset, offset + length)
        ns.bad = bad.as_list()
        return Reply()

    def _dataset(self, command: Command, ns: Namespace, data: bytes) -> Reply:
        ranges = (command.cdw10 & 0xFF) + 1
        if len(data) < 16 * ranges:
            return Reply(st.SGL_LENGTH)
        wanted = [struct.unpack_from("<IIQ", data, 16 * i)[1:] for i in range(ranges)]
        if any(first + count > ns.blocks for count, first in wanted):
            return Reply(st.LBA_OUT_OF_RANGE)
        if command.cdw11 & 1 << 2:  # AD: deallocate; the rest are hints
            for count, first in wanted:
                self._deallocate(ns, first, count)
        return Reply()

    def _deallocate(self, ns: Namespace, first: int, count: int) -> None:
        if "drops-writes" in self.faults:
            return
        for offset, length in self._pieces(ns, first, count):
            self.store.unmap(offset, length)
            bad = Spans(ns.bad)
            bad.remove(offset, offset + length)
            ns.bad = bad.as_list()

    def _count(self, name: str, more: int) -> None:
        self.notes.counts[name] = self.notes.counts.get(name, 0) + more
