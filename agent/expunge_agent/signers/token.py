"""A key pair in a PKCS#11 token: ECDSA P-256 or Ed25519 (mechanisms CKM_ECDSA, CKM_EDDSA of PKCS#11 v3.0).

Each signature logs in anew: a token that was away and came back is found again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expunge_agent.errors import SigningKeyError
from expunge_agent.files import read_limited
from expunge_agent.hardware import pkcs11
from expunge_agent.protocol import sshsig
from expunge_agent.signers.settings import OBJECT, KeyWish, TokenKey

P256 = bytes.fromhex("06082a8648ce3d030107")
"""CKA_EC_PARAMS: the curve's object identifier (RFC 5480 §2.1.1.1)."""
ED25519 = (bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519")
"""The same for Ed25519: by identifier (RFC 8410 §3) or by name, as tokens write it."""


class TokenSigner:
    """Signs with the key of `settings`."""

    def __init__(self, settings: TokenKey) -> None:
        self._settings = settings
        self.where = f"the token {settings.token!r}"

    @property
    def public_line(self) -> str:
        """The public key line that was pinned."""
        return self._settings.public

    def signature_blob(self, data: bytes) -> bytes:
        """The SSH signature of `data`, made in the token."""
        p, held = pkcs11.library(), self._settings
        with _opened(held.module, held.token, held.pin) as session:
            key = _one(session, p.ObjectClass.PRIVATE_KEY, held.label)
            if key is None:
                raise SigningKeyError(
                    f"{self.where} has no private key {held.label!r}.", "Is it the right token?"
                )
            if held.public.startswith("ssh-ed25519 "):
                return sshsig.ed25519_blob(key.sign(data, mechanism=p.Mechanism.EDDSA))
            raw: bytes = key.sign(hashlib.sha256(data).digest(), mechanism=p.Mechanism.ECDSA)
            half = len(raw) // 2
            return sshsig.p256_blob(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def choose(wish: KeyWish) -> TokenKey:
    """The key pair called ``object`` in the token; one of P-256 is made where none is called so."""
    p, label = pkcs11.library(), wish.label or OBJECT
    with _opened(wish.place, wish.token, wish.pin) as session:
        public = _one(session, p.ObjectClass.PUBLIC_KEY, label)
        if public is None:
            public = _make(p, session, label)
        line = _line(p, public)
    return TokenKey(module=wish.place, token=wish.token, label=label, pin=wish.pin, public=line)


def _make(p: Any, session: Any, label: str) -> Any:
    attribute = p.Attribute
    domain = session.create_domain_parameters(p.KeyType.EC, {attribute.EC_PARAMS: P256}, local=True)
    public, _ = domain.generate_keypair(
        store=True,
        label=label,
        capabilities=p.MechanismFlag.SIGN | p.MechanismFlag.VERIFY,
        private_template={
            attribute.SENSITIVE: True,
            attribute.EXTRACTABLE: False,
            attribute.PRIVATE: True,
        },
    )
    return public


def _line(p: Any, public: Any) -> str:
    """The OpenSSH line of a public key object. CKA_EC_POINT is an OCTET STRING with the point in it."""
    params, point = bytes(public[p.Attribute.EC_PARAMS]), bytes(public[p.Attribute.EC_POINT])
    if params == P256 and point[:3] == b"\x04\x41\x04" and len(point) == 67:
        name, parts = "ecdsa-sha2-nistp256", [b"nistp256", point[2:]]
    elif params in ED25519 and point[:2] == b"\x04\x20" and len(point) == 34:
        name, parts = "ssh-ed25519", [point[2:]]
    else:
        raise SigningKeyError(
            "The key in the token is neither Ed25519 nor ECDSA P-256.", "Name another (object=…)."
        )
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (name.encode(), *parts))
    return sshsig.normal_line(f"{name} {base64.b64encode(blob).decode()}")


def _one(session: Any, kind: Any, label: str) -> Any:
    """The only object of that class and label; None where there is none."""
    p = pkcs11.library()
    found = list(session.get_objects({p.Attribute.CLASS: kind, p.Attribute.LABEL: label}))
    if len(found) > 1:
        raise SigningKeyError(
            f"The token has {len(found)} keys called {label!r}.", "Give each a label of its own."
        )
    return found[0] if found else None


@contextmanager
def _opened(module: str, token: str, pin: str) -> Iterator[Any]:
    secret = read_limited(Path(pin), 4096).split(b"\n")[0]
    with pkcs11.explained(f"the token {token!r}"):
        _, session = pkcs11.session(module, token, secret)
        try:
            yield session
        finally:
            session.close()
