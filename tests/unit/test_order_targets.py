"""From what a person types at `expunge wipe` to targets: patterns, lists, single files, keys."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from expunge_agent.errors import ExpungeError, ProfileProblemError, RefusedError, UsageError
from expunge_agent.protocol import wire
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import FileIdentity, Identity, KeyIdentity, Target, TreeIdentity
from expunge_controller.cli import targets
from expunge_controller.cli.file_targets import Files, folders_beside, meant, narrowed, read_list
from expunge_controller.cli.key_targets import check_profile, in_words
from expunge_profiles.load import builtin

TREE = TreeIdentity(path="/srv/logs", device="8:1", inode=U64(7), host="h")
FILE = FileIdentity(path="/srv/logs/a[1].txt", device="8:1", inode=U64(9), size=U64(5), host="h")
KEY = KeyIdentity(scheme="vault", key="ab" * 16, path="/srv/vault", host="h")


def item(identity: Identity, path: str, asked: Sequence[str] = ()) -> wire.InventoryItem:
    return wire.InventoryItem(
        identity=identity,
        path=path,
        type="file",
        firmware="",
        logical_sector=-1,
        physical_sector=-1,
        blocked=[],
        notes=[],
        asked=list(asked),
    )


def answer(*items: wire.InventoryItem, problems: Sequence[str] = ()) -> wire.Inventory:
    return wire.Inventory(items=list(items), problems=list(problems))


def test_a_pattern_is_the_directory_before_it_narrowed() -> None:
    text = "/srv/logs/2019-*/x?.log"
    assert folders_beside([text, "/srv/plain", "free-space:/mnt/*"], Files()) == ["/srv/logs"]
    target = meant(answer(item(TREE, "/srv/logs")), text, Files())
    assert target is not None
    assert isinstance(target.identity, TreeIdentity)
    assert (target.identity.include, target.hint) == (["2019-*/x?.log"], "/srv/logs")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file() -> None:
    text = FILE.path
    found = answer(item(FILE, text), item(TREE, "/srv/logs"))
    assert meant(found, text, Files()) is None, "the item itself is taken"


def test_a_single_file_loses_its_name_where_that_is_asked() -> None:
    found = answer(item(FILE, FILE.path), item(TREE, "/srv/logs"))
    files = Files(remove=True)
    assert folders_beside(["/srv/logs/a.txt", "vault:/srv/v#1"], files) == ["/srv/logs"]
    target = meant(found, FILE.path, files)
    assert target is not None
    assert isinstance(target.identity, TreeIdentity)
    assert target.identity.names == ["a[1].txt"]
    assert meant(found, "/srv/logs", files) is None, "a directory's files go in any case"


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"/srv/logs/a\n/srv/logs/b/c\n\n/srv/logs/a\n", ["a", "b/c"]),
        (b"/srv/logs/a\nb\0/srv/logs/c\0", ["a\nb", "c"]),
        (b"a\nb/c", ["a", "b/c"]),
        ("/srv/logs/ä\n".encode(), ["ä"]),
    ],
)
def test_a_list_names_files_below_the_directory(data: bytes, names: list[str]) -> None:
    listed = read_list(io.BytesIO(data))
    (target,) = narrowed([Target(identity=TREE)], Files(listed=listed))
    assert isinstance(target.identity, TreeIdentity)
    assert target.identity.names == names


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "names no file"),
        (b"\n\n", "names no file"),
        (b"/srv/logs/\xff\n", "not UTF-8"),
        (b"x" * (300 * 1024), "more than"),
        (b"/srv/other/a\n", "does not lie below /srv/logs"),
        (b"/srv/logs\n", "does not lie below"),
        (b"/srv/logs/../other\n", "'..'"),
        (b"../other\n", "'..'"),
        (b"/srv/logs-old/a\n", "does not lie below"),
    ],
)
def test_a_list_that_is_none_is_a_sentence(data: bytes, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        narrowed([Target(identity=TREE)], Files(listed=read_list(io.BytesIO(data))))
    assert says in caught.value.message


@pytest.mark.parametrize(
    "found", [[Target(identity=FILE)], [Target(identity=TREE), Target(identity=FILE)], [Target(identity=KEY)]]
)
def test_a_list_goes_with_one_directory(found: list[Target]) -> None:
    with pytest.raises(UsageError):
        narrowed(found, Files(listed=("a",)))


def test_a_glob_does_not_widen_what_a_pattern_named() -> None:
    whole, narrow = Target(identity=TREE), meant(answer(item(TREE, "/srv/logs")), "/srv/logs/a*", Files())
    assert narrow is not None
    first, second = narrowed([whole, narrow], Files(globs=("*.txt",)))
    assert isinstance(first.identity, TreeIdentity)
    assert first.identity.include == ["*.txt"]
    assert second == narrow
    with pytest.raises(UsageError):
        narrowed([narrow], Files(globs=("*.txt",)))


def test_a_subject_is_ordered_by_the_key_that_the_machine_told() -> None:
    text = "vault:/srv/vault#4711"
    found = targets.target_of(targets._item(answer(item(KEY, text)), text))
    assert found == Target(identity=KEY, hint=text)
    by_key = f"vault:/srv/vault#{KEY.key}"
    assert targets._item(answer(item(KEY, text, [by_key])), by_key).path == text
    with pytest.raises(ExpungeError):
        targets._item(answer(item(KEY, text)), "/srv/vault")


@pytest.mark.parametrize("text", ["vault:/srv/vault", "vault:/srv/vault#", "vault:/srv/a#b/vault"])
def test_a_whole_vault_is_never_meant(text: str) -> None:
    listed = answer(item(KEY, "vault:/srv/vault#4711", [text]))
    with pytest.raises(UsageError) as caught:
        targets._item(listed, text)
    assert "Name one: vault:/srv/vault#4711" in caught.value.remedy
    with pytest.raises(UsageError):
        targets._item(answer(), text)
    with pytest.raises(RefusedError, match="no vault there"):
        targets._item(answer(problems=[f"{text}: no vault there"]), text)


def test_a_key_takes_a_profile_that_destroys_such_keys() -> None:
    folder = KeyIdentity(scheme="fscrypt", key="cd" * 16, path="/srv/private", host="h")
    profiles = builtin()
    check_profile([Target(identity=KEY)], profiles["vault-shred"])
    check_profile([Target(identity=folder), Target(identity=TREE)], profiles["fscrypt-key-removal"])
    check_profile([Target(identity=TREE)], profiles["nist-clear"])
    for identity, name in ((KEY, "fscrypt-key-removal"), (folder, "vault-shred"), (KEY, "nist-clear")):
        with pytest.raises(ProfileProblemError):
            check_profile([Target(identity=identity, hint="x")], profiles[name])
    assert folder.key in in_words(folder)
    assert KEY.key in in_words(KEY)
