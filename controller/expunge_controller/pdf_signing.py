"""PAdES signatures of PDF certificates (ETSI EN 319 142-1, levels B-B and B-T) with pyHanko.

The signing certificate lies in the controller's folder: ``pdf_certificate.pem`` (its chain may follow it) and
``keys/pdf_key.pem``, without a passphrase. A self-made one is trusted by its fingerprint, and by nothing else.
"""

from __future__ import annotations

import io
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm

from expunge_agent.errors import DocumentError, NotFoundError, RefusedError, TransportError
from expunge_agent.protocol.canonical import sha256_hex
from expunge_controller.settings import Home

if TYPE_CHECKING:
    from pyhanko.sign.timestamps import TimeStamper

FIELD = "expunge"
LASTS = timedelta(days=3650)
MISSING = "pyHanko, which signs PDF certificates and checks their signatures, is not installed."
REMEDY = "Install the controller with its requirements (requirements/controller.txt)."


class PdfIdentity(NamedTuple):
    """Where the signing certificate and its key lie."""

    certificate: Path
    key: Path


def identity_of(home: Home) -> PdfIdentity:
    """The places in a controller's folder."""
    return PdfIdentity(home.path / "pdf_certificate.pem", home.keys / "pdf_key.pem")


def make_identity(home: Home, name: str, now: datetime) -> str:
    """A self-made signing certificate (RSA 3072, ten years); returns its SHA-256 fingerprint.

    RSA, because PDF 1.7, on which PDF/A-3 rests, knows no elliptic curves. Raises RefusedError where there is one already.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    place = identity_of(home)
    for path in place:
        if path.exists():
            raise RefusedError(f"{path} is there already.", "Move it away first; nothing was replaced.")
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + LASTS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_signs_documents(), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(place.key, private, 0o600)
    _write_new(place.certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return sha256_hex(made.public_bytes(serialization.Encoding.DER))


def sign_pdf(data: bytes, home: Home, timestamper: TimeStamper | None = None) -> bytes:
    """`data` with a signature appended: B-T with a `timestamper` (RFC 3161), else B-B.

    Raises NotFoundError without a signing certificate or pyHanko, DocumentError where they cannot be
    used, TransportError where the time stamp does not come.
    """
    try:
        from pyhanko.sign import fields, signers
        from pyhanko.sign.timestamps import TimestampRequestError

        from expunge_controller.pdf_appending import KeepsMetadata
    except ImportError as error:
        raise NotFoundError(MISSING, REMEDY) from error
    signer = _signer(identity_of(home))
    wish = signers.PdfSignatureMetadata(
        field_name=FIELD, md_algorithm="sha256", subfilter=fields.SigSeedSubFilter.PADES
    )
    writer = KeepsMetadata(io.BytesIO(data))
    out = io.BytesIO()
    try:
        signers.PdfSigner(wish, signer=signer, timestamper=timestamper).sign_pdf(writer, output=out)
    except (TimestampRequestError, OSError) as error:
        raise TransportError(
            f"The time-stamping authority gave no time stamp: {error}.", "Try again, or sign without --tsa."
        ) from error
    return out.getvalue()


def timestamper_at(url: str) -> TimeStamper:
    """A time-stamping authority by its `url` (RFC 3161 over HTTP). Raises NotFoundError without pyHanko."""
    try:
        from pyhanko.sign.timestamps import HTTPTimeStamper
    except ImportError as error:
        raise NotFoundError(MISSING, REMEDY) from error
    return HTTPTimeStamper(url)


def _signer(place: PdfIdentity) -> Any:
    from pyhanko.sign.signers import SimpleSigner

    for path in place:
        if not path.exists():
            raise NotFoundError(
                f"There is no {path}, so the PDF cannot be signed.",
                "Put your signing certificate and its key there, or make one: expunge certificate signing-key",
            )
    simple: Any = SimpleSigner
    loaded = None
    if _are_a_pair(place):
        loaded = simple.load(
            str(place.key),
            str(place.certificate),
            ca_chain_files=(str(place.certificate),),
            key_passphrase=None,
        )
    if loaded is None:
        raise DocumentError(
            f"{place.certificate} and {place.key} are not a certificate and its key in PEM.",
            "The key must have no passphrase, and the signer's certificate comes first.",
        )
    return loaded


def _are_a_pair(place: PdfIdentity) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(place.key.read_bytes(), None)
        return x509.load_pem_x509_certificate(place.certificate.read_bytes()).public_key() == key.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _signs_documents() -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
