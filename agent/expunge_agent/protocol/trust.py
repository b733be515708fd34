"""Whose signature counts: the ``allowed_signers`` file of OpenSSH (ssh-keygen(1), ALLOWED SIGNERS)."""

from __future__ import annotations

import re

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.base import Frozen, Name

_LINE = re.compile(r'^(?P<who>[^\s"#,*?!]+) namespaces="(?P<spaces>[a-z0-9,-]+)" (?P<key>\S+ \S+)$')


class TrustedSigner(Frozen, frozen=True):
    """A principal, what it may sign, and its public key line."""

    principal: Name
    namespaces: tuple[str, ...]
    public_line: str


def format_allowed_signers(signers: list[TrustedSigner]) -> str:
    """The text of an ``allowed_signers`` file; ``namespaces=`` is always set."""
    return "".join(
        f'{signer.principal} namespaces="{",".join(signer.namespaces)}" {sshsig.normal_line(signer.public_line)}\n'
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
            )
        )
    return signers


def verify(signers: list[TrustedSigner], namespace: str, message: bytes, armored: bytes) -> TrustedSigner:
    """Check `armored` over `message` and that its key may sign in `namespace`; returns who it was.

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


class UnknownSignerError(VerificationError):
    """A good signature by a key nobody vouched for."""
