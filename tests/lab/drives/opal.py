"""A simulated TCG Opal 2 security subsystem: level 0 discovery, and the sessions that a PSID revert needs.

From TCG Core 2.01 §3.3 (discovery), §5.2.3 (StartSession), Opal SSC 2.30 §3.1.1 (features), §5.1.2 (Revert) and
the PSID feature set 1.00: with the PSID as its authority's password, a session to the Admin SP may only revert it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.drives.opal_tokens import (
    CALL,
    END_LIST,
    END_OF_DATA,
    END_OF_SESSION,
    START_LIST,
    START_NAME,
    Malformed,
    Packet,
    Token,
    control,
    pack,
    unpack,
)

COM_ID = 0x07FE
SESSION_MANAGER = bytes.fromhex("00000000000000ff")
START_SESSION, SYNC_SESSION = bytes.fromhex("000000000000ff02"), bytes.fromhex("000000000000ff03")
ADMIN_SP = bytes.fromhex("0000020500000001")
PSID_AUTHORITY = bytes.fromhex("000000090001ff01")
REVERT = bytes.fromhex("0000000600000202")
SUCCESS, NOT_AUTHORIZED, SP_BUSY, NO_SESSIONS, INVALID_PARAMETER = 0x00, 0x01, 0x03, 0x07, 0x0C
LOCKED_OUT = 0x12
TRIES = 5
"""Wrong passwords after which an authority takes none until the power was off."""
_LIST, _END, _NAME = (control(one) for one in (START_LIST, END_LIST, START_NAME))


@dataclass
class Locking:
    """What the subsystem remembers over a loss of power. ``locked``: a range refuses reads and writes."""

    active: bool = True
    locked: bool = False
    interrupted: bool = False
    """A data removal was cut short."""


class Tper:
    """The subsystem of one drive. `psid` is on its label.

    `revert` begins to remove the data (called once a revert was authorised); `removing` tells whether that
    still goes on; `says` whether a fault is switched on.
    """

    def __init__(
        self,
        psid: str,
        state: Locking,
        *,
        seconds: float,
        revert: Callable[[], None],
        removing: Callable[[], bool],
        says: Callable[[str], bool],
    ) -> None:
        self.psid, self.state, self._seconds = psid.encode(), state, seconds
        self._revert, self._removing, self._says = revert, removing, says
        self._reply = b""
        self._session: tuple[int, int] | None = None
        self._wrong = 0

    def discovery(self) -> bytes:
        """Level 0 discovery (Core 2.01 §3.3.6)."""
        locking = 0x01 | self.state.active << 1 | self.state.locked << 2 | 0x08
        units = (-(-int(self._seconds) // 2)).to_bytes(2, "big")
        removal = bytes([0, self._removing() | self.state.interrupted << 1, 0x04, 0])
        opal = COM_ID.to_bytes(2, "big") + (1).to_bytes(2, "big") + bytes(12)
        parts = [
            _descriptor(0x0001, b"\x01" + bytes(11)),  # TPer: Sync
            _descriptor(0x0002, bytes([locking]) + bytes(11)),
            _descriptor(0x0203, opal),
            _descriptor(0x0404, removal + bytes(4) + units + bytes(22)),
        ]
        body = (1).to_bytes(4, "big") + bytes(40) + b"".join(parts)
        return len(body).to_bytes(4, "big") + body

    def send(self, data: bytes) -> bool:
        """IF-SEND to the ComID; False where the bytes are no packet."""
        try:
            packet = unpack(data)
        except Malformed:
            return False
        self._reply = pack(self._answer(packet))
        return True

    def receive(self) -> bytes:
        """IF-RECV from the ComID: the answer to what was sent last."""
        reply, self._reply = self._reply, b""
        return reply or pack(Packet(COM_ID << 16, 0, 0, []))

    def power_lost(self) -> None:
        """Sessions and the count of wrong tries are gone."""
        self._session, self._wrong, self._reply = None, 0, b""

    def _answer(self, packet: Packet) -> Packet:
        tokens = packet.tokens
        if tokens[:1] == [control(END_OF_SESSION)]:
            self._session = None
            return Packet(packet.com_id, 0, 0, [control(END_OF_SESSION)])
        if tokens[:3] == [control(CALL), SESSION_MANAGER, START_SESSION]:
            return self._start(packet, tokens)
        ours = self._session == (packet.tper_session, packet.host_session)
        if ours and tokens[:3] == [control(CALL), ADMIN_SP, REVERT]:
            return self._reverted(packet)
        return _ended(packet, INVALID_PARAMETER if ours else NOT_AUTHORIZED)

    def _start(self, packet: Packet, tokens: list[Token]) -> Packet:
        """StartSession [HostSessionID, SPID, Write, HostChallenge = …, HostSigningAuthority = …]."""
        threes = zip(tokens, tokens[1:], tokens[2:], strict=False)
        given = {name: value for before, name, value in threes if before == _NAME}
        challenge, authority = given.get(0), given.get(3)
        if len(tokens) < 6 or tokens[3] != _LIST or tokens[5] != ADMIN_SP or not isinstance(tokens[4], int):
            return _ended(packet, INVALID_PARAMETER)
        if self._says("sp-busy"):
            return _ended(packet, SP_BUSY)
        if self._session is not None:
            return _ended(packet, NO_SESSIONS)
        if authority != PSID_AUTHORITY:
            return _ended(packet, NOT_AUTHORIZED)
        if self._wrong >= TRIES:
            return _ended(packet, LOCKED_OUT)
        if challenge != self.psid:
            self._wrong += 1
            return _ended(packet, NOT_AUTHORIZED)
        self._session = (0x1001, tokens[4])
        sync: list[Token] = [control(CALL), SESSION_MANAGER, SYNC_SESSION, _LIST, tokens[4], 0x1001, _END]
        return Packet(packet.com_id, 0, 0, [*sync, *_status(SUCCESS)])

    def _reverted(self, packet: Packet) -> Packet:
        """Revert: the keys are new, the Locking SP is inactive, and the session is over (Opal SSC 2.30 §5.1.2)."""
        if self.state.active:
            self._revert()
        self.state.active, self.state.locked = self._says("stays-active"), False
        self._session = None
        return Packet(
            packet.com_id, packet.tper_session, packet.host_session, [_LIST, _END, *_status(SUCCESS)]
        )


def _ended(packet: Packet, status: int) -> Packet:
    return Packet(packet.com_id, packet.tper_session, packet.host_session, [_LIST, _END, *_status(status)])


def _status(status: int) -> list[Token]:
    return [control(END_OF_DATA), _LIST, status, 0, 0, _END]


def _descriptor(code: int, body: bytes) -> bytes:
    return code.to_bytes(2, "big") + b"\x10" + bytes([len(body)]) + body
