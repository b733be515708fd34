"""Opening a target so that it is the one ordered, and nobody else has it: the last guard is the kernel's."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from dataclasses import dataclass
from types import TracebackType

from expunge_agent.core.guard import SystemPaths, guard, readable
from expunge_agent.devices import describe, ioctls
from expunge_agent.devices.look import file_identity, look
from expunge_agent.devices.nodes import by_number
from expunge_agent.devices.paths import walk
from expunge_agent.devices.patience import CLAIMED_PATIENCE, PATIENCE, lasting
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.roots import LIVE, Roots, read_int
from expunge_agent.protocol.identity import Identity, Target, differences, resized
from expunge_agent.protocol.receipt import Reason, Refusal

__all__ = ["Opened", "TargetRefused", "identity_of", "open_target"]

_LOCK_PATIENCE = 3.0
"""Seconds: udev locks a device shared while it looks at it; an order holds its lock for hours."""
_PAUSE = 0.05


@dataclass
class Opened:
    """A target held open, exclusively and locked. Sectors in bytes, −1 for a file.

    Close it, or use it as a context manager; closing gives up claim and lock.
    """

    fd: int
    path: str
    identity: Identity
    logical_sector: int
    physical_sector: int
    write: bool
    roots: Roots = LIVE
    system: SystemPaths | None = None
    also: int = 0
    """Another size that it may come to have."""

    @property
    def size(self) -> int:
        """Bytes, as found when it was opened."""
        return int(self.identity.size)

    def identity_now(self) -> Identity:
        """See `identity_of`: to be asked at the end. Raises TargetRefused when the target has gone."""
        return identity_of(self.fd, self.path, self.roots)

    def recheck(self) -> None:
        """To be called before each step: raises TargetRefused when this is no longer what was opened,
        or when somebody else has begun to use it meanwhile (mounted it, opened the file)."""
        now = self.identity_now()
        due = resized(self.identity, now, self.also)
        _compare(self.path, due, now, "while it was open")
        if self.write and (refusal := _guarded(self.path, due, self.roots, self.system, _patience(self.fd))):
            raise TargetRefused(refusal)

    def duplicate(self) -> int:
        """Another descriptor, the caller's to close, of the same claim and lock (dup(2))."""
        return fcntl.fcntl(self.fd, fcntl.F_DUPFD_CLOEXEC, 3)

    def abandon(self) -> None:
        """Leave the descriptor open for the life of the process: a thread stuck in the kernel still has it,
        and its number must not become another file's. Claim and lock stay."""
        self.fd = -1

    def close(self) -> None:
        """Give it back; twice does no harm."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_target(
    path: str | os.PathLike[str],
    ordered: Identity,
    *,
    write: bool,
    roots: Roots = LIVE,
    system: SystemPaths | None = None,
    also: int = 0,
) -> Opened:
    """Open what stands at `path`, if it is `ordered`, or that with `also` bytes; raises TargetRefused otherwise.

    No component of the path may be a symbolic link: each folder is opened on its own and the inode
    that was looked at is the one opened. A block device is claimed exclusively (O_EXCL, open(2)):
    the kernel refuses it while it, a partition of it or the disk around it is mounted, swaps or is
    held, in whatever namespace. Then it is locked (flock(2)), so that no second order works on it,
    and its identity is read from the descriptor and compared; before it is given away for writing
    the guard looks once more. With `write` false it is opened for reading, under the same claims.
    """
    walked = walk(path)
    if walked.symlinks:
        _refuse_as_guard(walked.path, ordered, roots, system)
    fd = _open(walked.path, ordered, write, roots, system)
    try:
        _lock(fd, walked.path)
        if write and stat.S_ISBLK(os.fstat(fd).st_mode) and ioctls.read_only(fd):
            raise TargetRefused(_read_only(walked.path))
        seen = identity_of(fd, walked.path, roots)
        ordered = resized(ordered, seen, also)
        _compare(walked.path, ordered, seen, "once opened")
        if write and (refusal := _guarded(walked.path, ordered, roots, system, _patience(fd))):
            # Nothing claims a file for us, and a loop device over a mounted disk is no claim either.
            raise TargetRefused(refusal)
        block = stat.S_ISBLK(os.fstat(fd).st_mode)
        return Opened(
            fd=fd,
            path=walked.path,
            identity=seen,
            logical_sector=ioctls.logical_sector(fd) if block else -1,
            physical_sector=ioctls.physical_sector(fd) if block else -1,
            write=write,
            roots=roots,
            system=system,
            also=also,
        )
    except BaseException:
        os.close(fd)
        raise


def identity_of(fd: int, path: str, roots: Roots = LIVE) -> Identity:
    """Who the open target is now, asked of the descriptor; `path` is where it was opened.

    A file: numbers and size of the inode, and that the path still leads to it. A block device: what
    the kernel says of the device with this number, the size from the descriptor. Raises
    TargetRefused when it has gone (unlinked, exchanged, unplugged, detached).
    """
    seen = os.fstat(fd)
    if stat.S_ISREG(seen.st_mode):
        at_path = walk(path).seen
        if at_path is None or (at_path.st_dev, at_path.st_ino) != (seen.st_dev, seen.st_ino):
            raise _gone(path, "the path no longer leads to the file that was opened")
        return file_identity(path, seen, roots)
    number = f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"
    node = by_number(number, roots)
    if node is None:
        raise _gone(path, "the kernel no longer has the device")
    try:
        size = ioctls.size(fd)
    except OSError as error:
        raise _gone(path, f"the device no longer answers ({error.strerror})") from error
    sequence, listed = ioctls.disk_sequence(fd), read_int(node.disk.folder / "diskseq")
    if sequence > 0 and listed > 0 and sequence != listed:
        raise _gone(path, "another device took its number")
    return describe.identity(node, size)


def _open(path: str, ordered: Identity, write: bool, roots: Roots, system: SystemPaths | None) -> int:
    """A descriptor for the inode at `path`, reached without following any link."""
    try:
        place = place_of(path)
    except OSError as error:
        raise _as_refusal(error, path, ordered, roots, system) from error
    try:
        mode = os.fstat(place).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            _refuse_as_guard(path, ordered, roots, system)
        exclusive = os.O_EXCL if stat.S_ISBLK(mode) else 0
        access = os.O_RDWR if write else os.O_RDONLY
        # The descriptor, not the name, is opened again: nobody can exchange it in between.
        return _claim(f"/proc/self/fd/{place}", access | exclusive | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise _as_refusal(error, path, ordered, roots, system) from error
    finally:
        os.close(place)


def _claim(path: str, flags: int) -> int:
    """open(2) that gives whoever claims the device for a moment time to leave it."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return os.open(path, flags)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                raise
        time.sleep(_PAUSE)


def place_of(path: str) -> int:
    """An O_PATH descriptor, the caller's to close, of the last component of the absolute, plain `path`; no
    component may be a link. Raises OSError."""
    *folders, name = path.removeprefix("/").split("/")
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
            below = os.open(folder, flags, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name or ".", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


def _lock(fd: int, path: str) -> None:
    until = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise TargetRefused(
                    Refusal(
                        reason=Reason.IN_USE,
                        detail=f"{readable(path)} is locked by another process, perhaps another order.",
                        remedy="Wait until it has finished.",
                    )
                ) from error
            time.sleep(_PAUSE)
        else:
            return


_REASONS = {
    errno.ENOENT: (Reason.TARGET_NOT_FOUND, "is not there", "Check the path and the cabling."),
    errno.ENOTDIR: (Reason.TARGET_NOT_FOUND, "is not there, or goes through a link", "Name the real path."),
    errno.ELOOP: (Reason.SYMBOLIC_LINK, "is a symbolic link", "Name the real path."),
    errno.ENXIO: (Reason.TARGET_NOT_FOUND, "has no device behind it", "Check the cabling."),
    errno.ENODEV: (Reason.TARGET_NOT_FOUND, "has no device behind it", "Check the cabling."),
    errno.ENOMEDIUM: (Reason.EMPTY, "has no medium in it", "Insert the medium."),
    errno.EACCES: (Reason.NOT_PERMITTED, "may not be opened by this user", "Run the agent as root."),
    errno.EPERM: (Reason.NOT_PERMITTED, "may not be opened by this user", "Run the agent as root."),
    errno.EBUSY: (
        Reason.IN_USE,
        "is claimed by the kernel or by another process",
        "Look for a mount in another namespace (findmnt -N), ZFS, an external journal, or another order.",
    ),
    errno.ETXTBSY: (Reason.IN_USE, "is being executed or used as swap", "End the program first."),
}


def _as_refusal(
    error: OSError, path: str, ordered: Identity, roots: Roots, system: SystemPaths | None
) -> TargetRefused:
    """Why the kernel did not open it: in the guard's words if the guard sees the reason too."""
    if error.errno == errno.EROFS:
        return TargetRefused(_read_only(path))
    refusal = _guarded(path, ordered, roots, system)
    if refusal is None:
        reason, what, remedy = _REASONS.get(
            error.errno or 0,
            (Reason.UNSUPPORTED, f"could not be opened ({error.strerror})", "See the kernel's log."),
        )
        refusal = Refusal(reason=reason, detail=f"{readable(path)} {what}.", remedy=remedy)
    return TargetRefused(refusal)


def _refuse_as_guard(path: str, ordered: Identity, roots: Roots, system: SystemPaths | None) -> None:
    """Raise what the guard says of `path`, which cannot be opened as it is."""
    refusal = _guarded(path, ordered, roots, system)
    if refusal is None:
        refusal = Refusal(
            reason=Reason.WRONG_KIND,
            detail=f"{readable(path)} is no regular file and no block device.",
            remedy="Name a file or a block device.",
        )
    raise TargetRefused(refusal)


def _patience(fd: int) -> float:
    """How long whoever else has the target open may take to leave it: nothing claims a file."""
    return CLAIMED_PATIENCE if stat.S_ISBLK(os.fstat(fd).st_mode) else PATIENCE


def _guarded(
    path: str,
    ordered: Identity,
    roots: Roots,
    system: SystemPaths | None,
    patience: float = PATIENCE,
) -> Refusal | None:
    def objection() -> Refusal | None:
        found = look(path, roots, system)
        return guard(Target(identity=ordered), found.medium, found.usage, system or SystemPaths())

    return lasting(objection, patience)


def _read_only(path: str) -> Refusal:
    return Refusal(
        reason=Reason.READ_ONLY,
        detail=f"{readable(path)} cannot be written: the kernel holds it read-only.",
        remedy="Remove the write protection (switch, blockdev --setrw) if it is meant to go.",
    )


def _compare(path: str, ordered: Identity, seen: Identity, when: str) -> None:
    if found := differences(ordered, seen):
        raise TargetRefused(
            Refusal(
                reason=Reason.IDENTITY_MISMATCH,
                detail=readable(f"{path}, {when}, is not the target ordered: {'; '.join(found)}.", 2000),
                remedy="Take the inventory again; something was exchanged or resized in the meantime.",
            )
        )


def _gone(path: str, how: str) -> TargetRefused:
    return TargetRefused(
        Refusal(
            reason=Reason.TARGET_NOT_FOUND,
            detail=f"{readable(path)} has gone: {how}.",
            remedy="Check the cabling, and what else runs on this machine.",
        )
    )
