"""LUKS headers: as cryptsetup writes them, changed, cut, damaged, and anything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.core.luks import NotLuksError, begins_like_luks, parse, uuid_of
from expunge_agent.core.luks_data import bare
from expunge_agent.protocol import canonical
from support.luks import NAMES, recorded, reseal, with_json

MIB = 1 << 20


@pytest.mark.parametrize(
    ("name", "version", "area", "payload", "bits", "slots"),
    [
        ("luks1", 1, 2 * MIB, 2 * MIB, 512, 1),
        ("luks2", 2, 16 * MIB, 16 * MIB, 512, 1),
        ("luks2-tokens", 2, 16 * MIB, 16 * MIB, 512, 1),
        ("luks2-detached", 2, 16 * MIB, 0, 512, 1),
        ("luks2-erased", 2, 16 * MIB, 16 * MIB, -1, 0),
    ],
)
def test_as_cryptsetup_writes_it(
    name: str, version: int, area: int, payload: int, bits: int, slots: int
) -> None:
    header = parse(*recorded(name))
    assert header.version == version
    assert header.uuid.startswith("00000000-0000-4000-8000-00000000000")
    assert (header.area, header.payload, header.key_bits, header.keyslots) == (area, payload, bits, slots)
    assert header.cipher == "aes-xts-plain64"
    assert header.strength == (256 if bits > 0 else -1)
    assert header.segments == ["crypt"]
    assert not header.doubts


def test_label_tokens_and_work_in_progress() -> None:
    assert parse(*recorded("luks2")).label == "archive"
    assert [(one.type, one.keyslots) for one in parse(*recorded("luks2-tokens")).tokens] == [
        ("systemd-tpm2", ["0"]),
        ("clevis", ["0"]),
    ]
    assert parse(*recorded("luks2-reencrypting")).requirements == ["online-reencrypt-v2"]
    assert "linear" in parse(*recorded("luks2-encrypting")).segments


def test_a_drive_that_locks_itself() -> None:
    """Written by cryptsetup 2.7 and later with --hw-opal-only; here made from an ordinary header."""
    head, size = recorded("luks2")

    def opal(plain: dict) -> None:
        plain["segments"]["0"] = {"type": "hw-opal", "offset": "16777216", "size": "dynamic"}

    header = parse(with_json(head, opal), size)
    assert header.segments == ["hw-opal"]
    assert header.cipher == ""


@pytest.mark.parametrize("name", [name for name in NAMES if name != "luks1"])
@pytest.mark.parametrize("damaged", [0, 1])
def test_the_other_header_counts_where_one_is_damaged(name: str, damaged: int) -> None:
    head, size = recorded(name)
    whole = parse(head, size)
    length = int.from_bytes(head[8:16], "big")
    for at in (0, 6, 8, 16, 168, 448, 4100, length - 1):
        broken = bytearray(head)
        broken[damaged * length + at] ^= 0x40
        found = parse(bytes(broken), size)
        assert (found.uuid, found.area, found.keyslots) == (whole.uuid, whole.area, whole.keyslots)
        assert found.doubts
        broken[(1 - damaged) * length + 5000] ^= 1
        with pytest.raises(NotLuksError, match=r"^[A-Z].*\.$"):
            parse(bytes(broken), size)


def test_the_newer_of_two_good_headers_counts() -> None:
    head, size = recorded("luks2")
    newer = bytearray(with_json(head, lambda plain: plain["keyslots"].clear()))
    length = int.from_bytes(head[8:16], "big")
    newer[length:] = head[length:]  # the second keeps its keyslot
    assert parse(bytes(newer), size).keyslots == 0  # of equal numbers the first counts
    newer[length + 16 : length + 24] = (99).to_bytes(8, "big")
    reseal(newer, length, length)
    assert parse(bytes(newer), size).keyslots == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("config"),
        lambda plain: plain.update(segments=[]),
        lambda plain: plain["segments"].clear() or plain["config"].update(keyslots_size="-5"),
        lambda plain: plain["keyslots"]["0"]["area"].update(offset="9" * 30),
        lambda plain: plain["keyslots"]["0"].update(key_size="many"),
        lambda plain: plain.update(tokens={"0": {"type": 5}}),
    ],
)
def test_json_with_a_right_checksum_and_no_sense(change) -> None:
    head, size = recorded("luks2")
    with pytest.raises(NotLuksError, match="makes no sense"):
        parse(with_json(head, change), size)


def test_the_area_ends_where_the_medium_does() -> None:
    head, _ = recorded("luks2")
    assert parse(head, MIB).area == MIB


def test_weak_keys_and_no_cipher() -> None:
    head, size = recorded("luks2")

    def weak(plain: dict) -> None:
        plain["keyslots"]["0"]["key_size"] = 16

    def null(plain: dict) -> None:
        plain["segments"]["0"]["encryption"] = "cipher_null-ecb"

    assert parse(with_json(head, weak), size).strength == 64
    assert parse(with_json(head, null), size).strength == 0


def test_magic_and_uuid_are_seen_without_a_sound_header() -> None:
    head, _ = recorded("luks2")
    second = bytes(0x4000) + head[0x4000:]
    assert begins_like_luks(head)
    assert begins_like_luks(second)
    assert not begins_like_luks(bytes(1 << 20))
    assert uuid_of(head) == uuid_of(head[0x4000:]) == "00000000-0000-4000-8000-000000000002"
    assert uuid_of(recorded("luks1")[0]) == "00000000-0000-4000-8000-000000000001"
    assert uuid_of(b"nothing") == ""


@settings(deadline=None)
@given(
    st.binary(max_size=600),
    st.sampled_from([b"", b"LUKS\xba\xbe\0\1", b"LUKS\xba\xbe\0\2", b"LUKS\xba\xbe\0\3"]),
)
def test_garbage_is_a_sentence(rest: bytes, start: bytes) -> None:
    with pytest.raises(NotLuksError, match=r"^[A-Z].*\.$"):
        parse(start + rest, 1 << 30)


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 4095), st.binary(min_size=1, max_size=64))
def test_any_change_is_noticed_or_harmless(name: str, at: int, over: bytes) -> None:
    head, size = recorded(name)
    changed = bytearray(head)
    changed[at : at + len(over)] = over
    try:
        header = parse(bytes(changed), size)
    except NotLuksError:
        return
    assert 0 < header.area <= size


@pytest.mark.parametrize(
    "name", [b"shake_128", b"shake256", b"SHAKE-128", b"no such", b"", b"\xff\x1b[2J", b"md5-sha1"]
)
def test_a_checksum_without_a_length_of_its_own_or_unknown_is_refused(name: bytes) -> None:
    head, size = recorded("luks2")
    odd = bytearray(head)
    for place in (0, int.from_bytes(head[8:16], "big")):
        odd[place + 72 : place + 104] = name.ljust(32, b"\0")
    with pytest.raises(NotLuksError, match=r"checksum of an unknown kind \(.*\)\.$") as caught:
        parse(bytes(odd), size)
    assert str(caught.value).isprintable()


_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["9" * 5000, "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_PLACES = (
    ("config",),
    ("config", "keyslots_size"),
    ("config", "requirements"),
    ("segments",),
    ("segments", "0"),
    ("segments", "0", "type"),
    ("segments", "0", "offset"),
    ("segments", "0", "encryption"),
    ("segments", "x"),
    ("keyslots",),
    ("keyslots", "0"),
    ("keyslots", "0", "area"),
    ("keyslots", "0", "key_size"),
    ("tokens",),
    ("tokens", "0"),
)


@given(st.sampled_from(_PLACES), _ANY)
def test_any_json_with_a_right_checksum_is_a_header_or_a_sentence(
    place: tuple[str, ...], value: object
) -> None:
    head, size = recorded("luks2-tokens")

    def odd(plain: dict) -> None:
        for key in place[:-1]:
            plain = plain[key]
        plain[place[-1]] = value

    _header_or_sentence(with_json(head, odd), size)


@given(st.integers(16, 4095), st.binary(min_size=1, max_size=300))
def test_any_fields_with_a_right_checksum_are_a_header_or_a_sentence(at: int, over: bytes) -> None:
    head, size = recorded("luks2")
    odd = bytearray(head)
    length = int.from_bytes(head[8:16], "big")
    for place in (0, length):
        odd[place + at : place + at + len(over)] = over
        reseal(odd, place, length)
    _header_or_sentence(bytes(odd), size)


@given(st.integers(8, 591), st.binary(min_size=1, max_size=200))
def test_any_fields_of_the_first_version_too(at: int, over: bytes) -> None:
    head, size = recorded("luks1")
    _header_or_sentence(head[:at] + over + head[at + len(over) :], size)


@pytest.mark.parametrize("depth", [500, 6000])
def test_json_nested_beyond_measure(depth: int) -> None:
    head, size = recorded("luks2")
    odd = bytearray(head)
    length = int.from_bytes(head[8:16], "big")
    text = b'{"segments":{"0":{"type":' + b"[" * depth + b"]" * depth + b"}}}"
    for place in (0, length):
        odd[place + 4096 : place + length] = text[: length - 4096].ljust(length - 4096, b"\0")
        reseal(odd, place, length)
    _header_or_sentence(bytes(odd), size)


def _header_or_sentence(head: bytes, size: int) -> None:
    try:
        header = parse(head, size)
    except NotLuksError as error:
        text = str(error)
        assert text[0].isupper()
        assert text.endswith(".")
        assert text.isprintable()
    else:
        canonical.dumps(header)
        assert header.one_line.isprintable()


def _strength(cipher: str, size: int, integrity: str = "") -> int:
    head, length = recorded("luks2")

    def change(plain: dict) -> None:
        plain["segments"]["0"]["encryption"] = cipher
        plain["keyslots"]["0"]["key_size"] = size
        if integrity:
            plain["segments"]["0"]["integrity"] = {"type": integrity, "journal_encryption": "none"}

    return parse(with_json(head, change), length).strength


@pytest.mark.parametrize(
    ("cipher", "size", "integrity", "bits"),
    [
        ("aes-xts-plain64", 64 + 32, "hmac(sha256)", 256),
        ("aes-xts-plain64", 32 + 64, "hmac(sha512)", 128),
        ("aes-xts-plain64", 64 + 32, "of-the-future", -1),
        ("aes-gcm-random", 32, "aead", 256),
        ("capi:xts(serpent)-plain64", 16, "", 64),
        ("serpent-lrw-benbi", 24, "", 64),
        ("aes-cbc-essiv:sha256", 96, "", 256),
    ],
)
def test_only_the_bits_that_encrypt_count(cipher: str, size: int, integrity: str, bits: int) -> None:
    """dm-integrity's key, the other half of XTS and LRW's tweak stand in the same keyslot."""
    assert _strength(cipher, size, integrity) == bits


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        (lambda plain: plain["config"].update(requirements={"mandatory": ["of-the-future"]}), "demands"),
        (lambda plain: plain["segments"].update({"1": _segment("riddle", 32 * MIB)}), "unknown kind"),
    ],
)
def test_what_is_not_understood_is_a_doubt(change, doubt: str) -> None:
    head, size = recorded("luks2")
    assert doubt in parse(with_json(head, change), size).doubts[0]
    assert not parse(*recorded("luks2-reencrypting")).doubts


def _segment(kind: str, offset: int, size: str = "dynamic") -> dict[str, str]:
    return {"type": kind, "offset": str(offset), "size": size}


def test_a_header_of_something_larger_is_a_doubt() -> None:
    head, _ = recorded("luks2")
    assert "cut off" in parse(head, 20 << 10).doubts[0]
    head, _ = recorded("luks1")
    assert "cut off" in parse(head, 100 << 10).doubts[0]


def test_more_of_a_kind_than_there_can_be_is_damage() -> None:
    """Or a header of 4 MiB would go into journal and receipt as tens of thousands of tokens."""
    head, size = recorded("luks2")
    many = {str(one): {"type": "t", "keyslots": ["0"]} for one in range(33)}
    with pytest.raises(NotLuksError, match="makes no sense"):
        parse(with_json(head, lambda plain: plain.update(tokens=many)), size)


def test_two_sound_headers_of_different_volumes_are_a_doubt_and_all_of_both_goes() -> None:
    head, size = recorded("luks2")
    other = bytearray(head)
    length = int.from_bytes(head[8:16], "big")
    other[length + 168 : length + 172] = b"ffff"
    reseal(other, length, length)
    assert "different volumes" in parse(bytes(other), size).doubts[0]
    wider = with_json(head, lambda plain: plain["config"].update(keyslots_size=str(20 * MIB)))
    mixed = bytearray(head)
    mixed[length : 2 * length] = wider[length : 2 * length]
    found = parse(bytes(mixed), 1 << 30)
    assert found.area == 20 * MIB + 2 * length
    assert found.doubts


def test_a_luks1_header_without_keyslots_to_speak_of_is_overwritten_all_the_same() -> None:
    head, size = recorded("luks1")
    hollow = bytearray(head)
    hollow[104:108] = bytes(4)
    for slot in range(8):
        hollow[208 + 48 * slot + 40 : 208 + 48 * slot + 48] = bytes(8)
    assert parse(bytes(hollow), size).area == 4096


def test_what_lies_outside_the_segments() -> None:
    assert bare([(16, 0)], 16, 100) == []
    assert bare([(16, 0)], 0, 100) == [(0, 16)]
    assert bare([(16, 40), (60, 80)], 16, 100) == [(40, 60), (80, 100)]
    assert bare([], 16, 100) == [(16, 100)]
    assert bare([(200, 0)], 16, 100) == [(16, 100)]
    reencrypting = parse(*recorded("luks2-reencrypting"))
    assert bare(reencrypting.encrypted, int(reencrypting.area), 64 * MIB) == []
    encrypting = parse(*recorded("luks2-encrypting"))
    assert bare(encrypting.encrypted, int(encrypting.area), 64 * MIB)
