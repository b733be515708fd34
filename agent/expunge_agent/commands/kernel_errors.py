"""What the kernel's error numbers mean for a command that was sent to a drive, and back."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from expunge_agent.commands.port import CommandError, CommandTimeout, DriveGone, NoPassThrough

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, 524)
"""524 is ENOTSUPP, which the kernel's sed-opal lets out though no library knows it."""
_GONE = (errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM)
_LATE = (errno.ETIMEDOUT, errno.ETIME)


def command_error(error: OSError, what: str) -> CommandError:
    """`error` of the ioctl `what` as the end of the command it stands for."""
    said = f"{what}: {error.strerror or error.errno}"
    if error.errno in _UNSUPPORTED:
        return NoPassThrough(said)
    if error.errno in _GONE:
        return DriveGone(said)
    return CommandTimeout(said) if error.errno in _LATE else CommandError(said)


@contextmanager
def as_os_error() -> Iterator[None]:
    """The end of a command that reads or writes, as the OSError that the kernel's own read or write ends with."""
    try:
        yield
    except DriveGone as error:
        raise OSError(errno.ENODEV, str(error)) from error
    except CommandTimeout as error:
        raise OSError(errno.ETIMEDOUT, str(error)) from error
    except CommandError as error:
        raise OSError(errno.EIO, str(error)) from error
