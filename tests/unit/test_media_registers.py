"""Reconciliation and the destruction register: who is missing, who is not told apart, what nobody filled."""

from __future__ import annotations

import csv
import io

import pytest
from msgspec.structs import replace

from expunge_agent.errors import DocumentError
from expunge_agent.protocol.base import Outcome
from expunge_controller.records.csv_text import BOM
from expunge_controller.records.destruction import destruction_csv, items_of
from expunge_controller.records.media_lines import MediumLine, is_sanitized, medium_line, with_receipt
from expunge_controller.records.media_list import MAX_LIST, parse_list
from expunge_controller.records.reconcile import Finding, complete, reconcile, reconciliation_csv, tally
from support.evidence import DISK, World


def medium(number: int, outcome: str = "sanitized", **changes: str) -> MediumLine:
    line = medium_line(replace(DISK, serial=f"SN-{number}", wwn=f"0x5{number:015x}"), path=f"/dev/sd{number}")
    receipt = f"{number:064x}" if outcome else ""
    return line._replace(outcome=outcome, receipt=receipt, finished_at="2026-03-02T09:30:07Z", **changes)


SEEN = [medium(1), medium(2, "failed"), medium(3, ""), medium(4, "sanitized-with-exceptions"), medium(9)]


def findings(text: str, seen: list[MediumLine] = SEEN) -> list[Finding]:
    return [match.finding for match in reconcile(parse_list(text.encode()), seen)]


def test_every_finding() -> None:
    text = "serial,note\nSN-1,bay 1\nsn - 2,bay 2\nSN-3,\nSN-4,\nSN-5,gone\n"
    matches = reconcile(parse_list(text.encode()), SEEN)
    assert [match.finding for match in matches] == [
        Finding.SANITIZED,
        Finding.NOT_SANITIZED,
        Finding.NO_RECEIPT,
        Finding.SANITIZED,
        Finding.MISSING,
        Finding.UNEXPECTED,
    ]
    assert tally(matches)[Finding.SANITIZED] == 2
    assert not complete(matches)
    rows = list(csv.DictReader(io.StringIO(reconciliation_csv(matches).removeprefix(BOM))))
    assert (rows[0]["note"], rows[4]["finding"], rows[5]["line"]) == ("bay 1", "missing", "")


def test_all_there_is_complete_even_with_one_more() -> None:
    assert complete(reconcile(parse_list(b"serial\nSN-1\nSN-4\n"), SEEN))


def test_all_that_a_line_says_must_fit() -> None:
    assert findings(f"serial,wwn\nSN-1,{SEEN[0].wwn.upper()}\n")[0] is Finding.SANITIZED
    assert findings(f"serial,wwn\nSN-1,{SEEN[1].wwn}\n")[0] is Finding.MISSING


def test_media_that_cannot_be_told_apart() -> None:
    twins = [medium(1), medium(1)._replace(digest="ab" * 32)]
    assert findings("serial\nSN-1\n", twins)[0] is Finding.AMBIGUOUS
    text = f"serial,wwn\nSN-1,\n,{SEEN[0].wwn}\n"  # two lines, one medium: one of them is missing
    assert findings(text)[:2] == [Finding.AMBIGUOUS, Finding.AMBIGUOUS]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "names no column"),
        (b"model,size\na,1\n", "names no column"),
        (b"serial,serial\na,b\n", "names no column"),
        (b"serial,note\n,lost\n", "Line 2 of the list names no medium"),
        (b"serial\nSN-1\nsn-1\n", "Line 3 of the list has the serial of line 2 again"),
        (b"serial\nSN-1,what\n", "more cells"),
        (b'serial\n"SN-1\n', "not readable as CSV"),
        ("serial\n介质\n".encode("gbk"), "not in UTF-8"),
        (b"serial\n" + b"x" * (MAX_LIST + 1), "larger than"),
    ],
)
def test_a_bad_list_is_told_with_its_line(data: bytes, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        parse_list(data)


def test_a_list_from_a_spreadsheet() -> None:
    (line,) = parse_list("\ufeffSerial,Note\r\nSN-1,盘位 1\r\n\r\n".encode())
    assert (line.line, line.words, line.others) == (2, "serial SN-1", {"note": "盘位 1"})


def test_the_destruction_register_says_destroyed_of_what_was() -> None:
    details = parse_list("serial,title,years\nSN-1,=2010 年凭证,2010–2011\n".encode())
    items = items_of(SEEN, details)
    assert [bool(item.destroyed_at) for item in items] == [True, False, False, True, True]
    rows = list(csv.DictReader(io.StringIO(destruction_csv(items).removeprefix(BOM))))
    assert (rows[0]["title"], rows[0]["years"], rows[1]["title"]) == ("'=2010 年凭证", "2010–2011", "")
    assert rows[1]["destroyed_at"] == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"serial,title\nSN-7,x\n", "means none of the media"), (b"serial,owner\nSN-1,x\n", "a column 'owner'")],
)
def test_details_of_nothing_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        items_of(SEEN, parse_list(data))


def test_a_line_follows_the_receipt() -> None:
    world = World()
    parts = world.parts()
    line = with_receipt(medium_line(DISK, path="/dev/sdz"), "ab" * 32, parts.receipt.body)
    assert (line.outcome, line.level_achieved, line.not_covered) == (Outcome.SANITIZED, "clear", 1)
    assert is_sanitized(line)
    refused = world.signed_receipt(world.receipt(world.order(), outcome=Outcome.REFUSED, targets=[]))
    line = with_receipt(medium_line(DISK, path=""), "ab" * 32, refused.body)
    assert (line.outcome, line.level_achieved, is_sanitized(line)) == ("refused", "none", False)
