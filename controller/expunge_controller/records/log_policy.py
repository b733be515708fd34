"""The policy: which logs count, who witnesses them and how many must have, who stamps the time. TOML, docs/log.md."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Annotated, NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from expunge_agent.errors import DocumentError
from expunge_agent.protocol.base import Frozen
from expunge_controller.records.note import COSIGNATURE, ED25519, NoteKey, Signed, parse_key
from expunge_controller.records.stamp import parse_roots

MAX_PARTIES = 32
MAX_POLICY = 512 * 1024
"""Characters: 32 authorities with their certificates need far less, and reading TOML is slow."""
MAX_DOTS = 2000
"""Keys of many parts take the square of their number in time."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Log(Frozen, frozen=True):
    vkey: str


class _Witness(Frozen, frozen=True):
    vkey: str
    url: str = ""


class _Authority(Frozen, frozen=True):
    name: str
    roots: str
    url: str = ""


class _File(Frozen, frozen=True):
    log: Annotated[list[_Log], msgspec.Meta(max_length=MAX_PARTIES)] = []
    witness: Annotated[list[_Witness], msgspec.Meta(max_length=MAX_PARTIES)] = []
    authority: Annotated[list[_Authority], msgspec.Meta(max_length=MAX_PARTIES)] = []
    quorum: Annotated[int, msgspec.Meta(ge=0, le=MAX_PARTIES)] = 0


class Witness(Frozen, frozen=True):
    """A witness, and where it answers (``url``, the submission prefix; empty: nobody asks it from here)."""

    key: NoteKey
    url: str = ""


class Authority(NamedTuple):
    """Somebody who stamps the time (RFC 3161): its certificates' ``roots``, and where it answers (empty: nowhere)."""

    name: str
    roots: tuple[x509.Certificate, ...]
    url: str = ""

    @property
    def pem(self) -> str:
        """The roots in PEM, in the one spelling of this program."""
        return "".join(one.public_bytes(Encoding.PEM).decode() for one in self.roots)


class LogPolicy(NamedTuple):
    """A checkpoint counts when one of ``logs`` signed it and ``quorum`` of ``witnesses`` cosigned it."""

    logs: tuple[NoteKey, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    quorum: int = 0
    authorities: tuple[Authority, ...] = ()

    @property
    def keys(self) -> list[NoteKey]:
        """Every key that counts."""
        return [*self.logs, *(witness.key for witness in self.witnesses)]

    def cosigned(self, signed: list[Signed]) -> list[Signed]:
        """Those of `signed` that are a witness's."""
        known = {witness.key for witness in self.witnesses}
        return [one for one in signed if one.key in known]

    def is_enough(self, signed: list[Signed]) -> bool:
        """Whether as many witnesses as asked for are among `signed`."""
        return len(self.cosigned(signed)) >= self.quorum


def parse_policy(text: str) -> LogPolicy:
    """The policy in `text`. Raises DocumentError with the reason."""
    if len(text) > MAX_POLICY or text.count(".") > MAX_DOTS:
        raise _wrong(f"it has more than {MAX_POLICY} characters or {MAX_DOTS} dots")
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _wrong(str(error)) from error
    except RecursionError as error:
        raise _wrong("its values lie too deep in each other") from error
    logs = tuple(_key(one.vkey, ED25519, "a log") for one in file.log)
    witnesses = tuple(
        Witness(key=_key(one.vkey, COSIGNATURE, "a witness"), url=_url(one.url)) for one in file.witness
    )
    publics = [key.public for key in (*logs, *(witness.key for witness in witnesses))]
    if len(set(publics)) != len(publics):
        raise _wrong("a key stands in it twice")
    if file.quorum > len(witnesses):
        raise _wrong(f"the quorum is {file.quorum}, and it names {len(witnesses)} witnesses")
    authorities = tuple(_authority(one) for one in file.authority)
    if len({one.name for one in authorities}) != len(authorities):
        raise _wrong("two time-stamping authorities have one name")
    return LogPolicy(logs=logs, witnesses=witnesses, quorum=file.quorum, authorities=authorities)


def format_policy(policy: LogPolicy) -> str:
    """The policy for others to read: without anybody's address."""
    lines = [f"quorum = {policy.quorum}", ""]
    for name, keys in (("log", policy.logs), ("witness", tuple(one.key for one in policy.witnesses))):
        for key in keys:
            lines += [f"[[{name}]]", f"vkey = {json.dumps(key.text, ensure_ascii=False)}", ""]
    for one in policy.authorities:
        lines += ["[[authority]]", f"name = {json.dumps(one.name)}", f"roots = {json.dumps(one.pem)}", ""]
    return "\n".join(lines)


def _authority(one: _Authority) -> Authority:
    if not _NAME.fullmatch(one.name):
        raise _wrong(f"{one.name[:80]!r} is no name for a time-stamping authority (letters, digits, . _ -)")
    return Authority(one.name, parse_roots(one.roots), _url(one.url))


def _key(text: str, kind: int, whose: str) -> NoteKey:
    key = parse_key(text)
    if key.kind != kind:
        raise _wrong(f"{key.name} has not the type of key that {whose} signs with")
    return key


def _url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise _wrong(f"{text[:80]!r} is not an http:// or https:// address")
    return text.rstrip("/")


def _wrong(why: str) -> DocumentError:
    return DocumentError(f"The log policy is not right: {why}.", "docs/log.md shows one.")
