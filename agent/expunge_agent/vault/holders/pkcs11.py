"""Root keys in a PKCS#11 token: made there, never extractable, destroyed by C_DestroyObject (PKCS#11 v2.40 §5.7).

Sealing is CKM_AES_GCM in the token (§2.12.3 of the mechanisms). The extra ``expunge[pkcs11]``.
"""

from __future__ import annotations

import secrets
from typing import Any

from expunge_agent.core.layout import Layout
from expunge_agent.errors import NotFoundError, VerificationError
from expunge_agent.hardware import pkcs11
from expunge_agent.protocol.receipt_keys import KeyEvidence
from expunge_agent.vault import keys
from expunge_agent.vault.holders.port import Destruction, Passphrase, TokenSettings, not_opened

_LABEL = "expunge-vault"


class TokenHolder:
    """Root keys of `vault` in one token; the object's CKA_ID is the root's id."""

    def __init__(self, settings: TokenSettings, vault: str, passphrase: Passphrase) -> None:
        self._p: Any = pkcs11.library()
        self._vault = vault
        self.where = f"the token {settings.token!r}"
        with pkcs11.explained(self.where):
            self._token, self._session = pkcs11.session(settings.module, settings.token, bytes(passphrase()))
        self.beyond = bool(self._token.slot.flags & self._p.SlotFlag.HW_SLOT)

    def create(self, root: str) -> None:
        """Have the token make a key that never leaves it."""
        if self.has(root):
            return
        attribute = self._p.Attribute
        with pkcs11.explained(self.where):
            self._session.generate_key(
                self._p.KeyType.AES,
                256,
                id=bytes.fromhex(root),
                label=f"{_LABEL} {self._vault}",
                store=True,
                capabilities=self._p.MechanismFlag.ENCRYPT | self._p.MechanismFlag.DECRYPT,
                template={
                    attribute.SENSITIVE: True,
                    attribute.EXTRACTABLE: False,
                    attribute.PRIVATE: True,
                    attribute.COPYABLE: False,
                },
            )

    def has(self, root: str) -> bool:
        """Whether the token has it."""
        return self._find(root) is not None

    def seal(self, root: str, secret: bytes, about: bytes) -> bytes:
        """Seal `secret` in the token: nonce of 12 bytes, ciphertext, tag."""
        nonce = secrets.token_bytes(keys.NONCE)
        with pkcs11.explained(self.where):
            sealed: bytes = self._key(root).encrypt(
                secret,
                mechanism=self._p.Mechanism.AES_GCM,
                mechanism_param=self._p.GCMParams(nonce, aad=about, tag_bits=128),
            )
        return nonce + sealed

    def unseal(self, root: str, sealed: bytes, about: bytes) -> bytes:
        """Open what `seal` sealed."""
        key = self._key(root)
        try:
            found: bytes = key.decrypt(
                sealed[keys.NONCE :],
                mechanism=self._p.Mechanism.AES_GCM,
                mechanism_param=self._p.GCMParams(sealed[: keys.NONCE], aad=about, tag_bits=128),
            )
        except self._p.PKCS11Error as error:
            raise VerificationError(not_opened(self.where), "Restore the newest keystore.") from error
        return found

    def place(self, root: str) -> Layout:
        """In the device, where no overwrite of ours goes."""
        return Layout(extents=[])

    def spoil(self, root: str, before: Layout) -> tuple[str, ...]:
        """Nothing can be done before it is taken away."""
        return ()

    def destroy(self, root: str) -> Destruction:
        """C_DestroyObject, and what the token said of the key before."""
        key = self._find(root)
        if key is None:
            return Destruction(f"{self.where} does not have it any more", self.beyond, self._software())
        attribute = self._p.Attribute
        doubts = list(self._software())
        if key[attribute.EXTRACTABLE] or not key[attribute.NEVER_EXTRACTABLE] or not key[attribute.LOCAL]:
            doubts.append("the token says that the key could have left it")
        with pkcs11.explained(self.where):
            key.destroy()
        evidence = (
            KeyEvidence(name="CKA_ID of the destroyed key", hex=root),
            KeyEvidence(name="token serial", hex=bytes(self._token.serial).hex()),
        )
        return Destruction(
            f"destroyed in {self.where} (C_DestroyObject)", self.beyond, tuple(doubts), evidence
        )

    def close(self) -> None:
        """Log out."""
        self._session.close()

    def _software(self) -> tuple[str, ...]:
        return () if self.beyond else ("the token is software: its keys lie in files, which it removes",)

    def _find(self, root: str) -> Any:
        with pkcs11.explained(self.where):
            found = list(
                self._session.get_objects(
                    {
                        self._p.Attribute.CLASS: self._p.ObjectClass.SECRET_KEY,
                        self._p.Attribute.ID: bytes.fromhex(root),
                    }
                )
            )
        return found[0] if found else None

    def _key(self, root: str) -> Any:
        found = self._find(root)
        if found is None:
            raise NotFoundError(
                f"The root key {root} is not in {self.where}.",
                "It was destroyed by a shredding or rotation (then take the newest keystore), or the token is "
                "not the right one.",
            )
        return found
