"""Encryption recognised by its header; what has none is called what it looks like."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.core.encrypted import HEAD, recognised
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.devices import encrypted
from expunge_agent.devices.encrypted import encryption_at, with_encryption
from expunge_agent.devices.look import look
from support.luks import NAMES, recorded, with_json

MIB = 1 << 20
NOISE = random.Random(5).randbytes(HEAD)


def put(at: int, what: bytes, into: bytes = bytes(HEAD)) -> bytes:
    return into[:at] + what + into[at + len(what) :]


def zfs(little: bool) -> bytes:
    magic = (0x00BAB10C).to_bytes(8, "little" if little else "big")
    return put((128 << 10) + 1024 * 7, magic, put((16 << 10) + 100, b"\0\0\0\x09pool_guid\0\0\0"))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (put(0, b"\xeb\x58\x90-FVE-FS-"), "BitLocker"),
        (put(1296, b"\1", put(32, b"NXSB")), "APFS container with a key bag"),
        (put(88, b"CS", put(0, b"\x8a\x11\x22\x33")), "CoreStorage"),
        (zfs(True), "ZFS pool"),
        (zfs(False), "ZFS pool"),
        (
            put(0, (4096).to_bytes(8, "big") + bytes.fromhex("12345678") + bytes.fromhex("2eb5e18d")),
            "eCryptfs",
        ),
        (NOISE, "VeraCrypt"),
    ],
)
def test_what_shows_is_named_and_said_to_stay(head: bytes, words: str) -> None:
    (said,) = recognised(head, 100 * MIB)
    assert words in said
    assert "not destroyed by themselves" in said


@pytest.mark.parametrize(
    "head",
    [
        b"",
        bytes(HEAD),
        b"text " * 20000,
        put(32, b"NXSB"),
        NOISE[:1000],
        b"PK\3\4" + NOISE,
        b"\x1f\x8b" + NOISE,
    ],
)
def test_what_does_not_show_is_not_claimed(head: bytes) -> None:
    assert recognised(head, 100 * MIB) == []


@pytest.mark.parametrize("name", NAMES)
def test_luks_with_what_its_header_says(name: str) -> None:
    head, size = recorded(name)
    (said,) = recognised(head, size)
    assert said.startswith(f"LUKS{1 if name == 'luks1' else 2} 00000000-")


def test_a_drive_that_locks_itself_and_a_damaged_header() -> None:
    head, size = recorded("luks2")

    def opal(plain: dict) -> None:
        plain["segments"]["0"] = {"type": "hw-opal", "offset": "16777216", "size": "dynamic"}

    assert "hw-opal" in recognised(with_json(head, opal), size)[0]
    assert "damaged LUKS header" in recognised(put(4200, b"!", put(0x4000 + 4200, b"!", head)), size)[0]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_anything_is_looked_at_without_harm(head: bytes) -> None:
    recognised(head, len(head))


def test_the_note_stands_with_the_medium(tmp_path) -> None:
    head, size = recorded("luks2")
    image = tmp_path / "disk.img"
    image.write_bytes(head)
    os.truncate(image, size)
    found = look(image).medium
    assert found is not None
    assert with_encryption(found).notes[-1].startswith("LUKS2 00000000-")
    gone = Medium(path=str(tmp_path / "none"), identity=found.identity, type=MediumType.FILE)
    assert with_encryption(gone) == gone


def test_an_odd_header_is_a_note_and_breaks_nothing(tmp_path, monkeypatch) -> None:
    head, _ = recorded("luks2")
    odd = put(0x4000 + 72, b"shake_128\0", put(72, b"shake_128\0", head))
    image = tmp_path / "disk.img"
    image.write_bytes(odd)
    (said,) = encryption_at(str(image))
    assert said.startswith("a damaged LUKS header (The first LUKS2 header has a checksum of an unknown kind")

    def broken(*_: object) -> list[str]:
        raise TypeError

    monkeypatch.setattr(encrypted, "recognised", broken)
    assert encryption_at(str(image)) == ["begins with something that could not be recognised (TypeError)"]
