"""Messages over a byte stream: the transport's port, and framing on top of it."""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

from expunge_agent.errors import TransportError
from expunge_agent.protocol import wire


class Stream(Protocol):
    """A connection to one peer. Used by one thread, but `close` may come from another."""

    def recv(self, timeout: float) -> bytes | None:
        """Bytes as they come; empty when the peer closed; None when none came within `timeout` seconds."""
        ...

    def send(self, data: bytes) -> None:
        """Hand over all of `data`. Raises TransportError when the peer does not take it."""
        ...

    def close(self) -> None:
        """End the connection; does nothing the second time."""
        ...

    def last_words(self) -> str:
        """What the peer said beside the protocol before it closed (standard error, exit status)."""
        ...


class PeerClosedError(TransportError):
    """The peer closed the connection."""

    code = "closed"


class Link:
    """Sends and receives whole messages."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoder = wire.FrameDecoder()
        self._inbox: deque[wire.Message] = deque()
        self._inside_frame = False
        self.heard = time.monotonic()
        """When the peer was last heard, on the monotonic clock."""

    def send(self, message: wire.Message) -> None:
        """Send one message. Raises TransportError or ProtocolError (too long)."""
        self._stream.send(wire.encode(message))

    def receive(self, timeout: float) -> wire.Message | None:
        """The next message, None when none came within `timeout` seconds.

        Raises PeerClosedError at the end of the stream, ProtocolError for what is no message.
        """
        if not self._inbox:
            data = self._stream.recv(timeout)
            if data is None:
                return None
            if not data:
                raise self._closed()
            self.heard = time.monotonic()
            self._inside_frame = not data.endswith(b"\n")
            self._inbox.extend(self._decoder.feed(data))
        return self._inbox.popleft() if self._inbox else None

    def expect(self, seconds: float) -> wire.Message:
        """The next message. Raises TransportError when none came within `seconds`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if message is not None:
                return message
        raise TransportError("The other side says nothing.", "Check that it runs expunge.")

    def _closed(self) -> PeerClosedError:
        said = self._stream.last_words()
        how = "in the middle of a frame" if self._inside_frame else ""
        message = " ".join(part for part in ("The other side closed the connection", how) if part)
        return PeerClosedError(f"{message}: {said}" if said else f"{message}.", "It will be tried again.")
