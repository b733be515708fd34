"""Whose signature counts: the ``allowed_signers`` file of OpenSSH (ssh-keygen(1), ALLOWED SIGNERS)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.base import Frozen, MaybeTimestamp, Name, Timestamp, timestamp

_LINE = re.compile(
    r'^(?P<who>[^\s"#,*?!]+) namespaces="(?P<spaces>[a-z0-9,-]+)"'
    r'(?:,valid-after="(?P<after>[0-9A-Z]+)")?(?:,valid-before="(?P<before>[0-9A-Z]+)")? (?P<key>\S+ \S+)$'
)
_TIMES = {9: "%Y%m%dZ", 13: "%Y%m%d%H%MZ", 15: "%Y%m%d%H%M%SZ"}
"""The forms of a time in UTC (ssh-keygen(1)), by their length. Without the Z it would be that of whoever reads it."""


class TrustedSigner(Frozen, frozen=True):
    """A principal, what it may sign, and its public key line. ``valid_after`` and ``valid_before`` are the first and
    the last second in which its signatures count; empty where there is none."""

    principal: Name
    namespaces: tuple[str, ...]
    public_line: str
    valid_after: MaybeTimestamp = ""
    valid_before: MaybeTimestamp = ""

    @property
    def has_window(self) -> bool:
        """Whether the time of a signature matters."""
        return bool(self.valid_after or self.valid_before)

    def is_good_at(self, at: MaybeTimestamp) -> bool:
        """Whether a signature made at `at` counts; one of an unknown time (empty) only where time does not matter."""
        if not self.has_window:
            return True
        return bool(at) and self.valid_after <= at and (not self.valid_before or at <= self.valid_before)


def format_allowed_signers(signers: list[TrustedSigner]) -> str:
    """The text of an ``allowed_signers`` file; ``namespaces=`` is always set."""
    return "".join(
        f'{signer.principal} namespaces="{",".join(signer.namespaces)}"{_window(signer)} '
        f"{sshsig.normal_line(signer.public_line)}\n"
        for signer in signers
    )


def parse_allowed_signers(text: str) -> list[TrustedSigner]:
    """The signers of such a text; only lines that name their namespaces are taken. Raises DocumentError."""
    signers = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.match(line.strip())
        if match is None:
            raise DocumentError(
                f"allowed_signers line {number} is not of the form expected.",
                'Write: PRINCIPAL namespaces="expunge-receipt" ssh-ed25519 AAAA…',
            )
        signers.append(
            TrustedSigner(
                principal=match["who"],
                namespaces=tuple(match["spaces"].split(",")),
                public_line=sshsig.normal_line(match["key"]),
                valid_after=_read_time(match["after"], number),
                valid_before=_read_time(match["before"], number),
            )
        )
    return signers


def good_at(signers: list[TrustedSigner], at: Timestamp) -> list[TrustedSigner]:
    """Those whose signatures of `at` count."""
    return [signer for signer in signers if signer.is_good_at(at)]


def ssh_time(at: Timestamp) -> str:
    """`at` as ssh-keygen(1) writes times: ``20260131120000Z``."""
    return at.translate({ord(mark): None for mark in "-:T"})


def verify(signers: list[TrustedSigner], namespace: str, message: bytes, armored: bytes) -> TrustedSigner:
    """Check `armored` over `message` and that its key may sign in `namespace`; returns who it was.

    When it was made is not looked at: that is for whoever knows it (`TrustedSigner.is_good_at`).
    Raises VerificationError when the signature is wrong (`sshsig.verify`), UnknownSignerError
    when it is right but the key is not among `signers` for this namespace.
    """
    line = sshsig.verify(armored, namespace, message)
    for signer in signers:
        if signer.public_line == line and namespace in signer.namespaces:
            return signer
    raise UnknownSignerError(
        f"The signature is valid, but its key {sshsig.fingerprint(line)} is not trusted for {namespace}.",
        "Check the fingerprint with whoever runs the signer before you trust it.",
    )


def _window(signer: TrustedSigner) -> str:
    bounds = (("valid-after", signer.valid_after), ("valid-before", signer.valid_before))
    return "".join(f',{name}="{ssh_time(at)}"' for name, at in bounds if at)


def _read_time(text: str | None, number: int) -> MaybeTimestamp:
    if text is None:
        return ""
    try:
        found = timestamp(datetime.strptime(text, _TIMES[len(text)]).replace(tzinfo=UTC))
        if ssh_time(found) != text[:-1].ljust(14, "0") + "Z":
            raise ValueError(text)
        return found
    except (KeyError, ValueError) as error:
        raise DocumentError(
            f"allowed_signers line {number}: {text!r} is not a time in UTC.", "Write 20260131120000Z."
        ) from error


class UnknownSignerError(VerificationError):
    """A good signature by a key nobody vouched for."""
