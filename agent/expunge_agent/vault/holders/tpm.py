"""Root keys in a TPM 2.0: each in an NV index with the passphrase as its authorization.

Destroying one is TPM2_NV_UndefineSpace in an audit session, whose digest the TPM signs
(TPM2_GetSessionAuditDigest): "the TPM with this key undefined this index", not that no copy was ever kept.
References: TPM 2.0 Library, Part 3, §31 (NV) and §18.5. The extra ``expunge[tpm]``.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from expunge_agent.core.layout import Layout
from expunge_agent.errors import (
    NotFoundError,
    PermissionProblemError,
    StateError,
    UsageError,
    VerificationError,
)
from expunge_agent.hardware import tpm
from expunge_agent.protocol.receipt_keys import KeyEvidence
from expunge_agent.vault import keys
from expunge_agent.vault.holders.port import Destruction, Passphrase, TpmSettings, not_opened

_ID = 16
HELD = 2 * _ID + keys.KEY
"""Bytes of an index: vault, root, key."""
_AUTH_FAIL, _BAD_AUTH, _LOCKOUT = 0x08E, 0x022, 0x921
_FORMAT_ONE, _ERROR = 0x080, 0x0BF
"""Part 2, §6.6: how response codes are made."""
_VENDOR_STRING = 0x106
"""TPM_PT_VENDOR_STRING_1 (Part 2, §6.13)."""


class TpmHolder:
    """Root keys of `vault` in one of two NV indexes: the old and the new one are there together while a
    root is replaced."""

    def __init__(self, settings: TpmSettings, vault: str, passphrase: Passphrase) -> None:
        self._t: Any = tpm.library()
        self._vault = vault
        self._indexes = (settings.index, settings.index + 1)
        hashed = hashlib.sha256(b"expunge-vault/v1 nv\n" + vault.encode() + b"\n")
        hashed.update(passphrase())
        self._auth = hashed.digest()
        self._opened: dict[str, bytes] = {}
        self.where = f"the TPM ({settings.tcti})"
        with self._explained():
            self._tpm: Any = self._t.ESAPI(settings.tcti)
            self.beyond = not self._is_software()

    def create(self, root: str) -> None:
        """Define a free index and write a fresh key into it."""
        found = {index: self._content(index) for index in self._indexes}
        if any(self._is(held, root) for held in found.values()):
            return
        unwritten = [index for index, held in found.items() if held == b""]
        free = unwritten or [index for index, held in found.items() if held is None]
        if not free:
            raise UsageError(
                f"The NV indexes {self._indexes[0]:#x} and {self._indexes[1]:#x} are taken.",
                "Make the vault with other ones (--index).",
            )
        with self._explained():
            handle = self._handle(free[0]) if unwritten else self._define(free[0])
            key = secrets.token_bytes(keys.KEY)
            with self._private() as session:
                data = bytes.fromhex(self._vault) + bytes.fromhex(root) + key
                self._tpm.nv_write(handle, data, session1=session)
        self._opened[root] = key

    def has(self, root: str) -> bool:
        """Whether an index holds it."""
        return self._index_of(root) is not None

    def seal(self, root: str, secret: bytes, about: bytes) -> bytes:
        """Seal `secret`."""
        return keys.wrap(self._key(root), secret, about)

    def unseal(self, root: str, sealed: bytes, about: bytes) -> bytes:
        """Open what `seal` sealed."""
        found = keys.unwrap(self._key(root), sealed, about)
        if found is None:
            raise VerificationError(not_opened(self.where), "Restore the newest keystore.")
        return found

    def place(self, root: str) -> Layout:
        """In the device, where no overwrite of ours goes."""
        return Layout(extents=[])

    def spoil(self, root: str, before: Layout) -> tuple[str, ...]:
        """Nothing can be done before it is taken away."""
        return ()

    def destroy(self, root: str) -> Destruction:
        """Undefine the index, audited where the TPM can sign."""
        self._opened.pop(root, None)
        index = self._index_of(root)
        if index is None:
            # A kill came between: the index is gone, and its attestation with it.
            return Destruction(f"{self.where} does not have it any more", self.beyond, self._software())
        with self._explained():
            handle = self._handle(index)
            public, name = self._tpm.nv_read_public(handle)
            evidence = [
                KeyEvidence(name="NV public area (TPM2B_NV_PUBLIC)", hex=public.marshal().hex()),
                KeyEvidence(name="NV name", hex=bytes(name).hex()),
                *self._undefined(handle, root),
            ]
        audited = len(evidence) > 2
        how = f"NV index {index:#010x} of {self.where} was undefined" + (", audited" if audited else "")
        return Destruction(how, self.beyond, self._software(), tuple(evidence))

    def close(self) -> None:
        """Let go of the TPM."""
        self._opened.clear()
        with suppress(self._t.TSS2_Exception):
            self._tpm.close()

    def _software(self) -> tuple[str, ...]:
        return () if self.beyond else ("the TPM is software: its state lies in files, which it writes anew",)

    def _is_software(self) -> bool:
        """Whether it says of itself that it is a simulator (vendor string ``SW``: libtpms, and with it the TPMs
        of most virtual machines)."""
        t = self._t
        _, found = self._tpm.get_capability(t.TPM2_CAP.TPM_PROPERTIES, _VENDOR_STRING, 1)
        told = [int(one.value) for one in found.data.tpmProperties]
        return bool(told) and told[0].to_bytes(4, "big")[:2] == b"SW"

    def _undefined(self, handle: Any, root: str) -> list[KeyEvidence]:
        """Undefine; the attestation, empty where this TPM gives none."""
        t = self._t
        try:
            signer, public, _, _, _ = self._tpm.create_primary(
                t.TPM2B_SENSITIVE_CREATE(), _attestation_key(t), t.ESYS_TR.RH_ENDORSEMENT
            )
        except t.TSS2_Exception:
            self._tpm.nv_undefine_space(handle)
            return []
        none, hmac = t.ESYS_TR.NONE, t.TPM2_SE.HMAC
        session = self._tpm.start_auth_session(none, none, hmac, None, t.TPM2_ALG.SHA256)
        try:
            audit = t.TPMA_SESSION.AUDIT | t.TPMA_SESSION.CONTINUESESSION
            self._tpm.trsess_set_attributes(session, audit)
            self._tpm.nv_undefine_space(handle, session2=session)
            about = hashlib.sha256(keys.about("destroyed root", self._vault, root)).digest()
            attest, signature = self._tpm.get_session_audit_digest(signer, session, about)
        finally:
            self._tpm.flush_context(session)
            self._tpm.flush_context(signer)
        return [
            KeyEvidence(name="attestation (TPM2B_ATTEST)", hex=attest.marshal().hex()),
            KeyEvidence(name="its signature (TPMT_SIGNATURE)", hex=signature.marshal().hex()),
            KeyEvidence(name="attestation key (TPM2B_PUBLIC)", hex=public.marshal().hex()),
        ]

    def _define(self, index: int) -> Any:
        t = self._t
        attributes = t.TPMA_NV.AUTHREAD | t.TPMA_NV.AUTHWRITE
        public = t.TPM2B_NV_PUBLIC(
            nvPublic=t.TPMS_NV_PUBLIC(
                nvIndex=index, nameAlg=t.TPM2_ALG.SHA256, attributes=attributes, dataSize=HELD
            )
        )
        handle = self._tpm.nv_define_space(self._auth, public)
        self._tpm.tr_set_auth(handle, self._auth)
        return handle

    def _key(self, root: str) -> bytes:
        if root not in self._opened:
            index = self._index_of(root)
            if index is None:
                raise NotFoundError(
                    f"The root key {root} is not in {self.where}.",
                    "It was destroyed by a shredding or rotation (then take the newest keystore), or the TPM "
                    "is not the right one.",
                )
            self._opened[root] = (self._content(index) or b"")[2 * _ID :]
        return self._opened[root]

    def _index_of(self, root: str) -> int | None:
        return next((one for one in self._indexes if self._is(self._content(one), root)), None)

    def _is(self, held: bytes | None, root: str) -> bool:
        return held is not None and held[: 2 * _ID] == bytes.fromhex(self._vault + root)

    def _content(self, index: int) -> bytes | None:
        """What an index holds; empty where nothing was ever written, None where there is no such index.

        An index that is not of our shape is somebody else's: it is taken, and nothing of it is read.
        """
        t = self._t
        with self._explained():
            handle = self._handle(index)
            if handle is None:
                return None
            public, _ = self._tpm.nv_read_public(handle)
            area = public.nvPublic
            if area.dataSize != HELD:
                return b"other"
            if not area.attributes & t.TPMA_NV.WRITTEN:
                return b""
            with self._private() as session:
                return bytes(self._tpm.nv_read(handle, HELD, session1=session))

    def _handle(self, index: int) -> Any:
        with self._quiet():
            handle = self._tpm.tr_from_tpmpublic(index)
            self._tpm.tr_set_auth(handle, self._auth)
            return handle
        return None

    @contextmanager
    def _private(self) -> Iterator[Any]:
        """A salted session that encrypts what goes over the bus (Part 1, §21)."""
        t = self._t
        salt_key, _, _, _, _ = self._tpm.create_primary(t.TPM2B_SENSITIVE_CREATE(), "ecc", t.ESYS_TR.RH_NULL)
        session = None
        try:
            session = self._tpm.start_auth_session(
                salt_key, t.ESYS_TR.NONE, t.TPM2_SE.HMAC, "aes128cfb", t.TPM2_ALG.SHA256
            )
            encrypted = t.TPMA_SESSION.CONTINUESESSION | t.TPMA_SESSION.DECRYPT | t.TPMA_SESSION.ENCRYPT
            self._tpm.trsess_set_attributes(session, encrypted)
            yield session
        finally:
            if session is not None:
                self._tpm.flush_context(session)
            self._tpm.flush_context(salt_key)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """For a question whose answer may be that there is nothing (TPM_RC_HANDLE)."""
        try:
            yield
        except self._t.TSS2_Exception as error:
            if error.rc & 0xFFFF & _ERROR != 0x08B:
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._t.TSS2_Exception as error:
            code = error.rc & 0xFFFF
            if code == _LOCKOUT:
                raise PermissionProblemError(
                    f"{self.where} refuses passphrases for a while: too many were wrong.",
                    "Wait, or reset the lockout (tpm2_dictionarylockout).",
                ) from error
            if code & _ERROR in (_AUTH_FAIL, _BAD_AUTH | _FORMAT_ONE):
                raise PermissionProblemError(
                    f"The passphrase does not open the NV index in {self.where}.",
                    "Check it; and the TPM's owner authorization has to be empty.",
                ) from error
            raise StateError(f"{self.where} answered: {error}.", "Check the TPM, and --tcti.") from error


def _attestation_key(t: Any) -> Any:
    """A restricted signing key, ECDSA over P-256 with SHA-256: always the same one of this TPM."""
    attributes = (
        t.TPMA_OBJECT.SIGN_ENCRYPT
        | t.TPMA_OBJECT.RESTRICTED
        | t.TPMA_OBJECT.FIXEDTPM
        | t.TPMA_OBJECT.FIXEDPARENT
        | t.TPMA_OBJECT.SENSITIVEDATAORIGIN
        | t.TPMA_OBJECT.USERWITHAUTH
    )
    return t.TPM2B_PUBLIC(
        publicArea=t.TPMT_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=attributes)
    )
