"""NVMe Sanitize and Format as hands, and the examination, against a scripted controller."""

from __future__ import annotations

import msgspec
import pytest

from expunge_agent.commands.nvme_logs import SanitizeLog, sanitize_log
from expunge_agent.commands.port import CommandError, NvmeCommand, NvmeReply
from expunge_agent.core.capabilities import can
from expunge_agent.core.drive import Drive
from expunge_agent.core.reach import whole_subsystem
from expunge_agent.core.technique import Technique
from expunge_agent.devices.examine_nvme import examine_nvme
from expunge_agent.protocol.canonical import decode_hook, dumps
from expunge_agent.techniques.hand import Hand, Rejected, ShowsCells, State
from expunge_agent.techniques.nvme_format import NvmeFormat
from expunge_agent.techniques.nvme_sanitize import Eye, NvmeSanitize, renewed
from support.scripted_nvme import (
    ScriptedNvme,
    controller_data,
    drive,
    list_data,
    namespace_data,
    sanitize_data,
)

CRYPTO, BLOCK, OVERWRITE = (
    Technique.NVME_SANITIZE_CRYPTO,
    Technique.NVME_SANITIZE_BLOCK,
    Technique.NVME_SANITIZE_OVERWRITE,
)
FORMAT_CRYPTO, FORMAT_DATA = Technique.NVME_FORMAT_CRYPTO, Technique.NVME_FORMAT_USER_DATA
NVME = (CRYPTO, BLOCK, OVERWRITE, FORMAT_CRYPTO, FORMAT_DATA)
OK = NvmeReply(0)


def sanitizing(*replies: NvmeReply, **controller: int) -> ScriptedNvme:
    port = drive(**controller)
    port.on[0x84] = list(replies or (OK,))
    return port


# Sanitize


def test_it_begins_with_ause_and_no_deallocate() -> None:
    port = sanitizing()
    hand: Hand = NvmeSanitize(port, BLOCK)
    hand.prepare()
    answers = hand.start()
    (command,) = port.of(0x84)
    assert (command.nsid, command.cdw10) == (0, 0x20A)
    assert any("with AUSE, no-deallocate" in answer.name for answer in answers)
    assert not hand.waits


def test_deallocation_where_no_deallocate_is_inhibited() -> None:
    port = sanitizing(sanicap=0x20000007)
    answers = NvmeSanitize(port, CRYPTO).start()
    assert [command.cdw10 for command in port.of(0x84)] == [0x00C]
    assert any("deallocating" in answer.name for answer in answers)


def test_no_deallocate_is_given_up_when_just_that_is_refused() -> None:
    port = sanitizing(NvmeReply(0x002), OK)
    answers = NvmeSanitize(port, CRYPTO).start()
    assert [command.cdw10 for command in port.of(0x84)] == [0x20C, 0x00C]
    assert sum("Sanitize crypto erase" in answer.name for answer in answers) == 2


def test_overwrite_carries_passes_and_pattern() -> None:
    port = sanitizing()
    NvmeSanitize(port, OVERWRITE, passes=3, pattern=0x55AA55AA, invert=True).start()
    (command,) = port.of(0x84)
    assert (command.cdw10, command.cdw11) == (0x33B, 0x55AA55AA)


@pytest.mark.parametrize("status", [0x001, 0x01D, 0x111, 0x123, 0x286])
def test_a_refusal_is_told_in_words(status: int) -> None:
    port = sanitizing(NvmeReply(status))
    with pytest.raises(Rejected, match=f"{status:03X}h") as caught:
        NvmeSanitize(port, CRYPTO).start()
    assert any(f"{status:03X}h" in answer.name for answer in caught.value.answers)


def test_a_status_that_may_come_half_way_is_no_refusal() -> None:
    with pytest.raises(CommandError, match="internal error"):
        NvmeSanitize(sanitizing(NvmeReply(0x006)), CRYPTO).start()


def test_what_sanicap_lacks_is_never_sent() -> None:
    port = sanitizing(sanicap=0x2)
    with pytest.raises(Rejected, match="no crypto erase"):
        NvmeSanitize(port, CRYPTO).prepare()
    assert not port.of(0x84)


def test_another_operation_is_not_ours() -> None:
    port = sanitizing()
    port.logs[0x81] = sanitize_data(0x0002, 0x20A, sprog=0x8000)
    hand = NvmeSanitize(port, CRYPTO)
    with pytest.raises(Rejected, match="block erase is running"):
        hand.prepare()
    status = hand.poll()
    assert (status.state, status.ppm, status.seconds_left) == (State.RUNNING, 500_000, -1)
    with pytest.raises(Rejected, match="still runs"):
        hand.settle()
    port.logs[0x81] = sanitize_data(0x0101, 0x20A)
    status = hand.poll()
    assert status.state is State.IDLE and "not of this kind" in status.detail


@pytest.mark.parametrize(
    ("sstat", "state"),
    [
        (0, State.IDLE),
        (1, State.DONE),
        (2, State.RUNNING),
        (3, State.FAILED),
        (4, State.DONE),
        (6, State.IDLE),
    ],
)
def test_states_of_the_log(sstat: int, state: State) -> None:
    port = sanitizing()
    port.logs[0x81] = sanitize_data(sstat, 0x20A if sstat else 0, sprog=0x4000)
    assert NvmeSanitize(port, BLOCK).poll().state is state
    assert not port.of(0x84)


def test_progress_and_the_time_left() -> None:
    port = sanitizing()
    port.logs[0x81] = sanitize_data(0x0002, 0x20A, sprog=0xC000)
    status = NvmeSanitize(port, BLOCK).poll()
    assert (status.ppm, status.seconds_left) == (750_000, 20)  # a quarter of the 80 s of no-deallocate
    assert status.answers[0].hex.startswith("00c00200")


def test_deallocated_against_the_order_is_said() -> None:
    port = sanitizing()
    port.logs[0x81] = sanitize_data(0x0104, 0x20C)
    status = NvmeSanitize(port, CRYPTO).poll()
    assert "deallocated although" in status.detail and "nothing written since" in status.detail


def test_old_news_is_recognised() -> None:
    def log(sstat: int, scdw10: int = 0x20C) -> SanitizeLog:
        return sanitize_log(sanitize_data(sstat, scdw10))

    assert not renewed(log(0x001), log(0x001))
    assert not renewed(log(0x101), log(0x101))
    assert not renewed(log(0x101), log(0x001))
    assert renewed(log(0x001), log(0x101))
    assert renewed(log(0x101), log(0x002))
    assert renewed(log(0x001, 0x20A), log(0x001))
    assert renewed(log(0x003), log(0x001))


def test_a_failure_begun_with_ause_is_left() -> None:
    port = sanitizing()
    port.logs[0x81] = sanitize_data(0x0003, 0x20C)
    answers = NvmeSanitize(port, CRYPTO).settle()
    assert [(command.nsid, command.cdw10) for command in port.of(0x84)] == [(0, 0x001)]
    assert "exit failure" in answers[-1].name and "success" in answers[-1].name


def test_a_failure_begun_without_ause_stays_and_is_said() -> None:
    port = sanitizing()
    port.logs[0x81] = sanitize_data(0x0003, 0x204)
    hand = NvmeSanitize(port, CRYPTO)
    with pytest.raises(Rejected, match="without AUSE"):
        hand.settle()
    assert not port.of(0x84)
    hand.start()  # only a command without AUSE is accepted then
    assert [command.cdw10 for command in port.of(0x84)] == [0x204]


def test_an_exit_that_is_refused_is_said() -> None:
    port = sanitizing(NvmeReply(0x01C))
    port.logs[0x81] = sanitize_data(0x0003, 0x20C)
    with pytest.raises(Rejected, match=r"refused exit failure: sanitize failed \(01Ch\)"):
        NvmeSanitize(port, CRYPTO).settle()


# Media verification

SHOWN = sanitize_data(0x0002, 0x40C, ssi=0x05)
DEALLOCATING = sanitize_data(0x0002, 0x40C, sprog=0x4000, ssi=0x06)
IDLE = sanitize_data(0x0101, 0x40C)


class Reader:
    """An I/O queue that answers every read with `status` and A5h."""

    def __init__(self, status: int = 0x19C) -> None:
        self.status, self.sent = status, list[NvmeCommand]()

    def read(self, command: NvmeCommand, size: int, *, timeout: float = 20.0) -> NvmeReply:
        self.sent.append(command)
        return NvmeReply(self.status, 0, b"\xa5" * size if self.status in (0, 0x19C) else b"")


def verifying(
    port: ScriptedNvme, technique: Technique = CRYPTO, reader: Reader | None = None
) -> NvmeSanitize:
    return NvmeSanitize(port, technique, eye=Eye(reader or Reader(), 1), pause=lambda seconds: None)


@pytest.mark.parametrize(
    ("technique", "sanicap", "tried"),
    [
        (CRYPTO, 0xF, [0x40C, 0x20C, 0x00C]),
        (
            BLOCK,
            0x4000000F,
            [0x40A, 0x00A],
        ),  # a block erase that leaves the medium as it is: no no-deallocate
        (CRYPTO, 0x2000000F, [0x40C, 0x00C]),  # no-deallocate inhibited
        (OVERWRITE, 0xF, [0x21B, 0x01B]),  # never after an overwrite
        (CRYPTO, 0x7, [0x20C, 0x00C]),
    ],
)
def test_media_verification_comes_first_and_excludes_no_deallocate(
    technique: Technique, sanicap: int, tried: list[int]
) -> None:
    port = sanitizing(*[NvmeReply(0x002)] * len(tried), sanicap=sanicap)
    with pytest.raises(Rejected, match="invalid field"):
        verifying(port, technique).start()
    assert [command.cdw10 for command in port.of(0x84)] == tried


def test_it_is_not_asked_for_without_an_eye_nor_for_blocks_with_metadata() -> None:
    port = sanitizing(sanicap=0xF)
    NvmeSanitize(port, CRYPTO).start()
    port.identify[0, 1] = namespace_data(flbas=0x21, nlbaf=17)
    port.on[0x84] = [OK]
    verifying(port).start()
    assert [command.cdw10 for command in port.of(0x84)] == [0x20C, 0x20C]


def test_the_state_is_the_end_of_the_erase_and_the_deallocation_is_not() -> None:
    port = sanitizing(sanicap=0xF)
    port.logs[0x81] = SHOWN
    status = verifying(port).poll()
    assert (status.state, status.ppm) == (State.DONE, 1_000_000)
    assert "cells can be read" in status.detail
    assert verifying(port, BLOCK).poll().state is State.RUNNING  # not of this kind
    port.logs[0x81] = DEALLOCATING
    status = verifying(port).poll()
    assert (status.state, status.ppm, status.seconds_left) == (State.RUNNING, 250_000, -1)
    port.logs[0x81] = sanitize_data(0x0301, 0x40C)
    status = verifying(port).poll()
    assert status.state is State.DONE and "cancelled by a reset" in status.detail


def test_media_verification_is_left_and_its_deallocation_awaited() -> None:
    port = sanitizing(OK, OK, sanicap=0xF)
    port.logs[0x81] = [SHOWN, DEALLOCATING, DEALLOCATING, IDLE]
    hand = verifying(port)  # takes the first look
    port.logs[0x81] = [SHOWN, DEALLOCATING, DEALLOCATING, IDLE]
    hand.prepare()
    port.logs[0x81] = [SHOWN, DEALLOCATING, IDLE]
    answers = hand.settle()
    assert [command.cdw10 for command in port.of(0x84)] == [0x005, 0x005]
    assert answers[-1].name.endswith("after media verification")
    port.logs[0x81] = [DEALLOCATING, IDLE]  # as after a restart in the middle
    hand.settle()
    assert len(port.of(0x84)) == 2


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (SHOWN, "stays in its media verification state"),
        (DEALLOCATING, "had not left it after 300 s"),
        (sanitize_data(0x0003, 0x40C), "deallocation after the media verification failed"),
    ],
)
def test_a_drive_that_does_not_come_out_of_it_is_not_settled(after: bytes, words: str) -> None:
    port = sanitizing(OK, OK, sanicap=0xF)
    hand = verifying(port)
    port.logs[0x81] = [SHOWN, after]
    with pytest.raises(Rejected, match=words):
        hand.settle()
    left = [0x005, 0x001] if "failed" in words else [0x005]  # a failure is left as any other
    assert [command.cdw10 for command in port.of(0x84)] == left


def test_cells_are_shown_in_the_state_only() -> None:
    port, reader = sanitizing(sanicap=0xF), Reader()
    hand = verifying(port, reader=reader)
    assert isinstance(hand, ShowsCells)
    assert hand.cells() is None
    port.logs[0x81] = SHOWN
    assert verifying(port, BLOCK).cells() is None
    assert NvmeSanitize(port, CRYPTO).cells() is None
    cells = hand.cells()
    assert cells is not None
    assert (cells.size, cells.block) == (0x1000 * 4096, 4096)
    view = memoryview(bytearray(256 * 1024))
    cells.read_into(view, 4096)
    assert set(view) == {0xA5}
    assert [(one.cdw10, one.cdw12) for one in reader.sent] == [(1, 15), (17, 15), (33, 15), (49, 15)]
    assert cells.from_cells == len(view)
    reader.status = 0
    cells.read_into(view[:4096], 0)
    assert cells.from_cells == len(view)  # an ordinary success is no word of the cells
    reader.status = 0x281
    with pytest.raises(OSError, match="unrecovered read error"):
        cells.read_into(view[:4096], 0)
    assert not cells.answers()
    with pytest.raises(ValueError, match="are not blocks"):
        cells.read_into(view[:4096], cells.size)


def test_the_inventory_tells_of_media_verification() -> None:
    found = examine_nvme(drive(sanicap=0xF), 1)
    assert found.media_verification
    assert can(found).endswith(", media verification")
    assert not examine_nvme(drive(), 1).media_verification


def test_an_end_that_cannot_be_seen_is_no_beginning() -> None:
    port = sanitizing()
    del port.logs[0x81]
    with pytest.raises(Rejected, match=r"could not be seen: .*invalid log page"):
        NvmeSanitize(port, CRYPTO).prepare()


def test_nothing_to_settle_after_success() -> None:
    port = sanitizing()
    port.logs[0x81] = sanitize_data(0x0101, 0x20C)
    NvmeSanitize(port, CRYPTO).settle()
    assert not port.of(0x84)


def test_the_log_that_does_not_come_after_acceptance_is_no_failure() -> None:
    port = sanitizing()
    hand = NvmeSanitize(port, CRYPTO)
    port.logs[0x81] = [sanitize_data(0), b""]
    answers = hand.start()
    assert "0 bytes came" in answers[-1].name


@pytest.mark.parametrize(("status", "state"), [(0x01D, State.RUNNING), (0x01C, State.FAILED)])
def test_a_drive_that_refuses_everything_meanwhile(status: int, state: State) -> None:
    """After a restart of the agent: the hand is made while the operation runs."""
    port = sanitizing()
    port.admin = lambda command, **options: NvmeReply(status)
    hand = NvmeSanitize(port, BLOCK)
    assert hand.timeout == 24 * 3600
    assert hand.poll().state is state
    port.admin = lambda command, **options: NvmeReply(0x006)
    with pytest.raises(CommandError, match="internal error"):
        hand.poll()


def test_patience_comes_from_what_the_drive_declares() -> None:
    port = sanitizing()
    port.logs[0x81] = sanitize_data(0, times=(160_000, 20_000, 0xFFFFFFFF, 0, 0, 0))
    assert NvmeSanitize(port, BLOCK).timeout == 60_000
    assert NvmeSanitize(port, OVERWRITE, passes=8).timeout == 240_000
    assert NvmeSanitize(port, CRYPTO).timeout == 24 * 3600
    port.logs[0x81] = sanitize_data(0)
    assert NvmeSanitize(port, CRYPTO).timeout == 3600


# Format


def formatting(*replies: NvmeReply, **controller: int) -> ScriptedNvme:
    port = drive(**controller)
    port.on[0x80] = list(replies or (OK,))
    return port


@pytest.mark.parametrize(("technique", "ses"), [(FORMAT_DATA, 1), (FORMAT_CRYPTO, 2)])
def test_format_of_one_namespace_keeps_its_blocks(technique: Technique, ses: int) -> None:
    port = formatting()
    hand: Hand = NvmeFormat(port, technique, 1)
    assert hand.waits
    hand.prepare()
    answers = hand.start()
    (command,) = port.of(0x80)
    assert (command.nsid, command.cdw10) == (1, ses << 9 | 1)
    assert port.timeouts[port.sent.index(command)] == hand.timeout
    assert [answer.name.split(",")[0] for answer in answers] == [
        "Identify Namespace 1 before",
        "Format NVM of namespace 1",
        "Identify Namespace 1 after",
    ]


def test_format_says_when_it_reaches_all() -> None:
    answers = NvmeFormat(formatting(fna=0x06), FORMAT_CRYPTO, 1).start()
    assert any("Format NVM of all namespaces" in answer.name for answer in answers)


def test_crypto_erase_that_fna_does_not_offer_is_never_sent() -> None:
    port = formatting(fna=0x00)
    hand = NvmeFormat(port, FORMAT_CRYPTO, 1)
    for step in (hand.prepare, hand.start):
        with pytest.raises(Rejected, match="FNA 00h"):
            step()
    assert not port.of(0x80)
    with pytest.raises(Rejected, match="no Format NVM"):
        NvmeFormat(formatting(oacs=0), FORMAT_DATA, 1).prepare()


def test_format_of_an_inactive_namespace() -> None:
    port = formatting()
    port.identify[0, 3] = bytes(4096)
    with pytest.raises(Rejected, match="not active"):
        NvmeFormat(port, FORMAT_DATA, 3).prepare()


def test_a_refused_format_and_a_failed_one_are_two_things() -> None:
    with pytest.raises(Rejected, match="invalid format"):
        NvmeFormat(formatting(NvmeReply(0x10A)), FORMAT_DATA, 1).start()
    with pytest.raises(CommandError, match="half way: internal error"):
        NvmeFormat(formatting(NvmeReply(0x006)), FORMAT_DATA, 1).start()


def test_a_block_format_that_changed_is_said() -> None:
    port = drive()

    def change(_: object) -> NvmeReply:
        port.identify[0, 1] = namespace_data(flbas=0)
        return OK

    port.on[0x80] = change
    answers = NvmeFormat(port, FORMAT_DATA, 1).start()
    assert "another size or block format" in answers[-1].name


def test_a_running_format_is_seen_and_an_ended_one_proves_nothing() -> None:
    port = formatting()
    hand = NvmeFormat(port, FORMAT_DATA, 1)
    port.identify[0, 1] = namespace_data(fpi=0x80 | 30)
    status = hand.poll()
    assert (status.state, status.ppm) == (State.RUNNING, 700_000)
    with pytest.raises(Rejected, match="still runs"):
        hand.settle()
    port.identify[0, 1] = namespace_data(fpi=0x80)
    assert hand.poll().state is State.IDLE
    hand.settle()


def test_a_drive_that_refuses_everything_during_a_format() -> None:
    port = formatting()
    port.admin = lambda command, **options: NvmeReply(0x084)
    hand = NvmeFormat(port, FORMAT_DATA, 1)
    assert hand.timeout == 320_000
    assert hand.poll().state is State.RUNNING


# The examination


def test_everything_a_drive_answers() -> None:
    port = drive(capacity=1 << 40, unallocated=1 << 30)
    uuid = bytes((3, 16, 0, 0)) + bytes.fromhex("00112233445566778899aabbccddeeff")
    port.identify[3, 1] = uuid.ljust(4096, b"\0")
    seen = examine_nvme(port, 1)
    assert (seen.protocol, seen.vendor, seen.serial) == ("nvme", "PCI 1b36", "S3CR3T-0001")
    assert seen.names == [
        "eui.0022446688aaccee",
        "nguid.0123456789abcdef0011223344556677",
        "uuid.00112233-4455-6677-8899-aabbccddeeff",
    ]
    assert (int(seen.total), int(seen.unallocated)) == (1 << 40, 1 << 30)
    assert (int(seen.apparent), seen.logical_sector, seen.rotation) == (0x1000 * 4096, 4096, 0)
    assert [(one.nsid, one.attached, int(one.size)) for one in seen.namespaces] == [
        (1, True, 0x1000 * 4096),
        (2, True, 0x200 * 512),
        (3, False, 0),
    ]
    assert (seen.health.passed, seen.health.celsius, seen.health.media_errors) == (True, 37, 3)
    assert seen.sanitize_state == "idle"
    assert seen.doubtful == []
    assert all(seen.ability(technique).offered for technique in NVME)
    assert [seen.ability(technique).seconds for technique in NVME] == [5, 80, 200, -1, -1]
    assert not port.of(0x84) and not port.of(0x80)


def test_it_can_be_written_down_and_read_again() -> None:
    seen = examine_nvme(drive(), 1)
    assert msgspec.json.decode(dumps(seen), type=Drive, dec_hook=decode_hook) == seen


def test_what_is_not_offered_has_a_reason() -> None:
    seen = examine_nvme(drive(sanicap=0, fna=0, oacs=0x2), 1)
    offers = {technique: seen.ability(technique) for technique in NVME}
    assert [technique for technique in NVME if offers[technique].offered] == [FORMAT_DATA]
    assert all(offer.why for offer in offers.values() if not offer.offered)


def test_a_claim_whose_end_cannot_be_seen_is_not_offered() -> None:
    port = drive()
    del port.logs[0x81]
    seen = examine_nvme(port, 1)
    assert not seen.ability(CRYPTO).offered
    assert "81h" in seen.ability(CRYPTO).why
    assert any("81h" in doubt and "SANICAP" in doubt for doubt in seen.doubtful)
    assert seen.sanitize_state == ""


def doubts(port: ScriptedNvme, nsid: int = 1) -> str:
    return "\n".join(examine_nvme(port, nsid).doubtful)


def test_doubts() -> None:
    assert "serial number is empty or holds" in doubts(drive(serial=b"\x80\x81".ljust(20)))
    assert "in all" in doubts(drive(capacity=4096))
    assert "older than Sanitize" in doubts(drive(version=0x00010200))
    assert "tells of Format NVM" in doubts(drive(oacs=0x8))
    assert "at most" in doubts(drive(namespaces=1), 2)
    assert "unallocated" in doubts(drive(capacity=1 << 40, unallocated=1 << 41))
    port = drive()
    port.identify[0, 1] = namespace_data(flbas=0x0F)
    assert "not in its own table" in doubts(port)
    port = drive()
    port.identify[2, 0] = list_data(2, 1)
    assert "out of order" in doubts(port)
    port = drive()
    port.identify[2, 0] = list_data(2)
    assert "not in the controller's list" in doubts(port)
    port = drive()
    del port.identify[2, 0]
    assert "list of active namespaces is not answered" in doubts(port)
    port = drive()
    port.identify[3, 1] = (bytes((1, 8, 0, 0)) + b"\x11" * 8).ljust(4096, b"\0")
    assert "EUI-64" in doubts(port)
    port = drive()
    port.logs[0x81] = sanitize_data(0x0007)
    assert "reserved status 7" in doubts(port)


def test_a_drive_that_changes_its_serial_between_two_questions() -> None:
    port = drive()
    answer = port.admin
    asked = []

    def changing(command, **options):
        if command.opcode == 0x06 and command.cdw10 == 1:
            asked.append(command)
            port.identify[1, 0] = controller_data(serial=f"SERIAL{len(asked)}".encode().ljust(20))
        return answer(command, **options)

    port.admin = changing
    assert "asked twice" in doubts(port)


def test_a_controller_in_company_has_to_list_the_namespaces_of_all() -> None:
    assert examine_nvme(drive(), 1).unlisted == examine_nvme(drive(cmic=0x2), 1).unlisted == ""
    assert examine_nvme(drive(oacs=0x2, cmic=0x1), 1).unlisted == "", "two ports, one controller"
    told = examine_nvme(drive(oacs=0x2, cmic=0x3), 1)
    assert "further controllers (CMIC 03h)" in told.unlisted
    assert "has no namespace management to list the namespaces of all of them" in told.unlisted
    assert told.doubtful == [], "a format of this namespace alone is still to be had"
    port = drive(cmic=0x2)
    del port.identify[0x10, 0]
    assert examine_nvme(port, 1).unlisted.endswith("this one does not list all namespaces of it")
    port.identify[0x10, 0] = list_data(2, 3)
    assert examine_nvme(port, 1).unlisted, "a list without what is in use is not the whole list"


def test_a_long_namespace_list_is_read_to_its_end() -> None:
    port = drive(namespaces=2000)
    port.identify[2, 0] = list_data(*range(1, 1025))
    port.identify[2, 1024] = list_data(1025, 1030)
    port.identify[0x10, 0] = list_data()
    seen = examine_nvme(port, 1)
    assert len(seen.namespaces) == 1026
    assert seen.namespaces[-1].nsid == 1030


def test_no_rotating_medium_needs_the_drives_own_word() -> None:
    port = drive(version=0x00020000)
    assert examine_nvme(port, 1).rotation == 0
    port.identify[8, 1] = bytes(4096)
    assert examine_nvme(port, 1).rotation == 1
    port.identify[8, 1] = b"\x10".ljust(4096, b"\0")
    assert examine_nvme(port, 1).rotation == 0


def test_a_controller_that_does_not_say_what_it_is() -> None:
    with pytest.raises(CommandError, match="Identify Controller"):
        examine_nvme(ScriptedNvme(), 1)


@pytest.mark.parametrize(("fna", "all_of_them"), [(0, False), (1, True), (2, True), (3, True), (4, False)])
def test_how_far_a_technique_reaches(fna: int, all_of_them: bool) -> None:
    seen = examine_nvme(drive(fna=fna), 1)
    assert all(whole_subsystem(technique, seen) for technique in (CRYPTO, BLOCK, OVERWRITE))
    assert whole_subsystem(FORMAT_DATA, seen) is all_of_them
    assert not whole_subsystem(Technique.OVERWRITE, seen)
    unknown = msgspec.structs.replace(seen, answers=[])
    assert whole_subsystem(FORMAT_DATA, unknown)
