"""The second signatures of a receipt as files of a bundle, for other tools to check."""

from __future__ import annotations

from expunge_agent.protocol import canonical, dsse, sshsig
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_controller.records import bundle_layout as layout


def second_files(body: bytes, signature: bytes, second: SecondSignatures) -> dict[str, bytes]:
    """Envelope, raw signatures and public keys by name. `signature` is the receipt's SSHSIG, whose key signed them.

    Raises VerificationError where that is wrong.
    """
    line = sshsig.verify(signature, sshsig.RECEIPT_NAMESPACE, body)
    classic = dsse.algorithm(line)
    return {
        layout.DSSE: dsse.envelope(body, line, second),
        layout.raw_signature(classic): second.classic,
        layout.raw_signature(dsse.MLDSA65): second.mldsa65,
        layout.raw_key(classic): dsse.pem_of(dsse.spki_of_line(line)),
        layout.raw_key(dsse.MLDSA65): dsse.pem_of(second.mldsa65_key),
    }


def envelope_digest(body: bytes, signature: bytes, second: SecondSignatures | None) -> str:
    """SHA-256 of the envelope, as a certificate names it; empty where there are no second signatures."""
    if second is None:
        return ""
    return canonical.sha256_hex(second_files(body, signature, second)[layout.DSSE])
