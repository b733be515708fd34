"""NVMe commands: bits as the specification numbers them, data by its offsets, and any bytes at all."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.commands import kernel_nvme, nvme, nvme_identify, nvme_logs, nvme_status
from expunge_agent.commands.nvme_bytes import BadAnswer
from expunge_agent.commands.nvme_logs import Action
from expunge_agent.commands.nvme_offers import keeps_blocks
from expunge_agent.commands.port import (
    CommandError,
    CommandTimeout,
    DriveGone,
    NoPassThrough,
    NvmeCommand,
    NvmeReply,
)
from support.scripted_nvme import controller_data, health_data, list_data, namespace_data, sanitize_data

PARSERS: list[Callable[[bytes], object]] = [
    nvme_identify.controller,
    nvme_identify.namespace,
    nvme_identify.namespace_list,
    nvme_identify.descriptors,
    nvme_identify.rotational,
    nvme_logs.health_log,
    nvme_logs.sanitize_log,
]


def test_identify_controller() -> None:
    seen = nvme_identify.controller(
        controller_data(sanicap=0xA0000005, capacity=1 << 70, unallocated=512, fna=0x06)
    )
    assert (seen.vendor, seen.serial, seen.model, seen.firmware) == (
        0x1B36,
        "S3CR3T-0001",
        "SCRIPTED NVME DRIVE",
        "1.0",
    )
    assert seen.garbled == ()
    assert (seen.number, seen.version, seen.kind) == (0x21, 0x10400, 1)
    assert seen.fguid == "000102030405060708090a0b0c0d0e0f"
    assert seen.nqn == "nqn.2014-08.org.nvmexpress:uuid:scripted"
    assert (seen.capacity, seen.unallocated, seen.namespaces) == (1 << 70, 512, 4)
    assert seen.formats and seen.manages_namespaces and seen.write_cache
    assert seen.format_crypto and seen.format_reaches_all
    assert [seen.sanitizes(action) for action in Action] == [False, False, True, True, False]
    assert seen.no_deallocate_inhibited and seen.media_modified == 2
    assert not seen.in_company
    assert [
        bit for bit in range(8) if nvme_identify.controller(controller_data(cmic=1 << bit)).in_company
    ] == [1]
    assert not seen.media_verification
    assert nvme_identify.controller(controller_data(sanicap=0x8)).media_verification


@pytest.mark.parametrize("raw", [b"AB\x00CD", b"\xff" * 20, b"\x01\x02", b" " * 20, b"\0" * 20])
def test_a_serial_that_does_not_print_is_named(raw: bytes) -> None:
    seen = nvme_identify.controller(controller_data(serial=raw.ljust(20)))
    assert seen.garbled == ("serial number",)
    assert seen.serial.isprintable()


@pytest.mark.parametrize(
    ("flbas", "nlbaf", "index", "sector", "metadata", "extended"),
    [
        (0x00, 1, 0, 512, 0, False),
        (0x01, 1, 1, 4096, 0, False),
        (0x31, 17, 17, 4096, 8, True),  # index 17 = 01b in bits 6:5, 0001b in bits 3:0
        (0x21, 1, 1, 4096, 0, False),  # the upper bits count only when there are more than 16 formats
        (0x05, 1, 5, 0, 0, False),  # no such format
    ],
)
def test_the_formatted_block_size(
    flbas: int, nlbaf: int, index: int, sector: int, metadata: int, extended: bool
) -> None:
    seen = nvme_identify.namespace(namespace_data(flbas=flbas, nlbaf=nlbaf))
    assert (seen.format_index, seen.sector, seen.metadata, seen.extended) == (
        index,
        sector,
        metadata,
        extended,
    )
    assert seen.size == 0x1000 * sector


def test_identify_namespace() -> None:
    seen = nvme_identify.namespace(namespace_data(fpi=0x80 | 37, dps=0x0B))
    assert (seen.blocks, seen.capacity, seen.used) == (0x1000, 0x1000, 0x800)
    assert seen.nguid == "0123456789abcdef0011223344556677"
    assert seen.eui64 == "0022446688aaccee"
    assert seen.deallocated_reads == "00h"
    assert seen.format_left == 37 and seen.protection == 0xB
    assert nvme_identify.namespace(namespace_data(fpi=37)).format_left == -1


def test_namespace_lists_end_at_the_first_zero() -> None:
    assert nvme_identify.namespace_list(list_data(1, 7, 0xFFFFFFFE)) == [1, 7, 0xFFFFFFFE]
    assert nvme_identify.namespace_list(list_data()) == []
    whole = nvme_identify.namespace_list(list_data(*range(1, 1025)))
    assert nvme_identify.full(whole) and not nvme_identify.full(whole[:-1])


def test_descriptors_of_a_wrong_length_are_left_out() -> None:
    data = (
        bytes((1, 8, 0, 0)) + bytes.fromhex("0022446688aaccee")
        + bytes((2, 4, 0, 0)) + b"oops"
        + bytes((3, 16, 0, 0)) + bytes.fromhex("00112233445566778899aabbccddeeff")
        + bytes((4, 1, 0, 0)) + b"\x02"
    )  # fmt: skip
    seen = nvme_identify.descriptors(data.ljust(4096, b"\0"))
    assert (seen.eui64, seen.nguid, seen.csi) == ("0022446688aaccee", "", 2)
    assert seen.uuid == "00112233-4455-6677-8899-aabbccddeeff"


def test_health_log() -> None:
    seen = nvme_logs.health_log(health_data(kelvin=310, warning=4))
    assert (seen.warning, seen.celsius, seen.spare, seen.used_percent) == (4, 37, 100, 7)
    assert (seen.power_on_hours, seen.unsafe_shutdowns, seen.media_errors) == (1234, 9, 3)
    assert nvme_logs.health_log(health_data(kelvin=0)).celsius is None


def test_sanitize_log() -> None:
    seen = nvme_logs.sanitize_log(sanitize_data(0x0100 | 3 << 3 | 2, 0x238B, sprog=0x4000, ssi=0x23))
    assert (seen.sos, seen.passes, seen.erased, seen.ppm) == (2, 3, True, 250_000)
    assert (seen.action, seen.ause, seen.kept, seen.state) == (3, True, True, 3)
    assert not seen.done
    assert all(nvme_logs.sanitize_log(sanitize_data(sos)).done == (sos in (1, 4)) for sos in range(8))
    assert nvme_logs.sanitize_log(sanitize_data(0x0201)).verification_cancelled


def test_declared_times() -> None:
    seen = nvme_logs.sanitize_log(sanitize_data(0, times=(1601, 40, 0xFFFFFFFF, 3200, 80, 0)))
    assert seen.seconds(Action.OVERWRITE) == 101  # the estimate is of 16 passes
    assert seen.seconds(Action.OVERWRITE, passes=16, no_deallocate=True) == 3200
    assert seen.seconds(Action.BLOCK_ERASE) == 40
    assert seen.seconds(Action.BLOCK_ERASE, no_deallocate=True) == 80
    assert seen.seconds(Action.CRYPTO_ERASE) == -1
    assert seen.seconds(Action.CRYPTO_ERASE, no_deallocate=True) == -1


@pytest.mark.parametrize(
    ("command", "cdw10", "cdw11"),
    [
        (nvme.sanitize(Action.EXIT_FAILURE, ause=True, no_deallocate=True), 0x001, 0),
        (nvme.sanitize(Action.BLOCK_ERASE, ause=True), 0x00A, 0),
        (nvme.sanitize(Action.CRYPTO_ERASE, ause=True, no_deallocate=True), 0x20C, 0),
        (nvme.sanitize(Action.OVERWRITE, passes=1, pattern=0xDEADBEEF), 0x013, 0xDEADBEEF),
        (nvme.sanitize(Action.OVERWRITE, passes=16, invert=True, no_deallocate=True), 0x303, 0),
        (nvme.sanitize(Action.EXIT_VERIFICATION), 0x005, 0),
    ],
)
def test_sanitize_is_the_subsystems(command: NvmeCommand, cdw10: int, cdw11: int) -> None:
    assert (command.opcode, command.nsid) == (0x84, 0)
    assert (command.cdw10, command.cdw11) == (cdw10, cdw11)


@pytest.mark.parametrize("passes", [0, 17, -1])
def test_an_overwrite_has_1_to_16_passes(passes: int) -> None:
    with pytest.raises(ValueError, match="16 passes"):
        nvme.sanitize(Action.OVERWRITE, passes=passes)


def test_format_keeps_the_format_and_always_erases() -> None:
    space = nvme_identify.namespace(namespace_data(flbas=0x31, nlbaf=17, dps=0x0B))
    command = nvme.format_nvm(2, space, 2)
    assert (command.opcode, command.nsid) == (0x80, 2)
    # LBAFL 1, MSET, PI 3, PIL, SES 2, LBAFU 1
    assert command.cdw10 == 0x1 | 1 << 4 | 3 << 5 | 1 << 8 | 2 << 9 | 1 << 12
    for erase in (0, 3, -1):
        with pytest.raises(ValueError, match="erases nothing"):
            nvme.format_nvm(2, space, erase)


def test_get_log_page_counts_dwords_from_zero() -> None:
    command = nvme.log_page(nvme.Log.SANITIZE, 512, retain=True)
    assert (command.opcode, command.nsid) == (0x02, 0xFFFFFFFF)
    assert (command.cdw10, command.cdw11) == (127 << 16 | 0x8000 | 0x81, 0)
    assert nvme.log_page(nvme.Log.HEALTH, 4 * 0x20001).cdw11 == 2


def test_status_in_words() -> None:
    assert nvme_status.words(0x01D) == "sanitize in progress (01Dh)"
    assert nvme_status.words(0x0FF) == "generic status (0FFh)"
    assert nvme_status.words(0x7C1) == "vendor specific status (7C1h)"
    assert nvme_status.refused(0x001) and nvme_status.refused(0x286)
    assert not any(
        nvme_status.refused(status) for status in (0x000, 0x006, 0x005, 0x280, 0x371, 0x7C1, 0x0FF)
    )


def test_an_error_status_is_no_data() -> None:
    with pytest.raises(CommandError, match=r"invalid log page \(109h\)"):
        nvme.read(NvmeReply(0x109, 0, bytes(512)), 512, "log")
    with pytest.raises(BadAnswer):
        nvme.read(NvmeReply(0, 0, bytes(511)), 512, "log")


def test_no_deallocate_only_where_it_shows_the_medium() -> None:
    def keeps(sanicap: int, action: Action) -> bool:
        return keeps_blocks(nvme_identify.controller(controller_data(sanicap=sanicap)), action)

    assert keeps(0x7, Action.BLOCK_ERASE) and keeps(0x80000007, Action.BLOCK_ERASE)
    assert not keeps(0x20000007, Action.CRYPTO_ERASE)
    assert not keeps(0x40000007, Action.BLOCK_ERASE) and keeps(0x40000007, Action.OVERWRITE)


@pytest.mark.parametrize("parser", PARSERS)
@settings(max_examples=60)
@given(
    head=st.binary(max_size=600), size=st.sampled_from([0, 511, 512, 4095, 4096]), fill=st.integers(0, 255)
)
def test_any_bytes_end_in_a_value_or_the_documented_error(
    parser: Callable[[bytes], object], head: bytes, size: int, fill: int
) -> None:
    data = head.ljust(size, bytes((fill,)))
    try:
        seen = parser(data)
    except BadAnswer:
        return
    if isinstance(seen, nvme_logs.SanitizeLog):
        for action in Action:
            assert seen.seconds(action, passes=3, no_deallocate=True) >= -1
        assert 0 <= seen.ppm < 1_000_000
    if isinstance(seen, nvme_identify.Namespace):
        assert seen.size >= 0 and seen.deallocated_reads
        nvme.format_nvm(1, seen, 1)


@given(status=st.integers(0, 0x7FF))
def test_every_status_has_words(status: int) -> None:
    assert f"{status:03X}h" in nvme_status.words(status)
    if nvme_status.refused(status):
        assert status != 0


# The kernel's side


def test_the_kernels_structures() -> None:
    """_IOWR('N', number, size) of include/uapi/asm-generic/ioctl.h."""
    for request, number, size in (
        (kernel_nvme.NVME_IOCTL_ADMIN_CMD, 0x41, 72),
        (kernel_nvme.NVME_IOCTL_ADMIN64_CMD, 0x47, 80),
        (kernel_nvme.NVME_IOCTL_IO_CMD, 0x43, 72),
        (kernel_nvme.NVME_IOCTL_IO64_CMD, 0x48, 80),
    ):
        assert request == 3 << 30 | size << 16 | ord("N") << 8 | number
    assert kernel_nvme.PASSTHRU_CMD.size == 72
    assert kernel_nvme.PASSTHRU_CMD64.size == 80
    assert ord("N") << 8 | 0x40 == kernel_nvme.NVME_IOCTL_ID


class Recorded(kernel_nvme.KernelNvme):
    """Stands where libc's ioctl would be called: `layout` and fields as the kernel would get them."""

    def __init__(self, fill: bytes = b"", status: int = 0, old: bool = False) -> None:
        super().__init__(-1)
        self.calls: list[tuple[int, tuple[int, ...]]] = []
        self.fill, self.status, self.old = fill, status, old
        self.got = b""

    def _ioctl(self, request: int, layout: object, fields: tuple[int, ...]) -> NvmeReply:
        self.calls.append((request, fields))
        if self.old and request == kernel_nvme.NVME_IOCTL_ADMIN64_CMD:
            raise NoPassThrough("old")
        address, length = fields[7], fields[9]
        if length:
            assert address % os.sysconf("SC_PAGESIZE") == 0
            self.got = ctypes.string_at(address, length)
            ctypes.memmove(address, self.fill, min(len(self.fill), length))
        return NvmeReply(status=self.status, result=5)


def test_data_comes_through_whole_pages() -> None:
    port = Recorded(fill=b"\xa5" * 4096)
    reply = port.admin(NvmeCommand(opcode=6, nsid=7, cdw10=1, cdw15=9), data_in=4096, timeout=1.5)
    assert (reply.status, reply.result, len(reply.data), set(reply.data)) == (0, 5, 4096, {0xA5})
    _, fields = port.calls[0]
    assert fields[0] == 6 and fields[3] == 7 and fields[10] == 1 and fields[15] == 9 and fields[16] == 1500
    assert len(kernel_nvme.PASSTHRU_CMD64.pack(*fields)) == 80


def test_data_goes_out_and_a_refusal_has_none() -> None:
    port = Recorded(status=0x002)
    assert port.admin(NvmeCommand(opcode=0x81), data_out=b"abc" * 2000).data == b""
    assert port.got == b"abc" * 2000
    assert port.admin(NvmeCommand(opcode=6), data_in=512).data == b""


def test_a_verification_read_has_its_data_with_its_status() -> None:
    port = Recorded(fill=b"\xa5" * 4096, status=0x19C)
    reply = port.read(nvme.read_blocks(3, 1 << 32 | 7, 8), 4096)
    assert (reply.status, reply.data) == (0x19C, b"\xa5" * 4096)
    request, fields = port.calls[0]
    assert request == kernel_nvme.NVME_IOCTL_IO64_CMD
    assert (fields[0], fields[3], *fields[10:13]) == (2, 3, 7, 1, 7)
    port.status = 0x281
    assert port.read(nvme.read_blocks(3, 0, 8), 4096).data == b""


@pytest.mark.parametrize("wrong", [{"no_deallocate": True}, {"action": nvme_logs.Action.OVERWRITE}])
def test_media_verification_only_where_it_is_defined(wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"action": nvme_logs.Action.BLOCK_ERASE, "verify": True, **wrong}
    with pytest.raises(ValueError, match="media verification"):
        nvme.sanitize(given.pop("action"), **given)


def test_an_old_kernel_gets_the_old_command_from_then_on() -> None:
    port = Recorded(old=True)
    port.admin(NvmeCommand(opcode=0x84))
    port.admin(NvmeCommand(opcode=0x84))
    wide, old = kernel_nvme.NVME_IOCTL_ADMIN64_CMD, kernel_nvme.NVME_IOCTL_ADMIN_CMD
    assert [request for request, _ in port.calls] == [wide, old, old]
    assert len(kernel_nvme.PASSTHRU_CMD.pack(*port.calls[-1][1])) == 72


def test_a_descriptor_that_is_no_nvme() -> None:
    """The real ioctl, on a device that knows none."""
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(NoPassThrough):
            kernel_nvme.KernelNvme(fd).admin(nvme.identify(nvme.Cns.CONTROLLER), data_in=4096)
        with pytest.raises(NoPassThrough):
            kernel_nvme.nsid_of(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOTTY, NoPassThrough),
        (errno.EOPNOTSUPP, NoPassThrough),
        (errno.ENODEV, DriveGone),
        (errno.ENXIO, DriveGone),
        (errno.ETIMEDOUT, CommandTimeout),
        (errno.EINTR, CommandTimeout),
        (errno.EACCES, CommandError),
        (errno.EIO, CommandError),
    ],
)
def test_error_numbers(code: int, kind: type[CommandError]) -> None:
    error = kernel_nvme.failure(code)
    assert type(error) is kind and str(error).endswith(".")


def test_what_the_driver_makes_up_is_no_answer_of_the_drive() -> None:
    assert kernel_nvme.answered(0x6002) == 0x002  # do not retry, more
    with pytest.raises(CommandTimeout):
        kernel_nvme.answered(0x371)
    with pytest.raises(CommandError, match="host pathing error"):
        kernel_nvme.answered(0x4370)
