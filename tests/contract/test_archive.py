"""The archive for a trustee: whole, checked by its own command and by stock tools, and every change to it is found."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.errors import NotFoundError, UsageError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.trust import parse_allowed_signers
from expunge_controller import archive_read
from expunge_controller.archive_read import check_archive
from expunge_controller.archiving import write_archive
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.records import archive_layout as layout
from expunge_controller.records.findings import Status, Step, failures
from support.controllers import FakeAgent, enrolled, make_controller, now, ordered
from support.logs import fresh_signer


def say(_what: str, done: int, total: int) -> None:
    assert 0 <= done < total


def check(folder: Path, signers: Path | None = None) -> dict[str, Step]:
    trusted = None if signers is None else parse_allowed_signers(signers.read_text())
    return {step.title: step for step in check_archive(folder, trusted, None, {}, say)}


def failed(folder: Path, signers: Path | None = None) -> set[str]:
    return {step.title for step in failures(check(folder, signers).values())}


def sign_again(folder: Path, signer: sshsig.PrivateKeySigner) -> None:
    """What an operator does after changing something."""
    digests = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("MANIFEST")
    }
    text = layout.manifest_text(digests).encode()
    (folder / layout.MANIFEST).write_bytes(text)
    (folder / layout.SIGNATURE).write_bytes(sshsig.sign(signer, layout.NAMESPACE, text))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Controller, Path]]:
    """A controller with two receipts, one kept aside; and its archive."""
    root = tmp_path_factory.mktemp("archive")
    controller = make_controller(root / "home")
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    previous = "0" * 64
    for counter in (1, 2):
        order = ordered(controller, machine)
        receipt = agent.receipt(order.body, counter=U64(counter), previous=previous)
        previous = hashlib.sha256(receipt.body).hexdigest()
        assert not store_receipt(controller, machine.machine_id, *receipt, now=now()).reasons
    store_receipt(controller, machine.machine_id, receipt.body[:-1], receipt.signature, now=now())
    ordered(controller, machine)  # has no receipt yet
    done = write_archive(controller, root / "archive", now(), say)
    assert done.bundles == 2
    assert len(done.omitted) == 1
    yield controller, root / "archive"
    controller.store.close()


@pytest.fixture
def archive(kept: tuple[Controller, Path], tmp_path: Path) -> Path:
    return shutil.copytree(kept[1], tmp_path / "archive")


def test_it_is_whole(archive: Path) -> None:
    steps = check(archive)
    assert not failures(steps.values())
    assert steps[archive_read.TRUSTED].status is Status.SKIPPED
    mine = check(archive, archive / layout.SIGNERS)
    assert mine[archive_read.TRUSTED].status is Status.PASSED
    page = (archive / layout.INDEX).read_text()
    assert page.count(".zip") == 4, "a link and its text for each"
    assert "介质" in page
    assert "no receipt yet" in (archive / layout.README).read_text()
    assert len(list((archive / "documents/aside").glob("*.json"))) == 1


def test_stock_tools_agree(archive: Path) -> None:
    """The commands of README.txt."""
    text = (archive / layout.README).read_text()
    commands = "\n".join(re.findall(r"^    (\S.*|  -.*)$", text, re.MULTILINE)).replace("\\\n", "")
    done = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=archive, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert 'Good "expunge-archive" signature' in done.stdout
    *_, files, listed = done.stdout.split()
    assert files == listed


def test_every_file_counts(archive: Path) -> None:
    names = [path for path in archive.rglob("*") if path.is_file()]
    assert len(names) > 30
    for path in names:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if data else b"x")
        assert failed(archive), path
        path.write_bytes(data)
    for path in names:
        if path.name == layout.MANIFEST:
            continue
        data = path.read_bytes()
        path.unlink()
        assert failed(archive), path
        path.write_bytes(data)
    (archive / "bundles/more.zip").write_bytes(b"")
    assert failed(archive) == {archive_read.FILES}


def test_a_link_is_not_followed(archive: Path) -> None:
    path = archive / layout.INDEX
    path.rename(archive.parent / "index.html")
    path.symlink_to(archive.parent / "index.html")
    assert archive_read.FILES in failed(archive)


def test_signed_anew_by_somebody_else(archive: Path, tmp_path: Path) -> None:
    signers = shutil.copy(archive / layout.SIGNERS, tmp_path / "mine")
    other = fresh_signer()
    line = (archive / layout.SIGNERS).read_text()
    own = parse_allowed_signers(line)[0].public_line
    (archive / layout.SIGNERS).write_text(line.replace(own, other.public_line))
    sign_again(archive, other)
    assert archive_read.TRUSTED in failed(archive, Path(signers))


@pytest.mark.parametrize("kind", ["receipt", "aside", "order", "custody", "certificate"])
def test_the_keeper_cannot_leave_a_document_out(
    kept: tuple[Controller, Path], archive: Path, kind: str
) -> None:
    """With the key, after the fact: the log still has its entry."""
    for path in sorted((archive / "documents" / kind).glob("*"))[:2]:
        path.unlink()
    sign_again(archive, kept[0].signer)
    assert archive_read.ENTERED in failed(archive)


def test_registers_cannot_be_turned_into_other_tables(kept: tuple[Controller, Path], archive: Path) -> None:
    path = archive / "registers/receipts.csv"
    path.write_text(path.read_text().replace("sanitized", "failed"))
    sign_again(archive, kept[0].signer)
    assert failed(archive) == {archive_read.REGISTERS}


def test_what_is_there_is_not_overwritten(kept: tuple[Controller, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_archive(kept[0], kept[1], now(), say)
    with pytest.raises(NotFoundError):
        write_archive(kept[0], tmp_path / "no/such", now(), say)
    with pytest.raises(NotFoundError):
        check(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == []
