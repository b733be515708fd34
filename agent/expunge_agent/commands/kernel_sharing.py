"""Asking btrfs and XFS who has a block (include/uapi/linux/btrfs.h, btrfs_tree.h, fsmap.h; ioctl_getfsmap(2)).

btrfs answers to root alone, XFS only where it was made with a reverse map (rmapbt).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

BTRFS_IOC_TREE_SEARCH, BTRFS_IOC_INO_LOOKUP, BTRFS_IOC_LOGICAL_INO = 0xD0009411, 0xD0009412, 0xC0389424
FS_IOC_GETFSMAP = 0xC0C0583B
FIRST_INODE = 256
"""Of the top folder of every subvolume (BTRFS_FIRST_FREE_OBJECTID)."""
_ROOT_TREE, _EXTENT_DATA, _ROOT_ITEM, _ROOT_BACKREF = 1, 108, 132, 144
_PAGE = 4096
_ANSWER = 65536
_CONTAINER = struct.Struct("=4I")
_REFERENCE = struct.Struct("=3Q")
_LOGICAL = struct.Struct("=QQ24xQQ")
_LOOKUP = struct.Struct("=QQ")
_SEARCH = struct.Struct("=7Q4I32x")
_FOUND = struct.Struct("=3Q2I")
_ROOT_REF = struct.Struct("<QQH")
_LAST_SNAPSHOT = struct.Struct("<200xQ")
"""Of a btrfs_root_item: the transaction of the last snapshot taken of it."""
_EXTENT = struct.Struct("<Q12xBQ")
"""Of a btrfs_file_extent_item: transaction, type, place."""
_INLINE = 0
_PARENT_UUID = slice(263, 279)
"""Of a btrfs_root_item: the subvolume that it is a snapshot of, or zeros."""
_MAP_HEAD = struct.Struct("=4I48x")
_MAP_RECORD = struct.Struct("=IIQQQQ24x")
_SPECIAL = 0x10
_MOST = 2**64 - 1


class Reference(NamedTuple):
    """A file of btrfs: inode number and the subvolume's root id."""

    inode: int
    root: int


class Root(NamedTuple):
    """A subvolume: the root id of the one it stands in, the folder there, its name; whether it is a snapshot."""

    parent: int
    folder: int
    name: bytes
    snapshot: bool


def btrfs_references(fd: int, logical: int) -> tuple[list[Reference], bool]:
    """The files of the file system that have the byte at `logical`, and whether there are more. Raises OSError."""
    answer = ctypes.create_string_buffer(_ANSWER)
    question = bytearray(_LOGICAL.pack(logical, _ANSWER, 0, ctypes.addressof(answer)))
    fcntl.ioctl(fd, BTRFS_IOC_LOGICAL_INO, question)
    return parse_references(answer.raw)


def parse_references(answer: bytes) -> tuple[list[Reference], bool]:
    """A btrfs_data_container of (inode, offset, root)."""
    _left, _missing, count, missed = _CONTAINER.unpack_from(answer)
    room = (len(answer) - _CONTAINER.size) // _REFERENCE.size
    found = (
        _REFERENCE.unpack_from(answer, _CONTAINER.size + index * _REFERENCE.size)
        for index in range(min(count // 3, room))
    )
    return [Reference(inode, root) for inode, _offset, root in found], bool(missed)


def btrfs_root_of(fd: int) -> int:
    """The root id of the subvolume that the open file lies in. Raises OSError."""
    return int(_LOOKUP.unpack_from(_look_up(fd, 0, FIRST_INODE))[0])


def btrfs_path(fd: int, root: int, inode: int) -> bytes:
    """One path of the inode within its subvolume; empty for its top folder. Raises OSError."""
    return _look_up(fd, root, inode)[_LOOKUP.size :].split(b"\0", 1)[0].rstrip(b"/")


def _look_up(fd: int, root: int, inode: int) -> bytes:
    buffer = bytearray(_PAGE)
    _LOOKUP.pack_into(buffer, 0, root, inode)
    fcntl.ioctl(fd, BTRFS_IOC_INO_LOOKUP, buffer)
    return bytes(buffer)


def btrfs_root(fd: int, root: int) -> Root | None:
    """Where the subvolume stands and what it is; None where it has no name. Raises OSError."""
    return parse_root(_search(fd, _ROOT_TREE, root, 0, _ROOT_ITEM, _ROOT_BACKREF))


def btrfs_last_snapshot(fd: int, root: int) -> int:
    """The transaction in which a snapshot of the subvolume was last taken; 0: never. Raises OSError."""
    for _offset, _kind, data in _items(_search(fd, _ROOT_TREE, root, 0, _ROOT_ITEM, _ROOT_ITEM)):
        if len(data) >= _LAST_SNAPSHOT.size:
            return int(_LAST_SNAPSHOT.unpack_from(data)[0])
    return 0


def btrfs_written(fd: int, root: int, inode: int) -> Iterator[tuple[int, int]]:
    """(offset in the file, transaction in which it was written) of each extent of the file. Raises OSError."""
    start = 0
    while True:
        last = -1
        for offset, _kind, data in _items(_search(fd, root, inode, start, _EXTENT_DATA, _EXTENT_DATA)):
            last = offset
            written, kind, place = _EXTENT.unpack_from(data) if len(data) >= _EXTENT.size else (0, _INLINE, 0)
            if kind != _INLINE and place:
                yield offset, written
        if last < 0:
            return
        start = last + 1


def _search(fd: int, tree: int, number: int, start: int, first: int, last: int) -> bytes:
    """Items of one object in a tree, from offset `start` of their keys on, of types `first` to `last`."""
    buffer = bytearray(_PAGE)
    _SEARCH.pack_into(buffer, 0, tree, number, number, start, _MOST, 0, _MOST, first, last, 64, 0)
    fcntl.ioctl(fd, BTRFS_IOC_TREE_SEARCH, buffer)
    return bytes(buffer)


def parse_root(buffer: bytes) -> Root | None:
    """Of the items of a btrfs_ioctl_search_args the subvolume's own and its reference to where it stands."""
    snapshot, place = False, None
    for parent, kind, data in _items(buffer):
        if kind == _ROOT_ITEM:
            snapshot = any(data[_PARENT_UUID])
        elif kind == _ROOT_BACKREF and len(data) >= _ROOT_REF.size:
            folder, _sequence, length = _ROOT_REF.unpack_from(data)
            place = (parent, folder, data[_ROOT_REF.size : _ROOT_REF.size + length])
    return Root(*place, snapshot) if place is not None else None


def _items(buffer: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(offset of the key, type, data) of each item found."""
    at = _SEARCH.size
    for _ in range(_SEARCH.unpack_from(buffer)[9]):
        if at + _FOUND.size > len(buffer):
            return
        _transaction, _object, offset, kind, length = _FOUND.unpack_from(buffer, at)
        at += _FOUND.size
        yield offset, kind, buffer[at : at + length]
        at += length


def xfs_owners(fd: int, start: int, length: int, most: int) -> tuple[list[int], bool]:
    """Inode numbers of the files that have bytes [start, start + length) of the data device, each once, looking at `most`
    records; and whether there are more. Empty where it has no reverse map. Raises OSError."""
    device = os.fstat(fd).st_dev
    number = os.major(device) << 8 | os.minor(device) & 0xFF | (os.minor(device) & ~0xFF) << 12
    buffer = bytearray(_MAP_HEAD.size + (2 + most) * _MAP_RECORD.size)
    _MAP_HEAD.pack_into(buffer, 0, 0, 0, most, 0)
    _MAP_RECORD.pack_into(buffer, _MAP_HEAD.size, number, 0, start, 0, 0, 0)
    last = start + length - 1
    _MAP_RECORD.pack_into(buffer, _MAP_HEAD.size + _MAP_RECORD.size, number, 2**32 - 1, last, _MOST, _MOST, 0)
    fcntl.ioctl(fd, FS_IOC_GETFSMAP, buffer)
    return parse_owners(bytes(buffer), start, length)


def parse_owners(buffer: bytes, start: int, length: int) -> tuple[list[int], bool]:
    """The owners in an answered fsmap_head, of records that lie in [start, start + length)."""
    _in, _out, count, entries = _MAP_HEAD.unpack_from(buffer)
    found: dict[int, None] = {}
    for index in range(min(entries, count)):
        _device, flags, at, owner, _offset, size = _MAP_RECORD.unpack_from(
            buffer, _MAP_HEAD.size + (2 + index) * _MAP_RECORD.size
        )
        if not flags & _SPECIAL and at < start + length and start < at + size:
            found[owner] = None
    return list(found), entries >= count
