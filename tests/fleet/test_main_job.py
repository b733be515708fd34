"""The main job through both programs: order, wipe, receipt, custody, certificate, bundle, verification."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.outbox import Outbox
from support.fleet import Fleet, fleet

RECORD = b"RECORD 4711 "


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(RECORD * 500_000)
    return path


def newest(running: Fleet) -> dict[str, str]:
    job: dict[str, str] = running.json("jobs")[0]
    return job


def test_from_order_to_verified_bundle(running: Fleet, image: Path, tmp_path: Path) -> None:
    told = running.expunge(
        "wipe", "ws1", str(image), "--profile", "random-verified", "--case", "C-1", "--yes"
    )
    assert "sanitized" in told.stdout
    assert RECORD not in image.read_bytes()
    job = newest(running)
    assert job["outcome"] == "sanitized"
    bundle = tmp_path / "bundle.zip"
    running.expunge("export", job["order_id"], "--output", str(bundle))
    running.expunge("verify", str(bundle))
    receipt = json.loads(zipfile.ZipFile(bundle).read("receipt.json"))["predicate"]
    (machine,) = running.json("machines")
    assert machine["mldsa65_key"] == receipt["agent"]["mldsa65_key"]
    told = running.expunge("verify", str(bundle), "--mldsa-key", machine["mldsa65_key"])
    (line,) = [line for line in told.stdout.splitlines() if "ML-DSA-65 key is one" in line]
    assert "passed" in line
    running.expunge("verify", str(bundle), "--mldsa-key", "0" * 64, code=9)
    assert receipt["order"]["case_number"] == "C-1"
    running.until("the receipt is acknowledged", lambda: not Outbox(running.state).pending())
    running.expunge_agent("verify", str(image), "--receipt", _receipt(bundle, tmp_path))
    with image.open("r+b") as handle:
        handle.write(b"new")
    running.expunge_agent("verify", str(image), "--receipt", _receipt(bundle, tmp_path), code=7)


def test_two_media_in_one_order(running: Fleet, tmp_path: Path) -> None:
    """One order, one receipt; a certificate and a bundle for each medium."""
    images = [tmp_path / "a.img", tmp_path / "b.img"]
    for image in images:
        image.write_bytes(RECORD * 300_000)
    running.expunge("wipe", "ws1", *map(str, images), "--profile", "random-verified", "--yes")
    assert not any(RECORD in image.read_bytes() for image in images)
    order = newest(running)["order_id"]
    subjects = set()
    for number in ("1", "2"):
        bundle = tmp_path / f"{number}.zip"
        running.expunge("export", order, "--output", str(bundle), "--target", number)
        running.expunge("verify", str(bundle))
        subjects.add(json.loads(zipfile.ZipFile(bundle).read("custody/001.json"))["subject"])
    assert subjects == {f"media:file:{image}" for image in images}


def test_json_lines_of_a_wipe(running: Fleet, image: Path) -> None:
    told = running.expunge("wipe", "ws1", str(image), "--profile", "random-verified", "--yes", "--json")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(lines) > 3


def test_a_dry_run_keeps_nothing(running: Fleet, image: Path) -> None:
    before = image.read_bytes(), len(running.json("jobs"))
    running.expunge("wipe", "ws1", str(image), "--profile", "random-verified", "--dry-run")
    assert (image.read_bytes(), len(running.json("jobs"))) == before


def test_a_refusal_comes_back_signed(running: Fleet, image: Path) -> None:
    running.expunge("media", "register", "ws1", str(image))
    before = image.read_bytes()
    image.with_name("second").hardlink_to(image)
    told = running.expunge("wipe", "ws1", str(image), "--profile", "random-verified", "--yes", code=3)
    assert "names" in told.stdout + told.stderr
    assert image.read_bytes() == before
    assert newest(running)["outcome"] == "refused"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("wipe", "nobody", "/x", "--profile", "zero", "--yes"), 18),
        (("wipe", "ws1", "/nothing/here", "--profile", "zero", "--yes"), 3),
        (("wipe", "ws1", "", "--profile", "zero", "--yes"), 2),
        (("wipe", "ws1", "/x", "--profile", "zeroo", "--yes"), 10),
        (("wipe", "ws1", "/x", "--profile", "zero"), 2),
        (("export", "no-such-order", "--output", "/tmp/x.zip"), 18),
        (("verify", "/nothing/here.zip"), None),
        (("certificate", "no-such-order"), 18),
        (("custody", "no-such-medium"), 18),
        (("jobs", "no-such-order"), 18),
    ],
)
def test_mistakes_end_in_a_sentence(running: Fleet, args: tuple[str, ...], code: int | None) -> None:
    done = running.expunge(*args, code=code)
    assert done.returncode not in (0, 70)
    assert "error:" in done.stderr or "Usage:" in done.stderr


def test_a_pipe_is_no_target(running: Fleet, image: Path) -> None:
    pipe = image.with_name("pipe")
    os.mkfifo(pipe)
    done = running.expunge("wipe", "ws1", str(pipe), "--profile", "zero", "--yes", code=3)
    assert "error:" in done.stderr
    assert "pipe" in done.stderr


def _receipt(bundle: Path, folder: Path) -> str:
    with zipfile.ZipFile(bundle) as archive:
        for name in ("receipt.json", "receipt.json.sig"):
            archive.extract(name, folder)
    return str(folder / "receipt.json")
