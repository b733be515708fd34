"""PSIDs as people hand them in: a file with the one on the label, or a line for each target."""

from __future__ import annotations

import re
from collections.abc import Sequence

from expunge_agent.errors import UsageError
from expunge_agent.protocol.identity import Psid

MOST = 64 * 1024
"""Bytes of such a file."""
_SHAPE = re.compile(r"[0-9A-Za-z]{32}\Z")
_FORM = "Give the 32 letters and digits alone for one target, or a line `TARGET PSID` for each."


def read(data: bytes, names: Sequence[str]) -> dict[str, Psid]:
    """The PSIDs in `data` by target; `names` are the targets as they were named on the command line.

    Blanks and hyphens within a PSID that stands alone are taken for the label's grouping, and small letters for the
    capitals that labels are printed in: a wrong one costs one of the few tries a drive allows. Raises
    UsageError, which never repeats what might be a PSID.
    """
    if len(data) > MOST:
        raise UsageError("The file of PSIDs is too large.", _FORM)
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise UsageError("The file of PSIDs holds something else than letters and digits.", _FORM) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and len(set(names)) == 1 and not _named(lines[0], names[0]):
        return {names[0]: _psid("".join(lines[0].split()), names[0])}
    found: dict[str, Psid] = {}
    for number, line in enumerate(lines, 1):
        name = next((one for one in names if _named(line, one)), None)
        if name is None:
            raise UsageError(f"Line {number} of the PSIDs begins with none of the targets.", _FORM)
        if name in found:
            raise UsageError(f"Two PSIDs are given for {name}.", "Give one for each target.")
        found[name] = _psid("".join(line[len(name) :].split()), name)
    if not found:
        raise UsageError("The file of PSIDs is empty.", _FORM)
    return found


def _named(line: str, name: str) -> bool:
    return line.startswith(name) and line[len(name) : len(name) + 1].isspace()


def _psid(text: str, name: str) -> Psid:
    plain = text.replace("-", "")
    if not _SHAPE.match(plain):
        raise UsageError(
            f"What is given as the PSID of {name} is none: a PSID has 32 letters and digits, this has "
            f"{len(plain)} characters.",
            "Copy it from the drive's label; it is not the serial number, the WWN or the MSID.",
        )
    return plain.upper()
