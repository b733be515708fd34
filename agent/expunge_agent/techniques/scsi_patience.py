"""How long a SCSI drive may take for an erase before it has failed, by what it declares of its command.

REPORT SUPPORTED OPERATION CODES gives two times (SPC-5 §6.35.4): a nominal one, after which it is worth asking how
far the drive is, and a recommended timeout. Drives tell them of the command as it is sent, and some mean just its
acceptance; so what goes by capacity is never given less than a slow drive needs for its size.
"""

from __future__ import annotations

from expunge_agent.commands.scsi_pages import Support

HOUR = 3600.0
DAY = 24 * HOUR
_ALLOWANCE = 3
"""Times the nominal time, which is an idle drive's."""
_SLOWEST = 20_000_000
"""Bytes a second that any drive overwrites."""


def patience(declared: Support, written: int) -> float:
    """Seconds: what is declared, an hour at least; a day where nothing is. `written`: bytes that the drive has to
    write for it, all passes together; 0 where it does not go by capacity."""
    told = max(_ALLOWANCE * declared.seconds, declared.limit)
    return max(float(told), HOUR if told > 0 else DAY, written / _SLOWEST)
