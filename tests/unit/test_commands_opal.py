"""Level 0 discovery, and what a revert is worth, by TCG Core 2.01 and Opal SSC 2.30."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.commands import kernel_opal, opal
from expunge_agent.commands.port import Evasive, NoPassThrough, NvmeCommand, NvmeReply, ScsiReply
from expunge_agent.techniques.hand import Rejected, State
from expunge_agent.techniques.opal_revert import OpalRevert


def descriptor(code: int, body: bytes) -> bytes:
    return code.to_bytes(2, "big") + b"\x10" + bytes([len(body)]) + body


def response(*descriptors: bytes) -> bytes:
    """A discovery response: the header's length does not count itself (Core 2.01 §3.3.6.2)."""
    body = (1).to_bytes(4, "big") + bytes(40) + b"".join(descriptors)
    return len(body).to_bytes(4, "big") + body


LOCKING_ON = descriptor(2, b"\x0b" + bytes(11))  # supported, enabled, media encryption
LOCKING_OFF = descriptor(2, b"\x09" + bytes(11))
LOCKING_PLAIN = descriptor(2, b"\x03" + bytes(11))  # enabled, no media encryption
OPAL_2 = descriptor(0x0203, b"\x10\x00\x00\x01" + bytes(12))
PYRITE_2 = descriptor(0x0303, b"\x10\x00\x00\x01" + bytes(12))


def removal(mechanisms: int, flags: int = 0) -> bytes:
    times = (30).to_bytes(2, "big") + bytes(2) + (1).to_bytes(2, "big") + bytes(6)
    return descriptor(0x0404, bytes([0, flags, mechanisms, 0x01]) + times + bytes(16))


@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        seen = opal.parse(data)
    except opal.NotDiscovery:
        return
    opal.ability(seen), seen.opal(), opal.answer(data)


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=20), st.integers(0, 900))
def test_a_cut_response_never_shows_more(descriptors: list[tuple[int, bytes]], cut: int) -> None:
    whole = response(*(descriptor(code, body) for code, body in descriptors))
    try:
        seen = set(opal.parse(whole[:cut]).features)
    except opal.NotDiscovery:
        return
    assert seen <= {code for code, _body in descriptors}


def test_an_opal_drive() -> None:
    seen = opal.parse(response(descriptor(1, bytes(12)), LOCKING_ON, OPAL_2, removal(0x05)) + bytes(500))
    assert seen.ssc == ("Opal 2",)
    assert (seen.locking_enabled, seen.media_encryption, seen.locked) == (True, True, False)
    assert seen.removal == opal.Removal.OVERWRITE | opal.Removal.CRYPTO_ERASE
    assert seen.removal_seconds == (3600, -1, 2, -1, -1, -1)
    assert opal.ability(seen).offered


@pytest.mark.parametrize(
    ("descriptors", "why"),
    [
        ((LOCKING_OFF, OPAL_2), "never activated"),
        ((LOCKING_PLAIN, PYRITE_2, removal(0x09)), "overwrite, unmap"),
        ((LOCKING_PLAIN, PYRITE_2), "does not encrypt"),
        ((LOCKING_PLAIN, PYRITE_2, removal(0x04)), "Opal drives only"),
        ((LOCKING_ON, descriptor(0x0100, bytes(16))), "Opal drives only"),
        ((LOCKING_ON,), "no TCG"),
    ],
)
def test_a_revert_that_would_not_erase_is_not_offered(descriptors: tuple[bytes, ...], why: str) -> None:
    ability = opal.ability(opal.parse(response(*descriptors)))
    assert not ability.offered
    assert why in ability.why


class Scsi:
    """A unit that answers every command with the same data, and keeps what it was sent."""

    def __init__(self, data: bytes) -> None:
        self.data, self.cdbs = data, list[bytes]()

    def scsi(
        self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> ScsiReply:
        self.cdbs.append(cdb)
        return ScsiReply(status=0, data=self.data.ljust(data_in, b"\0"))


def test_the_commands_that_ask() -> None:
    unit = Scsi(response(LOCKING_ON, OPAL_2))
    assert opal.parse(opal.discover_scsi(unit)).ssc == ("Opal 2",)
    assert opal.parse(opal.discover_ata(unit)).ssc == ("Opal 2",)
    assert unit.cdbs[0].hex() == "a20100010000000008000000"
    assert unit.cdbs[1].hex() == "85080e000100040000000100" + "00005c00"
    sent = list[NvmeCommand]()

    class Nvme:
        def admin(
            self, command: NvmeCommand, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
        ) -> NvmeReply:
            sent.append(command)
            return NvmeReply(status=0, data=response(LOCKING_OFF, OPAL_2).ljust(data_in, b"\0"))

    assert not opal.parse(opal.discover_nvme(Nvme())).locking_enabled
    assert (sent[0].opcode, sent[0].cdw10, sent[0].cdw11) == (0x82, 0x01000100, 2048)


@dataclass
class Drive:
    """An Opal drive as the kernel and discovery show it. ``background``: polls until removal has ended."""

    psid: bytes = b"0123456789ABCDEF0123456789ABCDEF"
    active: bool = True
    keys: list[str] = field(default_factory=lambda: ["old key"])
    background: int = 0
    interrupted: bool = False
    known_to_kernel: bool = True
    old_kernel: bool = False
    lies: bool = False

    def discover(self) -> bytes:
        flags = (1 if self.background > 0 else 0) | (2 if self.interrupted else 0)
        self.background -= 1
        return response(LOCKING_ON if self.active else LOCKING_OFF, OPAL_2, removal(0x04, flags))

    def status(self) -> kernel_opal.OpalFlags:
        if self.old_kernel:
            raise NoPassThrough("ENOTTY")
        return kernel_opal.OpalFlags.SUPPORTED if self.known_to_kernel else kernel_opal.OpalFlags(0)

    def psid_revert(self, psid: bytes) -> int:
        if psid != self.psid:
            return 1
        if not self.lies:
            self.keys, self.active = ["new key"], False
        return 0


def hand(drive: Drive, psid: str = "0123456789ABCDEF0123456789ABCDEF") -> OpalRevert:
    return OpalRevert(kernel=drive, discover=drive.discover, psid=psid)


@pytest.mark.parametrize("old_kernel", [False, True])
def test_a_revert_changes_the_keys(old_kernel: bool) -> None:
    drive = Drive(old_kernel=old_kernel)
    one = hand(drive)
    answers = one.start()
    assert drive.keys == ["new key"]
    assert one.poll().state is State.DONE
    assert [answer.name for answer in answers][-1] == "TCG status of the PSID revert"


def test_a_wrong_psid_is_a_refusal_and_no_success() -> None:
    drive = Drive()
    one = hand(drive, "0" * 32)
    with pytest.raises(Rejected, match="not authorized"):
        one.start()
    assert drive.keys == ["old key"]
    assert one.poll().state is State.FAILED


def test_an_inactive_drive_is_not_reverted_as_that_erases_nothing() -> None:
    drive = Drive(active=False)
    with pytest.raises(Rejected, match="never activated"):
        hand(drive).start()
    assert drive.keys == ["old key"]


def test_the_background_is_waited_for() -> None:
    drive = Drive()
    one = hand(drive)
    one.start()
    drive.background = 2
    assert [one.poll().state for _ in range(3)] == [State.RUNNING, State.RUNNING, State.DONE]


def test_an_interrupted_removal_is_a_failure() -> None:
    drive = Drive()
    one = hand(drive)
    one.start()
    drive.interrupted = True
    assert one.poll().state is State.FAILED


def test_a_drive_that_says_success_and_stays_active_is_found_out() -> None:
    drive = Drive(lies=True)
    one = hand(drive)
    one.start()
    assert one.poll().state is State.FAILED


def test_the_end_is_seen_by_a_hand_that_did_not_begin_it() -> None:
    """After a restart there is a new one; whether the revert was this order's, the journal says."""
    drive = Drive()
    hand(drive).start()
    assert hand(drive).poll().state is State.DONE


def test_the_patience_is_what_the_drive_declares() -> None:
    drive = Drive()
    assert hand(drive).timeout == 7200.0
    drive.discover = lambda: response(LOCKING_ON, OPAL_2)  # type: ignore[method-assign]
    assert hand(drive).timeout == 600.0


def test_a_drive_that_tells_nothing_while_it_works_is_asked_again() -> None:
    drive = Drive()
    one = hand(drive)

    def refuses() -> bytes:
        raise opal.NotDiscovery("busy")

    drive.discover = refuses  # type: ignore[method-assign]
    one.discover = refuses
    with pytest.raises(Evasive, match="busy"):
        one.poll()
    with pytest.raises(Rejected, match="busy"):
        one.start()


def test_a_drive_the_kernel_does_not_know() -> None:
    with pytest.raises(Rejected, match="kernel does not speak"):
        hand(Drive(known_to_kernel=False)).start()


def test_ioctl_numbers() -> None:
    assert 1 << 30 | 264 << 16 | ord("p") << 8 | 232 == kernel_opal.IOC_OPAL_PSID_REVERT_TPR
    assert 2 << 30 | 8 << 16 | ord("p") << 8 | 236 == kernel_opal.IOC_OPAL_GET_STATUS
