"""What was seen of one target: the medium itself, and everything that stands on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from expunge_agent.core.volume import Volume
from expunge_agent.protocol.identity import Identity
from expunge_agent.protocol.receipt import MediumFacts


class MediumType(StrEnum):
    """What data lies on, as far as the machine shows it; ``unknown`` rather than a guess.

    The type decides which techniques earn what (NIST SP 800-88 r2 §3.1.1 and IEEE 2883-2022 name
    them by medium), so a value needs positive evidence.
    """

    HDD = "hdd"
    SSD = "ssd"
    USB_FLASH = "usb-flash"
    FILE = "file"
    VIRTUAL = "virtual"
    MEMORY = "memory"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """What stands at a path (the file type of inode(7)), or that nothing could be seen there."""

    MISSING = "missing"
    HIDDEN = "hidden"
    """Something may be there; this user may not look."""
    UNNAMEABLE = "unnameable"
    """The path is no UTF-8 and cannot be written down in a document."""
    FILE = "file"
    BLOCK = "block"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER = "character"


@dataclass(frozen=True)
class Medium:
    """One medium. Sector sizes in bytes, −1 where it does not say; ``rotational``, the kernel's flag, None likewise.

    ``rotation`` is the rate in the page B1h that the kernel keeps of the drive, as there; −1 without the page.

    ``partition`` is true for a part of a drive: its identity is the drive's with the partition's
    number and start (in bytes) as ``instance``.
    """

    path: str
    identity: Identity
    type: MediumType
    rotational: bool | None = None
    rotation: int = -1
    removable: bool = False
    partition: bool = False
    firmware: str = ""
    logical_sector: int = -1
    physical_sector: int = -1
    notes: tuple[str, ...] = ()
    volume: Volume | None = None
    """What it is made of, where it is no drive."""

    @property
    def size(self) -> int:
        """Bytes the host can address."""
        return int(self.identity.size)

    def facts(self) -> MediumFacts:
        """The part of this that goes into a receipt."""
        return MediumFacts(
            path=self.path,
            type=self.type.value,
            firmware=self.firmware,
            logical_sector=self.logical_sector,
            physical_sector=self.physical_sector,
            notes=list(self.notes),
        )


@dataclass(frozen=True)
class Usage:
    """What stands at a path and on it. Empty means: looked for, nothing found (see ``notes`` for limits)."""

    path: str
    """Absolute, without ``.``, ``..`` or a trailing slash."""
    kind: Kind
    symlinks: tuple[str, ...] = ()
    """Components of the path that are symbolic links, outermost first."""
    real_path: str = ""
    """Where the links lead; only with ``symlinks``, empty for a dangling one."""
    mounts: tuple[str, ...] = ()
    """Mount points of it, its partitions and its holders, in every mount namespace that can be seen."""
    swaps: tuple[str, ...] = ()
    """Active swap areas on it (or it itself)."""
    holders: tuple[str, ...] = ()
    """Devices built on it: device mapper (LVM, LUKS, multipath), md, bcache, zram's backing store."""
    partitions: tuple[str, ...] = ()
    loops: tuple[str, ...] = ()
    """Loop devices that have it, or a part of it, as their backing file."""
    opened_by: tuple[str, ...] = ()
    """``<pid> <name>`` of other processes that have it open or mapped."""
    read_only: str = ""
    """Why it cannot be written, or empty."""
    writable: bool = True
    """Whether this user's permissions allow reading and writing."""
    hard_links: int = 1
    """Names that the file has."""
    system: str = ""
    """Why the running system needs it, or empty."""
    notes: tuple[str, ...] = ()
    """What could not be looked at."""


class Found(NamedTuple):
    """What stands at one path: ``medium`` is None where it is nothing that could be wiped."""

    medium: Medium | None
    usage: Usage
