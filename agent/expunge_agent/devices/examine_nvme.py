"""An NVMe drive by its own answers: identity, namespaces, abilities, health, and what in them is doubtful."""

from __future__ import annotations

from typing import Literal

from expunge_agent.commands import nvme, nvme_identify, nvme_logs
from expunge_agent.commands.nvme import Cns, Log
from expunge_agent.commands.nvme_logs import Sos
from expunge_agent.commands.nvme_offers import FORMATS, SANITIZES, keeps_blocks, lacks
from expunge_agent.commands.nvme_status import words
from expunge_agent.commands.port import NvmeCommand, NvmePort
from expunge_agent.core.drive import Ability, Answer, Drive, Health, NvmeNamespace
from expunge_agent.core.reach import IDENTIFY_CONTROLLER
from expunge_agent.protocol.canonical import MAX_SAFE_INTEGER, U64

_VERSION_SANITIZE = 0x10300  # Sanitize came with NVM Express 1.3
_VERSION_2_0 = 0x20000
_MAX_LISTS = 64
"""Pages of 1024 namespace numbers that are read at most: a drive that repeats itself ends there."""
_MAX_OTHERS = 16
"""Namespaces beside the one asked about whose raw data are kept: receipts and journals hold them."""
_SANITIZE_STATES: dict[int, Literal["idle", "running", "failed", "done"]] = {
    Sos.NEVER: "idle",
    Sos.DONE: "done",
    Sos.RUNNING: "running",
    Sos.FAILED: "failed",
    Sos.DONE_DEALLOCATED: "done",
}


def examine_nvme(port: NvmePort, nsid: int) -> Drive:
    """Ask the controller for everything about itself and its namespace `nsid`; changes nothing.

    Raises CommandError when it does not say what it is (Identify Controller); what else it refuses
    is left out, with a word in ``doubtful`` where it ought to have answered.
    """
    look = _Look(port)
    data = look.ask(IDENTIFY_CONTROLLER, nvme.identify(Cns.CONTROLLER))
    first = nvme_identify.controller(data)
    space = look.namespace(nsid)
    names = look.descriptors(nsid, first) if space else nvme_identify.Descriptors()
    namespaces = look.namespaces(nsid, first, space)
    log = look.sanitize_log(first)
    health = look.health()
    again = nvme_identify.controller(look.ask("", nvme.identify(Cns.CONTROLLER)))
    doubtful = [*_doubts_of_controller(first, again), *look.doubtful]
    if space:
        doubtful += _doubts_of_namespace(first, space, names, nsid)
    return Drive(
        protocol="nvme",
        vendor=f"PCI {first.vendor:04x}" if first.vendor else "",
        model=first.model,
        serial=first.serial,
        firmware=first.firmware,
        names=_names(space, names),
        rotation=look.rotation(first, nsid),
        logical_sector=space.sector if space and space.sector else -1,
        physical_sector=space.granule * space.sector if space and space.granule and space.sector else -1,
        apparent=U64(min(space.size, 2**64 - 1)) if space else U64(0),
        total=U64(min(first.capacity, 2**64 - 1)),
        unallocated=U64(min(first.unallocated, 2**64 - 1)),
        abilities=_abilities(first, log),
        sanitize_state=_SANITIZE_STATES.get(log.sos, "") if log else "",
        media_verification=first.media_verification,
        namespaces=namespaces,
        unlisted=look.unlisted,
        health=health,
        doubtful=doubtful,
        answers=look.answers,
    )


class _Look:
    """One examination: asks, and keeps what came and what was strange about it."""

    def __init__(self, port: NvmePort) -> None:
        self._port = port
        self.answers: list[Answer] = []
        self.doubtful: list[str] = []
        self.unlisted = ""
        self._others = 0

    def ask(self, name: str, command: NvmeCommand, size: int = nvme_identify.IDENTIFY_BYTES) -> bytes:
        """Raises CommandError."""
        data = nvme.read(self._port.admin(command, data_in=size), size, name or "Identify Controller again")
        if name:
            self.answers.append(Answer(name=name, hex=data.hex()))
        return data

    def maybe(
        self, name: str, command: NvmeCommand, size: int = nvme_identify.IDENTIFY_BYTES, *, must: str = ""
    ) -> bytes:
        """The data, or nothing when the controller refuses; `must`: why it ought not to."""
        reply = self._port.admin(command, data_in=size)
        if reply.status or len(reply.data) < size:
            if must:
                why = words(reply.status) if reply.status else f"{len(reply.data)} of {size} bytes"
                self.doubtful.append(f"{name} is not answered ({why}), although {must}")
            return b""
        self.answers.append(Answer(name=name, hex=reply.data.hex()))
        return reply.data

    def namespace(self, nsid: int) -> nvme_identify.Namespace | None:
        data = self.maybe(
            f"Identify Namespace {nsid}",
            nvme.identify(Cns.NAMESPACE, nsid),
            must=f"the system shows namespace {nsid}",
        )
        return nvme_identify.namespace(data) if data else None

    def descriptors(self, nsid: int, controller: nvme_identify.Controller) -> nvme_identify.Descriptors:
        """Namespace Identification Descriptors: since NVM Express 1.3."""
        if controller.version < _VERSION_SANITIZE:
            return nvme_identify.Descriptors()
        command = nvme.identify(Cns.DESCRIPTORS, nsid)
        return nvme_identify.descriptors(self.maybe(f"Namespace Identification Descriptors {nsid}", command))

    def namespaces(
        self, nsid: int, controller: nvme_identify.Controller, known: nvme_identify.Namespace | None
    ) -> list[NvmeNamespace]:
        """Every namespace, attached or only allocated; at least `nsid` itself when no list is given.

        What is attached is what this controller sees; only the allocated ones are all of the subsystem's (Base 2.0
        §5.17.2.2, §5.17.2.9)."""
        must = f"there may be {controller.namespaces} namespaces" if controller.namespaces > 1 else ""
        attached = self._numbers(Cns.ACTIVE_NAMESPACES, must)
        allocated: list[int] = []
        if controller.manages_namespaces:
            must = f"OACS {controller.oacs:04X}h offers namespace management"
            allocated = self._numbers(Cns.ALLOCATED_NAMESPACES, must)
        if controller.in_company and not {*attached, nsid} <= set(allocated):
            why = "does not list all namespaces of it"
            if not controller.manages_namespaces:
                why = "has no namespace management to list the namespaces of all of them"
            self.unlisted = (
                f"the NVM subsystem may have further controllers (CMIC {controller.cmic:02X}h), "
                f"and this one {why}"
            )
        if attached and nsid not in attached:
            self.doubtful.append(
                f"namespace {nsid} is in use, but not in the controller's list of active namespaces"
            )
        found = []
        for number in sorted({*attached, *allocated, nsid}):
            here = number in attached or number == nsid
            space = known if number == nsid else self._other(number) if here else None
            size = U64(min(space.size, 2**64 - 1)) if space else U64(0)
            sector = space.sector if space else 0
            found.append(NvmeNamespace(nsid=number, attached=here, size=size, sector=sector))
        total = sum(int(one.size) for one in found)
        if controller.capacity and total > controller.capacity:
            self.doubtful.append(
                f"the namespaces hold {total} bytes together, the drive {controller.capacity} in all"
            )
        return found

    def _other(self, nsid: int) -> nvme_identify.Namespace | None:
        reply = self._port.admin(nvme.identify(Cns.NAMESPACE, nsid), data_in=nvme_identify.IDENTIFY_BYTES)
        if reply.status:
            return None
        self._others += 1
        if self._others <= _MAX_OTHERS:
            self.answers.append(Answer(name=f"Identify Namespace {nsid}", hex=reply.data.hex()))
        return nvme_identify.namespace(reply.data)

    def _numbers(self, cns: Cns, must: str) -> list[int]:
        """A whole namespace list (Base 2.0 §5.17.2.2), empty when it is not answered; `must` as for `maybe`."""
        title = cns.name.lower().replace("_", " ")
        numbers: list[int] = []
        for _ in range(_MAX_LISTS):
            command = nvme.identify(cns, numbers[-1] if numbers else 0)
            reply = self._port.admin(command, data_in=nvme_identify.IDENTIFY_BYTES)
            if reply.status:
                if must:
                    self.doubtful.append(
                        f"the list of {title} is not answered ({words(reply.status)}), although {must}"
                    )
                break
            beyond = f" beyond {numbers[-1]}" if numbers else ""
            self.answers.append(Answer(name=f"List of {title}{beyond}", hex=reply.data.hex()))
            part = nvme_identify.namespace_list(reply.data)
            together = sorted({*numbers, *part})
            ordered = together == numbers + part
            numbers = together
            if not ordered:
                self.doubtful.append(f"the list of {title} is out of order")
            if not ordered or not nvme_identify.full(part):
                break
        return numbers

    def sanitize_log(self, controller: nvme_identify.Controller) -> nvme_logs.SanitizeLog | None:
        claimed = any(controller.sanitizes(action) for action in SANITIZES.values())
        data = self.maybe(
            "Sanitize Status log (81h)",
            nvme.log_page(Log.SANITIZE, retain=True),
            nvme_logs.LOG_BYTES,
            must=f"SANICAP {controller.sanicap:08X}h offers sanitize operations" if claimed else "",
        )
        if not data:
            return None
        log = nvme_logs.sanitize_log(data)
        if log.sos not in list(Sos):
            self.doubtful.append(f"the Sanitize Status log holds the reserved status {log.sos}")
        return log

    def health(self) -> Health:
        data = self.maybe(
            "SMART / Health Information log (02h)", nvme.log_page(Log.HEALTH), nvme_logs.LOG_BYTES
        )
        if not data:
            return Health()
        log = nvme_logs.health_log(data)
        return Health(
            passed=log.warning == 0,
            celsius=log.celsius,
            power_on_hours=_count(log.power_on_hours),
            used_percent=log.used_percent,
            media_errors=_count(log.media_errors),
        )

    def rotation(self, controller: nvme_identify.Controller, nsid: int) -> int:
        """1 where the namespace says that it lies on no rotating medium; 0 where it does not say, or turns."""
        if controller.version < _VERSION_2_0:
            return 0
        name = f"Identify Namespace {nsid}, independent of the command set"
        data = self.maybe(name, nvme.identify(Cns.INDEPENDENT_NAMESPACE, nsid))
        return 1 if data and not nvme_identify.rotational(data) else 0


def _abilities(controller: nvme_identify.Controller, log: nvme_logs.SanitizeLog | None) -> list[Ability]:
    found = []
    for technique in (*SANITIZES, *FORMATS):
        why, seconds = lacks(controller, technique), -1
        if technique in SANITIZES and not why:
            if log is None:
                why = "claimed in SANICAP, but log page 81h is not answered: its end could not be seen"
            else:
                action = SANITIZES[technique]
                seconds = log.seconds(action, no_deallocate=keeps_blocks(controller, action))
        found.append(Ability(technique=technique, offered=not why, why=why, seconds=seconds))
    return found


def _names(space: nvme_identify.Namespace | None, names: nvme_identify.Descriptors) -> list[str]:
    """World wide names of the namespace, from both places that tell them, each once."""
    found = [
        ("eui", space.eui64 if space else ""),
        ("eui", names.eui64),
        ("nguid", space.nguid if space else ""),
        ("nguid", names.nguid),
        ("uuid", names.uuid),
    ]
    return list(dict.fromkeys(f"{kind}.{value}" for kind, value in found if value))


def _doubts_of_controller(first: nvme_identify.Controller, again: nvme_identify.Controller) -> list[str]:
    doubts = [f"the {name} is empty or holds characters that do not print" for name in first.garbled]
    if (first.serial, first.model, first.firmware) != (again.serial, again.model, again.firmware):
        doubts.append(
            f"asked twice, the drive called itself {first.model} {first.serial} and {again.model} {again.serial}"
        )
    if first.sanicap & 0x7 and first.version < _VERSION_SANITIZE:
        doubts.append(
            f"SANICAP {first.sanicap:08X}h, but version {first.version:08X}h is older than Sanitize itself"
        )
    if first.fna & 0x7 and not first.formats:
        doubts.append(
            f"FNA {first.fna:02X}h tells of Format NVM, which OACS {first.oacs:04X}h says is not there"
        )
    if first.unallocated > first.capacity:
        doubts.append(f"{first.unallocated} bytes are unallocated of {first.capacity} in all")
    return doubts


def _doubts_of_namespace(
    controller: nvme_identify.Controller,
    space: nvme_identify.Namespace,
    names: nvme_identify.Descriptors,
    nsid: int,
) -> list[str]:
    doubts = []
    if not space.sector:
        doubts.append(f"namespace {nsid} is formatted with a block format that is not in its own table")
    if space.capacity > space.blocks or space.used > space.capacity:
        doubts.append(
            f"namespace {nsid}: size {space.blocks}, capacity {space.capacity} and use {space.used} blocks contradict"
        )
    if nsid > controller.namespaces:
        doubts.append(f"namespace {nsid} of a controller that has {controller.namespaces} at most")
    for title, one, other in (("EUI-64", space.eui64, names.eui64), ("NGUID", space.nguid, names.nguid)):
        if one and other and one != other:
            doubts.append(f"the {title} is {one} in Identify Namespace and {other} in the descriptors")
    if names.csi > 0:
        doubts.append(f"namespace {nsid} uses I/O command set {names.csi:02X}h, not the NVM command set")
    return doubts


def _count(value: int) -> int:
    return value if value <= MAX_SAFE_INTEGER else -1
