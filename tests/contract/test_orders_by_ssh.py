"""Orders for files and for a vault's subject, from `expunge wipe` through a real sshd to the bundle of an auditor."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.key_rules import STATED as LUKS_STATED
from expunge_agent.protocol.receipt import Reason
from support.luks import recorded
from support.site import MACHINE, Site, site
from support.sshd import SSHD
from support.vault_cli import VaultCli

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd (package openssh-server)")
RECORD = b"RECORD-OF-A-CUSTOMER;"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Site]:
    root = tmp_path.resolve()
    with site(root, EXPUNGE_VAULT_PASSPHRASE_FILE=str(root / "pass")) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with files, one of which has a second name outside of it."""
    made = tmp_path.resolve() / "records"
    (made / "2019").mkdir(parents=True)
    for name in ("a.txt", "2019/b.log", "2019/c.txt"):
        (made / name).write_bytes(RECORD * 500)
    (made / "linked").write_bytes(RECORD * 500)
    (tmp_path / "elsewhere").hardlink_to(made / "linked")
    return made


def needs_clear_ground(folder: Path) -> None:
    """Files on copy-on-write file systems are refused, which is another test's."""
    with open("/proc/self/mountinfo", encoding="ascii") as lines:
        mounts = sorted((line.split() for line in lines), key=lambda words: len(words[4]))
    kind = [words for words in mounts if str(folder).startswith(words[4])][-1]
    if kind[kind.index("-") + 1] not in ("ext4", "xfs"):
        pytest.skip("needs a folder on ext4 or XFS")


def test_a_directory_with_a_file_that_has_another_name(place: Site, folder: Path) -> None:
    """The linked file stays and is named, the rest goes: nothing is certified, and the receipt proves just that."""
    needs_clear_ground(folder)
    order, receipt = place.order(folder, "-p", "nist-clear", code=4)
    (result,) = receipt.targets
    assert result.files is not None
    assert (result.files.found.files, result.files.sanitized.files, result.files.refused.files) == (4, 3, 1)
    (listed,) = result.files.listed
    assert (listed.path, listed.outcome) == ("linked", "refused")
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["linked"]
    assert (folder / "linked").read_bytes() == RECORD * 500
    assert (result.outcome, result.level_achieved) == (Outcome.FAILED, Level.NONE)
    place.proven(order, certified=False)


def test_patterns_lists_and_single_files(place: Site, folder: Path) -> None:
    needs_clear_ground(folder)
    _, receipt = place.order(f"{folder}/2019/*.log", "-p", "nist-clear")
    assert receipt.targets[0].files is not None
    assert receipt.targets[0].files.sanitized.files == 1
    assert sorted(os.listdir(folder / "2019")) == ["c.txt"]
    listed = folder.parent / "list"
    listed.write_text(f"{folder}/2019/c.txt\n")
    _, receipt = place.order(folder, "--files-from", listed, "-p", "nist-clear")
    assert not (folder / "2019" / "c.txt").exists()
    assert (folder / "a.txt").read_bytes() == RECORD * 500
    order, receipt = place.order(folder / "a.txt", "--remove", "-p", "nist-clear")
    assert receipt.targets[0].outcome is Outcome.SANITIZED
    assert sorted(os.listdir(folder)) == ["2019", "linked"]
    place.proven(order)


def test_the_same_order_twice_is_carried_out_once(place: Site, folder: Path) -> None:
    needs_clear_ground(folder)
    order, _ = place.order(folder / "2019", "--keep", "-p", "nist-clear")
    assert RECORD not in (folder / "2019" / "b.log").read_bytes()
    (folder / "2019" / "b.log").write_bytes(RECORD)
    before = place.receipts_of_agent()
    assert place.send_again(order) == place.receipt_body(order)
    assert place.receipts_of_agent() == before
    assert (folder / "2019" / "b.log").read_bytes() == RECORD


def test_the_keys_of_a_luks_volume(place: Site) -> None:
    """Statements stand in the order; what they leave open keeps the claim away."""
    head, size = recorded("luks2")
    volume = place.root / "luks.img"
    volume.write_bytes(head.ljust(size, b"\xa5"))
    stated = [word for one in LUKS_STATED for word in ("--statement", f"{one}=yes")]
    words = (volume, "-p", "luks-crypto-erase", "--search", place.root / "sshd")
    order, receipt = place.order(*words, code=3)
    assert receipt.targets[0].refusal is not None
    assert volume.read_bytes().startswith(b"LUKS")
    place.proven(order, certified=False)
    order, receipt = place.order(*words, *stated)
    (result,) = receipt.targets
    assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
    assert result.key is not None
    assert {one.holds for one in result.key.conditions if one.id in LUKS_STATED} == {"yes"}
    assert not volume.read_bytes().startswith(b"LUKS")
    place.proven(order)


@pytest.fixture
def vault(place: Site) -> VaultCli:
    made = VaultCli(place.root)
    made.root.joinpath("state").symlink_to(place.state)  # the agent's own
    made.run("create")
    return made


STATED = ("--statement", "no-header-backup=yes", "--statement", "no-escrow=yes")


def test_a_subject_of_a_vault(place: Site, vault: VaultCli) -> None:
    kept, gone = vault.put("4711", b"keep me"), vault.put("4712", RECORD * 100)
    listed = {item["path"]: item for item in _items(place, f"vault:{vault.folder}")}
    assert set(listed) == {f"vault:{vault.folder}#4711", f"vault:{vault.folder}#4712"}
    text = f"vault:{vault.folder}#4712"
    order, receipt = place.order(text, "-p", "vault-shred", *STATED)
    (result,) = receipt.targets
    assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
    assert result.key is not None
    assert result.key.key == listed[text]["identity"]["key"]
    said = {one.id: one for one in result.key.conditions}
    assert said["no-escrow"].holds == "yes"
    assert "stated in the order" in said["no-escrow"].why
    assert vault.states() == {"4711": "live", "4712": "shredded"}
    vault.run("get", gone, "--out", "-", "--no-record", code=3)
    assert vault.get(kept) == b"keep me"
    place.proven(order)
    generation = json.loads(vault.run("list", "--json").stdout)["generation"]
    assert place.send_again(order) == place.receipt_body(order)
    assert json.loads(vault.run("list", "--json").stdout)["generation"] == generation


def test_what_nobody_states_blocks_the_claim(place: Site, vault: VaultCli) -> None:
    vault.put("4711", RECORD)
    text = f"vault:{vault.folder}#4711"
    order, receipt = place.order(text, "-p", "vault-shred", code=3)
    refusal = receipt.targets[0].refusal
    assert refusal is not None
    assert refusal.reason is Reason.LEVEL_NOT_ACHIEVABLE
    assert "no-escrow is unknown" in refusal.detail
    assert vault.states() == {"4711": "live"}
    place.proven(order, certified=False)
    _, receipt = place.order(text, "-p", "vault-shred-purge", *STATED, code=3)
    refusal = receipt.targets[0].refusal
    assert refusal is not None
    assert "keys-in-reach is unknown" in refusal.detail, "root keys in files"
    assert vault.states() == {"4711": "live"}
    order, receipt = place.order(text, "-p", "vault-shred", "--allow-downgrade", code=5)
    assert (receipt.targets[0].outcome, receipt.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    place.proven(order)


NO_TARGETS = [
    ("vault:{vault}", "vault-shred", 2, "names no subject"),
    ("vault:{vault}#nobody", "vault-shred", 3, "has no subject nobody"),
    ("vault:{vault}-not#4711", "vault-shred", 3, "no vault"),
    ("vault:relative#4711", "vault-shred", 3, "not an absolute path"),
    ("vault:{vault}#4711", "nist-clear", 10, "does not destroy keys"),
    ("fscrypt:{root}", "fscrypt-key-removal", 3, "has no key of its own"),
    ("fscrypt:{root}/nothing", "fscrypt-key-removal", 3, "has no key of its own"),
    ("free-space:{root}/home", "random-verified", 3, "is not a mount point"),
    ("{root}/nothing/*.txt", "nist-clear", 3, "There is nothing"),
]


def test_what_is_no_target_is_said(place: Site, vault: VaultCli) -> None:
    vault.put("4711", RECORD)
    for target, profile, code, says in NO_TARGETS:
        text = target.format(vault=vault.folder, root=place.root)
        ran = place.expunge("wipe", MACHINE, text, "-p", profile, "--yes", code=code)
        assert says in ran.err, text
    assert place.expunge("jobs", "--json").json == [], "nothing was ordered"


def _items(place: Site, path: str) -> list[dict[str, object]]:
    items = place.expunge("inventory", MACHINE, path, "--json").json["items"]
    return [item for item in items if item["path"].startswith(path)]
