"""An ECDSA P-256 key in a TPM 2.0, wrapped by its storage root: the state folder keeps what only this TPM can unwrap.

TPM 2.0 Library, Part 3: §24.1 CreatePrimary, §12.1 Create, §12.2 Load, §20.2 Sign.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from expunge_agent.errors import SigningKeyError
from expunge_agent.hardware import tpm
from expunge_agent.protocol import sshsig
from expunge_agent.signers.settings import TpmKey


class TpmSigner:
    """Signs with the key of `settings`."""

    def __init__(self, settings: TpmKey) -> None:
        self._settings = settings
        self.where = f"the TPM ({settings.tcti})"

    @property
    def public_line(self) -> str:
        """The public key line that was pinned."""
        return self._settings.public

    def signature_blob(self, data: bytes) -> bytes:
        """The SSH signature of `data`, made in the TPM."""
        t, held = tpm.library(), self._settings
        scheme = t.TPMT_SIG_SCHEME(scheme=t.TPM2_ALG.ECDSA)
        scheme.details.any.hashAlg = t.TPM2_ALG.SHA256
        ticket = t.TPMT_TK_HASHCHECK(tag=t.TPM2_ST.HASHCHECK, hierarchy=t.TPM2_RH.NULL)
        with _opened(held.tcti) as (chip, parent):
            area = t.TPM2B_PUBLIC.unmarshal(bytes.fromhex(held.area))[0]
            wrapped = t.TPM2B_PRIVATE.unmarshal(bytes.fromhex(held.wrapped))[0]
            key = chip.load(parent, wrapped, area)
            try:
                digest = t.TPM2B_DIGEST(hashlib.sha256(data).digest())
                made = chip.sign(key, digest, scheme, ticket)  # its parts live no longer than it does
            finally:
                chip.flush_context(key)
        numbers = made.signature.ecdsa
        return sshsig.p256_blob(_number(numbers.signatureR), _number(numbers.signatureS))


def choose(tcti: str) -> TpmKey:
    """A new key, made in the TPM at `tcti`."""
    t = tpm.library()
    attributes = (
        t.TPMA_OBJECT.SIGN_ENCRYPT
        | t.TPMA_OBJECT.FIXEDTPM
        | t.TPMA_OBJECT.FIXEDPARENT
        | t.TPMA_OBJECT.SENSITIVEDATAORIGIN
        | t.TPMA_OBJECT.USERWITHAUTH
        | t.TPMA_OBJECT.NODA
    )
    template = t.TPM2B_PUBLIC(
        publicArea=t.TPMT_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=attributes)
    )
    with _opened(tcti) as (chip, parent):
        wrapped, area, _, _, _ = chip.create(parent, t.TPM2B_SENSITIVE_CREATE(), template)
    point = area.publicArea.unique.ecc
    parts = (b"ecdsa-sha2-nistp256", b"nistp256", b"\x04" + _coordinate(point.x) + _coordinate(point.y))
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return TpmKey(
        tcti=tcti,
        public=sshsig.normal_line(f"ecdsa-sha2-nistp256 {base64.b64encode(blob).decode()}"),
        area=area.marshal().hex(),
        wrapped=wrapped.marshal().hex(),
    )


@contextmanager
def _opened(tcti: str) -> Iterator[tuple[Any, Any]]:
    """The TPM, and its storage root: always the same key while nobody clears the owner's hierarchy."""
    t = tpm.library()
    try:
        chip = t.ESAPI(tcti)
        try:
            parent, _, _, _, _ = chip.create_primary(
                t.TPM2B_SENSITIVE_CREATE(), "ecc256:aes128cfb", t.ESYS_TR.RH_OWNER
            )
            try:
                yield chip, parent
            finally:
                with suppress(t.TSS2_Exception):
                    chip.flush_context(parent)
        finally:
            with suppress(t.TSS2_Exception):
                chip.close()
    except t.TSS2_Exception as error:
        raise SigningKeyError(
            f"The TPM ({tcti}) answered: {error}.",
            "Is it there, is its owner authorization empty, and was it cleared since the key was made?",
        ) from error


def _number(part: Any) -> int:
    return int.from_bytes(bytes(part), "big")


def _coordinate(part: Any) -> bytes:
    return _number(part).to_bytes(32, "big")
