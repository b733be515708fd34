"""Writing a bundle (the same bytes, whole or not at all) and reading one that may be hostile."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.errors import (
    DocumentError,
    NotFoundError,
    PermissionProblemError,
    VerificationError,
)
from expunge_agent.protocol import dsse
from expunge_agent.protocol.receipt import MAX_RECEIPT
from expunge_agent.protocol.trust import format_allowed_signers
from expunge_controller import bundle_read
from expunge_controller.bundle import BundleParts, SignedBytes, bundle_files, write_bundle, zip_bytes
from expunge_controller.bundle_read import check_bundle, read_bundle, read_trusted
from expunge_controller.records import stamp_check
from expunge_controller.records.findings import Status, failures
from expunge_controller.records.log_check import LogOutside
from support.evidence import PROFILE, World


def test_round_trip(tmp_path: Path, world: World, parts: BundleParts) -> None:
    path = tmp_path / "bundle.zip"
    files = write_bundle(path, parts)
    assert read_bundle(path) == files == bundle_files(parts)
    assert sorted(files) == [
        "README.txt",
        "SHA256SUMS",
        "certificate.html",
        "certificate.json",
        "certificate.json.sig",
        "checkpoint.txt",
        "custody/001.json",
        "custody/001.json.sig",
        "custody/002.json",
        "custody/002.json.sig",
        "custody/003.json",
        "custody/003.json.sig",
        "custody/004.json",
        "custody/004.json.sig",
        "entry.txt",
        "key-events/001.json",
        "key-events/001.json.sig",
        "key-events/001.tlog-proof",
        "key-events/002.json",
        "key-events/002.json.sig",
        "key-events/002.tlog-proof",
        "order.json",
        "order.json.sig",
        "receipt.dsse.json",
        "receipt.ed25519.sig",
        "receipt.json",
        "receipt.json.sig",
        "receipt.mldsa65.sig",
        "receipt.tlog-proof",
        "trust/allowed_signers",
        "trust/log-policy.toml",
        "trust/receipt.ed25519.pem",
        "trust/receipt.mldsa65.pem",
        "verify.sh",
    ]
    seen = world.log.checkpoint(world.log.tree(parts.receipt), 7)
    outside = LogOutside(world.log.policy, (seen,))
    steps = check_bundle(
        path, world.signers, {PROFILE.digest: PROFILE}, outside, [dsse.keyid(world.mldsa65_key)]
    )
    assert [step.title for step in steps if step.status is not Status.PASSED] == [stamp_check.STAMPED]


def test_same_evidence_same_bytes(tmp_path: Path, parts: BundleParts) -> None:
    for name in ("one.zip", "two.zip"):
        write_bundle(tmp_path / name, parts)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == sorted(archive.namelist())
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_only_the_bundle_is_left_behind(tmp_path: Path, parts: BundleParts) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(b"an older bundle")
    write_bundle(path, parts)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle.zip"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_bundle_that_would_not_check_out_is_not_written(tmp_path: Path, parts: BundleParts) -> None:
    path = tmp_path / "bundle.zip"
    bad = parts._replace(receipt=SignedBytes(parts.receipt.body + b" ", parts.receipt.signature))
    with pytest.raises(VerificationError):
        write_bundle(path, bad)
    with pytest.raises(VerificationError):
        write_bundle(path, parts._replace(signers=[]))
    assert not path.exists()


def test_where_it_cannot_be_written(tmp_path: Path, parts: BundleParts) -> None:
    with pytest.raises(NotFoundError):
        write_bundle(tmp_path / "missing" / "bundle.zip", parts)
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(PermissionProblemError) as caught:
        write_bundle(tmp_path / "folder.zip", parts)
    assert caught.value.remedy
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.zip"]


def packed(*entries: tuple[str | zipfile.ZipInfo, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def refusal(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "hostile.zip"
    path.write_bytes(data)
    with pytest.raises(VerificationError) as caught:
        read_bundle(path)
    assert caught.value.remedy
    return caught.value.message


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../up.json",
        "custody/../../up.json",
        "custody//001.json",
        "./receipt.json",
        "a\\b",
        "C:x",
        "",
        "a/",
        "x\x00y",
        "名.json",
        ".hidden",
        "x" * 300,
    ],
)
def test_names_that_may_not_stand(tmp_path: Path, name: str) -> None:
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    assert "may not stand" in refusal(tmp_path, packed((entry, b"{}")))


def test_doubles(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = packed(("receipt.json", b"1"), ("receipt.json", b"2"))
    assert "twice" in refusal(tmp_path, data)
    assert "twice" in refusal(tmp_path, packed(("receipt.json", b"1"), ("RECEIPT.json", b"2")))


def test_links_and_devices(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR):
        entry = zipfile.ZipInfo("receipt.json")
        entry.external_attr = (kind | 0o777) << 16
        assert "not a plain file" in refusal(tmp_path, packed((entry, b"/etc/passwd")))


def test_encryption_and_odd_packing(tmp_path: Path) -> None:
    data = packed(("receipt.json", b"12345"))
    at = data.index(b"PK\x01\x02")
    locked = bytearray(data)
    locked[at + 8] |= 1
    locked[6] |= 1
    assert "encrypted" in refusal(tmp_path, bytes(locked))
    assert "packed" in refusal(tmp_path, packed(("receipt.json", b"1" * 99), compression=zipfile.ZIP_BZIP2))


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = bytes(4 * 1024 * 1024)
    assert "200 times" in refusal(tmp_path, packed(("receipt.json", zeros), compression=zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(bundle_read, "MAX_FILE", 1000)
    monkeypatch.setattr(bundle_read, "MAX_TOTAL", 3000)
    monkeypatch.setattr(bundle_read, "MAX_ENTRIES", 5)
    assert "too large" in refusal(tmp_path, packed(("a", bytes(1001))))
    several = [(name, bytes(900)) for name in ("a", "b", "c", "d")]
    assert "too large" in refusal(tmp_path, packed(*several, compression=zipfile.ZIP_DEFLATED))
    assert "entries" in refusal(tmp_path, packed(*((str(n), b"") for n in range(6))))
    assert "larger than" in refusal(tmp_path, bytes(4000))


def test_size_that_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header says 10 bytes, the stream holds 4 MiB: never more than the limit is unpacked."""
    data = bytearray(packed(("a", bytes(4 * 1024 * 1024)), compression=zipfile.ZIP_DEFLATED))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    monkeypatch.setattr(bundle_read, "MAX_FILE", 1000)
    refusal(tmp_path, bytes(data))


def test_not_a_zip(tmp_path: Path, parts: BundleParts) -> None:
    good = zip_bytes(bundle_files(parts))
    for data in (b"", b"PK", b"no zip at all" * 100, good[:-30], good[: len(good) // 2]):
        assert "not a readable zip" in refusal(tmp_path, data)


def test_damaged_contents(tmp_path: Path) -> None:
    data = bytearray(packed(("receipt.json", b"A" * 1000)))
    data[200] ^= 1
    assert "not a readable zip" in refusal(tmp_path, bytes(data))


def test_no_such_file(tmp_path: Path) -> None:
    for read in (read_bundle, read_trusted):
        with pytest.raises(NotFoundError):
            read(tmp_path / "none.zip")
        with pytest.raises(PermissionProblemError):
            read(tmp_path)


def test_trust_of_the_auditor(tmp_path: Path, world: World) -> None:
    path = tmp_path / "allowed_signers"
    path.write_text("# mine\n" + format_allowed_signers(world.signers))
    assert read_trusted(path) == world.signers
    path.write_text("nonsense\n")
    with pytest.raises(DocumentError):
        read_trusted(path)


@settings(deadline=None)
@given(position=st.integers(0, 100_000), bit=st.integers(0, 7))
def test_any_bit_of_the_zip(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    """Whatever is changed in the zip itself, the files are the same or the check says no; it never breaks."""
    good = GOOD.data
    changed = bytearray(good)
    changed[position % len(good)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / f"flipped-{os.getpid()}.zip"
    path.write_bytes(changed)
    try:
        files = read_bundle(path)
    except VerificationError:
        return
    assert files == GOOD.files or failures(check_bundle(path, GOOD.world.signers))


class Good:
    """One bundle for the property above."""

    def __init__(self) -> None:
        self.world = World()
        self.files = bundle_files(self.world.parts())
        self.data = zip_bytes(self.files)


GOOD = Good()


def test_the_largest_receipt_fits(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(zip_bytes({"receipt.json": os.urandom(MAX_RECEIPT)}))
    assert len(read_bundle(path)["receipt.json"]) == MAX_RECEIPT
