"""Reading a bundle that may be hostile, and checking it without database, network or keys of ours."""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from expunge_agent.errors import NotFoundError, PermissionProblemError, VerificationError
from expunge_agent.protocol.trust import TrustedSigner, parse_allowed_signers
from expunge_controller.pdf_check import check_pdf
from expunge_controller.records.bundle_check import NOTHING_BROUGHT, verify_bundle, verify_custody
from expunge_controller.records.findings import Step
from expunge_controller.records.log_check import LogOutside
from expunge_controller.records.log_policy import LogPolicy, parse_policy
from expunge_controller.records.note import MAX_NOTE
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html

if TYPE_CHECKING:
    from expunge_profiles.schema import Profile

MAX_ENTRIES = 5100
"""The custody events that can be numbered, the signatures of controller and people on each, three times the key events, and the rest."""
MAX_FILE = 16 * 1024 * 1024
MAX_TOTAL = 64 * 1024 * 1024
MAX_RATIO = 200
RATIO_FROM = 1024 * 1024
"""Bytes from which on the ratio of unpacked to packed counts."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_ENCRYPTED = 0x1


def check_bundle(
    path: Path,
    trusted: list[TrustedSigner] | None = None,
    profiles: Mapping[str, Profile] | None = None,
    log: LogOutside = NOTHING_BROUGHT,
    mldsa_keys: Collection[str] | None = None,
) -> list[Step]:
    """Every step of the check of the bundle at `path`; see `verify_bundle`.

    Raises NotFoundError, PermissionProblemError, and VerificationError where it is no readable zip.
    """
    log = log._replace(now=log.now or datetime.now(UTC))
    return verify_bundle(
        read_bundle(path),
        trusted,
        page=certificate_html,
        readme=readme,
        profiles=profiles or {},
        log=log,
        mldsa_keys=mldsa_keys,
        pdf=check_pdf,
    )


def check_custody(path: Path, trusted: list[TrustedSigner] | None = None) -> list[Step]:
    """Every step of the check of the custody record at `path`; raises as `check_bundle`."""
    return verify_custody(read_bundle(path), trusted)


def read_trusted(path: Path) -> list[TrustedSigner]:
    """The auditor's own ``allowed_signers``. Raises NotFoundError, PermissionProblemError, DocumentError."""
    return parse_allowed_signers(_bytes_of(path, MAX_FILE).decode("utf-8", "replace"))


def read_log_policy(path: Path) -> LogPolicy:
    """A log policy of the auditor's. Raises NotFoundError, PermissionProblemError, DocumentError."""
    return parse_policy(_bytes_of(path, MAX_FILE).decode("utf-8", "replace"))


def read_note(path: Path) -> bytes:
    """A signed note, unchecked. Raises NotFoundError, PermissionProblemError, VerificationError."""
    return _bytes_of(path, MAX_NOTE)


def read_bundle(path: Path) -> dict[str, bytes]:
    """The files of the bundle at `path` by name. Nothing is unpacked to the disk.

    Raises VerificationError for what is not a plain zip of plain files within the limits:
    `MAX_ENTRIES`, `MAX_FILE` and `MAX_TOTAL` unpacked bytes, `MAX_RATIO`; no absolute, upward or
    double names, links, folders, encryption or damage.
    """
    data = _bytes_of(path, MAX_TOTAL)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _files(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        what = "it is empty" if not data else str(error) or "it is damaged"
        raise _bad(f"it is not a readable zip ({what})") from error


def _files(archive: zipfile.ZipFile) -> dict[str, bytes]:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise _bad(f"it has {len(entries)} entries, {MAX_ENTRIES} are the most")
    files: dict[str, bytes] = {}
    seen: set[str] = set()
    left = MAX_TOTAL
    for entry in entries:
        _check_entry(entry)
        if entry.filename.lower() in seen:
            raise _bad(f"{entry.filename!r} stands in it twice")
        seen.add(entry.filename.lower())
        limit = min(MAX_FILE, left)
        if entry.file_size > limit:
            raise _bad(f"{entry.filename!r} is too large")
        with archive.open(entry) as stream:
            body = stream.read(limit + 1)  # what the header says is not believed
        if len(body) > limit:
            raise _bad(f"{entry.filename!r} is too large")
        if len(body) > RATIO_FROM and len(body) > MAX_RATIO * max(entry.compress_size, 1):
            raise _bad(f"{entry.filename!r} unpacks to more than {MAX_RATIO} times its size")
        files[entry.filename] = body
        left -= len(body)
    return files


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    if name != entry.filename or not _NAME.fullmatch(name) or len(name) > 200:
        raise _bad(f"the name {name[:60]!r} may not stand in it")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise _bad(f"{name!r} is not a plain file")
    if entry.flag_bits & _ENCRYPTED:
        raise _bad(f"{name!r} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _bad(f"{name!r} is packed in a way that is not used here")


def _bytes_of(path: Path, limit: int) -> bytes:
    """The whole file, at most `limit` bytes."""
    try:
        if not path.exists():
            raise NotFoundError(f"There is no file {path}.", "Check the path.")
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise PermissionProblemError(
            f"{path} cannot be read: {error.strerror}.", "Check who may read it."
        ) from error
    if len(data) > limit:
        raise _bad(f"it is larger than {limit} bytes")
    return data


def _bad(why: str) -> VerificationError:
    return VerificationError(
        f"The bundle cannot be read: {why}.", "Get it again from its source; do not rely on this copy."
    )
