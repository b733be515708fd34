"""Signatures of FIDO2 security keys: flags are read, and no byte of them can be changed."""

from __future__ import annotations

import base64

import pytest

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import sshsig, trust
from expunge_agent.protocol.sshsig import CUSTODY_NAMESPACE
from expunge_agent.protocol.trust import TrustedSigner
from support.authenticator import TOUCHED, TOUCHED_WITH_PIN, Authenticator

MESSAGE = b'{"a":1}'
BOTH = pytest.mark.parametrize("ecdsa", [False, True], ids=["ed25519", "ecdsa-p256"])


def signed(key: Authenticator) -> bytes:
    return sshsig.sign(key, CUSTODY_NAMESPACE, MESSAGE)


@BOTH
def test_it_says_who_signed_and_what_the_person_did(ecdsa: bool) -> None:
    key = Authenticator(ecdsa=ecdsa, flags=TOUCHED)
    seen = sshsig.examine(signed(key), CUSTODY_NAMESPACE, MESSAGE)
    assert seen.public_line == key.public_line
    assert seen.presence is not None
    assert (seen.presence.user_present, seen.presence.user_verified, seen.presence.counter) == (
        True,
        False,
        7,
    )
    key.flags = TOUCHED_WITH_PIN
    again = sshsig.examine(signed(key), CUSTODY_NAMESPACE, MESSAGE).presence
    assert again is not None
    assert again.user_verified
    assert again.counter == 8


@BOTH
@pytest.mark.parametrize("flags", [0x00, 0x04])
def test_nobody_touched_it(ecdsa: bool, flags: int) -> None:
    with pytest.raises(VerificationError, match="without anybody touching it"):
        sshsig.verify(signed(Authenticator(ecdsa=ecdsa, flags=flags)), CUSTODY_NAMESPACE, MESSAGE)


@BOTH
def test_every_changed_bit_is_noticed(ecdsa: bool) -> None:
    blob = base64.b64decode(signed(Authenticator(ecdsa=ecdsa)).splitlines()[1])
    for position in range(len(blob)):
        for bit in range(8):
            changed = bytearray(blob)
            changed[position] ^= 1 << bit
            armored = b"\n".join([sshsig.BEGIN.encode(), base64.b64encode(changed), sshsig.END.encode()])
            with pytest.raises(VerificationError):
                sshsig.verify(armored, CUSTODY_NAMESPACE, MESSAGE)


@BOTH
def test_an_application_that_is_not_ssh_is_refused(ecdsa: bool) -> None:
    with pytest.raises(VerificationError, match="public key is damaged"):
        sshsig.normal_line(Authenticator(ecdsa=ecdsa, application=b"https://example").public_line)


@BOTH
def test_it_stands_in_allowed_signers(ecdsa: bool) -> None:
    key = Authenticator(ecdsa=ecdsa)
    signer = TrustedSigner(principal="person:a", namespaces=(CUSTODY_NAMESPACE,), public_line=key.public_line)
    assert trust.parse_allowed_signers(trust.format_allowed_signers([signer])) == [signer]
    assert trust.verify([signer], CUSTODY_NAMESPACE, MESSAGE, signed(key)) == signer
