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

What a receipt says when a drive lies. Every row is one order for a simulated drive (`tests/lab/drives`, written
from the specifications), planned and then carried out with the agent's own rules, steps, commands and judgement.
The profile allows only the command of the row, for the level that it earns. What planning refuses is not begun, and
the last column has the reason; no byte of such a drive is changed. Everything else is carried out on a drive of
{SIZE // MIB} MiB full of records, with {CANARIES} canary sections instead of up to 1000, a full read-back, and
{TIMEOUT:.0f} seconds of patience. *Left* is what only the laboratory sees: the share of the old records that is
still on the medium itself, mapped or not. Canaries overwrite some of them before, so an order that did nothing
leaves less than all.

The page is written by `make faults`; a test compares it with a run, row by row. No row with something left is
`sanitized`, and none of the first table is: there the drive lies about an erase or about itself, or does not do
what was asked. In the second it is only difficult, as when it loses power, does not say how far it is, or refuses
the look at its cells that it offers, and may be erased all the same.

What no host can see is not here: a drive that only forgets its map and reads as zeros, while the cells
keep their charge. A receipt of a drive command therefore rests on the drive's word, on canaries and samples that
are gone, and on the read-back; `docs/threat-model.md` says what that is worth.
"""
COLUMNS = """
| Command | Drive | Fault | Outcome | Level | Left | The receipt says |
| --- | --- | --- | --- | --- | --- | --- |
"""
TITLES = {True: "Drives that lie or refuse", False: "Drives that are only difficult"}
"""Of the two tables, by `Case.lies`."""


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


def before(lies: bool) -> str:
    """What stands on the page before the rows of one of its tables: its faults, and the heads of its columns."""
    used = dict.fromkeys(case.fault for case in cases(lies))
    told = "".join(f"| {name} | {FAULTS[name]} |\n" for name in used)
    head = f"\n## {TITLES[lies]}\n\n| Fault | What happens |\n| --- | --- |\n"
    return (HEAD if lies else "") + head + told + COLUMNS


def cases(lies: bool) -> list[Case]:
    """The rows of one of the tables."""
    return [case for case in rows.cases() if case.lies is lies]


def page() -> str:
    """The whole page, from a run of every row."""
    with ProcessPoolExecutor() as pool:
        return "".join(
            before(lies) + "".join(f"{one}\n" for one in pool.map(_line, cases(lies))) for lies in TITLES
        )


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
