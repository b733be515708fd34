"""How to check a bundle's time stamps with stock tools, for README.txt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from expunge_controller.records import bundle_layout as layout

_TEXT = """
{number}. THE TIME

A time stamp (RFC 3161) says that a checkpoint of the log existed at a time; the proof beside it says
that the receipt's entry, or the stamp before, was in it ({how}). roots.pem
are the certificates that the authority itself publishes; the copy in trust/log-policy.toml came with
the bundle. Add -attime SECONDS where its certificate has expired since.

{commands}

"""
_DIGESTS = """\
The stamps' SHA-256, for openssl overlooks a few bytes that are not signed:

{digests}

"""
"""For bundles from before there was a SHA256SUMS."""
_COMMANDS = """\
    sed '1,/^$/d' {proof} | sed '/^$/,$d' > text
    openssl ts -verify -in {stamp} -data text -CAfile roots.pem
    openssl ts -reply -in {stamp} -text | grep 'Time stamp'"""


def stamp_section(files: Mapping[str, bytes], number: int) -> str:
    """The section with this `number`; empty where the bundle holds no stamp."""
    stamps = sorted(name for name in files if name.startswith(layout.STAMP_FOLDER) and name.endswith(".tsr"))
    if not stamps:
        return ""
    commands = [
        _COMMANDS.format(stamp=name, proof=name.removesuffix(".tsr") + ".tlog-proof") for name in stamps
    ]
    scripted = layout.SCRIPT in files
    how = "verify.sh checks that" if scripted else "checked as in the section before"
    text = _TEXT.format(number=number, how=how, commands="\n".join(commands))
    if scripted:
        return text
    digests = [f"    {hashlib.sha256(files[name]).hexdigest()}  {name}" for name in stamps]
    return text + _DIGESTS.format(digests="\n".join(digests))
