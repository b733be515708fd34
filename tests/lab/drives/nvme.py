"""A simulated NVMe drive, written from NVM Express Base 2.0 and NVM Command Set 1.0.

It keeps its blocks in an image file and its memory in a state file, so that a sanitize outlives a power
cut. Which lies it tells is a set of names (`FAULTS`) that may change at any time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.drives import nvme_pages as pages
from lab.drives import nvme_status as st
from lab.drives.clock import Clock, RealClock
from lab.drives.nvme_erase import (
    ACTIONS,
    DEALLOCATING,
    FAULTS,
    MEDIA_VERIFICATION,
    RUNNING,
    Eraser,
    Format,
    Gone,
    Notes,
)
from lab.drives.nvme_io import ALL_NAMESPACES, FLUSH, READ, Blocks, Command, Reply
from lab.drives.nvme_pages import Make, Namespace
from lab.drives.opal import COM_ID, Tper
from lab.drives.store import StateFile, Store

__all__ = ["FAULTS", "Command", "Gone", "Make", "NvmeDrive", "Pending", "Reply"]

MIB = 1 << 20
MOST_NAMESPACES = 16
MOST_EVENTS = 4
LOGS = (0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x81)
LOGS_IN_SANITIZE = (0x01, 0x02, 0x04, 0x81)
GET_LOG, IDENTIFY, ABORT, SET_FEATURES, GET_FEATURES, EVENT = 0x02, 0x06, 0x08, 0x09, 0x0A, 0x0C
MANAGE, ATTACH, KEEP_ALIVE, FORMAT, SANITIZE = 0x0D, 0x15, 0x18, 0x80, 0x84
SECURITY_SEND, SECURITY_RECEIVE = 0x81, 0x82
IN_SANITIZE = (GET_LOG, IDENTIFY, ABORT, SET_FEATURES, GET_FEATURES, EVENT, KEEP_ALIVE, SANITIZE)
"""Admin commands allowed while a sanitize runs or has failed (Base 2.0 figure 139)."""
EVENTS = {"sanitized": 0x810106, "deallocated": 0x810206, "namespaces": 0x040002}
"""Dword 0 of an asynchronous event: type, information, log page (Base 2.0 figures 146, 149, 152)."""


@dataclass
class Pending:
    """A command that is not completed yet; ask `poll` again later."""

    poll: Callable[[], Reply | None]


class NvmeDrive:
    """One NVM subsystem with one controller.

    `image` and `state` are made where they are missing; else the drive goes on where it was.
    `size` (bytes, whole MiB) and `namespaces` (equal parts) and `serial` count for a new drive only.
    """

    def __init__(
        self,
        image: Path,
        state: Path,
        *,
        size: int = 64 * MIB,
        namespaces: int = 1,
        shift: int = 9,
        serial: str = "SIM0001",
        make: Make | None = None,
        clock: Clock | None = None,
        faults: Iterable[str] = (),
    ) -> None:
        self.image, self.size, self.clock = image, size, clock or RealClock()
        self.make = make or Make()
        self.faults: set[str] = set()
        for name in faults:
            self.switch(name, True)
        part = size // namespaces // MIB * MIB
        if not part:
            raise ValueError("a namespace has at least 1 MiB")
        self._factory = (
            serial,
            [Namespace(i + 1, i * part, part, shift) for i in range(namespaces)],
        )
        self._file = StateFile(state)
        self.on = False
        self.power_on()

    # Power and faults

    def switch(self, fault: str, on: bool) -> None:
        """Switch a fault on or off; ValueError for a name that is none."""
        if fault not in FAULTS:
            raise ValueError(f"no such fault: {fault}; there are {', '.join(sorted(FAULTS))}")
        (self.faults.add if on else self.faults.discard)(fault)

    def power_on(self) -> None:
        """Start from the state file; a running sanitize goes on."""
        if self.on:
            return
        raw = self._file.load()
        serial, namespaces = self._factory
        self.notes = Notes.from_dict(raw) if raw else Notes(serial, namespaces)
        self.store = Store(self.image, self.size, unmapped=self.notes.unmapped)
        self._eraser = Eraser(self.make, self.notes, self.store, self.faults, self._announce)
        self._blocks = Blocks(self.notes, self.store, self.faults)
        self.notes.locking.locked = self.notes.locking.locked or (not raw and "locked" in self.faults)
        self.tper = Tper(
            self.make.psid,
            self.notes.locking,
            seconds=self.make.revert_seconds,
            revert=self._eraser.start_revert,
            removing=lambda: self.notes.revert is not None,
            says=lambda name: name in self.faults,
        )
        if self.notes.sanitize:
            self._eraser.power_lost()
        self.on, self.gone = True, False
        self._seen = self.clock.now()
        self.notes.counts["power_cycles"] = self.notes.counts.get("power_cycles", 0) + 1
        self.reset()
        self._save(durable=True)

    def reset(self) -> None:
        """A controller reset: features go back, waiting event requests are dropped."""
        self.store.flush()
        self._features = dict.fromkeys((0x01, 0x02, 0x04, 0x05, 0x0A, 0x0B, 0x0F, 0x16, 0x17, 0x81), 0)
        self._features |= {0x04: 353, 0x06: int(self.make.volatile_cache)}
        self._events: list[int] = []
        self._masked: set[int] = set()
        self._changed: set[int] = set()
        self._waiting = 0

    def power_cut(self) -> None:
        """Take the power away at once: no flush, no goodbye."""
        if not self.on:
            return
        if not self.gone:
            self.tick()
        self.on = False
        if "loses-cache" in self.faults:
            self.store.lose_cache()
        self._eraser.power_lost()
        self.tper.power_lost()
        self.notes.counts["unsafe_shutdowns"] = self.notes.counts.get("unsafe_shutdowns", 0) + 1
        self._save(durable=True)
        self.store.close()

    def close(self) -> None:
        """End in good order: everything is saved."""
        if self.on:
            self.store.flush()
            self._save(durable=True)
            self.store.close()
            self.on = False

    def tick(self) -> None:
        """Let what runs in the background catch up with the clock."""
        if not self.on or self.gone:
            return
        now = self.clock.now()
        seconds, self._seen = now - self._seen, now
        if not self._eraser.busy:
            return
        try:
            self._eraser.advance(seconds)
        except Gone:
            self.gone = True
        self._save(durable=self.notes.sanitize is None)

    @property
    def formatting(self) -> bool:
        return self._eraser.format is not None

    @property
    def nqn(self) -> str:
        """The subsystem's NVMe qualified name."""
        return f"nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-{self._factory[0].encode().hex()[-12:]:0>12}"

    # Commands

    def admin(self, command: Command, data: bytes = b"", room: int = 0) -> Reply | Pending:
        """An admin command with `data` from the host or `room` bytes for what is read. Raises Gone."""
        self._alive()
        refused = self._refused_now(command)
        reply = Reply(refused) if refused else self._admin(command, data)
        if isinstance(reply, Reply):
            if len(reply.data) > room:
                return Reply(st.SGL_LENGTH)
            self._save(durable=command.opcode in (FORMAT, SANITIZE, MANAGE, ATTACH, SECURITY_SEND))
        return reply

    def io(self, command: Command, data: bytes = b"") -> Reply:
        """An I/O command. Raises Gone."""
        self._alive()
        refused = self._refused_io(command)
        if refused or (command.opcode == FLUSH and command.nsid == ALL_NAMESPACES):
            if not refused:
                self.store.flush()
            return Reply(refused)
        self.store.volatile = "loses-cache" in self.faults and bool(self._features[0x06])
        maps = command.opcode != READ and bool(self.store.unmapped)
        before = (self.notes.written, maps or command.opcode in (4, 9))
        if self._eraser.state == MEDIA_VERIFICATION and command.opcode == READ:
            return self._cells(command, data)
        reply = self._blocks.do(command, self._find(command.nsid), data)
        if before[1] or before[0] != self.notes.written:
            self._save()
        return reply

    def _cells(self, command: Command, data: bytes) -> Reply:
        """A read in the media verification state (NVM Command Set 1.1 §5.10.1)."""
        if command.cdw12 >> 24 & 0x1D:  # a check of protection information: PRINFO bits 28:26, STC bit 24
            return Reply(st.INVALID_FIELD)
        if "unreadable-cells" in self.faults:
            return Reply(st.UNRECOVERED_READ)
        reply = self._blocks.do(command, self._find(command.nsid), data)
        return Reply(reply.status or st.VERIFICATION_READ, reply.result, reply.data)

    def _alive(self) -> None:
        self.tick()
        if not self.on or self.gone:
            raise Gone("the drive is gone")

    def _find(self, nsid: int) -> Namespace:
        return next(ns for ns in self.notes.namespaces if ns.nsid == nsid)

    def _refused_now(self, command: Command) -> int:
        opcode, log = command.opcode, command.cdw10 & 0xFF
        if (
            self._eraser.busy
            and "refuses-while-busy" in self.faults
            and (
                opcode in (GET_LOG, IDENTIFY)
                or (opcode == SECURITY_RECEIVE and command.cdw10 >> 8 & 0xFFFF == 1)
            )
        ):
            return st.SANITIZE_IN_PROGRESS if self.notes.sanitize else st.FORMAT_IN_PROGRESS
        limit = st.SANITIZE_IN_PROGRESS if self.notes.sanitize or self.notes.cells else 0
        limit = st.SANITIZE_FAILED if self.notes.failure_mode else limit
        if limit and (opcode not in IN_SANITIZE or (opcode == GET_LOG and log not in LOGS_IN_SANITIZE)):
            return limit
        if self._eraser.format and opcode in (FORMAT, SANITIZE, MANAGE, ATTACH):
            return st.FORMAT_IN_PROGRESS
        return st.SUCCESS

    def _refused_io(self, command: Command) -> int:
        if command.opcode != FLUSH and self.notes.locking.locked:
            return st.ACCESS_DENIED
        looks = command.opcode == READ and self._eraser.state == MEDIA_VERIFICATION
        if command.opcode != FLUSH and (self.notes.sanitize or self.notes.cells) and not looks:
            return st.SANITIZE_IN_PROGRESS
        if command.opcode != FLUSH and self.notes.failure_mode:
            return st.SANITIZE_FAILED
        if command.opcode == FLUSH and command.nsid == ALL_NAMESPACES:
            return st.SUCCESS
        if not 1 <= command.nsid <= MOST_NAMESPACES:
            return st.INVALID_NAMESPACE
        if command.nsid not in self._nsids(attached=True):
            return st.INVALID_FIELD
        running = self._eraser.format
        return st.FORMAT_IN_PROGRESS if running and command.nsid in running.nsids else st.SUCCESS

    def _admin(self, command: Command, data: bytes) -> Reply | Pending:
        work: dict[int, Callable[[Command, bytes], Reply | Pending]] = {
            GET_LOG: self._get_log,
            IDENTIFY: self._identify,
            ABORT: lambda c, d: Reply(result=1),  # not aborted
            SET_FEATURES: self._set_features,
            GET_FEATURES: self._get_features,
            EVENT: self._event,
            KEEP_ALIVE: lambda c, d: Reply(),
            MANAGE: self._manage,
            ATTACH: self._attach,
        }
        if self.make.format_nvm:
            work[FORMAT] = self._format
        if self.make.actions or "wrong-sanicap" in self.faults:
            work[SANITIZE] = self._sanitize
        if self.make.psid:
            work |= {SECURITY_SEND: self._security_send, SECURITY_RECEIVE: self._security_receive}
        found = work.get(command.opcode)
        return found(command, data) if found else Reply(st.INVALID_OPCODE)

    # Identify and logs

    def _nsids(self, *, attached: bool) -> list[int]:
        return sorted(ns.nsid for ns in self.notes.namespaces if ns.attached or not attached)

    def _serial(self) -> bytes:
        plain = self.notes.serial.encode()
        if "garbled-serial" not in self.faults:
            return plain
        return bytes(b | 0x80 if i % 2 else b for i, b in enumerate(plain)) + b"\0\x07\xff"

    def _identify(self, command: Command, data: bytes) -> Reply:
        cns, nsid, csi = command.cdw10 & 0xFF, command.nsid, command.cdw11 >> 24
        if cns in (0x00, 0x03, 0x05, 0x08, 0x11):
            return self._identify_namespace(cns, nsid, csi)
        if cns == 0x01:
            return Reply(data=self._controller_page())
        if cns in (0x02, 0x10):
            if nsid >= 0xFFFFFFFE:
                return Reply(st.INVALID_NAMESPACE)
            return Reply(
                data=pages.namespace_list([n for n in self._nsids(attached=cns == 0x02) if n > nsid])
            )
        if cns == 0x06 and csi == 0:
            return Reply(data=bytes(pages.PAGE))
        if cns in (0x12, 0x13):
            there = cns == 0x13 or nsid in self._nsids(attached=True)
            there = there and command.cdw10 >> 16 <= 1
            return Reply(data=struct.pack("<HH", there, there).ljust(pages.PAGE, b"\0"))
        if cns == 0x1C:
            return Reply(data=struct.pack("<Q", 1).ljust(pages.PAGE, b"\0"))
        return Reply(st.INVALID_FIELD)

    def _identify_namespace(self, cns: int, nsid: int, csi: int) -> Reply:
        if csi:
            return Reply(st.INVALID_FIELD)
        if nsid == ALL_NAMESPACES and cns == 0x00:  # what all namespaces have in common
            common = Namespace(0, 0, 0, 9)
            page = bytearray(
                pages.identify_namespace(self.make, common, self.notes.serial, used=0, format_left=0)
            )
            page[104:128] = bytes(24)
            return Reply(data=bytes(page))
        if not 1 <= nsid <= MOST_NAMESPACES:
            return Reply(st.INVALID_NAMESPACE)
        if nsid not in self._nsids(attached=cns != 0x11):
            return Reply(st.INVALID_FIELD) if cns == 0x03 else Reply(data=bytes(pages.PAGE))
        ns = self._find(nsid)
        if cns == 0x03:
            return Reply(data=pages.namespace_descriptors(ns, self._factory[0]))
        if cns == 0x05:
            return Reply(data=bytes(pages.PAGE))
        running = self._eraser.format
        left = (
            100 - int(100 * running.erasure.fraction) if running is not None and nsid in running.nsids else 0
        )
        if cns == 0x08:
            return Reply(data=struct.pack("<BBBB10xB", 0, 0, 0, 0x80 | left, 1).ljust(pages.PAGE, b"\0"))
        holes = self.store.unmapped.within(ns.base, ns.base + ns.size)
        used = ns.size - sum(b - a for a, b in holes)
        return Reply(
            data=pages.identify_namespace(self.make, ns, self._factory[0], used=used, format_left=left)
        )

    def _controller_page(self) -> bytes:
        sanicap = self.make.sanicap | ("wrong-sanicap" in self.faults)
        free = self.size - sum(ns.size for ns in self.notes.namespaces)
        return pages.identify_controller(
            self.make,
            serial=self._serial(),
            sanicap=sanicap,
            nqn=self.nqn,
            capacity=self.size,
            free=free,
            namespaces=MOST_NAMESPACES,
        )

    def _get_log(self, command: Command, data: bytes) -> Reply:
        page, keep = command.cdw10 & 0xFF, bool(command.cdw10 & 1 << 15)
        length = 4 * ((command.cdw10 >> 16 | (command.cdw11 & 0xFFFF) << 16) + 1)
        offset = command.cdw12 | command.cdw13 << 32
        if page not in LOGS:
            return Reply(st.INVALID_LOG_PAGE)
        content = self._log(page)
        if offset % 4 or offset > len(content):
            return Reply(st.INVALID_FIELD)
        if not keep:
            self._masked.discard(page)
            if page == 0x04:
                self._changed.clear()
        return Reply(data=content[offset : offset + length].ljust(length, b"\0"))

    def _log(self, page: int) -> bytes:
        if page == 0x00:
            return pages.supported_logs(LOGS)
        if page == 0x01:
            return bytes(4 * 64)  # no error has been logged
        if page == 0x02:
            return pages.smart_log(self.notes.counts)
        if page == 0x03:
            return pages.firmware_log(self.make)
        if page == 0x04:
            return pages.namespace_list(sorted(self._changed))
        if page == 0x05:
            return pages.effects_log()
        notes, running, state = self.notes, self.notes.sanitize, self._eraser.state
        sprog = min(int(running.fraction * 65536), 0xFFFE) if running else 0xFFFF
        if state == DEALLOCATING:
            sprog = min(int(notes.deallocation / self.make.deallocate_seconds * 65536), 0xFFFE)
        if running or notes.failure_mode:  # 1 to 4: processing and failure, restricted and not
            state = (2 if notes.failure_mode else 1) + (2 if notes.scdw10 & 1 << 3 else 0)
        sstat = notes.sstat | notes.passes << 3 | (not notes.written and notes.sstat != RUNNING) << 8
        sstat |= notes.cancelled << 9
        return pages.sanitize_log(self.make, sprog=sprog, sstat=sstat, scdw10=notes.scdw10, state=state)

    # Features and events

    def _get_features(self, command: Command, data: bytes) -> Reply:
        feature = command.cdw10 & 0xFF
        if feature == 0x07:
            return Reply(result=0x00030003)
        if feature not in self._features:
            return Reply(st.INVALID_FIELD)
        if feature == 0x81:
            return Reply(data=self._features[feature].to_bytes(16, "little"))
        if feature == 0x16:
            return Reply(data=self._features[feature].to_bytes(512, "little"))
        return Reply(result=self._features[feature])

    def _set_features(self, command: Command, data: bytes) -> Reply:
        feature = command.cdw10 & 0xFF
        if command.cdw10 & 1 << 31:
            return Reply(st.NOT_SAVEABLE)
        if feature == 0x07:  # number of queues: up to 4 of each, 0's based
            asked = [min(command.cdw11 >> s & 0xFFFF, 3) for s in (0, 16)]
            return Reply(result=asked[0] | asked[1] << 16)
        if feature not in self._features:
            return Reply(st.INVALID_FIELD)
        if feature == 0x06:
            if not self.make.volatile_cache:
                return Reply(st.INVALID_FIELD)
            self.store.flush()
        taken = int.from_bytes(data, "little") if feature in (0x16, 0x81) else command.cdw11
        self._features[feature] = taken
        return Reply()

    def _event(self, command: Command, data: bytes) -> Reply | Pending:
        if self._waiting >= MOST_EVENTS:
            return Reply(st.AER_LIMIT)
        self._waiting += 1
        return Pending(self._take_event)

    def _take_event(self) -> Reply | None:
        self._alive()
        for event in self._events:
            if event >> 16 not in self._masked:
                self._events.remove(event)
                self._masked.add(event >> 16)
                self._waiting -= 1
                return Reply(result=event)
        return None

    def _announce(self, what: str) -> None:
        if what == "namespaces":
            self._changed.update(self._nsids(attached=True))
            if not self._features[0x0B] & 1 << 8:
                return
        if EVENTS[what] not in self._events:
            self._events.append(EVENTS[what])

    # Namespaces

    def _manage(self, command: Command, data: bytes) -> Reply:
        if command.cdw10 & 0xF == 0:
            return self._create(data)
        if command.cdw10 & 0xF != 1:
            return Reply(st.INVALID_FIELD)
        there = self._nsids(attached=False)
        if command.nsid not in (*there, ALL_NAMESPACES):
            return Reply(st.INVALID_FIELD if command.nsid <= MOST_NAMESPACES else st.INVALID_NAMESPACE)
        gone = there if command.nsid == ALL_NAMESPACES else [command.nsid]
        for ns in [ns for ns in self.notes.namespaces if ns.nsid in gone]:
            self.store.unmap(ns.base, ns.size)  # its flash is free, not erased
            self.notes.namespaces.remove(ns)
            self._changed.add(ns.nsid)
        return Reply()

    def _create(self, data: bytes) -> Reply:
        if len(data) < pages.PAGE:
            return Reply(st.SGL_LENGTH)
        blocks, capacity = struct.unpack_from("<QQ", data)
        if data[26] & 0xF >= len(pages.LBA_SHIFTS):
            return Reply(st.INVALID_FORMAT)
        shift = pages.LBA_SHIFTS[data[26] & 0xF]
        if not blocks or capacity != blocks:
            return Reply(st.INVALID_FIELD)
        size = -(-(blocks << shift) // MIB) * MIB
        base = self._room(size)
        free = [i for i in range(1, MOST_NAMESPACES + 1) if i not in self._nsids(attached=False)]
        if base is None:
            return Reply(st.INSUFFICIENT_CAPACITY)
        if not free:
            return Reply(st.NSID_UNAVAILABLE)
        self.notes.namespaces.append(Namespace(free[0], base, blocks << shift, shift, attached=False))
        return Reply(result=free[0])

    def _room(self, size: int) -> int | None:
        """Where `size` bytes of the medium belong to no namespace."""
        start = 0
        for ns in sorted(self.notes.namespaces, key=lambda ns: ns.base):
            if ns.base - start >= size:
                return start
            start = -(-(ns.base + ns.size) // MIB) * MIB
        return start if self.size - start >= size else None

    def _attach(self, command: Command, data: bytes) -> Reply:
        if len(data) < pages.PAGE:
            return Reply(st.SGL_LENGTH)
        if command.nsid not in self._nsids(attached=False):
            return Reply(st.INVALID_FIELD if command.nsid <= MOST_NAMESPACES else st.INVALID_NAMESPACE)
        if struct.unpack_from("<HH", data) != (1, 1):
            return Reply(st.CONTROLLER_LIST_INVALID)
        ns, attach = self._find(command.nsid), command.cdw10 & 0xF == 0
        if command.cdw10 & 0xF > 1:
            return Reply(st.INVALID_FIELD)
        if ns.attached == attach:
            return Reply(st.ALREADY_ATTACHED if attach else st.NOT_ATTACHED)
        ns.attached = attach
        self._announce("namespaces")
        self._changed.add(ns.nsid)
        return Reply()

    # Security (Base 2.0 §5.25, §5.26): protocol, and the ComID in the protocol specific field

    def _security_send(self, command: Command, data: bytes) -> Reply:
        protocol, com_id = command.cdw10 >> 24, command.cdw10 >> 8 & 0xFFFF
        taken = protocol == 1 and com_id == COM_ID and self.tper.send(data)
        return Reply(st.SUCCESS if taken else st.INVALID_FIELD)

    def _security_receive(self, command: Command, data: bytes) -> Reply:
        protocol, com_id, length = command.cdw10 >> 24, command.cdw10 >> 8 & 0xFFFF, command.cdw11
        if protocol != 1 or com_id not in (1, COM_ID):
            return Reply(st.INVALID_FIELD)
        content = self.tper.discovery() if com_id == 1 else self.tper.receive()
        return Reply(data=content[:length].ljust(length, b"\0"))

    # Erasing

    def _sanitize(self, command: Command, data: bytes) -> Reply:
        action, unrestricted = command.cdw10 & 7, bool(command.cdw10 & 1 << 3)
        notes = self.notes
        if command.nsid:
            return Reply(st.INVALID_FIELD)  # the command does not use a namespace
        if self._eraser.state == MEDIA_VERIFICATION:
            if action != 5:
                return Reply(st.INVALID_FIELD)
            self._eraser.exit_verification()
            return Reply()
        if notes.sanitize or notes.cells:
            return Reply(st.SANITIZE_IN_PROGRESS)
        if action == 1:
            if notes.failure_mode == "restricted":
                return Reply(st.SANITIZE_FAILED)
            notes.failure_mode = ""
            return Reply()
        refused = "wrong-sanicap" in self.faults and action == 4
        if ACTIONS.get(action) not in self.make.actions or refused:
            return Reply(st.INVALID_FIELD)
        if notes.failure_mode == "restricted" and unrestricted:
            return Reply(st.SANITIZE_FAILED)
        keep, verify = command.cdw10 & 1 << 9, command.cdw10 & 1 << 10
        if verify and (not self.make.vers or keep or action == 3 or "rejects-emvs" in self.faults):
            return Reply(st.INVALID_FIELD)
        if keep and self.make.ndi and not self._features[0x17] & 1:  # NODRM: refuse rather than warn
            return Reply(st.INVALID_FIELD)
        self._events = [e for e in self._events if e >> 16 != 0x81]
        self.store.flush()
        self._eraser.start_sanitize(command.cdw10, command.cdw11)
        return Reply()

    def _format(self, command: Command, data: bytes) -> Reply | Pending:
        index = command.cdw10 & 0xF | (command.cdw10 >> 12 & 3) << 4
        ses, fna = command.cdw10 >> 9 & 7, self.make.fna
        if command.nsid != ALL_NAMESPACES and not 1 <= command.nsid <= MOST_NAMESPACES:
            return Reply(st.INVALID_NAMESPACE)
        everywhere = command.nsid == ALL_NAMESPACES
        if (everywhere and fna & 8) or (not everywhere and command.nsid not in self._nsids(attached=True)):
            return Reply(st.INVALID_FIELD)
        if index >= len(pages.LBA_SHIFTS) or command.cdw10 >> 4 & 0x1F:  # no metadata, no protection
            return Reply(st.INVALID_FORMAT)
        if ses > 2 or (ses == 2 and not fna & 4):
            return Reply(st.INVALID_FIELD)
        if fna & 1 or (ses and fna & 2):
            targets = list(self.notes.namespaces)
        else:
            targets = [
                ns for ns in self.notes.namespaces if ns.attached and (everywhere or ns.nsid == command.nsid)
            ]
        self.store.flush()
        job = self._eraser.start_format(targets, pages.LBA_SHIFTS[index], ses)
        return Pending(lambda: self._format_reply(job))

    def _format_reply(self, job: Format) -> Reply | None:
        self._alive()
        if job is self._eraser.format:
            return None
        return Reply(st.INTERNAL_ERROR if job.failed else st.SUCCESS)

    def _save(self, *, durable: bool = False) -> None:
        self.notes.unmapped = self.store.unmapped.as_list()
        self._file.save(self.notes.as_dict(), durable=durable)
