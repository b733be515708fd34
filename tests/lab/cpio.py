"""Write "newc" cpio archives, which the kernel unpacks one after another into its first root.

The format is the one of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a header
of 110 ASCII bytes (magic 070701, thirteen fields of eight hex digits), the name with its NUL, the data, each
padded to four bytes; the entry TRAILER!!! ends an archive.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from pathlib import Path
from typing import BinaryIO

KINDS = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.AREGTYPE: stat.S_IFREG,
    tarfile.LNKTYPE: stat.S_IFREG,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


class Cpio:
    """One archive being written to `out`; `close` ends it (the file stays open)."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._inode = 0
        self._made: set[str] = set()

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file of root's; folders on the way to it are made."""
        self.parents(name)
        self._header(name, stat.S_IFREG | mode, len(data))
        self._out.write(data)
        self._pad(len(data))

    def folder(self, name: str, mode: int = 0o755) -> None:
        """A folder of root's."""
        self.parents(name)
        if name not in self._made:
            self._made.add(name)
            self._header(name, stat.S_IFDIR | mode, 0)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self.parents(name)
        data = target.encode()
        self._header(name, stat.S_IFLNK | 0o777, len(data))
        self._out.write(data)
        self._pad(len(data))

    def parents(self, name: str) -> None:
        """The folders above `name` that this archive has not yet."""
        for above in reversed(Path(name).parents):
            if str(above) != "." and str(above) not in self._made:
                self._made.add(str(above))
                self._header(str(above), stat.S_IFDIR | 0o755, 0)

    def tree(self, source: Path, under: str, *, compiled: bool = False) -> None:
        """All regular files below the folder `source`, as `under`/…, without compiled Python or (`compiled`) only that."""
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                if name.endswith(".pyc") != compiled:
                    continue
                path = Path(folder, name)
                mode = 0o755 if os.access(path, os.X_OK) else 0o644
                self.file(f"{under}/{path.relative_to(source).as_posix()}", path.read_bytes(), mode)

    def tar(self, archive: tarfile.TarFile, without: tuple[str, ...]) -> None:
        """Every entry of `archive` but those whose path starts with one of `without`; hard links become copies."""
        for entry in archive:
            name = entry.name.removeprefix("./").strip("/")
            if not name or name == "." or name.startswith(without):
                continue
            self._made.add(name)
            mode = KINDS[entry.type] | entry.mode
            device = (entry.devmajor, entry.devminor) if entry.isdev() and not entry.isfifo() else (0, 0)
            if entry.issym():
                target = entry.linkname.encode()
                self._header(name, mode, len(target), entry, device)
                self._out.write(target)
                self._pad(len(target))
                continue
            data = archive.extractfile(entry) if entry.isreg() or entry.islnk() else None
            if data is None:
                self._header(name, mode, 0, entry, device)
                continue
            size = archive.getmember(entry.linkname).size if entry.islnk() else entry.size
            self._header(name, mode, size, entry, device)
            shutil.copyfileobj(data, self._out, 1 << 20)
            self._pad(size)

    def close(self) -> None:
        """The trailer, and zeros up to the next 512 bytes, so that another archive may follow."""
        self._header("TRAILER!!!", 0, 0)
        self._out.write(bytes(-self._out.tell() % 512))

    def _header(
        self,
        name: str,
        mode: int,
        size: int,
        entry: tarfile.TarInfo | None = None,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self._inode += 1
        raw = name.encode() + b"\0"
        uid, gid, when = (entry.uid, entry.gid, int(entry.mtime)) if entry else (0, 0, 0)
        fields = (self._inode, mode, uid, gid, 1, when, size, 0, 0, *device, len(raw), 0)
        self._out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + raw)
        self._pad(110 + len(raw))

    def _pad(self, length: int) -> None:
        self._out.write(bytes(-length % 4))
