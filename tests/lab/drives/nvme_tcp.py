"""A simulated NVMe drive behind NVMe/TCP, for the kernel's own host driver.

    python -m lab.drives.nvme_tcp --image I --state S [--port 0] [--fault NAME]… [--namespaces N] [--size MIB]

Serves on a loopback address only. It prints one JSON object with "port" and "nqn", then takes commands on
its input, one a line, and answers each with one JSON object:

    fault NAME on|off    power cut    power on    pace TIMES    status    quit

"pace 60" lets the drive's clock go sixty times as fast as the machine's.
The end of its input ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import sys
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lab.drives import nvme_pdu as p
from lab.drives import nvme_status as st
from lab.drives.clock import RealClock
from lab.drives.nvme import FAULTS, MIB, Gone, Make, NvmeDrive, Pending, Reply
from lab.drives.nvme_pages import VERSION

TICK = 0.05
CONTROLLER = 1
QUEUE_ENTRIES = 128
CAPABILITIES = (QUEUE_ENTRIES - 1) | 1 << 16 | 20 << 24 | 1 << 37
"""CAP: MQES, contiguous queues, ready within 10 s, NVM command set (Base 2.0 §3.1.3.1)."""


@dataclass
class Incoming:
    """A command that waits for its data."""

    entry: p.Entry
    data: bytearray
    got: int = 0


class Queue:
    """One connection: the admin queue or an I/O queue."""

    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.target, self.reader, self.writer = target, reader, writer
        self.number: int | None = None
        """Queue identifier, None before Connect."""
        self._entries, self._head = QUEUE_ENTRIES, 0
        self._incoming: dict[int, Incoming] = {}
        self._pending: list[tuple[int, Pending]] = []

    async def run(self) -> None:
        header, body = await self._message()
        if header.kind != p.IC_REQ or header.plen != p.IC_LENGTH or body[0:2] != b"\0\0":
            raise p.ProtocolError("no connection request")
        self.writer.write(p.ic_response())
        while True:
            await self.writer.drain()
            header, body = await self._message()
            if header.kind == p.CAPSULE_CMD:
                self._capsule(header, body)
            elif header.kind == p.H2C_DATA:
                self._data(header, body)
            elif header.kind == p.H2C_TERM:
                return
            else:
                raise p.ProtocolError(f"message {header.kind:02X}h from a host")

    async def _message(self) -> tuple[p.Header, bytes]:
        header = p.Header.parse(await self.reader.readexactly(8))
        return header, await self.reader.readexactly(header.plen - 8)

    def _capsule(self, header: p.Header, body: bytes) -> None:
        if header.hlen != 72:
            raise p.ProtocolError("a command capsule's header has 72 bytes")
        entry = p.Entry(body[:64])
        if not entry.sends:
            self._do(entry, b"")
        elif entry.sgl_kind == p.IN_CAPSULE:
            start = header.pdo - 8 + entry.number(24, 8)
            data = body[start : start + entry.length]
            if header.pdo < header.hlen or len(data) != entry.length:
                raise p.ProtocolError("data in the capsule is short")
            self._do(entry, data)
        elif entry.length > p.MOST:
            self._answer(entry.cid, Reply(st.SGL_LENGTH))
        else:
            tag = next(i for i in range(1, 1 << 16) if i not in self._incoming)
            self._incoming[tag] = Incoming(entry, bytearray(entry.length))
            self.writer.write(p.ready_to_transfer(entry.cid, tag, entry.length))

    def _data(self, header: p.Header, body: bytes) -> None:
        tag, offset, length = (int.from_bytes(body[a:b], "little") for a, b in ((2, 4), (4, 8), (8, 12)))
        data = body[header.pdo - 8 :]
        transfer = self._incoming.get(tag)
        if transfer is None or len(data) != length or offset != transfer.got:
            raise p.ProtocolError("data out of place")
        if offset + length > len(transfer.data):
            raise p.ProtocolError("more data than asked for")
        transfer.data[offset : offset + length] = data
        transfer.got += length
        if transfer.got == len(transfer.data):
            del self._incoming[tag]
            self._do(transfer.entry, bytes(transfer.data))

    def _do(self, entry: p.Entry, data: bytes) -> None:
        self._head = (self._head + 1) % self._entries
        if entry.opcode == p.FABRICS:
            self._answer(entry.cid, self._fabrics(entry, data), entry)
            return
        if self.number is None or not self.target.enabled:
            self._answer(entry.cid, Reply(st.COMMAND_SEQUENCE))
            return
        drive = self.target.drive
        done = (
            drive.io(entry.command(), data)
            if self.number
            else drive.admin(entry.command(), data, entry.length)
        )
        if isinstance(done, Pending):
            self._pending.append((entry.cid, done))
        else:
            self._answer(entry.cid, done, entry)

    def _answer(self, cid: int, reply: Reply, entry: p.Entry | None = None) -> None:
        if reply.data and entry is not None:
            if entry.length < len(reply.data):
                reply = Reply(st.SGL_LENGTH)
            else:
                self.writer.write(p.data_to_host(cid, reply.data))
        self.writer.write(p.response(cid, self._head, reply))

    def tick(self) -> None:
        """Complete what has become ready. Raises Gone."""
        waiting, self._pending = self._pending, []
        for cid, pending in waiting:
            reply = pending.poll()
            if reply is None:
                self._pending.append((cid, pending))
            else:
                self._answer(cid, reply)

    def abort(self) -> None:
        """Drop the connection at once."""
        self._pending.clear()
        self.writer.transport.abort()

    # Fabrics commands

    def _fabrics(self, entry: p.Entry, data: bytes) -> Reply:
        if entry.fctype == p.CONNECT:
            return self._connect(entry, data)
        if self.number is None:
            return Reply(st.COMMAND_SEQUENCE)
        offset = entry.number(44, 4)
        if entry.fctype == p.PROPERTY_GET and self.number == 0:
            return self.target.get_property(offset, 8 if entry.raw[40] & 7 else 4)
        if entry.fctype == p.PROPERTY_SET and self.number == 0:
            return self.target.set_property(offset, entry.number(48, 8))
        if entry.fctype == p.DISCONNECT and self.number > 0:
            return Reply()
        return Reply(st.INVALID_OPCODE)

    def _connect(self, entry: p.Entry, data: bytes) -> Reply:
        """Connect (Base 2.0 §6.3): in `result` a wrong field is pointed out, in the data (bit 16) or the entry."""
        number, entries = entry.number(42, 2), entry.number(44, 2) + 1
        if self.number is not None or len(data) != 1024:
            return Reply(st.COMMAND_SEQUENCE)
        if data[256:512].rstrip(b"\0") != self.target.drive.nqn.encode():
            return Reply(st.CONNECT_INVALID, 1 << 16 | 256)
        controller = int.from_bytes(data[16:18], "little")
        if number > 4 or entries > QUEUE_ENTRIES:
            return Reply(st.CONNECT_INVALID, 42 if number > 4 else 44)
        if number == 0 and controller not in (0xFFFF, 0xFFFE, CONTROLLER):
            return Reply(st.CONNECT_INVALID, 1 << 16 | 16)
        if number and (controller != CONTROLLER or not self.target.enabled):
            return Reply(st.CONNECT_INVALID, 1 << 16 | 16)
        self.number, self._entries, self._head = number, entries, 1
        if number == 0:
            self.target.associate(self)
        return Reply(result=CONTROLLER)


class Target:
    """The drive's controller, as far as the transport is concerned; one association at a time."""

    def __init__(self, drive: NvmeDrive) -> None:
        self.drive = drive
        self._config = 0
        self._queues: set[Queue] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None

    @property
    def enabled(self) -> bool:
        return bool(self._config & 1)

    async def start(self, address: str, port: int) -> int:
        """Listen; the port taken. Only loopback addresses are allowed."""
        if not ipaddress.ip_address(address).is_loopback:
            raise ValueError("a simulated drive is served on a loopback address only")
        self._server = await asyncio.start_server(self._serve, address, port)
        self._ticker = asyncio.create_task(self._tick())
        taken: int = self._server.sockets[0].getsockname()[1]
        return taken

    async def stop(self) -> None:
        if self._server is None or self._ticker is None:
            return
        self._server.close()
        self._ticker.cancel()
        self.disconnect()
        await asyncio.gather(self._ticker, *self._tasks, return_exceptions=True)
        self.drive.close()

    def disconnect(self) -> None:
        """Drop every connection."""
        self._config = 0
        for queue in list(self._queues):
            queue.abort()

    def associate(self, admin: Queue) -> None:
        """A host connected an admin queue: what was before is over."""
        self._config = 0
        for queue in self._queues - {admin}:
            queue.abort()

    def get_property(self, offset: int, length: int) -> Reply:
        shutdown = 2 << 2 if self._config >> 14 & 3 else 0
        value = {
            p.CAP: CAPABILITIES,
            p.VS: VERSION,
            p.CC: self._config,
            p.CSTS: (self._config & 1) | shutdown,
        }.get(offset)
        if value is None or (length == 8) != (offset == p.CAP):
            return Reply(st.INVALID_FIELD)
        return Reply(result=value)

    def set_property(self, offset: int, value: int) -> Reply:
        if offset != p.CC:
            return Reply(st.INVALID_FIELD)
        if value & 1 and not self.enabled:
            self.drive.reset()
        if value >> 14 & 3 or not value & 1:
            self.drive.store.flush()
        self._config = value & 0xFFFFFFFF
        return Reply()

    def control(self, line: str) -> dict[str, Any]:
        """Carry out one line of the control protocol."""
        words = line.split()
        if words[:1] == ["fault"] and len(words) == 3 and words[1] in FAULTS and words[2] in ("on", "off"):
            self.drive.switch(words[1], words[2] == "on")
        elif words == ["power", "cut"]:
            self.drive.power_cut()
            self.disconnect()
        elif words == ["power", "on"]:
            if self.drive.gone and self.drive.on:  # plugged in again
                self.drive.power_cut()
            self.drive.power_on()
        elif words[:1] == ["pace"] and self._paces(words[1:]):
            pass
        elif words != ["status"]:
            return {"error": f"not understood: {line.strip()}"}
        return self.status()

    def _paces(self, words: list[str]) -> bool:
        """Let the drive's clock go so many times as fast; False when that makes no sense."""
        clock = self.drive.clock
        if (
            len(words) != 1
            or not words[0].isdecimal()
            or not int(words[0])
            or not isinstance(clock, RealClock)
        ):
            return False
        clock.go(int(words[0]))
        return True

    def status(self) -> dict[str, Any]:
        notes = self.drive.notes
        return {
            "on": self.drive.on,
            "gone": self.drive.gone,
            "serial": notes.serial,
            "faults": sorted(self.drive.faults),
            "sstat": notes.sstat,
            "failure_mode": notes.failure_mode,
            "progress": f"{notes.sanitize.fraction:.3f}" if notes.sanitize else None,
            "formatting": self.drive.formatting,
            "queues": sorted(q.number for q in self._queues if q.number is not None),
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        queue = Queue(self, reader, writer)
        self._queues.add(queue)
        try:
            if self.drive.on and not self.drive.gone:
                await queue.run()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Gone:
            self.disconnect()
        except p.ProtocolError as error:
            print(f"connection dropped: {error}", file=sys.stderr)
        finally:
            self._queues.discard(queue)
            self._tasks.discard(task)
            if queue.number == 0:
                self.disconnect()
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.drive.tick()
            try:
                for queue in list(self._queues):
                    queue.tick()
            except Gone:
                self.disconnect()
            if self.drive.gone:
                self.disconnect()


async def serve(drive: NvmeDrive, address: str, port: int) -> None:
    """Serve until the input ends or says "quit"."""
    target = Target(drive)
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "quit")

    taken = await target.start(address, port)
    print(json.dumps({"port": taken, "nqn": drive.nqn}), flush=True)
    threading.Thread(target=read, daemon=True).start()
    try:
        while (line := await lines.get()).strip() != "quit":
            print(json.dumps(target.control(line)), flush=True)
    finally:
        await target.stop()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="a simulated NVMe drive behind NVMe/TCP")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--size", type=int, default=64, help="MiB")
    parser.add_argument("--namespaces", type=int, default=1)
    parser.add_argument("--block", type=int, choices=(512, 4096), default=512, help="bytes of a block")
    parser.add_argument("--serial", default="SIM0001")
    parser.add_argument("--fault", action="append", default=[], choices=sorted(FAULTS), metavar="NAME")
    parser.add_argument(
        "--actions", default="crypto,block,overwrite", help="sanitize actions it has; may be empty"
    )
    for name in ("block_seconds", "crypto_seconds", "overwrite_seconds", "format_seconds"):
        default = next(f.default for f in fields(Make) if f.name == name)
        parser.add_argument("--" + name.replace("_", "-"), type=float, default=default)
    parser.add_argument("--fna", type=int, default=Make.fna)
    parser.add_argument("--ndi", action="store_true", help="no-deallocate is inhibited")
    parser.add_argument("--vers", action="store_true", help="media verification is supported")
    given = parser.parse_args(arguments)
    make = Make(
        actions=frozenset(filter(None, given.actions.split(","))),
        ndi=given.ndi,
        vers=given.vers,
        fna=given.fna,
        block_seconds=given.block_seconds,
        crypto_seconds=given.crypto_seconds,
        overwrite_seconds=given.overwrite_seconds,
        format_seconds=given.format_seconds,
    )
    drive = NvmeDrive(
        given.image,
        given.state,
        size=given.size * MIB,
        namespaces=given.namespaces,
        shift=given.block.bit_length() - 1,
        serial=given.serial,
        make=make,
        faults=given.fault,
    )
    asyncio.run(serve(drive, given.address, given.port))


if __name__ == "__main__":
    main()
