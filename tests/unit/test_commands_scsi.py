"""SCSI commands, sense and pages: bytes laid out by hand from SPC-5, SBC-4 and SAT-4."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.commands import scsi, scsi_pages
from expunge_agent.commands import sense as sensing
from expunge_agent.commands.port import CommandError, ScsiReply
from expunge_agent.commands.scsi import Readiness, Refused, SanitizeAction
from expunge_agent.commands.sense import Garbled

RUNNING_FIXED = bytes.fromhex("70 00 02 00000000 0a 00000000 04 1b 00 80 4000")
RUNNING_DESCRIPTOR = bytes.fromhex("72 02 04 1b 000000 08 02 06 0000 80 8000 00")
FAILED = bytes.fromhex("72 03 31 03 00000000")
NOTHING = bytes.fromhex("70 00 00 00000000 0a 00000000 00 00 00 000000")
ATTENTION = bytes.fromhex("72 06 29 00 00000000")


class Script:
    """A port that answers by operation code: a reply, or a list used up one by one."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {int(name[1:], 16): answer for name, answer in answers.items()}
        self.asked: list[bytes] = []

    def scsi(
        self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> ScsiReply:
        self.asked.append(cdb)
        answer = self.answers.get(cdb[0], ScsiReply(2, bytes.fromhex("7205200000000000")))
        if isinstance(answer, list):
            answer = answer.pop(0)
        assert isinstance(answer, ScsiReply)
        return answer


def test_progress_in_both_formats() -> None:
    fixed, descriptor = sensing.parse(RUNNING_FIXED), sensing.parse(RUNNING_DESCRIPTOR)
    assert fixed is not None
    assert descriptor is not None
    assert (fixed.key, fixed.code, fixed.ppm) == (2, (0x04, 0x1B), 250_000)
    assert (descriptor.key, descriptor.code, descriptor.ppm) == (2, (0x04, 0x1B), 500_000)
    assert fixed.words == "not ready: sanitize in progress (2/04/1B)"


def test_sense_key_specific_bytes_mean_progress_only_when_valid() -> None:
    invalid = bytes.fromhex("70 00 02 00000000 0a 00000000 04 1b 00 00 4000")
    pointer = bytes.fromhex("70 00 05 00000000 0a 00000000 24 00 00 c0 0001")
    for raw in (invalid, pointer):
        sense = sensing.parse(raw)
        assert sense is not None
        assert sense.progress == -1


def test_information_and_deferred() -> None:
    sense = sensing.parse(bytes.fromhex("f1 00 03 00012345 0a 00000000 11 00 00 000000"))
    assert sense is not None
    assert (sense.information, sense.deferred, sense.code) == (0x12345, True, (0x11, 0))
    sense = sensing.parse(bytes.fromhex("72 03 11 00 000000 0c 00 0a 80 00 0000000123456789"))
    assert sense is not None
    assert (sense.information, sense.deferred) == (0x123456789, False)


def test_a_fixed_sense_shorter_than_its_code_has_none() -> None:
    sense = sensing.parse(bytes.fromhex("70 00 02 00000000 00 00000000 04 1b"))
    assert sense is not None
    assert (sense.key, sense.code) == (2, (0, 0))  # ADDITIONAL SENSE LENGTH 0: bytes 12 and 13 are not there


@pytest.mark.parametrize(
    ("cdb", "bytes_"),
    [
        (scsi.sanitize_cdb(SanitizeAction.BLOCK_ERASE), "48 a2 00 00 00 00 00 00 00 00"),
        (scsi.sanitize_cdb(SanitizeAction.CRYPTO_ERASE, ause=False), "48 83 00 00 00 00 00 00 00 00"),
        (
            scsi.sanitize_cdb(SanitizeAction.OVERWRITE, znr=True, parameters=8),
            "48 e1 00 00 00 00 00 00 08 00",
        ),
        (
            scsi.sanitize_cdb(SanitizeAction.EXIT_FAILURE_MODE, immediate=False, ause=False),
            "48 1f 00 00 00 00 00 00 00 00",
        ),
        (scsi.overwrite_parameters(b"\xaa\x55", count=3, invert=True), "83 00 00 02 aa 55"),
        (scsi.format_unit()[0], "04 10 00 00 00 00"),
        (scsi.format_unit()[1], "00 02 00 00"),
        (scsi.format_unit(protection=1)[0], "04 90 00 00 00 00"),
        (scsi.format_unit(protection=2)[0], "04 d0 00 00 00 00"),
        (b"".join(scsi.format_unit(protection=3)), "04 d0 00 00 00 00 01 02 00 00"),
    ],
)
def test_destructive_commands(cdb: bytes, bytes_: str) -> None:
    assert cdb.hex(" ") == bytes_


def test_questions() -> None:
    good = ScsiReply(0, data=bytes(600))
    asked: list[tuple[Callable[..., object], tuple[object, ...], str]] = [
        (scsi.inquiry, (), "12 00 00 00 60 00"),
        (scsi.vpd, (0x89, 572), "12 01 89 02 3c 00"),
        (scsi.read_capacity16, (), "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00"),
        (scsi.read_capacity10, (), "25 00 00 00 00 00 00 00 00 00"),
        (scsi.request_sense, (), "03 00 00 00 fc 00"),
        (scsi.mode_sense, (), "1a 08 3f 00 fc 00"),
        (scsi.log_sense, (0x0D,), "4d 00 4d 00 00 00 00 02 00 00"),
        (scsi.supported_operation, (0x48, 3), "a3 0c 82 48 00 03 00 00 01 00 00 00"),
        (scsi.supported_operation, (0x04,), "a3 0c 81 04 00 00 00 00 01 00 00 00"),
    ]
    for function, arguments, expected in asked:
        port = Script(**{f"x{int(expected[:2], 16):02x}": good})
        function(port, *arguments)
        assert port.asked[0].hex(" ") == expected


def test_unit_attention_is_asked_again_and_other_conditions_are_not() -> None:
    port = Script(x00=[ScsiReply(2, ATTENTION), ScsiReply(0)])
    assert scsi.test_unit_ready(port) is None
    assert len(port.asked) == 2
    port = Script(x48=[ScsiReply(2, bytes.fromhex("7205240000000000"))])
    with pytest.raises(Refused) as refused:
        scsi.send(port, "SANITIZE", scsi.sanitize_cdb(SanitizeAction.BLOCK_ERASE))
    assert not refused.value.may_have_begun
    port = Script(x48=[ScsiReply(2, FAILED)])
    with pytest.raises(Refused) as refused:
        scsi.send(port, "SANITIZE", scsi.sanitize_cdb(SanitizeAction.BLOCK_ERASE))
    assert refused.value.may_have_begun
    with pytest.raises(CommandError, match="one unit attention after another"):
        scsi.test_unit_ready(Script(x00=ScsiReply(2, ATTENTION)))


@pytest.mark.parametrize("status", [0x08, 0x18, 0x28, 0x77])
def test_a_busy_or_reserved_drive_is_no_success(status: int) -> None:
    with pytest.raises(CommandError):
        scsi.test_unit_ready(Script(x00=ScsiReply(status)))


def test_condition_hears_both_questions() -> None:
    ready = ScsiReply(0)
    polled = scsi.condition(Script(x03=ScsiReply(0, data=RUNNING_FIXED), x00=ready))
    assert (polled.readiness, polled.ppm) == (Readiness.SANITIZING, 250_000)
    silent = ScsiReply(0, data=NOTHING)
    other = scsi.condition(Script(x03=silent, x00=ScsiReply(2, RUNNING_DESCRIPTOR)))
    assert (other.readiness, other.ppm) == (Readiness.SANITIZING, 500_000)
    assert scsi.condition(Script(x03=silent, x00=ScsiReply(2, FAILED))).readiness is Readiness.SANITIZE_FAILED
    assert scsi.condition(Script(x03=silent, x00=ready)).readiness is Readiness.READY
    attention = ScsiReply(0, data=ATTENTION)
    again = scsi.condition(Script(x03=[attention, ScsiReply(0, data=FAILED)], x00=ready))
    assert again.readiness is Readiness.SANITIZE_FAILED
    stopped = scsi.condition(Script(x03=silent, x00=ScsiReply(2, bytes.fromhex("7202040200000000"))))
    assert stopped.readiness is Readiness.NOT_READY


def test_capacities() -> None:
    raw = bytes.fromhex("00000000000f423f 00000200 03 03 c000" + "00" * 16)
    capacity = scsi_pages.read_capacity16(raw)
    assert (capacity.blocks, capacity.block, capacity.physical) == (1_000_000, 512, 4096)
    assert capacity.protection == 2
    assert scsi_pages.read_capacity16(bytes(32)).size == 0
    assert scsi_pages.read_capacity10(bytes.fromhex("000f423f00001000")) == scsi_pages.Capacity(
        1_000_000, 4096, 4096
    )
    assert scsi_pages.read_capacity10(bytes.fromhex("ffffffff00000200")) is None


def test_inquiry_and_names() -> None:
    about = scsi_pages.read_inquiry(b"\x00\x00\x07\x02\x1f\x00\x00\x00" + b"SEAGATE ST2000NM0001    0002")
    assert (about.vendor, about.product, about.revision) == (b"SEAGATE", b"ST2000NM0001", b"0002")
    page = bytes.fromhex(
        "0083 0038"
        "0103 0008 5000c50012345678"
        "6193 0008 5000c5001234567a"  # association 1: the port's
        "0102 0008 0011223344556677"
        "010a 0010 00000000000000000000000000000000"  # wrong length for a UUID
    )
    assert scsi_pages.read_names(scsi_pages.read_vpd(page, 0x83)) == [
        "naa.5000c50012345678",
        "eui.0011223344556677",
    ]
    with pytest.raises(Garbled):
        scsi_pages.read_vpd(page, 0x80)


def test_the_translators_page() -> None:
    identify = b"\x40" + bytes(511)
    page = (
        bytes.fromhex("00890238 00000000")
        + b"linux   libata          3.00"
        + bytes(20)
        + b"\xec\0\0\0"
        + identify
    )
    sat = scsi_pages.read_sat(scsi_pages.read_vpd(page, 0x89))
    assert (sat.vendor, sat.product, sat.revision, sat.command) == (b"linux", b"libata", b"3.00", 0xEC)
    assert sat.identify == identify


def test_support_and_its_times() -> None:
    raw = bytes.fromhex("00 83 000a48a30000000000ffff00000a 0000 00000e10 00001c20".replace(" ", ""))
    assert scsi_pages.read_support(raw) == scsi_pages.Support(True, True, 3600, 7200)
    assert scsi_pages.read_support(bytes.fromhex("00010000")) == scsi_pages.Support(True, False)
    assert scsi_pages.read_support(bytes.fromhex("00000000")) == scsi_pages.Support(False, False)


def test_logs() -> None:
    temperature = bytes.fromhex("0d00 000c 0000 0302 0026 0001 0302 0041")
    assert scsi_pages.read_temperature(temperature) == 38
    assert scsi_pages.read_temperature(bytes.fromhex("0d00 0006 0000 0302 00ff")) is None
    assert scsi_pages.read_exceptions(bytes.fromhex("2f00 0008 0000 0304 00002600")) is True
    assert scsi_pages.read_exceptions(bytes.fromhex("2f00 0008 0000 0304 5d102600")) is False
    assert scsi_pages.read_write_protect(bytes.fromhex("03008000")) is True


@given(st.binary(max_size=700))
def test_any_bytes_are_a_page_or_garbled(data: bytes) -> None:
    for reader in (
        scsi_pages.read_inquiry,
        scsi_pages.read_capacity16,
        scsi_pages.read_capacity10,
        scsi_pages.read_support,
        scsi_pages.read_temperature,
        scsi_pages.read_exceptions,
        scsi_pages.read_sat,
        scsi_pages.read_write_protect,
        scsi_pages.read_names,
        scsi_pages.read_rotation,
    ):
        with contextlib.suppress(Garbled):
            reader(data)


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 2, 8]), st.binary(max_size=40), st.binary(max_size=40)),
        min_size=30,
        max_size=30,
    )
)
def test_any_replies_are_a_condition_or_a_command_error(replies: list[tuple[int, bytes, bytes]]) -> None:
    script = [ScsiReply(status, sense, data) for status, sense, data in replies]
    try:
        found = scsi.condition(Script(x03=script[:15], x00=script[15:]))
    except CommandError:
        return
    assert found.readiness in list(Readiness)
