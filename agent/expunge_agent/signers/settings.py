"""Where the signing key is: what a person writes (``--key``), and what ``signing_key.json`` keeps of it. Pure.

::

    file                                                     a new file in the state folder
    ssh-agent:SOCKET[#SHA256:…]                              the agent's only usable key, or the one named
    pkcs11:token=LABEL[;object=NAME]?module-path=FILE&pin-source=FILE      RFC 7512
    tpm2:TCTI                                                made in that TPM
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import unquote

import msgspec

from expunge_agent.errors import UsageError
from expunge_agent.protocol.base import Frozen, PathText, Text

OBJECT = "expunge-signing"
"""The label of a key that was made for us in a token."""


Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){1,2000}\Z")]


class FileKey(Frozen, frozen=True, tag_field="kind", tag="file"):
    """``name``: a file in the state folder."""

    name: Annotated[str, msgspec.Meta(pattern=r"^signing_key(\.[0-9a-f]{8})?\Z")]


class SshAgentKey(Frozen, frozen=True, tag_field="kind", tag="ssh-agent"):
    """``socket``: where the ssh-agent listens. ``public``: the key line that it has to offer."""

    socket: PathText
    public: Text


class TokenKey(Frozen, frozen=True, tag_field="kind", tag="pkcs11"):
    """``module``: the PKCS#11 library. ``token``, ``label``: labels of token and key pair. ``pin``: the file with
    the PIN in its first line."""

    module: PathText
    token: Text
    label: Text
    pin: PathText
    public: Text


class TpmKey(Frozen, frozen=True, tag_field="kind", tag="tpm2"):
    """``tcti``: how the TPM is reached. ``area``, ``wrapped``: TPM2B_PUBLIC and TPM2B_PRIVATE in hexadecimal; only
    the TPM that made them can use them."""

    tcti: Text
    public: Text
    area: Hex
    wrapped: Hex


KeySettings = FileKey | SshAgentKey | TokenKey | TpmKey
Wanted = Literal["file", "ssh-agent", "pkcs11", "tpm2"]


class KeyWish(Frozen, frozen=True):
    """What ``--key`` asks for; fields that its kind does not have are empty."""

    kind: Wanted
    place: str = ""
    fingerprint: str = ""
    token: str = ""
    label: str = ""
    pin: str = ""


def parse_wish(text: str) -> KeyWish:
    """What a person wrote. Raises UsageError."""
    kind, _, rest = text.partition(":")
    if text == "file":
        return KeyWish(kind="file")
    if kind == "ssh-agent" and rest.startswith("/"):
        socket, _, fingerprint = rest.partition("#")
        return KeyWish(kind="ssh-agent", place=socket, fingerprint=fingerprint)
    if kind == "tpm2" and rest:
        return KeyWish(kind="tpm2", place=rest)
    if kind == "pkcs11":
        return _token_wish(rest)
    raise UsageError(
        f"{text!r} names no signing key.",
        "Write file, ssh-agent:/run/SOCKET, pkcs11:token=LABEL?module-path=FILE&pin-source=FILE, or "
        "tpm2:device:/dev/tpmrm0.",
    )


def matches(wish: KeyWish, held: KeySettings) -> bool:
    """Whether `held` is what `wish` asks for, so that asking again changes nothing."""
    match held:
        case FileKey():
            return wish.kind == "file"
        case SshAgentKey():
            return (wish.kind, wish.place) == ("ssh-agent", held.socket)
        case TokenKey():
            return (wish.kind, wish.place, wish.token, wish.label or OBJECT) == (
                "pkcs11",
                held.module,
                held.token,
                held.label,
            )
    return (wish.kind, wish.place) == ("tpm2", held.tcti)


def _token_wish(rest: str) -> KeyWish:
    path, _, query = rest.partition("?")
    parts = dict(part.partition("=")[::2] for part in path.split(";") if part)
    more = dict(part.partition("=")[::2] for part in query.split("&") if part)
    strange = sorted({*parts, *more} - {"token", "object", "module-path", "pin-source"})
    if strange:
        raise UsageError(f"{strange[0]!r} is not used in a pkcs11: name here.", "See docs/signing-keys.md.")
    wish = KeyWish(
        kind="pkcs11",
        place=unquote(more.get("module-path", "")),
        token=unquote(parts.get("token", "")),
        label=unquote(parts.get("object", "")),
        pin=unquote(more.get("pin-source", "")).removeprefix("file:"),
    )
    if not (wish.token and wish.place.startswith("/") and wish.pin.startswith("/")):
        raise UsageError(
            "A pkcs11: name needs token, module-path and pin-source (absolute paths).",
            "Write pkcs11:token=LABEL?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/expunge/pin",
        )
    return wish
