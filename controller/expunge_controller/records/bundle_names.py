"""Which files belong to a bundle, and which to custody that travels alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.findings import Checklist

_NUMBERED = re.compile(
    r"custody/[0-9]{3}\.json((\.(?!sig\.)[a-z0-9][a-z0-9_-]{0,63})?\.sig)?|people/[0-9]{3}\.json(\.sig)?"
    r"|key-events/[0-9]{3}(\.json(\.sig)?|\.tlog-proof)|stamps/[0-9]{3}\.(tsr|tlog-proof)"
)
_ALONE = (
    layout.RECEIPT,
    layout.ORDER,
    layout.CERTIFICATE,
    layout.CERTIFICATE_HTML,
    layout.CERTIFICATE_PDF,
    layout.TRUST,
    layout.README,
    layout.SCRIPT,
    layout.SUMS,
    *layout.LOG_FILES,
)


def check_names(checks: Checklist, files: Collection[str]) -> None:
    """Record whether `files` (names) are those of a bundle: all that is due is there, and nothing else."""
    names = set(files)
    due = _due(names)
    problems = [f"{name} is missing" for name in sorted(due - names)]
    problems += [
        _stranger(name)
        for name in sorted(names)
        if name not in due and name not in _ALONE and not _NUMBERED.fullmatch(name)
    ]
    problems += [
        f"{name} signs nothing"
        for name in sorted(names)
        if name.endswith(layout.SIGNATURE) and layout.signed_document(name) not in names
        if name not in layout.second_names(names)
    ]
    checks.check("the files are those of a bundle", problems, f"{len(names)} files")


def check_custody_names(checks: Checklist, files: Collection[str]) -> None:
    """The same of custody that travels alone: only numbered documents, their signatures, and the keys."""
    names = set(files)
    due = set(layout.signed_names(names)) | {layout.custody_name(1)}
    due |= {name + layout.SIGNATURE for name in due} | {layout.TRUST}
    problems = [f"{name} is missing" for name in sorted(due - names)]
    problems += [
        _stranger(name)
        for name in sorted(names)
        if name != layout.TRUST and not (_NUMBERED.fullmatch(name) and layout.signed_document(name) in names)
    ]
    checks.check("the files are those of a custody record", problems, f"{len(names)} files")


def _due(names: set[str]) -> set[str]:
    """What a bundle needs that holds `names`."""
    due = {layout.RECEIPT, layout.TRUST, layout.README, layout.custody_name(1)}
    signed = set(layout.signed_names(names)) | {layout.RECEIPT, layout.custody_name(1)}
    due |= {name + layout.SIGNATURE for name in signed}
    if layout.CERTIFICATE in names:
        due.add(layout.CERTIFICATE_HTML)
    if layout.CERTIFICATE_PDF in names:
        due.add(layout.CERTIFICATE)
    for together in (layout.second_names(names), {layout.SCRIPT, layout.SUMS}, set(layout.LOG_FILES)):
        if names & together:
            due |= together
    return due


def _stranger(name: str) -> str:
    return f"{name[:80]!r} does not belong here"
