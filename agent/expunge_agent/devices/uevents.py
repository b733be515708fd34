"""Drives that come and go: the kernel's own announcements (NETLINK_KOBJECT_UEVENT), and udev's where it runs."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from expunge_agent.devices.roots import LIVE, Roots

_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1
_BUFFER = 1 << 20
_MESSAGE = 1 << 16


@dataclass(frozen=True)
class Uevent:
    """One announcement: ``action`` is add, remove, change …; ``path`` below /sys; ``name`` that of the device."""

    action: str
    path: str
    subsystem: str
    kind: str
    name: str


def parse(message: bytes) -> Uevent | None:
    """A uevent of the kernel (lib/kobject_uevent.c): ``action@path``, then ``KEY=value``, NUL between them.

    None for anything else, udev's own messages among it.
    """
    head, *fields = message.split(b"\0")
    action, at, path = head.partition(b"@")
    if not at or not action or not path.startswith(b"/"):
        return None
    values = dict(field.partition(b"=")[::2] for field in fields if b"=" in field)

    def text(key: bytes) -> str:
        return values.get(key, b"").decode("utf-8", "backslashreplace")

    return Uevent(
        action=action.decode("ascii", "backslashreplace"),
        path=path.decode("utf-8", "backslashreplace"),
        subsystem=text(b"SUBSYSTEM"),
        kind=text(b"DEVTYPE"),
        name=text(b"DEVNAME"),
    )


class Uevents:
    """Waits for block devices to come, go or change. Close it, or use it as a context manager.

    Where udev runs, its monitor is listened to, since only after its rules is a drive's description
    complete; elsewhere the kernel. Where neither may be listened to, it wakes by the clock.
    """

    def __init__(self, roots: Roots = LIVE) -> None:
        self._stack = contextlib.ExitStack()
        self._monitor: Any = _udev_monitor(roots)
        self._socket = None if self._monitor else _kernel_socket()
        if self._socket is not None:
            self._stack.enter_context(self._socket)

    @property
    def deaf(self) -> bool:
        """Whether nothing can be heard, so that the caller must look by the clock."""
        return self._monitor is None and self._socket is None

    def fileno(self) -> int:
        """What to poll for reading; −1 when `deaf`."""
        if self._monitor is not None:
            return int(self._monitor.fileno())
        return self._socket.fileno() if self._socket is not None else -1

    def wait(self, seconds: float, also: int = -1) -> bool:
        """Whether a block device was announced within `seconds`; returns early when `also` can be read."""
        watched = [fd for fd in (self.fileno(), also) if fd >= 0]
        ready, _, _ = select.select(watched, [], [], seconds)
        return self.fileno() in ready and self._any_block()

    def close(self) -> None:
        """Stop listening."""
        self._monitor = self._socket = None
        self._stack.close()

    def __enter__(self) -> Uevents:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _any_block(self) -> bool:
        """Take all that has arrived; whether any of it is about a block device, or was lost."""
        if self._monitor is not None:
            return len(list(iter(lambda: self._monitor.poll(timeout=0), None))) > 0
        found = False
        for message in self._messages():
            event = parse(message)
            found = found or message == b"" or (event is not None and event.subsystem == "block")
        return found

    def _messages(self) -> Iterator[bytes]:
        """What has arrived; an empty message stands for announcements that were lost (ENOBUFS)."""
        assert self._socket is not None  # noqa: S101 - asked by the caller
        while True:
            try:
                message, address = self._socket.recvfrom(_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                yield b""
                return
            if address[0] == 0:  # of the kernel, not of another process
                yield message


def _udev_monitor(roots: Roots) -> Any:
    if not (roots.run / "udev/control").exists():
        return None
    try:
        import pyudev

        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
        monitor.filter_by(subsystem="block")
        monitor.start()
    except (ImportError, OSError):
        return None
    return monitor


def _kernel_socket() -> socket.socket | None:
    try:
        listener = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _KOBJECT_UEVENT
        )
    except OSError:
        return None
    try:
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        listener.bind((0, _KERNEL_GROUP))
    except OSError:
        listener.close()
        return None
    return listener
