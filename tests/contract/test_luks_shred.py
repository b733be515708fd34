"""LUKS volumes in image files, made and opened by cryptsetup itself: what is left after their keys were destroyed."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from msgspec.structs import replace

from expunge_agent.account import login_name
from expunge_agent.core.luks_result import CHECK, ERASE
from expunge_agent.devices import luks_look
from expunge_agent.devices.look import look
from expunge_agent.errors import DocumentError, NotFoundError
from expunge_agent.journal import Journal
from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.identity import FileIdentity
from expunge_agent.protocol.key_rules import STATED
from expunge_agent.protocol.order_keys import KeyWish
from expunge_agent.protocol.receipt import Reason, Receipt
from expunge_agent.seal_check import check_seal
from expunge_agent.wipe import run_order
from expunge_controller.records.certificate import MediumRecord, freeze_certificate, parse_certificate
from expunge_controller.records.certificate_check import certificate_problems
from expunge_controller.records.certify import certificate_from
from expunge_controller.records.consistency import evidence_problems
from expunge_controller.render.certificate_html import certificate_html
from expunge_profiles.load import builtin
from support.agents import NOW, Bench, Crash, surroundings
from support.luks_images import FAST, MIB, RECORD, cryptsetup, make, opens, vouched

pytestmark = pytest.mark.skipif(shutil.which("cryptsetup") is None, reason="needs cryptsetup")


def shred(bench: Bench, path: Path, keys: KeyWish | None, **changes: object) -> Receipt:
    """Whatever comes of it, the controller must find nothing wrong with the receipt."""
    receipt = bench.run(bench.order(path, policy="luks-crypto-erase", keys=keys, **changes))
    assert evidence_problems(receipt, builtin()["luks-crypto-erase"]) == []
    return receipt


@pytest.mark.parametrize("kind", ["luks1", "luks2"])
def test_with_all_stated_a_file_earns_clear_and_the_header_is_gone(
    bench: Bench, tmp_path: Path, kind: str
) -> None:
    image = make(tmp_path / "disk.img", kind)
    before = image.read_bytes()
    receipt = shred(bench, image, vouched())
    (result,) = receipt.targets
    assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
    area = (16 if kind == "luks2" else 2) * MIB
    after = image.read_bytes()
    assert after[:area] == bytes(area)
    assert after[area:] == before[area:]  # the data stay as they were
    assert not opens(image)
    assert result.technique == "luks-erase"
    assert [int(one.bytes_written) for one in result.passes] == [area, area]
    assert all(int(one.bytes_read) == area and one.complete for one in result.verifications)
    key = result.key
    assert key is not None
    assert key.scheme == kind
    assert key.overwritten == area
    assert key.copies[0].fate == "destroyed"
    assert "cryptsetup erase ended with 0" in key.copies[0].detail
    assert not key.readable
    assert {one.id: one.holds for one in key.conditions}["keys-in-reach"] == "unknown"
    assert bytes.fromhex(key.evidence[0].hex)[:4] == b"LUKS"
    assert set(bytes.fromhex(key.evidence[1].hex)) == {0}
    assert any(str(area) in one for one in result.not_covered)
    assert any("Only keys" in one for one in receipt.limitations)


def test_purge_is_not_to_be_had_on_a_file(bench: Bench, tmp_path: Path) -> None:
    image = make(tmp_path / "disk.img")
    receipt = shred(bench, image, vouched(), level=Level.PURGE)
    assert receipt.targets[0].outcome is Outcome.REFUSED
    assert receipt.targets[0].refusal.reason is Reason.LEVEL_NOT_ACHIEVABLE
    assert opens(image)
    receipt = shred(bench, image, vouched(), level=Level.PURGE, allow_downgrade=True)
    assert receipt.targets[0].level_achieved is Level.CLEAR
    assert receipt.targets[0].downgrade


@pytest.mark.parametrize("silent", ["no-header-backup", "no-escrow", "always-encrypted", "no-key-in-memory"])
def test_what_nobody_states_blocks_the_claim(bench: Bench, tmp_path: Path, silent: str) -> None:
    image = make(tmp_path / "disk.img")
    refused = shred(bench, image, vouched(silent)).targets[0]
    assert refused.outcome is Outcome.REFUSED
    assert silent in refused.refusal.detail
    assert opens(image)
    done = shred(bench, image, vouched(silent), allow_downgrade=True).targets[0]
    assert (done.outcome, done.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert silent in done.exceptions[0]
    assert done.key.readable
    assert not opens(image)


def test_a_restored_backup_opens_again_and_the_receipt_had_named_it(bench: Bench, tmp_path: Path) -> None:
    """The classic hole: the limitation that the receipt names is a true one."""
    image, backup = make(tmp_path / "disk.img"), tmp_path / "elsewhere" / "header.bak"
    backup.parent.mkdir()
    cryptsetup("luksHeaderBackup", image, "--header-backup-file", backup)
    result = shred(bench, image, vouched("no-header-backup"), allow_downgrade=True).targets[0]
    assert not opens(image)
    assert result.level_achieved is Level.NONE
    assert any("backup of the header" in one for one in result.key.readable)
    cryptsetup("luksHeaderRestore", "-q", image, "--header-backup-file", backup)
    assert opens(image)


def test_a_backup_that_is_found_outweighs_what_is_said(bench: Bench, tmp_path: Path) -> None:
    image, folder = make(tmp_path / "disk.img"), tmp_path / "backups" / "deep"
    folder.mkdir(parents=True)
    cryptsetup("luksHeaderBackup", image, "--header-backup-file", folder / "header.bak")
    # A copy whose first header was lost is one all the same; another volume's header is none.
    copy = bytearray((folder / "header.bak").read_bytes())
    copy[:4096] = bytes(4096)
    (folder / "second-only").write_bytes(copy)
    make(folder / "other.img")
    (folder / "link").symlink_to(image)
    wish = vouched(search=[str(tmp_path / "backups")])
    assert shred(bench, image, wish).targets[0].outcome is Outcome.REFUSED
    result = shred(bench, image, wish, allow_downgrade=True).targets[0]
    condition = {one.id: one for one in result.key.conditions}["no-header-backup"]
    assert condition.holds == "no"
    found = [one.where for one in result.key.copies if one.fate == "remains"]
    assert sorted(found) == [str(folder / "header.bak"), str(folder / "second-only")]
    assert [one for one in result.key.readable if "header.bak" in one]
    assert result.level_achieved is Level.NONE


@pytest.mark.parametrize("kind", ["luks1", "luks2"])
def test_a_backup_of_before_the_uuid_was_changed_is_found(bench: Bench, tmp_path: Path, kind: str) -> None:
    image, folder = make(tmp_path / "disk.img", kind), tmp_path / "backups"
    folder.mkdir()
    cryptsetup("luksHeaderBackup", image, "--header-backup-file", folder / "header.bak")
    cryptsetup("luksUUID", image, "--uuid", "11111111-2222-4333-8444-555555555555", "-q")
    make(folder / "other.img", kind)
    wish = vouched(search=[str(folder)])
    refused = shred(bench, image, wish).targets[0]
    assert refused.outcome is Outcome.REFUSED
    assert "header.bak" in refused.refusal.detail
    result = shred(bench, image, wish, allow_downgrade=True).targets[0]
    assert [one.where for one in result.key.copies if one.fate == "remains"] == [str(folder / "header.bak")]
    assert not opens(image)
    cryptsetup("luksHeaderRestore", "-q", image, "--header-backup-file", folder / "header.bak")
    assert opens(image)


def test_tokens_and_crypttab_are_named(bench: Bench, tmp_path: Path) -> None:
    image = make(tmp_path / "disk.img")
    token = (
        b'{"type":"systemd-tpm2","keyslots":["0"],"tpm2-blob":"AA==","tpm2-pcrs":[7],"tpm2-policy-hash":"00"}'
    )
    cryptsetup("token", "import", image, stdin=token)
    uuid = subprocess.run(["cryptsetup", "luksUUID", image], capture_output=True, text=True).stdout.strip()
    root = tmp_path / "root"
    (root / "etc/keys").mkdir(parents=True)
    (root / "etc/keys/data.key").write_bytes(b"k")
    (root / "etc/crypttab").write_text(
        "# a comment\nother UUID=00000000-0000-0000-0000-000000000000 /etc/keys/other\n"
        f"data UUID={uuid} /etc/keys/data.key luks,tpm2-device=auto\nagain {image} /gone.key\n"
    )
    result = shred(bench, image, vouched(roots=[str(root)])).targets[0]
    told = {one.where: one.fate for one in result.key.copies[1:]}
    assert told == {
        "token of the header (systemd-tpm2), for keyslot 0": "remains",
        f"{root}/etc/keys/data.key": "remains",
        "tpm2-device=auto": "unknown",
        f"{root}/gone.key": "unknown",
    }
    assert result.level_achieved is Level.CLEAR  # they open nothing without a header


def header_file(tmp_path: Path, kind: str = "luks2") -> tuple[Path, Path, FileIdentity]:
    header = tmp_path / "header.luks"
    header.write_bytes(bytes(16 * MIB))
    data = tmp_path / "data.img"
    data.write_bytes(RECORD * 40000)
    pbkdf = ["--pbkdf", "pbkdf2"] if kind == "luks2" else []
    cryptsetup("luksFormat", "--type", kind, *pbkdf, *FAST, "--header", header, data, "-")
    medium, _ = look(header)
    assert medium is not None
    assert isinstance(medium.identity, FileIdentity)
    return header, data, medium.identity


@pytest.mark.parametrize("kind", ["luks1", "luks2"])
def test_a_detached_header_goes_and_the_volume_stays(bench: Bench, tmp_path: Path, kind: str) -> None:
    header, data, identity = header_file(tmp_path, kind)
    assert opens(data, "--header", header)
    result = shred(bench, data, vouched(header=identity)).targets[0]
    assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
    assert header.read_bytes() == bytes(int(identity.size))
    assert data.read_bytes() == RECORD * 40000
    assert not opens(data, "--header", header)
    assert result.key.copies[0].where == str(header)
    assert result.target.hint == str(data)
    assert result.not_covered[0].startswith("The encrypted data, bytes 0 to")


def test_a_detached_header_that_was_exchanged_is_refused(bench: Bench, tmp_path: Path) -> None:
    header, data, identity = header_file(tmp_path)
    header.rename(tmp_path / "kept")
    header.write_bytes((tmp_path / "kept").read_bytes())
    result = shred(bench, data, vouched(header=identity)).targets[0]
    assert result.refusal.reason is Reason.IDENTITY_MISMATCH
    assert opens(data, "--header", header)


def test_what_is_no_luks_volume_is_refused_in_a_sentence(bench: Bench, tmp_path: Path) -> None:
    image = tmp_path / "plain.img"
    image.write_bytes(RECORD * 9999)
    result = shred(bench, image, vouched()).targets[0]
    assert result.outcome is Outcome.REFUSED
    assert "no LUKS header" in result.refusal.detail
    assert image.read_bytes() == RECORD * 9999


def test_without_cryptsetup_the_overwrite_is_what_counts(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make(tmp_path / "disk.img")

    def missing(*_words: object, **_more: object) -> None:
        raise NotFoundError("cryptsetup could not be started (No such file or directory).")

    monkeypatch.setattr(luks_look, "run_tool", missing)
    result = shred(bench, image, vouched()).targets[0]
    assert result.outcome is Outcome.SANITIZED
    assert "cryptsetup erase was skipped" in result.key.copies[0].detail
    assert not opens(image)


def test_what_is_put_in_the_place_of_the_target_keeps_its_keys(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write in the folder exchanges the file between the last look and cryptsetup's own open."""
    image, victim = make(tmp_path / "disk.img"), make(tmp_path / "victim.img")
    really = luks_look.run_tool

    def meanwhile(args: list[str], *rest: object, **more: object) -> object:
        if "erase" in args:
            image.rename(tmp_path / "moved.img")
            image.symlink_to(victim)
        return really(args, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(luks_look, "run_tool", meanwhile)
    result = shred(bench, image, vouched()).targets[0]
    assert opens(victim)
    assert result.outcome is not Outcome.SANITIZED


def test_a_cryptsetup_that_does_not_tell_is_not_told_to_have_said_no(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make(tmp_path / "disk.img", "luks1", size=3 * MIB)
    really = luks_look.run_tool

    def failing(args: list[str], *rest: object, **more: object) -> object:
        done = really(args, *rest, **more)  # type: ignore[arg-type]
        return dataclasses.replace(done, returncode=4) if "isLuks" in args else done

    monkeypatch.setattr(luks_look, "run_tool", failing)
    (result,) = shred(bench, image, vouched()).targets
    assert "isLuks: no" not in result.key.copies[0].detail
    assert "does not tell" in result.key.copies[0].detail


def test_a_volume_that_does_not_encrypt_all_of_its_medium_earns_nothing(bench: Bench, tmp_path: Path) -> None:
    """A detached header whose data begin behind the first MiB of the device: the records in it stay to be read."""
    data, header = tmp_path / "data.img", tmp_path / "header.luks"
    data.write_bytes((RECORD * (8 * MIB // len(RECORD) + 1))[: 8 * MIB])
    header.write_bytes(bytes(16 * MIB))
    words = ["luksFormat", "--type", "luks2", "--pbkdf", "pbkdf2", *FAST, "--offset", "2048"]
    cryptsetup(*words, "--header", header, data, "-")
    medium, _ = look(header)
    assert medium is not None
    assert isinstance(medium.identity, FileIdentity)
    wish = vouched(header=medium.identity)
    refused = shred(bench, data, wish).targets[0]
    assert refused.outcome is Outcome.REFUSED
    assert "bytes 0 to 1048576" in refused.refusal.detail
    done = shred(bench, data, wish, allow_downgrade=True).targets[0]
    assert (done.outcome, done.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert any("without encryption" in one for one in done.key.readable)
    assert RECORD in data.read_bytes()[:MIB]


def crashing(nth: int, before: bool) -> Callable[..., object]:
    """A journal that ends the process before or after its `nth` record is durable."""
    original, count = Journal.append, 0

    def append(self: Journal, kind: str, at: str, data: dict[str, object]) -> object:
        nonlocal count
        count += 1
        if count == nth and before:
            raise Crash
        result = original(self, kind, at, data)
        if count == nth:
            raise Crash
        return result

    return append


@pytest.mark.slow
def test_killed_at_any_step_it_ends_truthfully(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between erase, passes, read-backs and the look afterwards: the rerun completes, with the same claim."""
    crashes, whole = 0, False
    for nth in itertools.count(1):
        if whole:
            break
        for before in (True, False):
            folder = tmp_path / f"{nth}{before}"
            folder.mkdir()
            bench, image = Bench.make(folder / "state"), make(folder / "disk.img", "luks1", size=3 * MIB)
            digest = bench.hand_in(
                *bench.sign(bench.order(image, policy="luks-crypto-erase", keys=vouched()))
            )
            with monkeypatch.context() as patch:
                patch.setattr(Journal, "append", crashing(nth, before))
                try:
                    sealed = run_order(bench.state, digest, surroundings())
                    whole = True
                except Crash:
                    crashes += 1
                    sealed = None
            if sealed is None:
                sealed = run_order(bench.state, digest, surroundings())
            receipt = bench.checked(sealed)
            result = receipt.targets[0]
            assert evidence_problems(receipt) == []
            assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), (
                nth,
                before,
                result,
            )
            assert {one.name for one in result.key.evidence} == {"header before", "header after"}
            assert not opens(image)
            image.unlink()
    assert crashes >= 20, f"only {crashes} places to crash: {ERASE}, {CHECK}"


@pytest.mark.slow
def test_killed_by_the_system(tmp_path: Path) -> None:
    """The same with real processes and SIGKILL at random moments."""
    outcomes = []
    for turn in range(int(os.environ.get("EXPUNGE_KILLS", "6"))):
        folder = tmp_path / str(turn)
        folder.mkdir()
        image, state = make(folder / "disk.img", "luks1", size=3 * MIB), folder / "state"
        words = [
            sys.executable,
            "-m",
            "expunge_agent",
            "--state",
            str(state),
            "wipe",
            str(image),
            "--yes",
            "--json",
        ]
        words += ["--profile", "luks-crypto-erase", "--checkpoint-seconds", "0.01"]
        words += [f"--statement={one}=yes" for one in STATED]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.5, 2.0))
        process.kill()
        process.wait()
        orders = (
            [one.name for one in (state / "orders").glob("?" * 64)] if (state / "orders").exists() else []
        )
        orders += [one.name for one in (state / "spool").glob("?" * 64)] if (state / "spool").exists() else []
        if not orders:
            assert opens(image)
            continue
        subprocess.run(
            [sys.executable, "-m", "expunge_agent", "--state", str(state), "run", orders[0]],
            capture_output=True,
            timeout=120,
        )
        outcomes.append(opens(image))
    assert not any(outcomes)


def agent(state: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "expunge_agent", "--state", str(state), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_line_states_searches_and_shows(tmp_path: Path) -> None:
    image, state = make(tmp_path / "disk.img", "luks1", size=3 * MIB), tmp_path / "state"
    planned = agent(state, "plan", image, "--profile", "luks-crypto-erase")
    assert planned.returncode == 3
    assert "Note: LUKS1" in planned.stdout
    assert "no-header-backup is unknown" in planned.stdout
    said = [f"--statement={one}=yes" for one in STATED]
    words = ["wipe", image, "--profile", "luks-crypto-erase", "--search", tmp_path, *said]
    assert agent(state, "plan", image, "--profile", "luks-crypto-erase", *said).returncode == 0
    dry = agent(state, *words, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "luks-erase" in dry.stdout
    assert opens(image)
    done = agent(state, *words, "--yes", "--requested-by", "custodian", "--json")
    assert done.returncode == 0, done.stderr
    assert f"Stated by {login_name()}, for custodian" in done.stdout
    assert not opens(image)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--statement", "no-escrow"], 2, "is no statement"),
        (["--statement", "key-strength=yes"], 2, "is no statement"),
        (["--statement", "no-escrow=yes", "--statement", "no-escrow=no"], 2, "stated twice"),
        (["--search", "nowhere"], 2, "is no folder"),
        (["--header", "nowhere"], 3, "nothing at"),
        (["--header", "other.img", "other.img"], 2, "one target only"),
        ([], 3, "conditions of cryptographic erase are not met"),
    ],
)
def test_a_mistake_is_a_sentence_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    image = make(tmp_path / "disk.img", "luks1", size=3 * MIB)
    (tmp_path / "other.img").write_bytes(RECORD * 999)
    done = agent(tmp_path / "state", "wipe", image, "--profile", "luks-crypto-erase", "--yes", *words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert opens(image)


def test_other_encryption_is_named_when_it_is_taken_for_luks(bench: Bench, tmp_path: Path) -> None:
    image = tmp_path / "windows.img"
    image.write_bytes(b"\xeb\x58\x90-FVE-FS-" + bytes(MIB))
    result = shred(bench, image, vouched()).targets[0]
    assert "BitLocker" in result.refusal.detail
    overwritten = bench.run(bench.order(image, policy="nist-clear")).targets[0]
    assert any("BitLocker" in one for one in overwritten.medium.notes)
    assert overwritten.outcome is Outcome.SANITIZED


def test_the_certificate_tells_of_the_key(bench: Bench, tmp_path: Path) -> None:
    shred(bench, make(tmp_path / "disk.img", "luks1", size=3 * MIB), vouched("validated-module"))
    (sealed,) = Outbox(bench.state.root).all()
    certificate = certificate_from(
        sealed.body,
        sealed.signature,
        0,
        order=None,
        facts=MediumRecord(),
        number="C-1",
        issued_at=NOW,
        issuer="controller:test",
    )
    assert parse_certificate(freeze_certificate(certificate)) == certificate
    assert certificate.sanitization.key is not None
    assert certificate.sanitization.key.evidence == []
    receipt = bench.checked(sealed)
    assert certificate_problems(certificate, receipt, sealed.body, sealed.signature, None) == []
    prettier = replace(certificate.sanitization.key, conditions=[])
    other = replace(certificate, sanitization=replace(certificate.sanitization, key=prettier))
    assert certificate_problems(other, receipt, sealed.body, sealed.signature, None)
    page = unescape(certificate_html(certificate))
    for words in (
        "密钥销毁",
        "(validated-module)",
        "UNKNOWN 未知",
        "(luks-erase)",
        "bytes 0 to 2097152",
        "Passes",
    ):
        assert words in page


def test_there_is_no_seal_to_compare_a_volume_with(bench: Bench, tmp_path: Path) -> None:
    image = make(tmp_path / "disk.img", "luks1", size=3 * MIB)
    receipt = shred(bench, image, vouched())
    with pytest.raises(DocumentError, match="Only keys were destroyed"):
        check_seal(str(image), receipt, lambda _: None, threading.Event())
