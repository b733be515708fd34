"""ATA pass-through, sense data, IDENTIFY DEVICE: bytes laid out by hand from SAT-4, SPC-5 and ACS-3."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.commands import ata_features as features
from expunge_agent.commands import kernel_sg
from expunge_agent.commands import sense as sensing
from expunge_agent.commands.ata import Ata, AtaCommand, AtaReply, Protocol, cdb12, cdb16, read
from expunge_agent.commands.ata_identify import IDENTIFY, Identify
from expunge_agent.commands.port import CommandError, CommandTimeout, DriveGone, NoPassThrough, ScsiReply
from expunge_agent.commands.sense import AtaRegisters, Garbled

ABORT_DESCRIPTOR = bytes.fromhex("720b0000 0000000e090c 01 04 1234 a6a1 a7a2 a8a3 40 51".replace(" ", ""))
ABORT_FIXED_NEW = bytes.fromhex("f0000b 04514001 0a 00010203 0000 00 000000 0000".replace(" ", ""))
ABORT_FIXED_OLD = bytes.fromhex("70000b 00000000 0a 04514001 0000 0000 60 010203".replace(" ", ""))


def identify_data(**words: int) -> bytes:
    """A drive of 1,000,000 sectors with 48-bit addresses and the words given as w<number>; checksum right."""
    page = [0] * 256
    page[0] = 0x0040
    for number, value in ((10, 0x5345), (11, 0x5231), (23, 0x4657), (27, 0x4D6F), (28, 0x6465), (29, 0x6C20)):
        page[number] = value
    page[60], page[61] = 1_000_000 & 0xFFFF, 1_000_000 >> 16
    page[83] = 0x4400
    page[87] = 0x4000
    page[100], page[101] = 1_000_000 & 0xFFFF, 1_000_000 >> 16
    for name, value in words.items():
        page[int(name[1:])] = value
    data = bytearray(b"".join(word.to_bytes(2, "little") for word in page))
    data[510] = 0xA5
    data[511] = -sum(data[:511]) & 0xFF
    return bytes(data)


def test_a_48_bit_command_in_sixteen_bytes() -> None:
    command = AtaCommand(
        0xB4, "x", features=0x0014, count=0x1234, lba=0x4F57A1B2C3D4, device=0x40, extended=True
    )
    # protocol 3 << 1 | EXTEND; CK_COND; then upper and lower bytes in turn (SAT-4 table 147)
    assert cdb16(command).hex(" ") == "85 07 20 00 14 12 34 a1 d4 57 c3 4f b2 40 b4 00"
    with pytest.raises(NoPassThrough):
        cdb12(command)


def test_identify_in_sixteen_and_twelve_bytes() -> None:
    # PIO in: T_DIR, BYTE_BLOCK, length in COUNT; no CK_COND
    assert cdb16(IDENTIFY).hex(" ") == "85 08 0e 00 00 00 01 00 00 00 00 00 00 00 ec 00"
    assert cdb12(IDENTIFY).hex(" ") == "a1 08 0e 00 01 00 00 00 00 ec 00 00"


def test_a_block_to_the_drive() -> None:
    assert cdb16(features.SECURITY_SET_PASSWORD).hex(" ") == "85 0a 06 00 00 00 01 00 00 00 00 00 00 00 f1 00"


@pytest.mark.parametrize(
    ("command", "registers"),
    [
        (features.sanitize_status(), "features 0000 count 0000 lba 000000000000"),
        (features.sanitize_status(clear_failed=True), "features 0000 count 0001 lba 000000000000"),
        (features.sanitize_crypto(), "features 0011 count 0010 lba 000043727970"),
        (features.sanitize_block(), "features 0012 count 0010 lba 0000426b4572"),
        (
            features.sanitize_overwrite(pattern=0xDEADBEEF, passes=16),
            "features 0014 count 0010 lba 4f57deadbeef",
        ),
        (
            features.sanitize_overwrite(pattern=0, passes=3, invert=True),
            "features 0014 count 0093 lba 4f5700000000",
        ),
        (features.sanitize_antifreeze(), "features 0040 count 0000 lba 0000416e7469"),
    ],
)
def test_sanitize_device(command: AtaCommand, registers: str) -> None:
    assert command.command == 0xB4
    assert command.extended
    assert f"features {command.features:04x} count {command.count:04x} lba {command.lba:012x}" == registers


def test_hidden_area_commands() -> None:
    lasting = features.set_max(0x0123456789AB, extended=True, lasting=True)
    assert cdb16(lasting).hex(" ") == "85 07 20 00 00 00 01 45 ab 23 89 01 67 40 37 00"
    small = features.set_max(0x0ABCDEF1, extended=False, lasting=False)
    assert cdb16(small).hex(" ") == "85 06 20 00 00 00 00 00 f1 00 de 00 bc 4a f9 00"
    assert cdb16(features.AMA_NATIVE)[14] == 0x78
    assert cdb16(features.DCO_IDENTIFY).hex(" ") == "85 08 0e 00 c2 00 01 00 00 00 00 00 00 00 b1 00"


def test_the_password_block() -> None:
    block = features.user_password_data(b"secret", enhanced=True)
    assert len(block) == 512
    assert block[:10].hex() == "0200" + b"secret".hex() + "0000"
    assert not any(block[8:])
    assert features.user_password_data(b"x" * 32)[0:2] == b"\0\0"
    with pytest.raises(ValueError, match="32 bytes"):
        features.user_password_data(b"x" * 33)


def test_registers_of_a_descriptor() -> None:
    assert sensing.ata_registers(ABORT_DESCRIPTOR) == AtaRegisters(
        error=0x04, status=0x51, device=0x40, count=0x1234, lba=0xA8A7A6A3A2A1, extended=True
    )


def test_registers_of_both_fixed_layouts() -> None:
    new, old = sensing.ata_registers(ABORT_FIXED_NEW), sensing.ata_registers(ABORT_FIXED_OLD)
    assert new == AtaRegisters(error=0x04, status=0x51, device=0x40, count=1, lba=0x030201)
    assert old is not None
    assert (old.error, old.status, old.count, old.lba) == (0x04, 0x51, 1, 0x030201)
    assert not old.count_known
    assert not old.lba_known


@pytest.mark.parametrize(
    ("sense", "error", "status", "lba", "extended"),
    [  # recorded from libata of Linux 6.1 on an emulated SATA disk
        ("70000b000000000a04414000000000008000", 0x04, 0x41, 0, True),
        ("70000b000000000a04410001000000000000", 0x04, 0x41, 0, False),
        ("7201001d0000000e090c0100000000ff007f00004050", 0, 0x50, 32767, True),
        ("7201001d0000000e090c000000000000004f00c20050", 0, 0x50, 0xC24F00, False),
    ],
)
def test_registers_as_a_kernel_gave_them(
    sense: str, error: int, status: int, lba: int, extended: bool
) -> None:
    seen = sensing.ata_registers(bytes.fromhex(sense))
    assert seen is not None
    assert (seen.error, seen.status, seen.lba, seen.extended) == (error, status, lba, extended)
    assert seen.lba_known == (len(sense) == 44)  # the old fixed layout is cut before LBA 23:8


def test_sense_without_registers_has_none() -> None:
    assert sensing.ata_registers(bytes.fromhex("700005000000000a00000000200000000000")) is None
    assert sensing.ata_registers(bytes.fromhex("7205200000000000")) is None
    assert sensing.ata_registers(b"") is None


@given(st.binary(max_size=300))
def test_any_bytes_are_sense_or_not(data: bytes) -> None:
    sense = sensing.parse(data)
    registers = sensing.ata_registers(data)
    assert (sense is None) == (not data or data[0] & 0x7F not in (0x70, 0x71, 0x72, 0x73))
    assert registers is None or 0 <= registers.lba < 2**48
    if sense is not None:
        assert sense.words
        assert -1 <= sense.ppm < 1_000_000


@given(st.integers(0, 255), st.binary(max_size=64), st.binary(max_size=600), st.booleans())
def test_any_reply_ends_in_a_documented_way(status: int, sense: bytes, data: bytes, much: bool) -> None:
    try:
        reply = read(ScsiReply(status=status, sense=sense, data=data), IDENTIFY, 512 if much else 0)
    except CommandError:
        return
    assert reply.words
    assert status in (0, 2)
    for reader in (features.read_sanitize_status, features.read_smart_status):
        with contextlib.suppress(CommandError):
            reader(reply)


@given(st.binary(max_size=600) | st.binary(min_size=512, max_size=512))
def test_any_data_is_an_identity_or_garbled(data: bytes) -> None:
    for reader in (features.read_dco, features.read_smart):
        with contextlib.suppress(Garbled):
            reader(data)
    try:
        one = Identify(data)
    except Garbled:
        return
    assert one.logical_sector > 0
    assert 0 <= one.sectors < 2**64
    assert one.security.minutes <= 65534
    names = [name for name in dir(Identify) if isinstance(getattr(Identify, name), property)]
    assert all(getattr(one, name) is not ... for name in names)


def test_identity_strings_sizes_and_checksum() -> None:
    one = Identify(identify_data())
    assert (one.serial, one.firmware, one.model) == (b"SER1", b"FW", b"Model")
    assert (one.sectors, one.logical_sector, one.physical_sector) == (1_000_000, 512, 512)
    assert one.checksum is True
    assert one.printable
    wrong = bytearray(identify_data())
    wrong[20] ^= 0xFF
    assert Identify(bytes(wrong)).checksum is False
    assert not Identify(bytes(wrong)).printable


def test_sector_sizes() -> None:
    # bit 14 valid, 13: 2^3 logical in a physical one
    assert Identify(identify_data(w106=0x6003)).physical_sector == 4096
    # bit 12: long logical sector of 2048 words
    four = Identify(identify_data(w106=0x5000, w117=2048))
    assert (four.logical_sector, four.physical_sector) == (4096, 4096)
    assert Identify(identify_data(w106=0x3003)).physical_sector == 512  # bits 15:14 not 01b


def test_sizes_beyond_48_bits_and_below() -> None:
    assert Identify(identify_data(w69=0x0008, w230=5, w233=1)).sectors == 5 + (1 << 48)
    assert Identify(identify_data(w83=0x4000, w100=7)).sectors == 1_000_000


def test_security_words() -> None:
    security = Identify(identify_data(w128=0x002F, w89=0x0010, w90=0x8000 | 300)).security
    assert (security.supported, security.enabled, security.locked, security.frozen) == (True,) * 4
    assert security.enhanced
    assert not security.expired
    assert (security.minutes, security.enhanced_minutes) == (32, 600)
    assert Identify(identify_data(w128=0x0011)).security.expired
    assert Identify(identify_data(w89=255, w128=1)).security.minutes == 510
    assert not Identify(identify_data(w128=0xFFFF)).security.supported


def test_sanitize_word() -> None:
    word = Identify(identify_data(w59=0xB400)).sanitize
    assert (word.supported, word.crypto, word.block, word.overwrite, word.antifreeze) == (
        True,
        True,
        True,
        False,
        True,
    )
    without = Identify(identify_data(w59=0xE000)).sanitize
    assert not without.crypto  # bit 12 clear: no feature set, whatever else is claimed


def test_other_words() -> None:
    one = Identify(identify_data(w82=0x0401, w83=0x4C00, w85=1, w119=0x4100, w48=0x4001, w217=7200))
    assert (one.hpa, one.dco, one.ama, one.smart, one.trusted, one.rotation) == (*[True] * 5, 7200)
    plain = Identify(identify_data())
    assert (plain.hpa, plain.dco, plain.ama, plain.smart, plain.trusted, plain.rotation) == (*[False] * 5, 0)
    assert Identify(identify_data(w217=0x0300)).rotation == 0
    named = Identify(identify_data(w87=0x4100, w108=0x5000, w109=0xC500, w110=0x1234, w111=0x5678))
    assert named.wwn == "naa.5000c50012345678"
    assert Identify(identify_data(w69=0x4020, w169=1)).after_trim == "zeros"
    assert Identify(identify_data(w69=0x4000, w169=1)).after_trim == "the same"


def test_a_page_of_one_byte_is_no_identity() -> None:
    for byte in (b"\0", b"\xff"):
        with pytest.raises(Garbled):
            Identify(byte * 512)


def reply(registers: AtaRegisters | None, ok: bool = True) -> AtaReply:
    return AtaReply("SANITIZE STATUS EXT", ok, registers, None, b"")


def test_sanitize_status_bits() -> None:
    done = features.read_sanitize_status(reply(AtaRegisters(0, 0x50, 0, 0x8000, 0xFFFF, True)))
    assert (done.completed, done.running, done.frozen, done.failed) == (True, False, False, False)
    runs = features.read_sanitize_status(reply(AtaRegisters(0, 0x50, 0, 0x4000, 0x8000, True)))
    assert (runs.completed, runs.running, runs.progress) == (False, True, 0x8000)
    frozen = features.read_sanitize_status(reply(AtaRegisters(0, 0x50, 0, 0x2000, 0xFFFF, True)))
    assert frozen.frozen
    failed = features.read_sanitize_status(reply(AtaRegisters(4, 0x51, 0, 0, 1, True), ok=False))
    assert failed.failed
    with pytest.raises(Garbled, match="not supported"):
        features.read_sanitize_status(reply(AtaRegisters(4, 0x51, 0, 0, 2, True), ok=False))
    with pytest.raises(NoPassThrough):
        features.read_sanitize_status(reply(AtaRegisters(0, 0x50, 0, 0, 0, count_known=False)))
    with pytest.raises(NoPassThrough):
        features.read_sanitize_status(reply(None))


def test_addresses() -> None:
    long = AtaRegisters(0, 0x50, 0x40, 0, 0x0123456789AB, True)
    assert features.read_address(reply(long), extended=True) == 0x0123456789AB
    short = AtaRegisters(0, 0x50, 0x4A, 0, 0xBCDEF1)
    assert features.read_address(reply(short), extended=False) == 0x0ABCDEF1
    half = AtaRegisters(0, 0x50, 0x40, 0, 1, lba_known=False)
    with pytest.raises(NoPassThrough):
        features.read_address(reply(half), extended=True)


def test_the_overlay_keeps_the_size_the_drive_was_made_with() -> None:
    data = bytearray(512)
    data[6:14] = (1_999_999).to_bytes(8, "little")
    data[510] = 0xA5
    data[511] = -sum(data) & 0xFF
    assert features.read_dco(bytes(data)) == 1_999_999
    data[7] ^= 1
    with pytest.raises(Garbled):
        features.read_dco(bytes(data))


def test_smart() -> None:
    data = bytearray(512)
    data[2:14] = bytes([5, 0, 0, 100, 100, 17, 0, 0, 0, 0, 0, 0])
    data[14:26] = bytes([194, 0, 0, 60, 50, 38, 0, 20, 0, 45, 0, 0])
    data[26:38] = bytes([9, 0, 0, 60, 50, 0x10, 0x27, 0, 0, 0, 0, 0])
    data[511] = -sum(data) & 0xFF
    seen = features.read_smart(bytes(data))
    assert (seen.reallocated, seen.celsius, seen.power_on_hours) == (17, 38, 10_000)
    assert features.read_smart_status(reply(AtaRegisters(0, 0x50, 0, 0, 0xC24F00))) is True
    assert features.read_smart_status(reply(AtaRegisters(0, 0x50, 0, 0, 0x2CF400))) is False
    assert features.read_smart_status(reply(None)) is None


class Scripted:
    """A port that gives the replies it was given, and keeps what it was asked."""

    def __init__(self, *replies: ScsiReply) -> None:
        self.replies = list(replies)
        self.asked: list[bytes] = []

    def scsi(
        self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> ScsiReply:
        self.asked.append(cdb)
        return self.replies.pop(0)


UNKNOWN = bytes.fromhex("7205200000000000")


def test_a_bridge_that_knows_only_twelve_bytes() -> None:
    data = identify_data()
    port = Scripted(ScsiReply(2, UNKNOWN), ScsiReply(0, data=data), ScsiReply(0, data=data))
    ata = Ata(port)
    assert ata.run(IDENTIFY).data == data
    assert ata.run(IDENTIFY).ok
    assert [cdb[0] for cdb in port.asked] == [0x85, 0xA1, 0xA1]
    with pytest.raises(NoPassThrough):
        ata.run(features.sanitize_status())


def test_a_48_bit_command_is_not_cut_down() -> None:
    with pytest.raises(NoPassThrough):
        Ata(Scripted(ScsiReply(2, UNKNOWN))).run(features.sanitize_status())


def test_success_is_what_the_registers_say() -> None:
    well = bytes.fromhex("72010 01d 00 00 00 0e 09 0c 00 00 00 00 00 00 00 00 00 00 40 50".replace(" ", ""))
    assert Ata(Scripted(ScsiReply(2, well))).run(features.SECURITY_ERASE_PREPARE).ok
    for sense in (ABORT_DESCRIPTOR, ABORT_FIXED_NEW, ABORT_FIXED_OLD):
        ended = Ata(Scripted(ScsiReply(2, sense))).run(features.SECURITY_ERASE_PREPARE)
        assert not ended.ok
        assert "aborted" in ended.words


def test_too_little_data_is_garbled() -> None:
    with pytest.raises(Garbled):
        Ata(Scripted(ScsiReply(0, data=b"x" * 512, residual=12))).run(IDENTIFY)


def test_a_condition_without_sense_is_no_success() -> None:
    with pytest.raises(CommandError):
        Ata(Scripted(ScsiReply(2, b""))).run(features.SECURITY_ERASE_PREPARE)
    with pytest.raises(CommandError):
        Ata(Scripted(ScsiReply(8))).run(features.SECURITY_ERASE_PREPARE)


def test_a_unit_attention_is_let_pass() -> None:
    attention = bytes.fromhex("7206290000000000")
    port = Scripted(ScsiReply(2, attention), ScsiReply(0, data=identify_data()))
    assert Ata(port).run(IDENTIFY).ok


def test_device_fault_and_protocols() -> None:
    fault = AtaRegisters(0, 0x60, 0, 0, 0)
    assert not fault.ok
    assert not fault.aborted
    response = AtaCommand(0, "x", Protocol.RESPONSE)
    assert cdb16(response)[1:3] == bytes([0x1E, 0x20])


def test_the_kernels_structure_has_its_size() -> None:
    import ctypes

    if ctypes.sizeof(ctypes.c_void_p) != 8:
        pytest.skip("the size is that of a 64-bit kernel")
    assert ctypes.sizeof(kernel_sg.SgIoHeader) == 88
    assert kernel_sg.SgIoHeader.status.offset == 64
    assert kernel_sg.SgIoHeader.resid.offset == 72


def test_what_is_no_scsi_device_carries_nothing() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        with pytest.raises(NoPassThrough):
            kernel_sg.SgPort(fd).scsi(bytes(6))
        with pytest.raises(ValueError, match="one way"):
            kernel_sg.SgPort(fd).scsi(bytes(6), data_in=1, data_out=b"x")
    finally:
        os.close(fd)
    with pytest.raises(CommandError) as closed:
        kernel_sg.SgPort(fd).scsi(bytes(6))
    assert os.strerror(errno.EBADF) in str(closed.value)


def test_host_and_driver_status() -> None:
    kernel_sg.check_host(0, 0)
    kernel_sg.check_host(0, 8)  # DRIVER_SENSE: there is sense data
    for host, driver, kind in (
        (3, 0, CommandTimeout),
        (0, 6, CommandTimeout),
        (1, 0, DriveGone),
        (4, 0, DriveGone),
    ):
        with pytest.raises(kind):
            kernel_sg.check_host(host, driver)
    with pytest.raises(CommandError, match="07h"):
        kernel_sg.check_host(7, 0)
