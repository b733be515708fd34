"""The vault by its command line: keeping, shredding, receipts, and everything that people get wrong."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from expunge_agent.devices import host
from expunge_agent.protocol.base import Level, Outcome, timestamp
from expunge_agent.protocol.identity import KeyIdentity, Target
from expunge_agent.protocol.receipt import Reason
from support.agents import Bench
from support.vault_cli import VaultCli

RECORD = b"RECORD 4711 " * 5000
STATED = ("note", "--condition", "no-header-backup=yes", "--condition", "no-escrow=yes", "--why", "test")


@pytest.fixture
def vault(tmp_path: Path) -> VaultCli:
    found = VaultCli(tmp_path)
    found.run("create")
    return found


def test_from_put_to_receipt(vault: VaultCli) -> None:
    alice, bob = vault.put("alice", RECORD), vault.put("bob", RECORD[::-1])
    assert vault.json("check")["sound"] == 2
    vault.run(*STATED)
    vault.run("note", "--copy", "tape 12")
    done = vault.run("shred", "alice", "--yes", "--case", "C-1")
    (receipt,) = vault.receipts()
    (result,) = receipt.targets
    key = result.key
    assert key is not None
    assert (receipt.outcome, receipt.level_achieved) == (Outcome.SANITIZED, Level.CLEAR)
    assert isinstance(result.target.identity, KeyIdentity)
    assert (key.scheme, key.key) == ("vault", result.target.identity.key)
    assert result.technique == "vault-shred"
    assert receipt.order.case_number == "C-1"
    assert key.readable == []
    fates = {(copy.where.split(",")[0], copy.fate) for copy in key.copies}
    assert ("tape 12", "remains") in fates
    assert (str(vault.folder), "destroyed") in fates
    assert {one.id: one.holds for one in key.conditions}["keys-in-reach"] == "unknown"
    assert b"Receipt 1" in done.stdout
    assert vault.states() == {"alice": "shredded", "bob": "live"}
    vault.run("get", alice, "--out", str(vault.root / "out"), code=3)
    assert vault.get(bob) == RECORD[::-1]
    assert vault.json("check") == {"sound": 1, "bytes": str(len(RECORD)), "wrong": []}


def test_twice_shredded_says_so_and_shows_the_receipt(vault: VaultCli) -> None:
    vault.put("alice", RECORD)
    vault.run(*STATED)
    vault.run("shred", "alice", "--yes")
    again = vault.run("shred", "alice", "--yes")
    assert b"already" in again.stdout
    assert b"Receipt 1" in again.stdout
    assert len(vault.receipts()) == 1
    vault.run("shred", "nobody", "--yes", code=18)


def test_what_cannot_be_earned_is_refused_or_said(vault: VaultCli) -> None:
    """A root key in a file, and nobody says that there is no copy of it."""
    alice = vault.put("alice", RECORD)
    vault.run("shred", "alice", "--yes", code=3)
    assert vault.json("check")["sound"] == 1
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=5)
    refused, done = vault.receipts()
    assert refused.targets[0].refusal is not None
    assert refused.targets[0].refusal.reason is Reason.LEVEL_NOT_ACHIEVABLE
    (result,) = done.targets
    assert (result.outcome, result.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert result.key is not None
    assert "copy of root key" in result.key.readable[0]
    vault.run("get", alice, "--out", str(vault.root / "out"), code=3)


def test_purge_is_never_had_with_a_file(vault: VaultCli) -> None:
    vault.put("alice", RECORD)
    vault.run(*STATED)
    vault.run("note", "--condition", "validated-module=yes", "--why", "FIPS provider")
    vault.run("shred", "alice", "--yes", "--level", "purge", code=3)
    assert vault.states() == {"alice": "live"}


def test_plaintext_given_out_is_in_the_receipt(vault: VaultCli) -> None:
    alice = vault.put("alice", RECORD)
    out = vault.root / "plain"
    vault.run("get", alice, "--out", str(out))
    assert out.read_bytes() == RECORD
    assert out.stat().st_mode & 0o077 == 0
    vault.run(*STATED)
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=5)
    (result,) = vault.receipts()[0].targets
    assert result.key is not None
    assert str(out) in result.key.readable[0]
    assert "still there" in result.key.readable[0]


def test_plaintext_that_was_destroyed_is_stated(vault: VaultCli) -> None:
    alice = vault.put("alice", RECORD)
    vault.run("get", alice, "--out", str(vault.root / "plain"))
    vault.run(*STATED)
    vault.run("note", "--destroyed", str(vault.root / "plain"), "--why", "wiped, receipt 3")
    vault.run("note", "--destroyed", str(vault.root / "nothing"), "--why", "typo", code=18)
    assert vault.json("list")["exports"] == []
    vault.run("shred", "alice", "--yes")


def test_what_is_given_out_after_a_word_is_not_covered_by_it(vault: VaultCli) -> None:
    """The same place again, standard output, and what was not to be recorded."""
    alice, plain = vault.put("alice", RECORD), vault.root / "plain"
    vault.run("get", alice, "--out", str(plain))
    vault.run("get", alice, "--out", "-")
    for where in (str(plain), "-"):
        vault.run("note", "--destroyed", where, "--why", "wiped")
    vault.run("get", alice, "--out", str(plain), "--force")
    vault.run("get", alice, "--out", "-")
    vault.get(alice)
    vault.run(*STATED)
    assert [one["where"] for one in vault.json("list")["exports"]] == [
        str(plain),
        "standard output",
        "not recorded",
    ]
    vault.run("shred", "alice", "--yes", code=3)
    for one in vault.json("list")["exports"]:
        vault.run("note", "--destroyed", one["id"], "--why", "wiped")
    vault.run("shred", "alice", "--yes")


def test_a_vault_put_back_to_before_an_export_is_refused(vault: VaultCli) -> None:
    alice = vault.put("alice", RECORD)
    vault.run(*STATED)
    shutil.copytree(vault.folder, vault.root / "before")
    vault.run("get", alice, "--out", "-")
    shutil.rmtree(vault.folder)
    shutil.copytree(vault.root / "before", vault.folder)
    assert b"rolled back" in vault.run("shred", "alice", "--yes", "--allow-downgrade", code=11).stderr


def test_a_cut_journal_earns_nothing(vault: VaultCli) -> None:
    alice = vault.put("alice", RECORD)
    vault.run(*STATED)
    vault.run("get", alice, "--out", "-")
    path = vault.folder / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    vault.run("shred", "alice", "--yes", code=3)
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=5)
    (result,) = vault.receipts()[-1].targets
    assert result.key is not None
    (found,) = [one for one in result.key.conditions if one.id == "always-encrypted"]
    assert (found.holds, "cut or put back" in found.why) == ("unknown", True)


def test_an_old_backup_of_everything_but_the_root_key(vault: VaultCli) -> None:
    """Data, keystore, passphrase: what the receipt said is what is so."""
    alice, bob = vault.put("alice", RECORD), vault.put("bob", RECORD)
    shutil.copytree(vault.folder, vault.root / "backup")
    vault.run("note", "--copy", str(vault.root / "backup"))
    vault.run(*STATED)
    vault.run("shred", "alice", "--yes")
    (result,) = vault.receipts()[0].targets
    assert result.key is not None
    (copy,) = [one for one in result.key.copies if one.where == str(vault.root / "backup")]
    assert (copy.fate, "opens nothing" in copy.detail) == ("remains", True)
    newest = vault.root / "newest"
    shutil.move(vault.folder, newest)
    shutil.copytree(vault.root / "backup", vault.folder)
    for machine in ("that shredded", "that never saw it"):
        if machine == "that never saw it":
            for path in (vault.root / "state" / "vaults").glob("*/newest.json"):
                path.unlink()
        for object_id in (alice, bob):
            refused = vault.run("get", object_id, "--out", "-", code=11 if machine == "that shredded" else 18)
            assert refused.stdout == b""
    # The way back: old objects with the newest keystore.
    shutil.rmtree(vault.folder / "keystore")
    shutil.copytree(newest / "keystore", vault.folder / "keystore")
    shutil.copy(newest / "journal.jsonl", vault.folder / "journal.jsonl")
    assert vault.get(bob) == RECORD
    vault.run("get", alice, "--out", "-", code=3)


def test_a_cut_object_gives_a_beginning_and_an_exit_code(vault: VaultCli) -> None:
    big = os.urandom(1_000_000)
    object_id = vault.put("alice", big)
    path = vault.folder / "objects" / object_id
    path.write_bytes(path.read_bytes()[:-1])
    cut = vault.run("get", object_id, "--out", "-", code=9)
    assert cut.stdout == big[: len(cut.stdout)]
    assert len(cut.stdout) == 3 * 256 * 1024
    vault.run("get", object_id, "--out", str(vault.root / "out"), code=9)
    assert sorted(one.name for one in vault.root.iterdir()) == ["pass", "state", "vault"]
    vault.run("check", code=7)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("put", "a b", "-"), 2),
        (("put", "-x", "-"), 2),
        (("put", "alice", "/"), 2),
        (("put", "alice", "missing"), 11),
        (("get", "0" * 32, "--out", "-"), 18),
        (("get", "../lock", "--out", "-"), 18),
        (("create",), 2),
        (("note",), 2),
        (("note", "--condition", "no-escrow=perhaps", "--why", "x"), 2),
        (("note", "--condition", "key-strength=yes", "--why", "x"), 2),
        (("note", "--condition", "no-escrow=yes"), 2),
        (("shred", "alice"), 2),
    ],
    ids=str,
)
def test_mistakes_are_sentences(vault: VaultCli, arguments: tuple[str, ...], code: int) -> None:
    if arguments[0] == "shred":
        vault.put("alice", b"x")
    before = vault.json("list")
    done = vault.run(*arguments, code=code)
    assert done.stderr.startswith((b"expunge-agent: error: ", b"Usage: ")), done.stderr
    assert vault.json("list") == before


def test_a_wrong_passphrase_changes_nothing(vault: VaultCli) -> None:
    object_id = vault.put("alice", RECORD)
    (vault.root / "pass").write_text("wrong")
    for verb, more in (
        ("put", ("bob", "-")),
        ("get", (object_id, "--out", "-")),
        ("check", ()),
        ("rotate", ()),
    ):
        assert b"passphrase" in vault.run(verb, *more, code=13).stderr
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=3)
    (vault.root / "pass").write_text("")
    assert b"1 to 1024 bytes" in vault.run("check", code=2).stderr
    (vault.root / "pass").write_text("correct horse")
    assert vault.get(object_id) == RECORD
    assert vault.json("list")["generation"] == "3"


def test_a_vault_whose_making_was_killed_is_made_again(tmp_path: Path) -> None:
    """Its settings come last: all else may be there already."""
    vault = VaultCli(tmp_path)
    vault.run("create")
    (vault.folder / "vault.json").unlink()
    vault.run("create")
    object_id = vault.put("alice", RECORD)
    vault.run("rotate")
    assert vault.get(object_id) == RECORD


def test_a_vault_that_lost_its_settings_is_not_made_anew(vault: VaultCli) -> None:
    """That would take the keys of living subjects with it."""
    settings = (vault.folder / "vault.json").read_bytes()
    object_id = vault.put("alice", RECORD)
    (vault.folder / "vault.json").unlink()
    assert b"vault.json" in vault.run("create", code=2).stderr
    kept = (vault.folder / "objects" / object_id).rename(vault.root / "kept")
    assert b"vault.json" in vault.run("create", code=11).stderr  # no objects, but a subject's key
    kept.rename(vault.folder / "objects" / object_id)
    (vault.folder / "vault.json").write_bytes(settings)
    assert vault.get(object_id) == RECORD


def test_a_name_that_is_no_utf8_is_a_sentence(vault: VaultCli) -> None:
    object_id = vault.put("alice", RECORD)
    done = subprocess.run(
        [*vault.command("get", object_id, "--out"), os.fsencode(vault.root) + b"/bad\xff"],
        env=vault.env,
        capture_output=True,
    )
    assert (done.returncode, b"no UTF-8" in done.stderr) == (2, True), done.stderr
    assert vault.json("list")["exports"] == []


def test_an_export_that_cannot_be_looked_at_does_not_break_the_receipt(
    vault: VaultCli, tmp_path: Path
) -> None:
    """Its medium went away meanwhile, or its folder was closed: here the name can be no name any more."""
    object_id = vault.put("alice", RECORD)
    (tmp_path / "media").mkdir()
    vault.run("get", object_id, "--out", str(tmp_path / "media" / "x"))
    (tmp_path / "media" / "x").unlink()
    (tmp_path / "media").rmdir()
    (tmp_path / "media").symlink_to("n" * 300)  # stat(2) answers ENAMETOOLONG
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=5)
    (told,) = vault.receipts()[-1].targets
    assert any("cannot be looked at now" in one for one in told.key.readable)


def typing(vault: VaultCli, verb: str, *lines: bytes) -> tuple[int, bytes]:
    """Exit code of a verb on a terminal where somebody types these lines, and what the terminal showed."""
    vault.environment["EXPUNGE_VAULT_PASSPHRASE_FILE"] = ""
    terminal, theirs = pty.openpty()
    words = ["setsid", "--ctty", "--wait", *vault.command(verb)]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=vault.env)
    os.close(theirs)
    shown = b""
    for line in lines:
        while not shown.endswith(b": "):
            shown += os.read(terminal, 4096)
        os.write(terminal, line + b"\n")
        shown += os.read(terminal, 1)
    try:
        while more := os.read(terminal, 4096):
            shown += more
    except OSError:  # the end of a terminal's other side (EIO)
        pass
    os.close(terminal)
    return process.wait(30), shown


def test_a_passphrase_is_typed_unseen_and_may_be_any_bytes(tmp_path: Path) -> None:
    vault = VaultCli(tmp_path)
    code, shown = typing(vault, "create", b"p\xe4ss word", b"p\xe4ss  word")
    assert (code, b"not the same" in shown) == (2, True), shown
    code, shown = typing(vault, "create", b"p\xe4ss word", b"p\xe4ss word")
    assert (code, b"word" in shown) == (0, False), shown
    assert typing(vault, "check", b"\xff\xfe")[0] == 13
    assert typing(vault, "check", b"p\xe4ss word")[0] == 0
    assert typing(vault, "check", b"")[0] == 2


def test_nobody_to_ask_for_a_passphrase(vault: VaultCli) -> None:
    vault.environment["EXPUNGE_VAULT_PASSPHRASE_FILE"] = ""
    assert b"passphrase" in vault.run("check", code=2).stderr


def test_root_keys_do_not_go_into_the_vault(tmp_path: Path) -> None:
    vault = VaultCli(tmp_path)
    vault.run("create", "--root-folder", str(vault.folder / "keys"), code=2)
    assert not (vault.folder / "vault.json").exists()


def test_root_keys_do_not_go_into_the_vault_by_a_link(tmp_path: Path) -> None:
    vault = VaultCli(tmp_path)
    vault.folder.mkdir(mode=0o700)
    (tmp_path / "elsewhere").symlink_to(vault.folder)
    vault.run("create", "--root-folder", str(tmp_path / "elsewhere" / "keys"), code=2)
    assert list(vault.folder.iterdir()) == []


@pytest.mark.parametrize("which", ["vault", "keys"])
def test_a_folder_that_others_may_write_in_is_not_taken(tmp_path: Path, which: str) -> None:
    vault = VaultCli(tmp_path)
    (tmp_path / which).mkdir()
    (tmp_path / which).chmod(0o777)
    done = vault.run("create", "--root-folder", str(tmp_path / "keys"), code=2)
    assert b"others may write" in done.stderr
    (tmp_path / which).chmod(0o700)
    vault.run("create", "--root-folder", str(tmp_path / "keys"))


def test_the_process_that_holds_the_passphrase_leaves_no_core(vault: VaultCli) -> None:
    """The command itself, not only its child: both wait here for the data."""
    writer = vault.start("put", "alice", "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert writer.stdin is not None
    try:
        writer.stdin.write(b"y" * 3_000_000)  # more than a pipe holds: the child is reading
        writer.stdin.flush()
        limits = Path(f"/proc/{writer.pid}/limits").read_text()
        (line,) = [one for one in limits.splitlines() if one.startswith("Max core file size")]
        assert line.split()[4:6] == ["0", "0"]
    finally:
        writer.stdin.close()
        assert writer.wait(30) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into such processes")
def test_the_passphrase_lies_in_one_locked_place_of_each_process(tmp_path: Path) -> None:
    """While the data come: command and child each hold it once, and in no spelling besides."""
    secret = f"no such words {os.urandom(12).hex()} anywhere"
    vault = VaultCli(tmp_path, secret=secret)
    vault.run("create")
    writer = vault.start("put", "alice", "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert writer.stdin is not None
    try:
        writer.stdin.write(b"y" * 3_000_000)  # more than a pipe holds: the child is reading
        writer.stdin.flush()
        (child,) = Path(f"/proc/{writer.pid}/task/{writer.pid}/children").read_text().split()
        for process in (str(writer.pid), child):
            memory = everything_in(process)
            assert memory.count(secret.encode()) == 1
            assert secret.encode().hex().encode() not in memory
            status = Path(f"/proc/{process}/status").read_text()
            (locked,) = [line for line in status.splitlines() if line.startswith("VmLck")]
            assert int(locked.split()[1]) > 0
    finally:
        writer.stdin.close()
        assert writer.wait(30) == 0


def everything_in(process: str) -> bytes:
    """What a process has in memory."""
    found = []
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            place, access, *_ = line.split()
            if "r" not in access or "[v" in line:
                continue
            start, end = (int(one, 16) for one in place.split("-"))
            memory.seek(start)
            try:
                found.append(memory.read(end - start))
            except OSError:
                continue
    return b"\0".join(found)


def test_a_shredding_waits_for_no_one_who_streams(vault: VaultCli) -> None:
    """Somebody writes an object of the vault: the key it uses is not pulled away under it."""
    vault.put("alice", b"x")
    writer = vault.start("put", "alice", "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert writer.stdin is not None
    writer.stdin.write(b"y" * 3_000_000)
    writer.stdin.flush()
    try:
        vault.run(*STATED)
        vault.run("put", "bob", "-", stdin=b"two at once")
        busy = vault.run("shred", "alice", "--yes", code=3)
        assert b"being written or read" in busy.stdout
        assert vault.states()["alice"] == "live"
    finally:
        writer.stdin.close()
        assert writer.wait(30) == 0
    vault.run("shred", "alice", "--yes")


def test_many_at_once_lose_nothing(vault: VaultCli) -> None:
    started = [
        vault.start(
            "put", f"subject-{number % 3}", "-", "--json", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for number in range(6)
    ]
    found = [json.loads(one.communicate(f"data {n}".encode())[0])["object"] for n, one in enumerate(started)]
    assert [vault.get(object_id) for object_id in found] == [f"data {n}".encode() for n in range(6)]
    assert len(vault.states()) == 3


def test_the_manifest_is_signed_and_holds_no_secret(vault: VaultCli) -> None:
    object_id = vault.put("alice", RECORD)
    out = vault.root / "manifest.json"
    vault.run("export-manifest", str(out), "--copy", "tape 12")
    told = json.loads(out.read_bytes())
    (thing,) = told["objects"]
    sealed = vault.folder / "objects" / object_id
    digest = subprocess.run(["sha256sum", str(sealed)], capture_output=True, text=True, check=True).stdout
    assert (thing["object"], thing["sha256"]) == (object_id, digest.split()[0])
    assert [one["where"] for one in told["copies"]] == ["tape 12"]
    keystore = max((vault.folder / "keystore").glob("0*"))
    for entry in json.loads(keystore.read_bytes())["entries"]:
        assert entry["wrapped"].encode() not in out.read_bytes()
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen (package openssh-client)")
    line = (vault.root / "state" / "signing_key.pub").read_text()
    (vault.root / "signers").write_text(f"agent {line}")
    check = ["ssh-keygen", "-Y", "verify", "-f", str(vault.root / "signers"), "-I", "agent"]
    check += ["-n", "expunge-vault", "-s", f"{out}.sig"]
    with out.open("rb") as body:
        assert subprocess.run(check, stdin=body, capture_output=True).returncode == 0


def test_libraries_of_holders_are_only_loaded_where_they_are_used() -> None:
    """They are extras: the agent works without them."""
    script = "import sys, expunge_agent.cli.vault_create, expunge_agent.cli.vault_shred, expunge_agent.vault.work\n"
    script += "sys.exit(bool({'pkcs11', 'tpm2_pytss'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_controllers_order_shreds(vault: VaultCli) -> None:
    """An order like any other, signed by the controller, carried out by `run`."""
    for subject in ("alice", "bob", "carol"):
        vault.put(subject, RECORD)
    vault.run(*STATED, "--standing")  # the second key is wrapped by a root key that is yet to be made
    bench = Bench.make(vault.root / "state")
    keys = [one["key"] for one in vault.json("list")["subjects"]][:2]
    now = datetime.now(UTC)
    targets = [
        Target(identity=KeyIdentity(scheme="vault", key=key, path=str(vault.folder), host=host.machine_id()))
        for key in keys
    ]
    times = {"not_before": timestamp(now), "expires": timestamp(now + timedelta(minutes=9))}
    order = bench.order(policy="vault-shred", targets=targets, **times)
    digest = bench.hand_in(*bench.sign(order))
    command = [sys.executable, "-m", "expunge_agent", "--state", str(vault.root / "state"), "run", digest]
    assert subprocess.run(command, env=vault.env, capture_output=True).returncode == 0
    (receipt,) = vault.receipts()
    assert (receipt.outcome, receipt.level_achieved) == (Outcome.SANITIZED, Level.CLEAR)
    assert receipt.order.issuer == "controller:test"
    assert [one.key.key for one in receipt.targets if one.key] == keys
    assert vault.states() == {"alice": "shredded", "bob": "shredded", "carol": "live"}
    other = bench.order(
        policy="vault-shred",
        targets=[
            Target(identity=KeyIdentity(scheme="vault", key="f" * 32, path=str(vault.folder), host="x"))
        ],
        **times,
    )
    digest = bench.hand_in(*bench.sign(other))
    command[-1] = digest
    assert subprocess.run(command, env=vault.env, capture_output=True).returncode == 3
