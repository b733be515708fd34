"""A port that answers NVMe commands from a script, and data laid out by the specification's own offsets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from expunge_agent.commands.port import NvmeCommand, NvmeReply

Answers = Callable[[NvmeCommand], NvmeReply]


class ScriptedNvme:
    """Keeps every command it got. `identify` by (CNS, NSID), `logs` by page; what is missing is refused
    with Invalid Field or Invalid Log Page. `on` answers an opcode: a reply, or several in turn."""

    def __init__(self) -> None:
        self.identify: dict[tuple[int, int], bytes] = {}
        self.logs: dict[int, bytes | list[bytes]] = {}
        self.on: dict[int, Answers | list[NvmeReply]] = {}
        self.sent: list[NvmeCommand] = []
        self.timeouts: list[float] = []

    def admin(
        self, command: NvmeCommand, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> NvmeReply:
        self.sent.append(command)
        self.timeouts.append(timeout)
        if command.opcode == 0x06:
            data = self.identify.get((command.cdw10 & 0xFF, command.nsid))
            return NvmeReply(0x002) if data is None else NvmeReply(0, 0, data[:data_in])
        if command.opcode == 0x02:
            page = self.logs.get(command.cdw10 & 0xFF)
            if isinstance(page, list):
                page = page.pop(0) if len(page) > 1 else page[0]
            return NvmeReply(0x109) if page is None else NvmeReply(0, 0, page[:data_in])
        script = self.on.get(command.opcode)
        if script is None:
            return NvmeReply(0x001)
        return script.pop(0) if isinstance(script, list) else script(command)

    def of(self, opcode: int) -> list[NvmeCommand]:
        """The commands with this opcode, in order."""
        return [command for command in self.sent if command.opcode == opcode]


def placed(size: int, **fields: tuple[int, bytes]) -> bytes:
    """`size` zero bytes with each field at its offset."""
    data = bytearray(size)
    for at, value in fields.values():
        data[at : at + len(value)] = value
    return bytes(data)


def controller_data(
    *,
    serial: bytes = b"S3CR3T-0001".ljust(20),
    sanicap: int = 0x00000007,
    oacs: int = 0x000A,
    fna: int = 0x04,
    version: int = 0x00010400,
    namespaces: int = 4,
    capacity: int = 0,
    unallocated: int = 0,
    cmic: int = 0,
) -> bytes:
    """Identify Controller, by the byte offsets of Base 2.0 figure 275."""
    return placed(
        4096,
        vid=(0, bytes((0x36, 0x1B))),
        sn=(4, serial),
        mn=(24, b"SCRIPTED NVME DRIVE".ljust(40)),
        fr=(64, b"1.0".ljust(8)),
        cmic=(76, bytes((cmic,))),
        cntlid=(78, bytes((0x21, 0x00))),
        ver=(80, version.to_bytes(4, "little")),
        cntrltype=(111, b"\x01"),
        fguid=(112, bytes(range(16))),
        oacs=(256, oacs.to_bytes(2, "little")),
        tnvmcap=(280, capacity.to_bytes(16, "little")),
        unvmcap=(296, unallocated.to_bytes(16, "little")),
        sanicap=(328, sanicap.to_bytes(4, "little")),
        nn=(516, namespaces.to_bytes(4, "little")),
        fna=(524, bytes((fna,))),
        vwc=(525, b"\x01"),
        subnqn=(768, b"nqn.2014-08.org.nvmexpress:uuid:scripted\0"),
    )


def namespace_data(
    *, blocks: int = 0x1000, flbas: int = 0x01, dps: int = 0, fpi: int = 0, nlbaf: int = 1
) -> bytes:
    """Identify Namespace, by the byte offsets of NVM 1.0 figure 97: format 0 is 512 bytes, format 1 is 4096,
    format 17 is 4096 with 8 bytes of metadata."""
    return placed(
        4096,
        nsze=(0, blocks.to_bytes(8, "little")),
        ncap=(8, blocks.to_bytes(8, "little")),
        nuse=(16, (blocks // 2).to_bytes(8, "little")),
        nlbaf=(25, bytes((nlbaf,))),
        flbas=(26, bytes((flbas,))),
        dps=(29, bytes((dps,))),
        fpi=(32, bytes((fpi,))),
        dlfeat=(33, b"\x09"),
        nguid=(104, bytes.fromhex("0123456789abcdef0011223344556677")),
        eui64=(120, bytes.fromhex("0022446688aaccee")),
        lbaf0=(128, bytes((0x00, 0x00, 0x09, 0x02))),
        lbaf1=(132, bytes((0x00, 0x00, 0x0C, 0x00))),
        lbaf17=(128 + 4 * 17, bytes((0x08, 0x00, 0x0C, 0x00))),
    )


def list_data(*numbers: int) -> bytes:
    """A namespace list (Base 2.0 §4.5.2)."""
    return b"".join(number.to_bytes(4, "little") for number in numbers).ljust(4096, b"\0")


def sanitize_data(
    sstat: int,
    scdw10: int = 0,
    *,
    sprog: int = 0xFFFF,
    times: tuple[int, ...] = (1600, 40, 5, 3200, 80, 0),
    ssi: int = 0,
) -> bytes:
    """Sanitize Status, by the byte offsets of Base 2.0 figure 267; `times`: overwrite, block, crypto, and
    the same for no-deallocate."""
    estimates = b"".join(each.to_bytes(4, "little") for each in times)
    return placed(
        512,
        sprog=(0, sprog.to_bytes(2, "little")),
        sstat=(2, sstat.to_bytes(2, "little")),
        scdw10=(4, scdw10.to_bytes(4, "little")),
        times=(8, estimates),
        ssi=(36, bytes((ssi,))),
    )


def health_data(*, kelvin: int = 310, warning: int = 0) -> bytes:
    """SMART / Health Information, by the byte offsets of Base 2.0 figure 207."""
    return placed(
        512,
        warning=(0, bytes((warning,))),
        kelvin=(1, kelvin.to_bytes(2, "little")),
        spare=(3, b"\x64"),
        used=(5, b"\x07"),
        hours=(128, (1234).to_bytes(16, "little")),
        unsafe=(144, (9).to_bytes(16, "little")),
        errors=(160, (3).to_bytes(16, "little")),
    )


def drive(**controller: Any) -> ScriptedNvme:
    """A drive with namespace 1 (4096-byte blocks) and 2 attached, 3 allocated only, never sanitized."""
    port = ScriptedNvme()
    port.identify[1, 0] = controller_data(**controller)
    port.identify[0, 1] = namespace_data()
    port.identify[0, 2] = namespace_data(blocks=0x200, flbas=0)
    port.identify[2, 0] = list_data(1, 2)
    port.identify[0x10, 0] = list_data(1, 2, 3)
    port.logs[0x81] = sanitize_data(0x0000)
    port.logs[0x02] = health_data()
    return port
