"""EXT_CSD and the eMMC hands, against a device in memory made from JESD84-B51."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.commands import kernel_mmc, mmc
from expunge_agent.commands.port import CommandError, CommandTimeout
from expunge_agent.core.technique import Technique
from expunge_agent.devices.examine_mmc import examine_mmc, sd_card
from expunge_agent.techniques.hand import Rejected, State
from expunge_agent.techniques.mmc_sanitize import MmcErase
from expunge_agent.techniques.patient import GatedMmc
from support.emmc import GROUP, Emmc, ext_csd


@given(st.binary(max_size=600) | st.binary(min_size=512, max_size=512))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        csd = mmc.parse_ext_csd(data)
    except mmc.NotExtCsd:
        return
    assert csd.size > 0
    assert -1 <= csd.life <= 110
    csd.abilities(), csd.health(), csd.outside()


def test_the_register_is_read() -> None:
    csd = mmc.parse_ext_csd(bytes(ext_csd(groups=8)))
    assert csd.size == 8 * 512 * 1024
    assert csd.erase_group == 512 * 1024
    assert (csd.sanitize, csd.secure_erase, csd.secure_trim) == (True, True, True)
    assert (csd.erase_seconds, csd.secure_erase_seconds) == (1, 6)
    assert csd.health().used_percent == 30
    assert csd.outside() == [
        "two boot partitions (8388608 bytes in all)",
        "the RPMB partition (524288 bytes in all)",
    ]


def test_a_device_that_offers_nothing_says_why() -> None:
    drive = examine_mmc(Emmc(features=0))
    assert [(one.offered, bool(one.why)) for one in drive.abilities] == [(False, True)] * 3
    assert not any(one.offered for one in sd_card().abilities)


def test_garbage_instead_of_the_register_is_doubtful() -> None:
    device = Emmc()
    device.register = bytearray(512)
    assert "EXT_CSD cannot be read" in examine_mmc(device).doubtful[0]


def test_sanitize_erases_first_so_that_nothing_stays_in_the_flash() -> None:
    device = Emmc(groups=600)
    hand = MmcErase(device, Technique.MMC_SANITIZE, address=1)
    hand.start()
    assert device.mapped == {}
    assert device.flash == set()
    assert hand.poll().state is State.DONE
    assert [command.opcode for command in device.log][-2:] == [6, 13]
    assert max(c.argument for c in device.log if c.opcode == 36) == 600 * GROUP * 512 - 512


def test_above_two_gigabytes_addresses_count_sectors() -> None:
    device = Emmc(groups=5000)
    MmcErase(device, Technique.MMC_SECURE_ERASE, address=1).start()
    assert device.mapped == {}
    assert max(c.argument for c in device.log if c.opcode == 36) == 5000 * GROUP - 1


def test_a_device_that_stands_switched_to_another_partition_is_left_alone() -> None:
    device = Emmc()
    device.register[179] = 0x49  # acknowledge, boot from partition 1; access to it
    drive = examine_mmc(device)
    assert "switched to its boot partition 1" in drive.astray
    with pytest.raises(Rejected, match="PARTITION_ACCESS 1"):
        MmcErase(device, Technique.MMC_SANITIZE, address=1).start()
    assert len(device.mapped) == 8
    device.register[179] = 0x48
    assert not examine_mmc(device).astray


def test_of_a_sanitize_that_the_kernel_does_no_status_is_made_up() -> None:
    device = Emmc()
    device.sanitizes_as_linux = True
    answers = MmcErase(device, Technique.MMC_SANITIZE, address=1).start()
    (said,) = (one for one in answers if one.name.startswith("SANITIZE_START"))
    assert said.hex == ""
    assert device.flash == set()


def test_secure_erase_takes_every_group() -> None:
    device = Emmc()
    MmcErase(device, Technique.MMC_SECURE_ERASE, address=1).start()
    assert device.flash == set()
    assert {c.argument for c in device.log if c.opcode == 38} == {0x80000000}


@pytest.mark.parametrize("technique", [Technique.MMC_SANITIZE, Technique.MMC_SECURE_ERASE])
def test_what_is_not_offered_is_not_begun(technique: Technique) -> None:
    device = Emmc(features=0)
    with pytest.raises(Rejected, match="SEC_FEATURE_SUPPORT"):
        MmcErase(device, technique, address=1).start()
    assert len(device.mapped) == 8


def test_skipped_write_protected_groups_are_a_failure() -> None:
    device = Emmc()
    device.protected = {3}
    hand = MmcErase(device, Technique.MMC_SANITIZE, address=1)
    with pytest.raises(CommandError, match="write protected"):
        hand.start()
    assert hand.poll().state is State.FAILED


def test_an_answer_lost_half_way_is_no_success() -> None:
    device = Emmc(groups=600)
    device.fail_at_group = 400
    hand = MmcErase(device, Technique.MMC_SECURE_ERASE, address=1)
    with pytest.raises(CommandError):
        hand.start()
    assert hand.poll().state is State.FAILED
    assert 0 < len(device.mapped) < 600


def test_after_a_restart_nothing_is_claimed() -> None:
    assert MmcErase(Emmc(), Technique.MMC_SANITIZE, address=1).poll().state is State.IDLE


def test_a_stop_is_heeded_between_ranges() -> None:
    device = Emmc(groups=600)
    with pytest.raises(CommandError, match="stopped"):
        MmcErase(device, Technique.MMC_SANITIZE, 1, stop=lambda: len(device.log) > 3).start()
    assert device.mapped


def test_a_question_that_was_given_up_sends_nothing_more() -> None:
    device, may = Emmc(groups=600), [True]

    def gate() -> None:
        if not may[0]:
            raise CommandTimeout("the question was given up")

    def erased() -> bool:
        may[0] = not any(command.opcode == 38 for command in device.log)
        return False

    hand = MmcErase(GatedMmc(device, gate), Technique.MMC_SECURE_ERASE, 1, stop=erased)
    with pytest.raises(CommandTimeout):
        hand.start()
    assert [command.opcode for command in device.log].count(38) == 1
    with pytest.raises(CommandTimeout):
        hand.prepare()


def test_the_structure_is_that_of_the_kernels_header() -> None:
    packed = kernel_mmc._packed(mmc.switch(165, 1, 5000), write=1)
    assert len(packed) == 72 == kernel_mmc.MMC_IOC_CMD >> 16 & 0x3FFF
    fields = struct.unpack("=iiIIIIIIIIIIIIIIQ", packed)
    assert fields[:4] == (1, 0, 6, 0x03A50100)
    assert fields[8] & 0x3F == 0x1D  # R1b: present, CRC, busy, opcode
    assert fields[14] == 5000
