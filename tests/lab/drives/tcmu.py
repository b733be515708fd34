"""A simulated drive as a disk of this kernel: target_core_user in front, tcm_loop behind. Needs root.

    python3 -m lab.drives.tcmu --kind ata --image /var/lib/drive.img --state /var/lib/drive.json --fault frozen

Prints one line of JSON with the nodes it became, then serves until SIGTERM. Made for the lab's guest:
standard library only. The ring follows Documentation/target/tcmu-design.rst of the kernel.
Commands go to the drive one by one, as on an ATA link; one that takes minutes holds up the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.drives import ata_words, sat, scsi_data
from lab.drives.ata import AtaDrive
from lab.drives.clock import RealClock
from lab.drives.eraser import Gone, Wait
from lab.drives.scsi import ScsiDrive
from lab.drives.scsi_wire import Completion
from lab.drives.store import StateFile, Store

CONFIG = Path("/sys/kernel/config/target")
CORE, LOOP = CONFIG / "core" / "user_0", CONFIG / "loopback"
Unit = ScsiDrive | sat.SatDrive
PADDING, COMMAND = 0, 1
UNKNOWN_OP, READ_LENGTH = 0x1, 0x2
"""User flags in an entry: its operation is not known; read_len is set."""
HEADER = struct.Struct("<IHBB")
REQUEST = struct.Struct("<IIIxxxxQ")
"""iov_cnt, iov_bidi_cnt, iov_dif_cnt, cdb_off, after the header."""
IOV, IOV_AT = struct.Struct("<QQ"), 48
REPLY_AT, SENSE = 8, 96
CDB_LENGTHS = (6, 10, 10, 16, 16, 12, 16, 16)


class Ring:
    """The shared memory of one TCMU device: a mailbox, the ring of commands, and their data."""

    def __init__(self, uio: str) -> None:
        self._fd = os.open(f"/dev/{uio}", os.O_RDWR | os.O_CLOEXEC)
        size = int(Path(f"/sys/class/uio/{uio}/maps/map0/size").read_text(), 16)
        self._map = mmap.mmap(self._fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        version, self._flags, self._ring, self._length = struct.unpack_from("<HHII", self._map, 0)
        if version != 2:
            raise OSError(f"the mailbox of target_core_user has version {version}; 2 is known")

    def close(self) -> None:
        self._map.close()
        os.close(self._fd)

    def wait(self, seconds: float) -> None:
        """Until the kernel says that there is something, or `seconds` are over."""
        if select.select([self._fd], [], [], seconds)[0]:
            os.read(self._fd, 4)

    def commands(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Each waiting command as (CDB, data, bytes of room for data); `answer` it before taking the next."""
        while True:
            head, tail = struct.unpack_from("<I", self._map, 12)[0], self._tail
            if head == tail:
                return
            at = self._ring + tail
            length_op, _, _, flags = HEADER.unpack_from(self._map, at)
            length = length_op & ~7
            if length_op & 7 == COMMAND:
                yield self._request(at)
            elif length_op & 7 != PADDING:
                struct.pack_into("<B", self._map, at + 7, flags | UNKNOWN_OP)
            struct.pack_into("<I", self._map, 64, (tail + length) % self._length)
            os.write(self._fd, b"\0\0\0\0")

    @property
    def _tail(self) -> int:
        return int(struct.unpack_from("<I", self._map, 64)[0])

    def _pieces(self, at: int) -> list[tuple[int, int]]:
        count = REQUEST.unpack_from(self._map, at + 8)[0]
        return [IOV.unpack_from(self._map, at + IOV_AT + 16 * i) for i in range(count)]

    def _request(self, at: int) -> tuple[bytes, bytes, int]:
        cdb_at = REQUEST.unpack_from(self._map, at + 8)[3]
        cdb = self._map[cdb_at : cdb_at + CDB_LENGTHS[self._map[cdb_at] >> 5]]
        # Which way the data goes the ring does not say: what is there is offered to the drive either way.
        self._places = self._pieces(at)
        room = sum(length for _, length in self._places)
        data = b"".join(self._map[offset : offset + length] for offset, length in self._places)
        return cdb, data, room

    def answer(self, completion: Completion) -> None:
        """End the command that `commands` gave last."""
        at = self._ring + self._tail
        data = completion.data
        done = 0
        for offset, length in self._places:
            piece = data[done : done + length]
            self._map[offset : offset + len(piece)] = piece
            done += len(piece)
        if data and self._flags & 2:
            flags = self._map[at + 7]
            struct.pack_into("<B", self._map, at + 7, flags | READ_LENGTH)
        reply = struct.pack("<BxxxI", completion.status, done) + completion.sense[:SENSE].ljust(SENSE, b"\0")
        self._map[at + REPLY_AT : at + REPLY_AT + len(reply)] = reply


def _write(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)


def _ready(what: Path, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what.exists():
        if time.monotonic() > end:
            raise OSError(f"{what} did not appear in {seconds:.0f} s")
        time.sleep(0.02)


class Disk:
    """The kernel's side: a TCMU backstore `name` and a SCSI host of its own (tcm_loop) with it as LUN 0."""

    def __init__(self, name: str, size: int, block: int) -> None:
        self.name, self._size, self._block = name, size, block
        digest = int.from_bytes(name.encode()[-4:].rjust(4, b"\0"), "big")
        self._loop = LOOP / f"naa.6001405{digest:08x}0000{os.getpid() & 0xFFFF:04x}0"[:20]
        self._group = self._loop / "tpgt_1"

    def make(self) -> str:
        """Create the backstore; returns the name of its uio device."""
        core = CORE / self.name
        core.mkdir(parents=True)
        control = f"dev_size={self._size},hw_block_size={self._block},dev_config=expunge/{self.name}"
        _write(core / "control", control)
        _write(core / "control", "nl_reply_supported=-1")
        _write(core / "enable", "1")
        _write(core / "attrib" / "cmd_time_out", "0")
        for entry in Path("/sys/class/uio").iterdir():
            if (entry / "name").read_text().split("/")[2:3] == [self.name]:
                _ready(Path("/dev") / entry.name)
                return entry.name
        raise OSError(f"no uio device came for {self.name}")

    def attach(self) -> dict[str, str]:
        """Show the disk to the kernel; the ring has to be served already. Returns its nodes."""
        group = self._group
        group.mkdir(parents=True)
        _write(group / "nexus", self._loop.name)
        (group / "lun" / "lun_0").mkdir()
        (group / "lun" / "lun_0" / self.name).symlink_to(CORE / self.name)
        host = (group / "address").read_text().split(":")[0]
        device = next(Path("/sys/class/scsi_device").glob(f"{host}:*"), None)
        if device is None:
            raise OSError(f"the kernel did not take {self.name}")
        end = time.monotonic() + 10
        found: dict[str, str] = {}
        while time.monotonic() < end and "block" not in found:
            for kind in ("block", "scsi_generic"):
                for node in (device / "device" / kind).glob("*"):
                    found[kind] = f"/dev/{node.name}"
            time.sleep(0.05)
        return {"name": self.name, "address": device.name, **found}

    def remove(self) -> None:
        """Take everything away again, as far as it was made."""
        for step in (
            (self._group / "lun" / "lun_0" / self.name).unlink,
            (self._group / "lun" / "lun_0").rmdir,
            self._group.rmdir,
            self._loop.rmdir,
            (CORE / self.name).rmdir,
        ):
            with contextlib.suppress(OSError):
                step()


class Front:
    """Serves one drive to the kernel until it is told to end or the drive vanishes."""

    def __init__(self, unit: Unit, name: str, log: Path | None = None) -> None:
        self._unit = unit
        self._log = log
        self._disk = Disk(name, unit.store.size, unit.sector_size)
        self._over = threading.Event()

    def stop(self, *_: object) -> None:
        self._over.set()

    def run(self) -> int:
        """Serve; prints the nodes as JSON once they are there."""
        try:
            ring = Ring(self._disk.make())
            server = threading.Thread(target=self._serve, args=(ring,), daemon=True)
            server.start()
            print(json.dumps(self._disk.attach()), flush=True)
            self._over.wait()
        finally:
            # The disk is taken away while the ring is still served: the kernel sends last commands.
            self._disk.remove()
        return 0

    def _serve(self, ring: Ring) -> None:
        with contextlib.suppress(OSError):  # the device is taken away
            self._loop(ring)

    def _loop(self, ring: Ring) -> None:
        while True:
            for cdb, data, room in ring.commands():
                began = time.monotonic()
                completion = self._carry_out(cdb, data)
                ring.answer(replace(completion, data=completion.data[:room]))
                self._note(cdb, data, completion, began)
            ring.wait(0.5)

    def _carry_out(self, cdb: bytes, data: bytes) -> Completion:
        try:
            reply = self._unit.command(cdb, data)
            while isinstance(reply, Wait):
                time.sleep(min(reply.seconds, 0.25))
                reply = self._unit.resume()
        except Gone:
            self._over.set()
            return Completion(0x02, bytes([0x70, 0, 0x0B, 0, 0, 0, 0, 10]) + bytes(10))
        except Exception as error:  # noqa: BLE001 - a bug of ours must not hang the kernel
            print(f"{cdb.hex()}: {error!r}", file=sys.stderr, flush=True)
            return Completion(0x02, bytes([0x70, 0, 0x04, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x44]) + bytes(5))
        return reply

    def _note(self, cdb: bytes, data: bytes, completion: Completion, began: float) -> None:
        if self._log is None:
            return
        line: dict[str, Any] = {
            "cdb": cdb.hex(),
            "status": completion.status,
            "sense": completion.sense.hex(),
            "in": len(completion.data),
            "out": len(data),
            "ms": round((time.monotonic() - began) * 1000),
        }
        with self._log.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _length(image: Path) -> int:
    """Bytes in a file or a block device; 0 when it is not there."""
    try:
        fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def _unit(given: argparse.Namespace, clock: RealClock) -> Unit:
    changes: dict[str, object] = {}
    if given.serial:
        changes["serial"] = given.serial
    if given.seconds is not None:
        changes["sanitize_seconds"] = given.seconds
        changes["security_seconds" if given.kind == "ata" else "format_seconds"] = given.seconds
    if given.block:
        changes["sector" if given.kind == "ata" else "block"] = given.block
        changes["exponent"] = 3 if given.block == 512 else 0
    if given.wwn:
        changes["wwn"] = int(given.wwn, 16)
    image = Path(given.image)
    store, notes = Store(image, _length(image) or given.size << 20), StateFile(Path(given.state))
    if given.kind == "scsi":
        built = scsi_data.sas_hdd(**changes) if given.rotating else scsi_data.sas_ssd(**changes)
        return ScsiDrive(store, notes, model=built, clock=clock, faults=given.fault, durable=True)
    model = ata_words.hdd(**changes) if given.rotating else ata_words.ssd(**changes)
    fresh = not Path(given.state).exists()
    drive = AtaDrive(store, notes, model=model, clock=clock, faults=given.fault, durable=True)
    if fresh and (given.hide or given.configure):
        real = store.size // drive.core.model.sector
        drive.hide(
            accessible=real - given.hide if given.hide else None,
            configured=real - given.configure if given.configure else None,
        )
    return sat.SatDrive(
        drive,
        sense=given.sense,
        pass_through=not given.no_pass_through,
        short=given.short,
        libata=given.libata,
    )


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="lab.drives.tcmu", description="A simulated SCSI or ATA drive.")
    parser.add_argument("--kind", choices=("ata", "scsi"), required=True)
    parser.add_argument(
        "--image",
        required=True,
        help="file or block device that is the medium; a file is made when it is not there",
    )
    parser.add_argument("--state", required=True, help="file that holds the drive's own memory")
    parser.add_argument("--size", type=int, default=16, help="MiB of a new image")
    parser.add_argument("--name", default="drive0", help="name of the backstore")
    parser.add_argument("--fault", action="append", default=[], help="a fault of faults.py; may be repeated")
    parser.add_argument("--serial")
    parser.add_argument("--wwn", help="hexadecimal NAA identifier")
    parser.add_argument("--block", type=int, help="bytes in a logical sector")
    parser.add_argument("--rotating", action="store_true", help="a hard disk instead of flash")
    parser.add_argument("--seconds", type=float, help="how long an erase takes")
    parser.add_argument("--haste", type=float, default=1.0, help="how fast its clock goes after SIGUSR1")
    parser.add_argument("--sense", choices=sat.VARIANTS, default=sat.DESCRIPTOR)
    parser.add_argument("--no-pass-through", action="store_true", help="a bridge without ATA PASS-THROUGH")
    parser.add_argument("--libata", action="store_true", help="reads are aborted while the drive sanitizes")
    parser.add_argument("--short", action="store_true", help="a bridge with ATA PASS-THROUGH (12) only")
    parser.add_argument(
        "--hide", type=int, default=0, help="sectors hidden by an HPA or AMA (new state only)"
    )
    parser.add_argument("--configure", type=int, default=0, help="sectors hidden by a DCO (new state only)")
    parser.add_argument("--log", type=Path, help="append each command as a line of JSON")
    given = parser.parse_args(arguments)
    clock = RealClock()
    front = Front(_unit(given, clock), given.name, given.log)
    signal.signal(signal.SIGUSR1, lambda *_: clock.go(given.haste))
    signal.signal(signal.SIGTERM, front.stop)
    signal.signal(signal.SIGINT, front.stop)
    return front.run()


if __name__ == "__main__":
    sys.exit(main())
