"""The key of an encrypted folder on a real ext4: taken out of the kernel, its stored protectors destroyed, and what is left."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from expunge_agent.core.fscrypt import RAW_KEY, STORED_COPY, UNSEEN, protectors_of
from expunge_agent.core.fscrypt import SHARED as SHARED_WITH_OTHERS
from expunge_agent.devices import fscrypt
from expunge_agent.devices.fscrypt_stored import stored
from expunge_agent.devices.opening import TargetRefused
from expunge_agent.fscrypt_run import identify
from expunge_agent.journal import Journal
from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.key_rules import STATED
from expunge_agent.protocol.order_keys import KeyStatement, KeyWish
from expunge_agent.protocol.receipt import Reason, Receipt
from expunge_agent.wipe import run_order
from expunge_controller.records.certificate import MediumRecord
from expunge_controller.records.certificate_check import certificate_problems
from expunge_controller.records.certify import certificate_from
from expunge_controller.records.consistency import evidence_problems
from expunge_profiles.load import builtin
from support.agents import NOW, Bench, Crash, surroundings
from support.encrypted import PROTECTOR, SECRET, SET_POLICY, SHARED, Folder, stored_policy

ADD_KEY_CALL, KEYCTL_CALL = 248, 250
"""Numbers of system calls (x86-64)."""


@pytest.fixture
def folder(lab, tmp_path: Path) -> Folder:
    device = lab.loop(size=32 << 20)
    done = subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "encrypt", device], capture_output=True)
    assert done.returncode == 0, done.stderr
    mount = lab.mount(device)
    try:
        return Folder(device, Path(mount))
    except OSError as error:
        pytest.skip(f"this kernel has no fscrypt on ext4 ({error})")


def vouched(*but: str, search: Path | None = None) -> KeyWish:
    stated = [KeyStatement(id=one, holds="yes", said_by="custodian") for one in STATED if one not in but]
    return KeyWish(statements=stated, search=[str(search)] if search else [])


def order_for(bench: Bench, folder: Folder, keys: KeyWish | None, **changes: object):
    target = Target(identity=identify(str(folder.path)), hint=str(folder.path))
    return bench.order(policy="fscrypt-key-removal", targets=[target], keys=keys, **changes)


def take_away(bench: Bench, folder: Folder, keys: KeyWish | None = None, **changes: object) -> Receipt:
    """Whatever comes of it, the controller must find nothing wrong with the receipt."""
    receipt = bench.run(order_for(bench, folder, keys or vouched(), **changes))
    assert evidence_problems(receipt, builtin()["fscrypt-key-removal"]) == []
    return receipt


def test_nothing_can_be_read_afterwards(bench: Bench, folder: Folder) -> None:
    names = os.listdir(folder.path)
    receipt = take_away(bench, folder)
    (result,) = receipt.targets
    assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
    assert fscrypt.status(str(folder.mount), folder.key) == 1
    assert os.listdir(folder.path) != names == ["accounts.txt"]
    assert folder.read() == b""
    assert not folder.policy.exists()
    assert not folder.protector.exists()
    assert folder.shared.exists()
    told = {one.what: one.fate for one in result.key.copies}
    assert told == {
        "the key, unwrapped": "destroyed",
        "the stored policy, which wraps the key": "destroyed",
        "a protector of this key alone": "destroyed",
        "a protector of other keys too": "remains",
    }
    assert result.key.readable == []
    assert result.key.evidence[0].hex == "020100"
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
    assert certificate.sanitization.verification_status == "passed"
    assert certificate_problems(certificate, receipt, sealed.body, sealed.signature, None) == []
    os.sync()
    raw = Path(folder.device).read_bytes()
    assert SECRET not in raw
    assert b"WRAPPED-PROTECTOR-KEY" not in raw
    assert stored_policy(folder.key, PROTECTOR, SHARED) not in raw


def test_the_raw_key_added_again_reads_everything_and_the_receipt_had_said_so(
    bench: Bench, folder: Folder
) -> None:
    result = take_away(bench, folder, vouched("no-escrow"), allow_downgrade=True).targets[0]
    assert (result.outcome, result.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert any("raw key" in one for one in result.key.readable)
    assert folder.read() == b""
    folder.add_key()
    assert folder.read() == SECRET * 500


def test_copies_that_are_found_outweigh_what_is_said(bench: Bench, folder: Folder, tmp_path: Path) -> None:
    search = tmp_path / "etc" / "keys"
    search.mkdir(parents=True)
    (search / "raw").write_bytes(folder.raw)
    (search / "hex").write_text(folder.raw.hex() + "\n")
    (search / "backup").write_bytes(folder.policy.read_bytes())
    (search / "other").write_bytes(os.urandom(64))
    refused = take_away(bench, folder, vouched(search=tmp_path / "etc")).targets[0]
    assert refused.refusal.reason is Reason.LEVEL_NOT_ACHIEVABLE
    assert folder.read()
    result = take_away(bench, folder, vouched(search=tmp_path / "etc"), allow_downgrade=True).targets[0]
    found = {Path(one.where).name: one.what for one in result.key.copies if str(search) in one.where}
    assert found == {"raw": RAW_KEY, "hex": RAW_KEY, "backup": STORED_COPY}
    assert len([one for one in result.key.readable if str(search) in one]) == 3
    assert result.level_achieved is Level.NONE


def test_a_folder_in_use_is_refused_with_the_name_of_who_uses_it(bench: Bench, folder: Folder) -> None:
    process = subprocess.Popen(["sleep", "60"], cwd=folder.path)
    try:
        result = take_away(bench, folder).targets[0]
        assert result.refusal.reason is Reason.IN_USE
        assert f"{process.pid} sleep" in result.refusal.detail
        assert folder.read() == SECRET * 500
        assert folder.policy.exists()
    finally:
        process.kill()
        process.wait()


def test_a_file_opened_under_the_run_is_a_failure_not_a_success(
    bench: Bench, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says that files were busy: what stores the key is left alone, and the receipt says failed."""
    held = []
    original = fscrypt.remove

    def remove(path: str, key: str):
        held.append((folder.path / "accounts.txt").open("rb"))
        return original(path, key)

    monkeypatch.setattr(fscrypt, "remove", remove)
    try:
        result = take_away(bench, folder).targets[0]
        assert held[0].read() == SECRET * 500
    finally:
        held[0].close()
    assert (result.outcome, result.level_achieved) == (Outcome.FAILED, Level.NONE)
    assert "open" in result.failure
    assert folder.policy.exists()
    assert result.key.copies[0].fate == "remains"
    monkeypatch.undo()
    again = take_away(bench, folder).targets[0]
    assert again.outcome is Outcome.SANITIZED
    assert folder.read() == b""


def test_a_folder_without_a_key_is_refused(bench: Bench, folder: Folder) -> None:
    plain = folder.mount / "plain"
    plain.mkdir()
    from expunge_agent.devices.refused import TargetRefused

    with pytest.raises(TargetRefused, match="not encrypted"):
        identify(str(plain))
    (folder.mount / "link").symlink_to(folder.path)
    with pytest.raises(TargetRefused, match="symbolic link"):
        identify(str(folder.mount / "link"))
    with pytest.raises(TargetRefused):
        identify(str(folder.mount / "nowhere"))
    order = order_for(bench, folder, vouched())
    folder.path.rename(folder.mount / "away")
    plain.rename(folder.path)
    result = bench.run(order).targets[0]
    assert result.outcome is Outcome.REFUSED


def through_a_bind_mount(lab, folder: Folder) -> None:
    """A mount that shows a part of the file system alone; `folder` is reached by it from now on."""
    home, point = folder.mount / "home", lab.name("bound")
    home.mkdir()
    point.mkdir()
    folder.path.rename(home / "private")
    folder.path = lab.mount(home, "--bind", at=point) / "private"


def test_what_is_stored_is_found_at_another_mount_of_the_file_system(
    bench: Bench, folder: Folder, lab
) -> None:
    through_a_bind_mount(lab, folder)
    (result,) = take_away(bench, folder, vouched(search=folder.mount)).targets
    assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
    assert not folder.policy.exists()
    assert not folder.protector.exists()
    assert folder.read() == b""


def test_where_the_root_is_mounted_nowhere_the_claim_is_blocked(bench: Bench, folder: Folder, lab) -> None:
    through_a_bind_mount(lab, folder)
    lab.unmount(folder.mount)
    refused = take_away(bench, folder).targets[0]
    assert refused.refusal.reason is Reason.LEVEL_NOT_ACHIEVABLE
    assert "mounted nowhere" in refused.refusal.detail
    result = take_away(bench, folder, allow_downgrade=True).targets[0]
    assert (result.outcome, result.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    (unseen,) = [one for one in result.key.copies if one.fate == "unknown"]
    assert unseen.what == UNSEEN
    assert any(unseen.where in one for one in result.key.readable)
    assert folder.read() == b""
    lab.mount(folder.device, at=folder.mount)
    assert folder.policy.exists(), "it was said that it may be there"
    again = take_away(bench, folder).targets[0]
    assert again.level_achieved is Level.CLEAR
    assert not folder.policy.exists()


def test_what_is_stored_below_a_mount_that_covers_it_is_unknown(bench: Bench, folder: Folder, lab) -> None:
    lab.mount("none", "-t", "tmpfs", at=folder.mount / ".fscrypt")
    refused = take_away(bench, folder).targets[0]
    assert refused.refusal.reason is Reason.LEVEL_NOT_ACHIEVABLE
    assert "mounted over" in refused.refusal.detail
    assert folder.read()


def test_a_top_that_is_covered_does_not_count_as_seen(folder: Folder, lab) -> None:
    through_a_bind_mount(lab, folder)
    here = str(folder.path)
    policy = fscrypt.policy_of(here)
    assert [one.fate for one in stored(here, policy)] == ["remains"] * 3
    lab.mount("none", "-t", "tmpfs", at=folder.mount)
    assert [one.what for one in stored(here, policy)] == [UNSEEN]


def test_files_are_tried_at_any_depth_up_to_a_bound(folder: Folder) -> None:
    deep = folder.path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "kept.txt").write_bytes(SECRET)
    os.mkfifo(deep / "pipe")
    opened = fscrypt.stays_readable(str(folder.path))
    assert sorted(opened.open) == [str(deep / "kept.txt"), str(folder.path / "accounts.txt")]
    assert (opened.files, opened.all) == (2, True)
    assert not fscrypt.stays_readable(str(folder.path), most=3).all
    assert fscrypt.remove(str(folder.path), folder.key).complete
    after = fscrypt.stays_readable(str(folder.path))
    assert after == ([], 2, True)


def crashing(nth: int, before: bool) -> Callable[..., object]:
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
def test_killed_at_any_step_it_ends_truthfully(
    bench: Bench, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, nth = False, 0
    while not whole:
        nth += 1
        for before in (True, False):
            folder.add_key()
            folder.policy.write_bytes(stored_policy(folder.key, PROTECTOR, SHARED))
            folder.protector.write_bytes(b"WRAPPED-PROTECTOR-KEY " * 4)
            digest = bench.hand_in(*bench.sign(order_for(bench, folder, vouched())))
            sealed = None
            with monkeypatch.context() as patch:
                patch.setattr(Journal, "append", crashing(nth, before))
                try:
                    sealed = run_order(bench.state, digest, surroundings())
                    whole = True
                except Crash:
                    pass
            sealed = sealed or run_order(bench.state, digest, surroundings())
            result = bench.checked(sealed).targets[0]
            if (
                result.outcome is Outcome.EXCEPTIONS
            ):  # removed, and nobody wrote down that it had been overwritten
                assert any("gone already" in one for one in result.exceptions)
            else:
                assert result.outcome is Outcome.SANITIZED, (nth, before, result)
            assert folder.read() == b""
            assert not folder.policy.exists()
            assert not folder.protector.exists()
    assert nth > 10


def test_what_is_no_stored_policy_names_no_protectors() -> None:
    whole = stored_policy("cc" * 16, PROTECTOR)
    assert protectors_of(whole) == [PROTECTOR]
    for cut in range(len(whole)):
        with pytest.raises(ValueError, match=r"\w"):
            protectors_of(whole[:cut])


def test_what_others_put_among_the_policies_does_not_hold_it_up(bench: Bench, folder: Folder) -> None:
    """Everybody may write there: a FIFO would be waited for, and of a torn policy it is not known which protectors it needs."""
    policies = folder.policy.parent
    os.mkfifo(policies / ("dd" * 16))
    found = {one.where: one.what for one in stored(str(folder.path), fscrypt.policy_of(str(folder.path)))}
    assert found[str(folder.protector)] == SHARED_WITH_OTHERS
    (policies / ("dd" * 16)).unlink()
    (policies / ("ee" * 16)).write_bytes(folder.policy.read_bytes()[:-7])
    result = take_away(bench, folder).targets[0]
    assert result.outcome is Outcome.SANITIZED
    assert folder.protector.exists()  # perhaps the other's only one
    assert not folder.policy.exists()


def test_a_policy_of_its_own_that_cannot_be_read_earns_nothing(bench: Bench, folder: Folder) -> None:
    folder.policy.write_bytes(b"torn")
    refused = take_away(bench, folder).targets[0]
    assert refused.outcome is Outcome.REFUSED
    assert str(folder.policy) in refused.refusal.detail


def test_the_same_key_on_another_file_system_is_found(bench: Bench, folder: Folder, lab) -> None:
    """Removing it here leaves it there: whoever reads the kernel's memory, or that file system, has it."""
    device = lab.loop(size=32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "encrypt", device], check=True, capture_output=True)
    other = lab.mount(device)
    folder.add_key(other)
    refused = take_away(bench, folder).targets[0]
    assert refused.outcome is Outcome.REFUSED
    assert str(other) in refused.refusal.detail
    done = take_away(bench, folder, allow_downgrade=True).targets[0]
    assert (done.outcome, done.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert fscrypt.status(str(other), folder.key) == 2
    assert any(str(other) in one.where and one.fate == "remains" for one in done.key.copies)
    assert any(str(other) in one for one in done.key.readable)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="knows the system calls' numbers on x86-64 only")
def test_a_key_that_is_kept_to_be_added_again_is_named(bench: Bench, folder: Folder) -> None:
    payload = struct.pack("<II", 2, 0) + folder.raw
    libc = ctypes.CDLL(None, use_errno=True)
    process_keyring = -2
    number = libc.syscall(
        ADD_KEY_CALL, b"fscrypt-provisioning", b"the folder's", payload, len(payload), process_keyring
    )
    if number < 0:
        pytest.skip(f"the kernel keeps no such keys here ({os.strerror(ctypes.get_errno())})")
    try:
        refused = take_away(bench, folder).targets[0]
        assert refused.outcome is Outcome.REFUSED
        assert "the folder's" in refused.refusal.detail
    finally:
        libc.syscall(KEYCTL_CALL, 21, number)  # KEYCTL_INVALIDATE
    for _ in range(100):  # the kernel takes it out of the keyring a moment later
        if f"{number & 0xFFFFFFFF:08x} " not in Path("/proc/keys").read_text():
            break
        time.sleep(0.05)
    assert take_away(bench, folder).targets[0].outcome is Outcome.SANITIZED


def test_a_policy_of_version_1_is_refused_with_what_would_work(bench: Bench, folder: Folder) -> None:
    path = folder.mount / "older"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, SET_POLICY, bytearray(struct.pack("<BBBB8s", 0, 1, 4, 3, b"\xab" * 8)))
    finally:
        os.close(fd)
    with pytest.raises(TargetRefused) as caught:
        identify(str(path))
    refusal = caught.value.refusal
    assert refusal.reason is Reason.UNSUPPORTED
    assert "version 1" in refusal.detail
    assert "keyctl" in refusal.remedy
    assert f"fscrypt:{'ab' * 8}" in refusal.remedy
