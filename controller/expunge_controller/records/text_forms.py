"""In which form of ours a bundle's readable texts are written. Other releases may word them otherwise. Pure."""

from __future__ import annotations

import re

FORM = 1
"""Raise it whenever the words of ``README.txt`` or ``certificate.html`` change after a release."""
LINE = f"expunge form {FORM}"
_FORM = re.compile(rb'(?:\n|<meta name="generator" content=")expunge form ([1-9][0-9]{0,3})(?:\n\Z|">\n)')


def other_form(data: bytes) -> str:
    """Why a text cannot be made again here: it names another form than this release writes. Empty where it names this
    one, or none."""
    found = _FORM.search(data)
    if found is None or int(found[1]) == FORM:
        return ""
    return (
        f"it is written in form {int(found[1])}, this release writes form {FORM}: take the release that made it to compare, "
        "and believe the signed documents"
    )
