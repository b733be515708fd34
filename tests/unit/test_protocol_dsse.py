"""The DSSE envelope, against two programs by others: securesystemslib (DSSE) and dilithium-py (ML-DSA)."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from dilithium_py.ml_dsa import ML_DSA_65
from msgspec.structs import replace
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.exceptions import VerificationError as OtherVerificationError
from securesystemslib.signer import Key, Signature, SSlibKey

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import canonical, dsse, sshsig
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.sshsig import PrivateKeySigner
from support.evidence import World

BODY = b'{"_type":"https://in-toto.io/Statement/v1"}'
RAW_AT = 22
"""Where the key itself begins in the SubjectPublicKeyInfo of ML-DSA-65."""


class OtherMlDsa65(Key):
    """A key for securesystemslib's envelope that dilithium-py checks."""

    def __init__(self, keyid: str, raw: bytes) -> None:
        super().__init__(keyid, "ml-dsa", "ml-dsa-65", {"public": raw.hex()})

    @classmethod
    def from_dict(cls, keyid: str, key_dict: dict[str, Any]) -> OtherMlDsa65:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        raw = bytes.fromhex(self.keyval["public"])
        if not ML_DSA_65.verify(raw, data, bytes.fromhex(signature.signature)):
            raise UnverifiedSignatureError(self.keyid)


@pytest.fixture(scope="module", params=[False, True], ids=["ed25519", "p256"])
def world(request: pytest.FixtureRequest) -> World:
    return World(p256=request.param)


@pytest.fixture(scope="module")
def second(world: World) -> SecondSignatures:
    assert world.second is not None
    return dsse.sign(world.agent, world.second, BODY)


def others(world: World, second: SecondSignatures) -> list[Key]:
    """The two keys as securesystemslib knows keys, from our PEM files."""
    spki = dsse.spki_of_line(world.agent.public_line)
    classic = SSlibKey.from_crypto(load_pem_public_key(dsse.pem_of(spki)), dsse.keyid(spki))  # type: ignore[arg-type]
    return [classic, OtherMlDsa65(dsse.keyid(second.mldsa65_key), second.mldsa65_key[RAW_AT:])]


def test_an_implementation_by_others_accepts_the_envelope(world: World, second: SecondSignatures) -> None:
    text = dsse.envelope(BODY, world.agent.public_line, second)
    envelope = Envelope.from_dict(json.loads(text))
    assert (envelope.payload, envelope.payload_type) == (BODY, "application/vnd.in-toto+json")
    assert envelope.pae() == dsse.pae(BODY)
    keys = others(world, second)
    assert set(envelope.verify(keys, threshold=2)) == {key.keyid for key in keys}
    for key in keys:  # each for itself
        assert set(envelope.verify([key], threshold=1)) == {key.keyid}


def test_and_refuses_what_was_changed(world: World, second: SecondSignatures) -> None:
    keys = others(world, second)
    for text in (
        dsse.envelope(BODY + b" ", world.agent.public_line, second),
        dsse.envelope(BODY, world.agent.public_line, replace(second, mldsa65=flipped(second.mldsa65, 900))),
        dsse.envelope(BODY, world.agent.public_line, replace(second, classic=flipped(second.classic, 12))),
    ):
        with pytest.raises(OtherVerificationError):
            Envelope.from_dict(json.loads(text)).verify(keys, threshold=2)


def test_the_envelope_is_canonical_json_in_one_order(world: World, second: SecondSignatures) -> None:
    text = dsse.envelope(BODY, world.agent.public_line, second)
    plain = canonical.parse(text)
    assert canonical.dumps(plain) == text
    assert base64.b64decode(plain["payload"]) == BODY
    assert [base64.b64decode(one["sig"]) for one in plain["signatures"]] == [second.classic, second.mldsa65]


def test_dilithium_py_and_ours_are_one_algorithm() -> None:
    """The same seed gives the same keys, and each takes what the other signed (FIPS 204, empty context)."""
    seed = bytes(range(32))
    ours = MLDSA65PrivateKey.from_seed_bytes(seed)
    spki = dsse.spki_of(ours.public_key())
    public, secret = ML_DSA_65.key_derive(seed)
    assert spki[RAW_AT:] == public
    assert ML_DSA_65.verify(public, dsse.pae(BODY), ours.sign(dsse.pae(BODY)))
    theirs = ML_DSA_65.sign(secret, dsse.pae(BODY))
    dsse.verify_mldsa65(spki, theirs, BODY)
    with pytest.raises(VerificationError):
        dsse.verify_mldsa65(spki, ML_DSA_65.sign(secret, dsse.pae(BODY), ctx=b"other"), BODY)
    with pytest.raises(VerificationError):
        dsse.verify_mldsa65(spki, ML_DSA_65.sign(secret, BODY), BODY)


def test_signatures_check_out_and_changed_ones_do_not(world: World, second: SecondSignatures) -> None:
    line = world.agent.public_line
    dsse.verify_classic(line, second.classic, BODY)
    dsse.verify_mldsa65(second.mldsa65_key, second.mldsa65, BODY)
    for body in (BODY + b"\n", BODY[1:], b""):
        with pytest.raises(VerificationError):
            dsse.verify_classic(line, second.classic, body)
        with pytest.raises(VerificationError):
            dsse.verify_mldsa65(second.mldsa65_key, second.mldsa65, body)
    for bit in range(len(second.classic) * 8):
        with pytest.raises(VerificationError):
            dsse.verify_classic(line, flipped(second.classic, bit), BODY)
    for bit in range(0, len(second.mldsa65) * 8, 97):
        with pytest.raises(VerificationError):
            dsse.verify_mldsa65(second.mldsa65_key, flipped(second.mldsa65, bit), BODY)
    for raw in (b"", b"x", second.classic + b"\0"):
        with pytest.raises(VerificationError):
            dsse.verify_classic(line, raw, BODY)


def test_a_signature_of_ssh_is_none_of_dsse(world: World, second: SecondSignatures) -> None:
    """One key signs both ways: what is signed begins differently."""
    armored = sshsig.sign(world.agent, sshsig.RECEIPT_NAMESPACE, BODY)
    blob = base64.b64decode("".join(armored.decode().split("\n")[1:-1]))
    raw = blob[-64:]  # of Ed25519; of ECDSA anything
    with pytest.raises(VerificationError):
        dsse.verify_classic(world.agent.public_line, raw, BODY)
    assert not dsse.pae(BODY).startswith(sshsig.MAGIC)


def test_ecdsa_is_taken_in_one_spelling_of_der() -> None:
    world = World(p256=True)
    assert world.second is not None
    good = dsse.sign(world.agent, world.second, BODY).classic
    assert encode_dss_signature(*decode_dss_signature(good)) == good
    long_form = good[:1] + b"\x81" + good[1:]
    with pytest.raises(VerificationError):
        dsse.verify_classic(world.agent.public_line, long_form, BODY)


def test_public_keys_are_files_that_others_read(world: World, second: SecondSignatures) -> None:
    for spki in (dsse.spki_of_line(world.agent.public_line), second.mldsa65_key):
        pem = dsse.pem_of(spki)
        key = load_pem_public_key(pem)
        assert key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) == pem
        assert dsse.spki_in(pem) == spki
        changes = [pem + b"\n", pem[:-1], b"\n" + pem, pem.replace(b"\n", b"\r\n"), b"", b"\xff"]
        for bad in [*changes, pem.replace(b"PUBLIC", b"PRIVATE")]:
            with pytest.raises(VerificationError):
                dsse.spki_in(bad)


@pytest.mark.parametrize(
    "spki",
    [
        b"",
        b"0" * 1974,
        dsse.spki_of(Ed25519PrivateKey.generate().public_key()),
        dsse.spki_of(MLDSA65PrivateKey.generate().public_key()) + b"\0",
        dsse.spki_of(MLDSA65PrivateKey.generate().public_key())[:-1],
    ],
    ids=["empty", "rubbish", "ed25519", "longer", "shorter"],
)
def test_what_is_no_key_of_ml_dsa_65(spki: bytes) -> None:
    with pytest.raises(VerificationError):
        dsse.mldsa65_key(spki)
    with pytest.raises(VerificationError):
        dsse.verify_mldsa65(spki, b"0" * 3309, BODY)


def test_damaged_keys_of_any_kind_are_refused_in_words() -> None:
    kinds = [
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
        Ed25519PrivateKey.generate(),
        MLDSA65PrivateKey.generate(),
    ]
    for kind in kinds:
        spki = kind.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for bit in range(min(len(spki) * 8, 400)):
            changed = flipped(spki, bit)
            with suppress(VerificationError):  # in the key proper a changed bit makes another key
                assert dsse.spki_of(dsse.mldsa65_key(changed)) == changed


def test_keys_that_ssh_may_have_and_receipts_may_not() -> None:
    class Other:
        public_line = PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())).public_line

        def signature_blob(self, data: bytes) -> bytes:
            return b"\0\0\0\x0crsa-sha2-512\0\0\0\x01x"

    with pytest.raises(VerificationError, match="rsa-sha2-512"):
        dsse.sign(Other(), MLDSA65PrivateKey.generate(), BODY)
    line = (
        rsa.generate_private_key(65537, 2048)
        .public_key()
        .public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    )
    for ask in (dsse.algorithm, dsse.spki_of_line):
        with pytest.raises(VerificationError):
            ask(line.decode())


def test_parts_too_long_are_refused_on_the_way_in() -> None:
    long = canonical.dumps(
        {"classic": "", "mldsa65": base64.b64encode(b"0" * 9000).decode(), "mldsa65_key": ""}
    )
    with pytest.raises(DocumentError):
        canonical.loads(long, SecondSignatures)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
