"""Writing a bundle: the same evidence gives the same bytes, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from expunge_agent.errors import ExpungeError, NoSpaceError, NotFoundError, PermissionProblemError
from expunge_agent.protocol import trust
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.files import sync_folder
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.certificate import parse_certificate
from expunge_controller.records.log_policy import LogPolicy, format_policy
from expunge_controller.records.sums import format_sums
from expunge_controller.records.verify_script import script
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.second_files import second_files

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold; a bundle says nothing of when it was packed."""
_FILE_MODE = 0o100644 << 16
_UNIX = 3


class SignedBytes(NamedTuple):
    """A document's frozen bytes and its armored detached signature."""

    body: bytes
    signature: bytes


class StampParts(NamedTuple):
    """A time stamp (RFC 3161 response) and the ``.tlog-proof`` under the checkpoint that it is on."""

    proof: bytes
    stamp: bytes


class LogParts(NamedTuple):
    """The receipt's entry in the log, its ``.tlog-proof`` and the checkpoint in that.

    ``policy`` names the log and the witnesses that signed this checkpoint, all of them; ``stamps`` are
    time stamps and the proofs of what they are on, see `stamping.stamps_of`.
    """

    entry: bytes
    proof: bytes
    checkpoint: bytes
    policy: LogPolicy
    stamps: Sequence[StampParts] = ()


class KeyEventParts(NamedTuple):
    """A key event, its signature, and its ``.tlog-proof``."""

    body: bytes
    signature: bytes
    proof: bytes


class BundleParts(NamedTuple):
    """What goes into a bundle about one medium; ``signers`` become ``trust/allowed_signers``.

    ``order`` is None for a wipe that no controller ordered, ``certificate`` where none was issued,
    ``log`` where there was none, ``second`` where the agent had no key for it. ``key_events``: those of the
    controller, then those of the agent.
    ``pdf``, where it is wished for, makes ``certificate.pdf`` from the files about it.
    """

    receipt: SignedBytes
    custody: Sequence[SignedBytes]
    signers: Sequence[TrustedSigner]
    order: SignedBytes | None = None
    certificate: SignedBytes | None = None
    log: LogParts | None = None
    second: SecondSignatures | None = None
    key_events: Sequence[KeyEventParts] = ()
    people: Sequence[SignedBytes] = ()
    """The records of the people whom custody names."""
    signatures: Mapping[int, Mapping[str, bytes]] = MappingProxyType({})
    """People's signatures over custody events: event number → person → signature."""
    pdf: Callable[[Mapping[str, bytes]], SignedBytes] | None = None


def bundle_files(parts: BundleParts) -> dict[str, bytes]:
    """The bundle's files by name.

    Raises VerificationError where a signature is not by one of the signers: no bundle is written
    that would not check out.
    """
    documents = {
        layout.RECEIPT: parts.receipt,
        layout.ORDER: parts.order,
        layout.CERTIFICATE: parts.certificate,
    }
    documents |= {layout.custody_name(number): event for number, event in enumerate(parts.custody, start=1)}
    documents |= {layout.person_name(number): one for number, one in enumerate(parts.people, start=1)}
    files: dict[str, bytes] = {
        layout.custody_signature_name(number, person): signature
        for number, signed in parts.signatures.items()
        for person, signature in signed.items()
    }
    for name, document in documents.items():
        if document is not None:
            files[name] = document.body
            files[name + layout.SIGNATURE] = document.signature
    for number, event in enumerate(parts.key_events, start=1):
        name = layout.key_event_name(number)
        files[name], files[name + layout.SIGNATURE] = event.body, event.signature
        files[layout.key_proof_name(name)] = event.proof
    if parts.certificate is not None:
        page = certificate_html(parse_certificate(parts.certificate.body))
        files[layout.CERTIFICATE_HTML] = page.encode()
    if parts.second is not None:
        files |= second_files(*parts.receipt, parts.second)
    if parts.log is not None:
        files[layout.ENTRY] = parts.log.entry
        files[layout.PROOF] = parts.log.proof
        files[layout.CHECKPOINT] = parts.log.checkpoint
        files[layout.LOG_POLICY] = format_policy(parts.log.policy).encode()
        for number, one in enumerate(parts.log.stamps, start=1):
            files[layout.stamp_name(number)] = one.stamp
            files[layout.stamp_proof_name(number)] = one.proof
    if parts.pdf is not None and parts.certificate is not None:
        made = parts.pdf(files)
        files[layout.CERTIFICATE_PDF] = made.body
        files[layout.CERTIFICATE_PDF + layout.SIGNATURE] = made.signature
    files[layout.TRUST] = trust.format_allowed_signers(list(parts.signers)).encode()
    files[layout.SCRIPT] = script()
    files[layout.README] = readme(files, list(parts.signers)).encode()
    files[layout.SUMS] = format_sums(files)
    return files


def custody_files(
    events: Sequence[SignedBytes],
    people: Sequence[SignedBytes],
    signatures: Mapping[int, Mapping[str, bytes]],
    signers: Sequence[TrustedSigner],
) -> dict[str, bytes]:
    """The files of a custody record: what a bundle holds of custody, for media that no receipt tells of."""
    documents = {layout.custody_name(number): one for number, one in enumerate(events, start=1)}
    documents |= {layout.person_name(number): one for number, one in enumerate(people, start=1)}
    files = {
        layout.custody_signature_name(number, person): signature
        for number, signed in signatures.items()
        for person, signature in signed.items()
    }
    for name, document in documents.items():
        files[name] = document.body
        files[name + layout.SIGNATURE] = document.signature
    files[layout.TRUST] = trust.format_allowed_signers(list(signers)).encode()
    return files


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip of `files`: sorted, stored, without times, so that equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _FILE_MODE
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def write_bundle(path: Path, parts: BundleParts) -> dict[str, bytes]:
    """Write the bundle at `path`, replacing what was there only when all of it is on the disk.

    Returns its files. Raises VerificationError (see `bundle_files`), NotFoundError for a missing
    folder, NoSpaceError, PermissionProblemError.
    """
    files = bundle_files(parts)
    write_output(path, zip_bytes(files))
    return files


def write_output(path: Path, data: bytes) -> None:
    """Write `data` at `path` for others to read, replacing what was there only when all of it is on the disk.

    Raises NotFoundError for a missing folder, NoSpaceError, PermissionProblemError.
    """
    try:
        _write_whole(path, data)
    except OSError as error:
        raise _explained(path, error) from error


def _write_whole(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)  # noqa: PTH108
        raise
    sync_folder(path.parent)


def _explained(path: Path, error: OSError) -> ExpungeError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceError(f"There is no room to write {path}.", "Free some space, or name another place.")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFoundError(f"The folder of {path} does not exist.", "Create it, or name another place.")
    return PermissionProblemError(
        f"{path} cannot be written: {error.strerror}.", "Name a place where you may write files."
    )
