"""Who a target is. Paths are hints; identity is what must match before and after opening."""

from __future__ import annotations

from typing import Annotated

import msgspec

from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Name, PathText, Text
from expunge_agent.protocol.canonical import U64


class BlockIdentity(Frozen, frozen=True, tag_field="kind", tag="block"):
    """A block device by what it says of itself.

    ``instance`` names devices that have neither serial nor WWN (loop, zram) for as long as they
    stay attached: ``<boot id>/<disk sequence number>`` of the kernel. A drive leaves it empty. Parts that
    share a serial number are told apart by it: partitions, boot areas of an eMMC (``boot0``), UFS units (``lun1``).
    """

    bus: Name
    model: Text
    serial: Text
    wwn: Text
    size: U64
    instance: Text = ""


class FileIdentity(Frozen, frozen=True, tag_field="kind", tag="file"):
    """A regular file: absolute path, ``major:minor`` of its file system, inode, size in bytes.

    ``host`` is derived from the machine's own id (machine-id(5)), so that equal files of cloned
    machines are different media; empty where the machine has none.
    """

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    device: Name
    inode: U64
    size: U64
    host: Text = ""


class TreeIdentity(Frozen, frozen=True, tag_field="kind", tag="tree"):
    """Files below a directory: its absolute path, ``major:minor`` of its file system, and its inode.

    ``names`` (paths relative to the directory) and ``include`` (glob patterns, as for
    ``fnmatch`` on the relative path) narrow it; both empty: everything below it. Never more than its own
    file system, never through symbolic links. ``host`` as for a file.
    """

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    device: Name
    inode: U64
    host: Text = ""
    names: list[PathText] = []
    include: list[Text] = []

    @property
    def size(self) -> U64:
        """Bytes; what lies below is only counted when the order runs."""
        return U64(0)


class SpaceIdentity(Frozen, frozen=True, tag_field="kind", tag="free-space"):
    """The free space of a mounted file system: mount point, ``major:minor``, type and UUID of the file system."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    device: Name
    filesystem: Name
    uuid: Text
    host: Text = ""

    @property
    def size(self) -> U64:
        """Bytes; how much is free is only known when the order runs."""
        return U64(0)


class KeyIdentity(Frozen, frozen=True, tag_field="kind", tag="key"):
    """A key whose destruction makes data unreadable: ``scheme`` (``fscrypt``, ``vault``), ``key`` (its
    identifier in that scheme), and ``path``, where its store or the data under it lies."""

    scheme: Name
    key: Name
    path: PathText = ""
    host: Text = ""

    @property
    def size(self) -> U64:
        """Bytes; a key has none that would be written."""
        return U64(0)


Identity = BlockIdentity | FileIdentity | TreeIdentity | SpaceIdentity | KeyIdentity
Psid = Annotated[str, msgspec.Meta(pattern=r"^([0-9A-Za-z]{32})?\Z")]
"""A physical security id: 32 letters and digits on a drive's label (TCG PSID feature set 1.00 §4.2); or empty."""


class SpaceWish(Frozen, frozen=True):
    """How a file system's free space is to be filled.

    ``reserve``: bytes that ordinary users may still write while it is full; None: the larger of 64 MiB and
    1 % of the file system. ``system``: it is meant though the running system stands on it. ``trim``: afterwards
    tell the device what is free (FITRIM), which earns nothing.
    """

    reserve: U64 | None = None
    system: bool = False
    trim: bool = False


class Target(Frozen, frozen=True):
    """One thing to destroy. ``hint`` is a path to look at first, never a proof.

    ``psid``: what is printed on a self-encrypting drive, in orders only; it lets the drive be reverted.
    ``space`` is for free space only; left out there, the defaults of `SpaceWish` hold.
    """

    identity: Identity
    hint: PathText = ""
    psid: Psid = ""
    space: SpaceWish | None = None

    def without_psid(self) -> Target:
        """As receipts name it: whoever reads one could otherwise erase the drive again."""
        return msgspec.structs.replace(self, psid="") if self.psid else self


def differences(ordered: Identity, seen: Identity) -> list[str]:
    """Each field in which the two differ, as a readable phrase; empty when they are the same."""
    if type(ordered) is not type(seen):
        return [f"kind: ordered {_kind(ordered)}, found {_kind(seen)}"]
    return [
        f"{field}: ordered {getattr(ordered, field)!s}, found {getattr(seen, field)!s}"
        for field in ordered.__struct_fields__
        if getattr(ordered, field) != getattr(seen, field)
    ]


def resized(ordered: Identity, seen: Identity, also: int) -> Identity:
    """`ordered`, but of `also` bytes where `seen` has that size: a drive that gave back what it hid.

    With `also` 0: as ordered.
    """
    if also and isinstance(ordered, BlockIdentity) and seen.size == also:
        return msgspec.structs.replace(ordered, size=seen.size)
    return ordered


def is_identifying(identity: Identity) -> bool:
    """Whether `identity` can tell this target from every other one."""
    if not isinstance(identity, BlockIdentity):
        return True
    return bool(identity.serial.strip() or identity.wwn.strip() or identity.instance)


def identity_digest(identity: Identity) -> str:
    """SHA-256 of the canonical identity: the medium's id in receipts, custody and store."""
    return canonical.digest(identity)


def subject_name(identity: Identity) -> str:
    """The in-toto subject name: ``media:<bus>:<serial>``, ``media:file:<path>``, ``key:<scheme>:<key>`` …"""
    match identity:
        case BlockIdentity():
            return f"media:{identity.bus}:{identity.serial or identity.wwn or identity.instance}"
        case FileIdentity():
            return f"media:file:{identity.path}"
        case TreeIdentity():
            return f"media:tree:{identity.path}"
        case SpaceIdentity():
            return f"media:free-space:{identity.path}"
        case KeyIdentity():
            return f"key:{identity.scheme}:{identity.key}"


_KINDS = {
    BlockIdentity: "a block device",
    FileIdentity: "a file",
    TreeIdentity: "a directory's files",
    SpaceIdentity: "a file system's free space",
    KeyIdentity: "a key",
}


def _kind(identity: Identity) -> str:
    return _KINDS[type(identity)]
