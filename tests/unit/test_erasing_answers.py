"""What the drive said before, during and after its command stands in the receipt, and no receipt grows without end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.core.drive import Answer, Drive
from expunge_agent.core.erasure_progress import GAP, ErasureProgress, fewer
from expunge_agent.core.technique import Technique as T
from expunge_agent.devices.examine_nvme import examine_nvme
from expunge_agent.protocol.receipt_erasure import MAX_ANSWERS, DriveAnswer
from lab import bench as b
from lab.bench import Bench, Book, Device, Order
from lab.drives import faults as fault

EACH = [
    (T.NVME_SANITIZE_BLOCK, b.NVME, "Identify Controller"),
    (T.ATA_SANITIZE_BLOCK, b.SATA_SSD, "IDENTIFY DEVICE"),
    (T.SCSI_SANITIZE_BLOCK, b.SAS_SSD, "VPD page 80h"),
]


def told(bench: Bench) -> list[DriveAnswer]:
    order, book = Order(bench), Book()
    order.carry_out(book)
    again = book.reopened()  # from the journal alone, as after a restart
    return again.target(0).erasure.result(bench.technique, order.plan.drive).answers  # type: ignore[no-any-return]


@pytest.mark.parametrize(("technique", "device", "page"), EACH, ids=str)
@pytest.mark.parametrize("name", ["", fault.CHANGES_SERIAL])
def test_what_the_drive_says_of_itself_afterwards_is_kept(
    tmp_path: Path, technique: T, device: Device, page: str, name: str
) -> None:
    """A receipt that says that the serial number is another one has the bytes that say so, and those from before."""
    bench = Bench(tmp_path, technique, device, *([name] if name else []))
    answers = told(bench)
    before = next(one.hex for one in answers if one.name.startswith(page))
    after = next(one.hex for one in answers if one.name.startswith(page) and one.name.endswith("afterwards"))
    assert before and after
    assert not next(one.name for one in answers if one.name.startswith(page)).endswith("afterwards")
    assert answers[-1].name.endswith(", afterwards")
    if name:
        assert after != before
    bench.close()


def test_a_drive_that_does_not_answer_afterwards_left_no_answers(tmp_path: Path) -> None:
    bench = Bench(tmp_path, T.SCSI_SANITIZE_BLOCK, b.SAS_SSD, fault.DISAPPEARS)
    assert not any(one.name.endswith("afterwards") for one in told(bench))
    bench.close()


def test_the_lists_of_namespaces_and_the_other_namespaces_are_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, T.NVME_FORMAT_CRYPTO, b.NVME_TWO)
    drive = examine_nvme(bench._port, 1)
    assert [one.nsid for one in drive.namespaces] == [1, 2]
    found = {one.name: bytes.fromhex(one.hex) for one in drive.answers}
    listed = found["List of active namespaces"]
    assert listed[:12] == bytes([1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
    assert len(found["Identify Namespace 2"]) == len(found["Identify Namespace 1"]) == 4096
    bench.close()


def named(count: int, word: str = "answer") -> list[DriveAnswer]:
    return [DriveAnswer(name=f"{word} {number}") for number in range(count)]


@given(count=st.integers(0, 50), most=st.integers(0, 50))
def test_of_too_many_answers_the_first_and_the_last_are_kept(count: int, most: int) -> None:
    answers = named(count)
    kept = fewer(answers, most)
    assert len(kept) <= most
    if count <= most:
        assert kept == answers
    elif most >= 3:
        assert len(kept) == most
        assert (kept[0], kept[-1]) == (answers[0], answers[-1])
        assert kept.count(GAP) == 1
        left = [one for one in answers if one in kept]
        assert [one for one in kept if one != GAP] == left, "in their order"
    else:
        assert set(kept) <= {GAP}


def test_a_receipt_of_a_talkative_drive_has_what_it_said_before_and_after() -> None:
    before = Drive(protocol="ata", answers=[Answer(name=one.name, hex="00") for one in named(3, "before")])
    so_far = ErasureProgress()
    so_far.answers = [Answer(name=one.name, hex="ff" * 9000) for one in named(400)]
    so_far.answers += [Answer(name="IDENTIFY DEVICE, afterwards", hex="01")]
    answers = so_far.result(T.ATA_SANITIZE_BLOCK, before).answers
    assert len(answers) == MAX_ANSWERS
    assert [answers[0].name, answers[-1].name] == ["before 0", "IDENTIFY DEVICE, afterwards"]
    assert answers[-2].hex == "ff" * 8192
    assert GAP in answers
