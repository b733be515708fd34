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
    stay attached: ``<boot id>/<disk sequence number>`` of the kernel. A drive leaves it empty.
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


Identity = BlockIdentity | FileIdentity
Psid = Annotated[str, msgspec.Meta(pattern=r"^([0-9A-Za-z]{32})?\Z")]
"""A physical security id: 32 letters and digits on a drive's label (TCG PSID feature set 1.00 §4.2); or empty."""


class Target(Frozen, frozen=True):
    """One thing to destroy. ``hint`` is a path to look at first, never a proof.

    ``psid``: what is printed on a self-encrypting drive, in orders only; it lets the drive be reverted.
    """

    identity: Identity
    hint: PathText = ""
    psid: Psid = ""

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
    if isinstance(identity, FileIdentity):
        return True
    return bool(identity.serial.strip() or identity.wwn.strip() or identity.instance)


def identity_digest(identity: Identity) -> str:
    """SHA-256 of the canonical identity: the medium's id in receipts, custody and store."""
    return canonical.digest(identity)


def subject_name(identity: Identity) -> str:
    """The in-toto subject name: ``media:<bus>:<serial>``."""
    if isinstance(identity, FileIdentity):
        return f"media:file:{identity.path}"
    return f"media:{identity.bus}:{identity.serial or identity.wwn or identity.instance}"


def _kind(identity: Identity) -> str:
    return "a file" if isinstance(identity, FileIdentity) else "a block device"
