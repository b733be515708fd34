"""Keys in an inventory: a vault's subjects without its lock and its keys, and sentences for what is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from expunge_agent import key_items
from expunge_agent.devices.key_traces import lookable
from expunge_agent.errors import ExpungeError
from expunge_agent.inventory_report import report
from expunge_agent.key_items import key_items as items_of
from expunge_agent.protocol.identity import KeyIdentity
from support.vaults import VaultBench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultBench:
    made = VaultBench.make(tmp_path.resolve(), monkeypatch)
    made.put("4711", b"one")
    made.put("4712", b"two")
    return made


def key_of(bench: VaultBench, subject: str) -> str:
    with bench.held() as held:
        entry = held.shelf.current().find(subject)
    assert entry is not None
    return entry.key


def test_a_vault_lists_its_subjects_for_whoever_names_it(bench: VaultBench) -> None:
    text = f"vault:{bench.folder}"
    found = items_of(text, bench.root / "known")
    assert [(one.path, one.asked) for one in found] == [(f"{text}#4711", [text]), (f"{text}#4712", [text])]
    identity = found[1].identity
    assert isinstance(identity, KeyIdentity)
    assert (identity.scheme, identity.key, identity.path) == (
        "vault",
        key_of(bench, "4712"),
        str(bench.folder),
    )


def test_one_subject_is_found_by_its_name_and_by_its_key(bench: VaultBench) -> None:
    path = f"vault:{bench.folder}#4712"
    by_key = f"vault:{bench.folder}#{key_of(bench, '4712')}"
    known = bench.root / "known"
    (named,), (keyed,) = items_of(path, known), items_of(by_key, known)
    assert (named.path, named.asked) == (path, [])
    assert (keyed.path, keyed.asked, keyed.identity) == (path, [by_key], named.identity)


def test_a_shredded_subject_says_so(bench: VaultBench) -> None:
    bench.change("4711")
    (one,) = items_of(f"vault:{bench.folder}#4711", bench.root / "known")
    assert any("was destroyed at" in note for note in one.notes)
    assert one.blocked == []


def test_looking_leaves_the_vault_as_it_is(bench: VaultBench) -> None:
    """Under systemd root looks from a unit that may not write there."""
    before = {path: path.stat().st_mtime_ns for path in bench.root.rglob("*")}
    for path in before:
        if path.is_dir():
            path.chmod(0o500)
    try:
        assert len(items_of(f"vault:{bench.folder}", bench.root / "known")) == 2
    finally:
        for path in before:
            if path.is_dir():
                path.chmod(0o700)
    assert {path: path.stat().st_mtime_ns for path in bench.root.rglob("*")} == before


def test_more_subjects_than_are_listed_have_to_be_named(
    bench: VaultBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_items, "MOST_SUBJECTS", 1)
    with pytest.raises(ExpungeError) as caught:
        items_of(f"vault:{bench.folder}", bench.root / "known")
    assert "has 2 subjects; 1 can be listed" in caught.value.message
    assert items_of(f"vault:{bench.folder}#4711", bench.root / "known")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vault:{vault}#nobody", "has no subject nobody"),
        ("vault:{vault}/objects", "There is no vault"),
        ("vault:relative#4711", "not an absolute path"),
        ("vault:", "not an absolute path"),
        ("vault:#4711", "not an absolute path"),
        ("vault:{link}#4711", "goes through a symbolic link"),
        ("fscrypt:{vault}", "has no key of its own"),
        ("fscrypt:{vault}/vault.json", "has no key of its own"),
        ("fscrypt:nowhere", "not an absolute path"),
    ],
)
def test_what_is_no_key_is_a_sentence(bench: VaultBench, text: str, says: str) -> None:
    link = bench.root / "link"
    link.symlink_to(bench.folder)
    asked = text.format(vault=bench.folder, link=link)
    answer = report([asked], bench.root)
    (problem,) = answer.problems
    assert problem.startswith(f"{asked}: ")
    assert says in problem
    assert not [one for one in answer.items if isinstance(one.identity, KeyIdentity)]


def test_a_rolled_back_keystore_is_no_answer(bench: VaultBench) -> None:
    newest = max((bench.folder / "keystore").glob("0*.json"))
    newest.unlink()
    with pytest.raises(ExpungeError, match="rolled back"):
        items_of(f"vault:{bench.folder}", bench.root / "known")


def test_only_a_folder_that_can_be_listed_counts_as_looked_through(tmp_path: Path) -> None:
    here = str(tmp_path)
    assert lookable([here, f"{here}/nothing"]) == [here]
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0)
        assert lookable([f"{here}/closed"]) == []
