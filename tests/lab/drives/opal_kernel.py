"""The kernel's part in a PSID revert, on a simulated drive: what block/sed-opal.c sends, byte for byte.

The kernel of the laboratory's guests opens such sessions to NVMe drives on PCI Express and to ATA drives
behind libata only, and neither can be simulated there: so here stands what its ioctl does.
"""

from __future__ import annotations

from expunge_agent.commands import opal
from expunge_agent.commands.kernel_opal import OpalFlags
from expunge_agent.commands.port import CommandError, NoPassThrough, NvmeCommand, NvmePort
from lab.drives.opal import ADMIN_SP, PSID_AUTHORITY, REVERT, SESSION_MANAGER, START_SESSION
from lab.drives.opal_tokens import (
    CALL,
    END_LIST,
    END_NAME,
    END_OF_DATA,
    END_OF_SESSION,
    START_LIST,
    START_NAME,
    Packet,
    Token,
    control,
    pack,
    unpack,
)

_HOST_SESSION = 0x41
"""GENERIC_HOST_SESSION_NUM"""
_NO_METHOD_STATUS = 0x89
"""DTAERROR_NO_METHOD_STATUS"""
_LIST, _END, _NAME, _UNNAME = (control(one) for one in (START_LIST, END_LIST, START_NAME, END_NAME))


class KernelSession:
    """Implements `expunge_agent.techniques.opal_revert.OpalKernel` over the drive's Security Send and Receive."""

    def __init__(self, port: NvmePort) -> None:
        self._port = port

    def status(self) -> OpalFlags:
        """IOC_OPAL_GET_STATUS."""
        try:
            opal.parse(opal.discover_nvme(self._port))
        except opal.NotDiscovery as error:
            raise NoPassThrough("IOC_OPAL_GET_STATUS") from error
        return OpalFlags.SUPPORTED

    def psid_revert(self, psid: bytes) -> int:
        """IOC_OPAL_PSID_REVERT_TPR: opal_discovery0, start_PSID_opal_session, revert_tpr."""
        com_id = self._com_id()
        authority: list[Token] = [_NAME, 0, psid, _UNNAME, _NAME, 3, PSID_AUTHORITY, _UNNAME]
        start = [control(CALL), SESSION_MANAGER, START_SESSION, _LIST, _HOST_SESSION, ADMIN_SP, 1, *authority]
        reply = self._exchange(com_id, 0, 0, start)
        status = _status_of(reply)
        if status:
            return status
        host, tper = reply.tokens[4], reply.tokens[5]
        assert isinstance(host, int) and isinstance(tper, int)
        return _status_of(self._exchange(com_id, tper, host, [control(CALL), ADMIN_SP, REVERT, _LIST]))

    def _com_id(self) -> int:
        """The base ComID of the Opal 2 feature (03h 02h, bytes 4 and 5 of the descriptor)."""
        try:
            raw = opal.discover_nvme(self._port)
        except opal.NotDiscovery as error:
            raise CommandError("IOC_OPAL_PSID_REVERT_TPR: Input/output error") from error
        at = raw.index(b"\x02\x03\x10")
        return int.from_bytes(raw[at + 4 : at + 6], "big")

    def _exchange(self, com_id: int, tper: int, host: int, call: list[Token]) -> Packet:
        end: list[Token] = [_END, control(END_OF_DATA), _LIST, 0, 0, 0, _END]
        data = pack(Packet(com_id << 16, tper, host, [*call, *end]))
        words = {"cdw10": 0x01 << 24 | com_id << 8, "cdw11": len(data)}
        sent = self._port.admin(NvmeCommand(opcode=0x81, **words), data_out=data)
        got = self._port.admin(NvmeCommand(opcode=0x82, **words), data_in=len(data))
        if sent.status or got.status:
            raise CommandError("IOC_OPAL_PSID_REVERT_TPR: Input/output error")
        return unpack(got.data)


def _status_of(reply: Packet) -> int:
    """response_status()"""
    tokens = reply.tokens
    if tokens[:1] == [control(END_OF_SESSION)]:
        return 0
    if len(tokens) < 5 or tokens[-5] != _LIST or tokens[-1] != _END:
        return _NO_METHOD_STATUS
    status = tokens[-4]
    return status if isinstance(status, int) else _NO_METHOD_STATUS
