"""Every drive command on every simulated drive with every fault: no lie ends as sanitized, and the page says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_agent.core.technique import earns
from expunge_agent.protocol.base import Level, Outcome
from lab import rows, table
from lab.bench import USB_FIXED, USB_MUTE, Book, Order, planned
from lab.drives import faults as fault
from lab.rows import HONEST, Case

CASES = list(rows.cases())
SEEN_BEFORE = {fault.GARBLED_SERIAL, fault.GARBLED_IDENTIFY, fault.FROZEN, fault.SANITIZE_FROZEN}
"""What the drive shows before anything is begun, whatever the command."""
FORCED = [case for case in CASES if case.fault in {*SEEN_BEFORE, fault.LOCKED} or case.device is USB_MUTE]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_row_is_true_and_stands_in_the_page(case: Case, tmp_path: Path) -> None:
    row = rows.run(case, tmp_path)
    if row.outcome is Outcome.SANITIZED:
        assert not row.left, "records are left on the medium"
        assert not case.lies, "a drive that lies was believed"
        assert row.level is earns(case.command, case.device.medium)
    else:
        assert row.level is Level.NONE
        assert row.said, "nothing tells why"
    if row.outcome is Outcome.REFUSED:
        assert not row.touched, "it was refused after it was begun"
        assert not row.kinds
    if case.fault == HONEST and case.device not in (USB_MUTE, USB_FIXED):
        assert row.outcome is Outcome.SANITIZED, row.said
    if row.beside:
        assert row.outcome is Outcome.EXCEPTIONS
        assert "Another namespace of the drive, n2" in row.said
    if case.fault in SEEN_BEFORE or case.device is USB_MUTE:
        assert row.outcome is Outcome.REFUSED, "what the drive shows of itself was not heeded"
    assert table.line(row) in _table(case.lies), "run: make faults"


@pytest.mark.parametrize("case", FORCED, ids=lambda case: case.name)
def test_a_drive_that_planning_refuses_is_judged_truly_if_it_came_that_far(
    case: Case, tmp_path: Path
) -> None:
    """A fault may come between planning and the command; nobody asks for the plan then."""
    bench, book = rows.bench_of(case, tmp_path), Book()
    verdict = Order(bench).carry_out(book)
    if verdict.outcome is Outcome.SANITIZED:
        assert case.fault in (fault.GARBLED_SERIAL, fault.GARBLED_IDENTIFY)
        assert not bench.left(), "records are left on the medium"
    elif case.device.family == "nvme":  # a locked range takes no canaries, and a revert frees it
        assert (verdict.outcome, verdict.level) == (Outcome.EXCEPTIONS, Level.NONE)
    else:
        assert (verdict.outcome, verdict.level) == (Outcome.FAILED, Level.NONE)
        assert "did not take the command" in verdict.failure
        assert bench.left()
    bench.close()


def test_planning_has_no_objection_to_a_drive_that_shows_nothing(tmp_path: Path) -> None:
    """Else a table of refusals would be no evidence of what is caught while it runs."""
    refused = []
    for number, case in enumerate(one for one in CASES if one not in FORCED):
        folder = tmp_path / str(number)
        folder.mkdir()
        bench = rows.bench_of(case, folder)
        if isinstance(planned(bench), str):
            refused.append(case.name)
        bench.close()
        bench.image.unlink()
    assert not refused


def test_the_page_has_these_rows_and_no_others() -> None:
    page = table.PAGE.read_text()
    for lies in table.TITLES:
        cases, found = table.cases(lies), _table(lies)
        assert table.before(lies) in page, "run: make faults"
        assert len(found) == len(cases), "run: make faults"
        wrong = [
            case.name for case, one in zip(cases, found, strict=True) if not one.startswith(table.start(case))
        ]
        assert not wrong, "run: make faults"
    assert page == "".join(
        table.before(lies) + "".join(f"{one}\n" for one in _table(lies)) for lies in table.TITLES
    ), "there is more on the page than its tables"


def test_no_row_of_a_fault_ends_as_sanitized() -> None:
    outcomes = {one.split(" | ")[3] for one in _table(True)}
    assert outcomes == {"refused", "failed", "unknown", "sanitized-with-exceptions"}
    assert any(one.split(" | ")[3] == "sanitized" for one in _table(False))


def _table(lies: bool) -> list[str]:
    """The rows of one of the tables of the page."""
    page = table.PAGE.read_text()
    _, _, after = page.partition(f"\n## {table.TITLES[lies]}\n")
    mine, _, _ = after.partition("\n## ")
    return [one for one in mine.splitlines() if one.startswith("| `")]


def test_every_command_of_the_table_is_tried() -> None:
    """All that a drive carries out but what eMMC does, which has tests of its own."""
    told = {str(case.command) for case in CASES}
    wanted = {str(one) for one in rows.T if str(one).startswith(("nvme-", "ata-", "scsi-", "opal-"))}
    assert told == wanted
