"""Time stamps (RFC 3161) on checkpoints: what one says, and whether an authority that counts made it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509

from expunge_agent.errors import DocumentError, VerificationError

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

MAX_STAMP = 64 * 1024
"""Bytes of a response; one with a chain of certificates has about six thousand."""


class Stamp(NamedTuple):
    """What a stamp says: when, by whom (the authority's certificate), and until when that was to be relied on."""

    at: datetime
    by: str
    until: datetime


def parse_roots(text: str) -> tuple[x509.Certificate, ...]:
    """The certificates in PEM `text`. Raises DocumentError."""
    try:
        return tuple(x509.load_pem_x509_certificates(text.encode()))
    except ValueError as error:
        raise DocumentError(
            "The roots of a time-stamping authority are not certificates in PEM.",
            "Take the file that the authority publishes.",
        ) from error


def request_for(text: bytes) -> tuple[bytes, int]:
    """A request (DER) for a stamp on `text` by SHA-256, with a random nonce; and that nonce."""
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    builder = TimestampRequestBuilder().data(text).hash_algorithm(HashAlgorithm.SHA256)
    made = builder.nonce(nonce=True).cert_request(cert_request=True).build()
    return made.as_bytes(), int(made.nonce or 0)


def check_stamp(
    response: bytes, text: bytes, roots: Sequence[x509.Certificate], nonce: int | None = None
) -> Stamp:
    """The stamp in `response` (DER, TimeStampResp) on `text`, by an authority whose chain ends in one of `roots`.

    Certificates are judged at the stamp's own time (RFC 3161 §2.3, critical and only purpose time-stamping);
    whether they still hold is the caller's to ask (`Stamp.until`). `nonce` is what the request said.
    Raises VerificationError.
    """
    import rfc3161_client

    try:
        found = rfc3161_client.decode_timestamp_response(response)
        builder = rfc3161_client.VerifierBuilder(roots=list(roots), nonce=nonce)
        builder.build().verify_message(found, text)
        leaf = _signer(found)
        return Stamp(found.tst_info.gen_time, leaf.subject.rfc4514_string(), leaf.not_valid_after_utc)
    except (ValueError, TypeError, rfc3161_client.VerificationError) as error:
        raise VerificationError(
            f"The time stamp is not one of these authorities on this checkpoint: {error}.",
            "Compare the authority's roots with those that it publishes.",
        ) from error


def _signer(response: TimeStampResponse) -> x509.Certificate:
    """The certificate that the signature names (`check_stamp` saw that there is one)."""
    (info,) = response.signed_data.signer_infos
    for der in response.signed_data.certificates:
        certificate = x509.load_der_x509_certificate(der)
        if (certificate.issuer, certificate.serial_number) == (info.issuer, info.serial_number):
            return certificate
    raise ValueError("its certificate is not in it")
