"""The wire: one JSON object a line, the same whichever side dialled.

The agent says hello first and then, unasked, hands over every receipt that is not yet
acknowledged. After the controller's hello the controller asks and the agent answers. A frame
longer than `MAX_FRAME` is refused before it is kept.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from expunge_agent.errors import DocumentError, ProtocolError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Digest, Frozen, Name, PathText, Text
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.event import Event
from expunge_agent.protocol.identity import Identity

PROTOCOL_VERSION = 1
MAX_FRAME = 16 * 1024 * 1024
"""Bytes of one frame with its newline."""


class Hello(Frozen, frozen=True, tag_field="type", tag="hello"):
    """The first frame of either side. ``instance`` tells two running copies of one agent apart."""

    version: int
    role: str
    software: Name
    name: Text = ""
    machine_id: str = ""
    boot_id: str = ""
    instance: str = ""


class Document(Frozen, frozen=True):
    """Frozen bytes and their detached signature; base64, so that no reader can re-serialize them."""

    body: str
    signature: Text

    @classmethod
    def of(cls, body: bytes, signature: bytes) -> Document:
        """Wrap `body` and its armored `signature`."""
        return cls(body=base64.b64encode(body).decode(), signature=signature.decode("ascii"))

    def bytes(self) -> tuple[bytes, bytes]:
        """(body, signature) as they were frozen. Raises DocumentError."""
        try:
            return base64.b64decode(self.body, validate=True), self.signature.encode("ascii")
        except (binascii.Error, ValueError) as error:
            raise DocumentError("A document arrived damaged.", "Send it again.") from error


class EnrolRequest(Frozen, frozen=True, tag_field="type", tag="enrol"):
    """Agent: here is my signed enrolment."""

    document: Document


class Enrolled(Frozen, frozen=True, tag_field="type", tag="enrolled"):
    """Controller: you are known from now on, by this name."""

    name: Name


class RotateKey(Frozen, frozen=True, tag_field="type", tag="rotate-key"):
    """Agent: I sign with another key from now on (`rotation.KeyRotation`), signed with it; ``endorsement`` is the old
    key's signature of the same bytes, empty where it is lost. Repeated on each connection; it is not answered."""

    document: Document
    endorsement: Text = ""


class SubmitOrder(Frozen, frozen=True, tag_field="type", tag="order"):
    """Controller: do this. Sending the same bytes again re-attaches to the order."""

    document: Document


class OrderState(Frozen, frozen=True, tag_field="type", tag="order-state"):
    """Agent: what I know of the order: spooled, running, finished."""

    order: Digest
    state: str


class Progress(Frozen, frozen=True, tag_field="type", tag="event"):
    """Agent: an event of a running order."""

    event: Event


class ReceiptMessage(Frozen, frozen=True, tag_field="type", tag="receipt", omit_defaults=True):
    """Agent: a signed receipt, repeated on each connection until it is acknowledged.

    ``second`` is None for one from before the agent had a key for it.
    """

    order: Digest
    document: Document
    second: SecondSignatures | None = None


class Acknowledge(Frozen, frozen=True, tag_field="type", tag="ack"):
    """Controller: the receipt with this digest is stored (or kept aside) on durable storage."""

    receipt: Digest


class InventoryRequest(Frozen, frozen=True, tag_field="type", tag="inventory-request"):
    """Controller: what media do you see? ``paths`` names files and devices to look at too; the latter also by a
    tag (``UUID=…``) or by a link that the machine resolves."""

    paths: list[str] = []


class InventoryItem(Frozen, frozen=True):
    """One medium as the agent sees it: see `devices.inventory`; ``blocked`` says why it would be refused."""

    identity: Identity
    path: PathText
    type: Name
    firmware: Text
    logical_sector: int
    physical_sector: int
    blocked: list[Text]
    notes: list[Text]
    paths: list[PathText] = []
    """All paths to it, where there are several."""
    drive: dict[str, Any] = {}
    """What the drive answered, as a plain document for people and reports (the agent's ``core.drive.Drive``
    without its raw bytes); empty for a file. Nothing is decided by it on this side."""
    stack: dict[str, Any] = {}
    """The tree of what stands on it (the agent's ``core.stack.Layer``); empty for a file."""
    members: list[Text] = []
    """Physical drives behind the same RAID controller, where its driver shows them."""
    silent: Text = ""
    """Why the drive's own answers are missing, or empty."""
    can: Text = ""
    """The erasing commands it offers, in a few words; likewise ``hidden`` areas and its ``condition``."""
    hidden: Text = ""
    condition: Text = ""
    asked: list[PathText] = []
    """What of the request's ``paths`` led here: a link or a tag such as ``UUID=…``."""


class Inventory(Frozen, frozen=True, tag_field="type", tag="inventory"):
    """Agent: the media I see, and the paths asked for that are nothing I could wipe."""

    items: list[InventoryItem]
    problems: list[Text]


class Ping(Frozen, frozen=True, tag_field="type", tag="ping"):
    """Either: are you there?"""


class Pong(Frozen, frozen=True, tag_field="type", tag="pong"):
    """Either: yes."""


class Failure(Frozen, frozen=True, tag_field="type", tag="error"):
    """Either: your frame could not be served."""

    code: Name
    message: Text
    remedy: Text = ""


class Bye(Frozen, frozen=True, tag_field="type", tag="bye"):
    """Controller: nothing more to ask."""


Message = (
    Hello
    | EnrolRequest
    | Enrolled
    | RotateKey
    | SubmitOrder
    | OrderState
    | Progress
    | ReceiptMessage
    | Acknowledge
    | InventoryRequest
    | Inventory
    | Ping
    | Pong
    | Failure
    | Bye
)


def encode(message: Message) -> bytes:
    """One frame. Raises ProtocolError when it would be longer than the other side accepts."""
    frame = canonical.dumps(message) + b"\n"
    if len(frame) > MAX_FRAME:
        raise ProtocolError(
            f"A frame of {len(frame)} bytes is over the limit of {MAX_FRAME}.", "Ask for less at once."
        )
    return frame


def decode(frame: bytes) -> Message:
    """The message in one frame (without its newline). Raises ProtocolError."""
    try:
        plain = canonical.parse(frame, "frame")
        message: Message = msgspec.convert(plain, Message, dec_hook=canonical.decode_hook)
    except (DocumentError, msgspec.ValidationError) as error:
        raise ProtocolError(
            f"The other side sent a frame this version does not understand ({error}).",
            "Check that both sides run a matching version of expunge.",
        ) from error
    return message


class FrameDecoder:
    """Cuts a byte stream into messages; holds at most one unfinished frame of `MAX_FRAME` bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages completed by `data`. Raises ProtocolError, after which the stream is lost."""
        messages = []
        self._rest += data
        while (end := self._rest.find(b"\n")) >= 0:
            self._limit(end + 1)
            messages.append(decode(bytes(self._rest[:end])))
            del self._rest[: end + 1]
        self._limit(len(self._rest))
        return messages

    def _limit(self, size: int) -> None:
        if size > MAX_FRAME:
            self._rest.clear()
            raise ProtocolError(
                f"The other side sent a frame longer than {MAX_FRAME} bytes.",
                "It is broken or hostile; the connection was closed.",
            )


def check_hello(hello: Message, role: str) -> Hello:
    """The other side's hello, checked for role and version. Raises ProtocolError."""
    if not isinstance(hello, Hello):
        raise ProtocolError("The other side did not say hello.", "Check that it runs expunge.")
    if hello.version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"The other side speaks version {hello.version}, this program version {PROTOCOL_VERSION}.",
            "Bring both sides to the same release.",
        )
    if hello.role != role:
        raise ProtocolError(f"The other side is a {hello.role!r}, not a {role!r}.", "Check the address.")
    return hello
