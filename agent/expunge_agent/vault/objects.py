"""Objects of a vault on disk: sealed in, opened out, whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from expunge_agent.errors import DocumentError, NotFoundError, UsageError, VerificationError
from expunge_agent.files import explained, sync_folder
from expunge_agent.protocol.base import Timestamp
from expunge_agent.vault import header as head
from expunge_agent.vault.header import Header
from expunge_agent.vault.keystore import Entry, Keystore
from expunge_agent.vault.stream import PREFIX, Progress, open_stream, seal_stream

_NAME = re.compile("[0-9a-f]{32}")


def object_path(folder: Path, object_id: str) -> Path:
    """Where an object lies. Raises NotFoundError for what is no id."""
    if not _NAME.fullmatch(object_id):
        raise NotFoundError(f"{object_id[:80]!r} is not an object's id.", "See: expunge-agent vault list")
    return folder / "objects" / object_id


def put_object(
    folder: Path,
    entry: Entry,
    data_key: bytes,
    source: io.RawIOBase,
    *,
    vault: str,
    object_id: str,
    label: str,
    chunk: int,
    now: Timestamp,
    progress: Progress,
) -> int:
    """Seal all of `source` as a new object; durable, and there under its name, on return. Bytes of plaintext."""
    top = Header(
        format="expunge/vault-object/v1",
        vault=vault,
        object=object_id,
        subject=entry.subject,
        key=entry.key,
        made_at=now,
        chunk=chunk,
        prefix=secrets.token_hex(PREFIX),
        label=head.seal_label(data_key, object_id, label),
    )
    raw = head.encode(top)
    with appearing(object_path(folder, object_id)) as sink:
        sink.write(raw)
        key = head.object_key(data_key, raw)
        return seal_stream(source, sink, key, bytes.fromhex(top.prefix), chunk, progress)


def get_object(
    source: io.RawIOBase, top: Header, raw: bytes, data_key: bytes, sink: io.RawIOBase, progress: Progress
) -> int:
    """Open the chunks that follow `raw` in `source` into `sink`; bytes of plaintext. Raises VerificationError."""
    key = head.object_key(data_key, raw)
    return open_stream(source, sink, key, bytes.fromhex(top.prefix), top.chunk, progress)


@contextmanager
def opened(folder: Path, object_id: str) -> Iterator[tuple[io.FileIO, Header, bytes]]:
    """An object's file behind its header, the header, and its bytes. Raises NotFoundError, DocumentError,
    VerificationError where it lies under another object's name."""
    path = object_path(folder, object_id)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"The vault has no object {object_id}.", "See: expunge-agent vault list"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise
        raise _no_file(object_id) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _no_file(object_id)
    with io.FileIO(fd, "rb") as source:
        top, raw = head.decode(source.read(12 + head.MOST) or b"", f"object {object_id}")
        if top.object != object_id:
            raise VerificationError(
                f"What lies under the name of object {object_id} is object {top.object}.",
                "Somebody exchanged them: put both back.",
            )
        source.seek(len(raw))
        yield source, top, raw


def _no_file(object_id: str) -> DocumentError:
    return DocumentError(
        f"What lies under the name of object {object_id} is no regular file.",
        "Remove it, and put the object back from a backup.",
    )


def headers(folder: Path) -> Iterator[Header | DocumentError | VerificationError]:
    """The header of each object, or what is wrong with it, in the order of their ids."""
    with explained(folder):
        names = sorted(one.name for one in (folder / "objects").iterdir() if _NAME.fullmatch(one.name))
    for name in names:
        try:
            with opened(folder, name) as (_, top, _):
                yield top
        except (DocumentError, VerificationError) as error:
            yield error


def owner(store: Keystore, top: Header) -> Entry:
    """The entry whose key opens the object. Raises VerificationError."""
    entry = store.by_key(top.key)
    if top.vault != store.vault or entry is None or entry.subject != top.subject:
        raise VerificationError(
            f"Object {top.object} does not belong to a subject of this vault.",
            "It is of another vault, or its header was altered: put it back from a backup.",
        )
    return entry


@contextmanager
def appearing(path: Path, *, replace: bool = False) -> Iterator[io.FileIO]:
    """A file that is at `path` when this ends well, durable, and nowhere before: a kill leaves nothing.

    Raises UsageError where `path` is taken (unless `replace`).
    """
    with explained(path):
        if not replace and os.path.lexists(path):
            raise _taken(path)
        fd, beside = _nameless(path)
        with io.FileIO(fd, "wb") as sink:
            try:
                yield sink
                os.fsync(fd)
                _named(fd, beside, path, replace=replace)
                sync_folder(path.parent)
            finally:
                if beside is not None:
                    with suppress(FileNotFoundError):
                        beside.unlink()


def _taken(path: Path) -> UsageError:
    return UsageError(f"{path} exists already.", "Name another file, or add --force.")


def _nameless(path: Path) -> tuple[int, Path | None]:
    """A file without a name in the folder of `path`; where the file system knows none, with a hidden one."""
    try:
        return os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600), None
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
    beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(beside, flags, 0o600), beside


def _named(fd: int, beside: Path | None, path: Path, *, replace: bool) -> None:
    source = f"/proc/self/fd/{fd}" if beside is None else str(beside)
    at = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.new") if replace else path
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a folder given, Python calls linkat(2) with AT_SYMLINK_FOLLOW: open(2), O_TMPFILE.
        os.link(source, at, src_dir_fd=folder)
    except FileExistsError as error:
        raise _taken(path) from error
    finally:
        os.close(folder)
    if replace:
        at.replace(path)
