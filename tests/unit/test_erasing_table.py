"""Every drive command on every simulated drive with every fault: no lie ends as sanitized, and the page says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_agent.core.technique import earns
from expunge_agent.protocol.base import Level, Outcome
from lab import rows, table
from lab.bench import USB_FIXED, USB_MUTE
from lab.rows import HONEST, POWER, Case

CASES = list(rows.cases())
HARMLESS = {
    HONEST,
    POWER,
    "garbled-serial",
    "garbled-identify",
    "refuses-while-busy",
    "capacity-zero-while-sanitizing",
    "loses-cache",
    "rejects-emvs",
    rows.HIDDEN,
}
"""With these the medium that was ordered can be erased all the same. Nothing else may end as sanitized."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_row_is_true_and_stands_in_the_page(case: Case, tmp_path: Path) -> None:
    row = rows.run(case, tmp_path)
    if row.outcome is Outcome.SANITIZED:
        assert not row.left, "records are left on the medium"
        assert case.fault in HARMLESS, "a drive that lies was believed"
        assert row.level is earns(case.command, case.device.medium)
    else:
        assert row.level is Level.NONE
        assert row.said, "nothing tells why"
    if case.fault == HONEST and case.device not in (USB_MUTE, USB_FIXED):
        assert row.outcome is Outcome.SANITIZED, row.said
    if row.beside:
        assert row.outcome is Outcome.EXCEPTIONS
        assert "Another namespace of the drive, n2" in row.said
    if case.device is USB_MUTE:
        assert row.outcome is Outcome.FAILED
    assert table.line(row) in table.PAGE.read_text().splitlines(), "run: make faults"


def test_the_page_has_these_rows_and_no_others() -> None:
    page = table.PAGE.read_text()
    head, found = page[: len(table.before())], page[len(table.before()) :].splitlines()
    assert head == table.before(), "run: make faults"
    assert len(found) == len(CASES), "run: make faults"
    wrong = [
        case.name for case, one in zip(CASES, found, strict=True) if not one.startswith(table.start(case))
    ]
    assert not wrong, "run: make faults"


def test_every_command_of_the_table_is_tried() -> None:
    """All that a drive carries out but what eMMC does, which has tests of its own."""
    told = {str(case.command) for case in CASES}
    wanted = {str(one) for one in rows.T if str(one).startswith(("nvme-", "ata-", "scsi-", "opal-"))}
    assert told == wanted
