"""Orders that take root, from `expunge wipe` through a real sshd: shared extents, free space, a folder's key."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.key_rules import STATED
from expunge_agent.protocol.receipt import Reason
from support.encrypted import SECRET, Folder
from support.site import Site, site, units
from support.sshd import SSHD
from support.vault_cli import VaultCli

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd (package openssh-server)")
MIB = 1 << 20
RECORD = b"RECORD-OF-A-CUSTOMER-%08d;"
MARK = b"RECORD-OF-A-CUSTOMER-"


UNIT = Path(__file__).parents[2] / "systemd" / "expunge-agent@.service"


def privileges() -> str:
    """A program that gives what it runs the capabilities of the unit of an order, and no more."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (package util-linux)")
    settings = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if line[:1].isalpha())
    kept = [f"+{name.removeprefix('CAP_').lower()}" for name in settings["CapabilityBoundingSet"].split()]
    return f"setpriv --no-new-privs --bounding-set {','.join(['-all', *kept])}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path.resolve(), privileges()) as made:
        yield made


def records(size: int) -> bytes:
    return b"".join(RECORD % number for number in range(size // len(RECORD % 0)))


def left(image: Path) -> int:
    """How often a record is found in the raw image."""
    os.sync()
    return image.read_bytes().count(MARK)


def test_a_directory_with_a_file_that_shares_extents(place: Site, lab) -> None:
    """Partly shared: an exception that the order accepts, named in receipt and certificate; the copy keeps the bytes."""
    _, mount = lab.formatted("xfs", "-m", "reflink=1", size=320 * MIB)
    folder = mount / "records"
    folder.mkdir()
    data = records(2 * MIB)
    for name in ("alone", "shared"):
        (folder / name).write_bytes(data)
    os.sync()
    copied = subprocess.run(
        ["cp", "--reflink=always", str(folder / "shared"), str(mount / "copy")], capture_output=True
    )
    assert copied.returncode == 0, copied.stderr
    with (folder / "shared").open("r+b") as file:
        file.write(b"x" * MIB)  # half of it is its own again
        os.fsync(file.fileno())
    order, receipt = place.order(folder, "-p", "nist-clear", "--allow-exceptions", code=5)
    (result,) = receipt.targets
    assert (result.outcome, result.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert result.files is not None
    assert (result.files.sanitized.files, result.files.exceptions.files) == (1, 1)
    (named,) = result.files.listed
    assert named.path == "shared"
    assert "shared" in named.why
    assert os.listdir(folder) == []
    assert (mount / "copy").read_bytes() == data
    place.proven(order)


def test_free_space_of_a_mounted_file_system(place: Site, lab) -> None:
    image, mount = lab.formatted("ext4", size=64 * MIB)
    kept = mount / "kept"
    kept.write_bytes(b"stays " * 1000)
    for number in range(3):
        (mount / f"gone{number}").write_bytes(records(6 * MIB))
    os.sync()
    for number in range(3):
        (mount / f"gone{number}").unlink()
    os.sync()
    assert left(image) > 0
    text = f"free-space:{mount}"
    table = place.agent("plan", text, "--reserve", "0", "--profile", "random-verified").out
    assert "overwrite" in table
    assert "Level clear: overwrite" in table
    assert left(image) > 0, "a plan writes nothing"
    order, receipt = place.order(text, "-p", "random-verified", "--reserve", "0")
    (result,) = receipt.targets
    assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR)
    assert left(image) == 0
    assert kept.read_bytes() == b"stays " * 1000
    place.proven(order)
    assert place.send_again(order) == place.receipt_body(order)
    assert place.receipts_of_agent() == 1


@pytest.fixture
def folder(lab) -> Folder:
    device = lab.ext4(lab.loop(size=32 * MIB), "-O", "encrypt")
    mount = lab.mount(device)
    try:
        return Folder(device, Path(mount))
    except OSError as error:
        pytest.skip(f"this kernel has no fscrypt on ext4 ({error})")


def test_the_key_of_a_folder(place: Site, folder: Folder) -> None:
    text = f"fscrypt:{folder.path}"
    profile = ("-p", "fscrypt-key-removal")
    (item,) = [
        one
        for one in place.expunge("inventory", "alpha", text, "--json").json["items"]
        if one["path"] == text
    ]
    assert item["identity"]["key"] == folder.key
    order, receipt = place.order(text, *profile, code=3)
    refusal = receipt.targets[0].refusal
    assert refusal is not None
    assert refusal.reason is Reason.LEVEL_NOT_ACHIEVABLE
    assert folder.read() == SECRET * 500
    place.proven(order, certified=False)
    assert place.agent("plan", text, code=3).out.count("fscrypt-key-removal") == 1
    stated = [word for one in STATED for word in ("--statement", f"{one}=yes")]
    searched = ["--search", str(folder.mount)]
    planned = place.agent("plan", text, *stated, *searched)
    assert "Level clear: fscrypt-key-removal" in planned.out
    assert f"{folder.policy}: the stored policy" in planned.out
    assert folder.policy.exists(), "a plan touches nothing"
    order, receipt = place.order(text, *profile, *stated, *searched)
    (result,) = receipt.targets
    assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
    assert not folder.policy.exists()
    assert not folder.protector.exists()
    assert folder.read() == b""
    place.proven(order)
    folder.add_key()
    assert place.send_again(order) == place.receipt_body(order)
    assert folder.read() == SECRET * 500, "the same order does nothing twice"


def test_a_folder_with_an_open_file_is_refused_and_planned_as_such(place: Site, folder: Folder, lab) -> None:
    code = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    lab.helper(code, str(folder.path / "accounts.txt"))
    text = f"fscrypt:{folder.path}"
    stated = [word for one in STATED for word in ("--statement", f"{one}=yes")]
    stated += ["--search", str(folder.mount)]
    planned = place.agent("plan", text, *stated, code=3)
    assert "Refused as things stand: Files of the folder are open" in planned.out
    order, receipt = place.order(text, "-p", "fscrypt-key-removal", *stated, code=3)
    refusal = receipt.targets[0].refusal
    assert refusal is not None
    assert refusal.reason is Reason.IN_USE
    assert folder.read() == SECRET * 500
    place.proven(order, certified=False)


SANDBOX = """#!/bin/sh
# The view that the unit of an order has: $READ is read-only, but for $WRITE.
exec unshare --mount --propagation slave sh -c '
for one in $READ; do mount -o remount,bind,ro "$one" || exit; done
for one in $WRITE; do mount --bind "$one" "$one" && mount -o remount,bind,rw "$one" || exit; done
exec "$@"' sh "$@"
"""


def sandboxed(folder: Path, read: Path, write: Path | str = "") -> str:
    """A program that runs another one as `SANDBOX` says, with the privileges of the unit."""
    script = folder / "sandbox.sh"
    script.write_text(SANDBOX)
    return f"env READ={read} WRITE={write} sh {script} {privileges()}"


def test_in_the_units_view_free_space_is_refused_as_read_only(tmp_path: Path, lab) -> None:
    image, mount = lab.formatted("ext4", size=64 * MIB)
    (mount / "gone").write_bytes(records(6 * MIB))
    os.sync()
    (mount / "gone").unlink()
    with site(tmp_path.resolve(), sandboxed(tmp_path, mount)) as place:
        order, receipt = place.order(f"free-space:{mount}", "-p", "random-verified", "--reserve", "0", code=3)
        refusal = receipt.targets[0].refusal
        assert refusal is not None
        assert refusal.reason is Reason.READ_ONLY
        assert left(image) > 0
        place.proven(order, certified=False)


@pytest.mark.parametrize("named", ["records", "records/2019"])
def test_in_the_units_view_files_go_where_a_drop_in_opened_their_folder(
    tmp_path: Path, lab, named: str
) -> None:
    """As images.conf.example has it: the folder is a mount of itself in that view, whether or not it is the target."""
    image, mount = lab.formatted("ext4", size=64 * MIB)
    folder = mount / "records"
    (folder / "2019").mkdir(parents=True)
    (folder / "2019" / "a.log").write_bytes(records(MIB))
    (folder / "2019" / "b.log").write_bytes(records(MIB))
    os.sync()
    with site(tmp_path.resolve(), sandboxed(tmp_path, mount, folder)) as place:
        order, receipt = place.order(mount / named, "-p", "nist-clear")
        (result,) = receipt.targets
        assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
        assert not list(folder.rglob("*.log"))
        place.proven(order)
    lab.unmount(mount)
    assert left(image) == 0


@pytest.mark.parametrize("opened", [False, True])
def test_in_the_units_view_a_folders_key_goes_where_the_stored_ones_can(
    tmp_path: Path, folder: Folder, opened: bool
) -> None:
    """As systemd/expunge-agent@.service.d/fscrypt.conf.example has it: only .fscrypt is writable."""
    stated = [word for one in STATED for word in ("--statement", f"{one}=yes")]
    words = (f"fscrypt:{folder.path}", "-p", "fscrypt-key-removal", *stated, "--search", folder.mount)
    writable = folder.mount / ".fscrypt" if opened else ""
    with site(tmp_path.resolve(), sandboxed(tmp_path, folder.mount, writable)) as place:
        order, receipt = place.order(*words, code=0 if opened else 3)
        (result,) = receipt.targets
        place.proven(order, certified=opened)
    if opened:
        assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
        assert (folder.policy.exists(), folder.protector.exists(), folder.read()) == (False, False, b"")
        return
    assert result.refusal is not None
    assert result.refusal.reason is Reason.READ_ONLY
    assert folder.policy.exists()
    assert folder.read() == SECRET * 500, "the key is still there"


def test_what_only_root_may_look_at_is_ordered_through_its_record(tmp_path: Path, folder: Folder) -> None:
    """The network side has no privilege: root's record says who lies there, and root runs the order."""
    privileges()
    root = tmp_path.resolve()
    passphrase = {"EXPUNGE_VAULT_PASSPHRASE_FILE": str(root / "pass")}
    nobody = "setpriv --no-new-privs --bounding-set -all"
    with site(root, nobody, serve="", **passphrase) as place:
        vault = VaultCli(root)
        vault.root.joinpath("state").symlink_to(place.state)
        vault.run("create")
        vault.put("4711", b"RECORD")
        for path in (*vault.folder.rglob("*"), vault.folder, folder.path):
            os.chown(path, 65534, 65534)
        folder.path.chmod(0o700)
        subject, private = f"vault:{vault.folder}#4711", f"fscrypt:{folder.path}"
        blind = place.expunge("inventory", "alpha", subject, private, "--json").json
        assert not [one for one in blind["items"] if one["path"] in (subject, private)]
        assert len(blind["problems"]) == 2
        with units(place):
            told = place.expunge("inventory", "alpha", subject, private, "--json").json
            found = {one["path"]: one for one in told["items"]}
            assert found[private]["identity"]["key"] == folder.key
            assert any("looked at by root" in note for note in found[subject]["notes"])
            assert told["problems"] == []
            stated = ("--statement", "no-header-backup=yes", "--statement", "no-escrow=yes")
            order, receipt = place.order(subject, "-p", "vault-shred", *stated)
        assert receipt.targets[0].outcome is Outcome.SANITIZED
        assert vault.states() == {"4711": "shredded"}
        place.proven(order)
