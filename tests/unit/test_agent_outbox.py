"""Receipts get consecutive numbers, survive a crash at any point, and wait until acknowledged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from expunge_agent.outbox import Outbox, Signed
from expunge_agent.protocol.canonical import sha256_hex
from expunge_agent.protocol.receipt import NO_RECEIPT_BEFORE

ORDER = "ab" * 32


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    (tmp_path / "receipts").mkdir()
    (tmp_path / "outbox").mkdir()
    return Outbox(tmp_path)


def seal(outbox: Outbox, text: str) -> tuple[int, str]:
    seen: list[tuple[int, str]] = []

    def make(counter: int, previous: str) -> Signed:
        seen.append((counter, previous))
        return Signed(text.encode(), b"signature")

    outbox.seal(ORDER, make, lambda _: None)
    return seen[0]


def test_counters_and_digests_form_a_chain(outbox: Outbox) -> None:
    assert seal(outbox, "one") == (1, NO_RECEIPT_BEFORE)
    assert seal(outbox, "two") == (2, sha256_hex(b"one"))
    assert seal(outbox, "three") == (3, sha256_hex(b"two"))
    assert outbox.pending() == [1, 2, 3]


def test_an_acknowledged_receipt_leaves_the_outbox_and_stays_on_file(outbox: Outbox) -> None:
    seal(outbox, "one")
    seal(outbox, "two")
    assert outbox.acknowledge(sha256_hex(b"one"))
    assert not outbox.acknowledge(sha256_hex(b"one"))
    assert outbox.pending() == [2]
    assert outbox.get(1).body == b"one"
    outbox.repair()
    assert outbox.pending() == [2], "repairing must not send an acknowledged receipt again"


def test_a_crash_between_publishing_and_posting_is_repaired(outbox: Outbox, tmp_path: Path) -> None:
    seal(outbox, "one")
    (tmp_path / "outbox" / "000000000001").unlink()
    (tmp_path / "receipts" / "000000000001" / "posted").unlink()
    outbox.repair()
    assert outbox.pending() == [1]


def test_several_unposted_receipts_are_all_posted(outbox: Outbox, tmp_path: Path) -> None:
    """The first one's process died between publishing and posting, and other orders were sealed since."""
    for text in ("one", "two", "three"):
        seal(outbox, text)
    for number in (2, 3):
        (tmp_path / "outbox" / f"{number:012d}").unlink()
        (tmp_path / "receipts" / f"{number:012d}" / "posted").unlink()
    assert seal(outbox, "four")[0] == 4
    assert outbox.pending() == [1, 2, 3, 4]


def test_what_others_put_into_the_outbox_is_passed_over(outbox: Outbox, tmp_path: Path) -> None:
    seal(outbox, "one")
    for name in ("²", "x", "000000000099", ".000000000001.new"):
        (tmp_path / "outbox" / name).touch()
    os.mkfifo(tmp_path / "outbox" / ".000000000002.new")
    assert outbox.pending() == [1]
    assert seal(outbox, "two")[0] == 2
    assert outbox.pending() == [1, 2]


def test_a_crash_before_publishing_leaves_no_number_taken(outbox: Outbox) -> None:
    def crash(_counter: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.seal(ORDER, lambda *_: Signed(b"lost", b"signature"), crash)
    assert outbox.find(1, ORDER) is None
    assert seal(outbox, "one")[0] == 1


def test_a_receipt_is_found_by_number_only_for_its_own_order(outbox: Outbox) -> None:
    seal(outbox, "one")
    found = outbox.find(1, ORDER)
    assert found is not None
    assert found.body == b"one"
    assert outbox.find(1, "cd" * 32) is None
