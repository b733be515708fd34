"""Writes docs/drive-faults.md from a run of every row: `make faults`, or `python -m lab.table` in tests/.

With ``--check`` it writes nothing and ends with 1 when the file says otherwise.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from lab import rows
from lab.bench import CANARIES, MARK, MIB, SIZE, TIMEOUT, records
from lab.drives import nvme_erase
from lab.rows import Case, Row

PAGE = Path(__file__).parents[2] / "docs" / "drive-faults.md"
WORDS = 150
"""Characters of what the receipt says."""
FAULTS = {
    rows.HONEST: "the drive does what its specification says",
    rows.POWER: "the drive loses power once, 20 seconds into the erase; the agent does not",
    rows.HIDDEN: "half of the sectors lie in a host protected area, or beyond the accessible max address",
    rows.WRONG_PSID: "the order gives the PSID of another drive",
    **nvme_erase.FAULTS,
    "stale-status": "an erase is accepted, and the status is that of an old one that ended well",
    "forgets-after-power-loss": "as a power cut in the middle, and the drive knows nothing of the erase afterwards",
    "loses-cache": "as a power cut in the middle; what was written and not flushed is lost",
    "changes-serial": "the serial number is another one after an erase",
    "refuses-while-busy": "during an erase the drive refuses to tell its state",
    "garbled-serial": "the serial number is not text",
    "leaves-tail": "the end of the medium is not erased",
    "wraps-capacity": "more capacity is claimed than there is; addresses wrap",
    "frozen": "ATA security is frozen by the machine's firmware",
    "sanitize-frozen": "ATA sanitize is frozen by the machine's firmware",
    "locked": "a password nobody knows is set (ATA), or there are no access rights (SCSI, Opal)",
    "exit-0-does-nothing": "an erase ends with good status, and nothing happens",
    "wrong-capabilities": "crypto erase is claimed, and refused",
    "garbled-identify": "a bridge damages IDENTIFY DEVICE",
    "hpa-lies": "hidden sectors are given back with good status, and stay hidden",
    "hpa-lies-deep": "the same, and the full capacity is claimed; the sectors cannot be read",
    "capacity-zero-while-sanitizing": "during an erase the capacity is 0, and reads end well without data",
}
HEAD = f"""# Drive faults

What a receipt says when a drive lies. Every row is one order carried out on a simulated drive
(`tests/lab/drives`, written from the specifications): the agent's own steps, commands and judgement, on a drive
of {SIZE // MIB} MiB full of records, with {CANARIES} canary sections instead of up to 1000, a full read-back, and
{TIMEOUT:.0f} seconds of patience. *Left* is what only the laboratory sees: the share of the old records that is
still on the medium itself, mapped or not. Canaries overwrite some of them before, so an order that did nothing
leaves less than all.

The page is written by `make faults`; a test compares it with a run, row by row. No row with something left is
`sanitized`, and none where the drive lied. Faults that only make the work harder (a garbled name, a drive that
does not say how far it is) may end well.

What no host can see is not in the table: a drive that only forgets its map and reads as zeros, while the cells
keep their charge. A receipt of a drive command therefore rests on the drive's word, on canaries and samples that
are gone, and on the read-back; `docs/threat-model.md` says what that is worth.

## The faults

| Fault | What the drive does |
| --- | --- |
"""
TABLE = """
## The table

| Command | Drive | Fault | Outcome | Level | Left | The receipt says |
| --- | --- | --- | --- | --- | --- | --- |
"""


def start(case: Case) -> str:
    """The columns of a row that are known before it is run."""
    return f"| `{case.command}` | {case.device.name} | {case.fault} |"


def line(row: Row) -> str:
    """A row of the page."""
    extent = SIZE // row.case.device.options.get("namespaces", 1)
    all_of_it = records(extent).count(MARK)
    share = -(-row.left * 100 // all_of_it)
    said = row.said if len(row.said) <= WORDS else row.said[:WORDS].rsplit(" ", 1)[0] + " …"
    said = said.replace("|", "\\|").replace("*", "\\*")
    left = f"{share} %" if row.left else "nothing"
    return f"{start(row.case)} {row.outcome} | {row.level} | {left} | {said} |"


def before() -> str:
    """The page down to the first row."""
    used = dict.fromkeys(case.fault for case in rows.cases())
    return HEAD + "".join(f"| {name} | {FAULTS[name]} |\n" for name in used) + TABLE


def page() -> str:
    """The whole page, from a run of every row."""
    with ProcessPoolExecutor() as pool:
        return before() + "".join(f"{one}\n" for one in pool.map(_line, list(rows.cases())))


def _line(case: Case) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return line(rows.run(case, Path(folder)))


def main() -> int:
    """0, or 1 when the page was only to be checked and is another."""
    now = page()
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.read_text() == now else 1
    PAGE.write_text(now)
    print(f"{PAGE}: {sum(1 for _ in rows.cases())} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
