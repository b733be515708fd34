"""Bundles made to hurt whoever checks them: each ends soon, with the right step failed, and never with a traceback."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import pytest

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import sshsig
from expunge_controller.bundle import bundle_files
from expunge_controller.bundle_read import read_bundle
from expunge_controller.records import key_check, log_check
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.findings import failures
from expunge_controller.records.log_policy import MAX_DOTS, MAX_POLICY, parse_policy
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from support.evidence import World

SECONDS = 30
"""Far more than any of them takes, far less than any of them could."""
WORLD = World()
FILES = bundle_files(WORLD.parts())
DEEP = b"[" * 200_000 + b"]" * 200_000
SIGNED = "the receipt is signed"


def failed(**files: bytes) -> set[str]:
    """The steps that fail where files (`__` for ``/``) say something else."""
    changed = {name.replace("__", "/"): data for name, data in files.items()}
    begun = time.monotonic()
    steps = verify_bundle(FILES | changed, None, page=certificate_html, readme=readme, profiles={})
    assert time.monotonic() - begun < SECONDS
    return {step.title for step in failures(steps)}


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("receipt.json", SIGNED),
        ("order.json", "the order is signed"),
        ("certificate.json", "the certificate is signed"),
        ("custody/001.json", "the custody chain is whole"),
        ("key-events/001.json", key_check.WHOLE),
    ],
)
@pytest.mark.parametrize(
    "data", [DEEP, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'{"a":' + b"9" * 999_999 + b"}"]
)
def test_values_too_deep_or_too_long(name: str, step: str, data: bytes) -> None:
    assert step in failed(**{name: data})


def test_a_key_that_stands_twice() -> None:
    twice = FILES["receipt.json"].replace(b'{"_type"', b'{"_type":"x","_type"', 1)
    assert SIGNED in failed(**{"receipt.json": twice})
    again = sshsig.sign(WORLD.agent, sshsig.RECEIPT_NAMESPACE, twice)
    found = failed(**{"receipt.json": twice, "receipt.json.sig": again})
    assert SIGNED not in found
    assert any("receipt" in title for title in found), "well signed, and still no receipt"


@pytest.mark.parametrize(
    "when", [b"9999-99-99T99:99:99Z", b"0000-01-01T00:00:00Z", b"2026-03-02T09:30:09+99:00"]
)
def test_absurd_dates(when: bytes) -> None:
    body = FILES["receipt.json"].replace(b"2026-03-02T09:30:09Z", when)
    assert body != FILES["receipt.json"]
    again = sshsig.sign(WORLD.agent, sshsig.RECEIPT_NAMESPACE, body)
    found = failed(**{"receipt.json": body, "receipt.json.sig": again})
    assert SIGNED not in found
    assert log_check.ENTRY_IS in found
    assert len(found) > 3


@pytest.mark.parametrize(
    "text",
    [
        "a=" + "[" * 100_000,
        "a=" + "{a=" * 20_000,
        "a" + ".a" * 100_000 + "=1\n",
        "".join(f"[a.b{number}]\n" for number in range(100_000)),
        "#" * (MAX_POLICY + 1),
        "." * (MAX_DOTS + 1),
    ],
)
def test_a_policy_that_would_take_for_ever(text: str) -> None:
    begun = time.monotonic()
    with pytest.raises(DocumentError, match="log policy is not right"):
        parse_policy(text)
    assert time.monotonic() - begun < SECONDS
    assert log_check.SIGNED in failed(**{"trust/log-policy.toml": text.encode()})


def test_as_many_files_as_there_may_be() -> None:
    more = {
        f"custody/{number:03}.json{ending}": FILES["custody/004.json" + ending.replace(".ann", "")]
        for number in range(5, 1000)
        for ending in ("", ".sig", ".ann.sig")
    }
    more |= {
        f"key-events/{number:03}{ending}": FILES[f"key-events/002{ending}"]
        for number in range(3, 1000)
        for ending in (".json", ".json.sig", ".tlog-proof")
    }
    assert {"the custody chain is whole", key_check.WHOLE} <= failed(**more)


def test_a_gigabyte_in_a_megabyte(tmp_path: Path) -> None:
    """Whether its header says so or not, no more than the limit is unpacked."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("receipt.json", "w", force_zip64=True) as stream,
    ):
        for _ in range(64):
            stream.write(bytes(16 * 1024 * 1024))
    path = tmp_path / "bomb.zip"
    path.write_bytes(packed.getvalue())
    begun = time.monotonic()
    with pytest.raises(VerificationError, match="too large"):
        read_bundle(path)
    assert time.monotonic() - begun < SECONDS
