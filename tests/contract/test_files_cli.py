"""expunge-agent wipe for directories, patterns and lists, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from expunge_agent.devices.file_facts import ground_of
from expunge_agent.devices.usage import Eyes

RECORD = b"RECORD 4711 "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    for name in ("a/one.log", "a/two.txt", "b/three.log", "four.txt"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(RECORD * 500)
    if (kind := ground_of(str(path), Eyes.open()).filesystem) not in ("ext4", "xfs"):
        pytest.skip(f"needs temporary files on ext4 or xfs, not {kind}")
    return path


def wipe(folder: Path, *args: str, code: int = 0, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the verb in the folder above `folder`."""
    done = subprocess.run(
        [sys.executable, "-m", "expunge_agent", "--state", "state", "wipe", "--profile", "nist-clear", *args],
        capture_output=True,
        cwd=folder.parent,
        input=given,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
    return done


def left(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_directory(folder: Path) -> None:
    done = wipe(folder, "tree", "--yes")
    assert b"4 files: 4 sanitized" in done.stdout
    assert list(folder.iterdir()) == []


def test_a_dry_run_counts_and_touches_nothing(folder: Path) -> None:
    os.link(folder / "four.txt", folder.parent / "again")
    plan = json.loads(wipe(folder, "tree", "--dry-run", "--json").stdout)["plans"][0]["files"]
    assert (plan["files"], plan["refused"]) == (4, 1)
    assert "2 names" in plan["noted"][0]
    assert len(left(folder)) == 4


def test_globs_and_patterns(folder: Path) -> None:
    wipe(folder, "tree", "--glob", "*.log", "--yes")
    assert left(folder) == {"a/two.txt", "four.txt"}
    wipe(folder, "tree/*.txt", "--keep", "--yes")
    assert left(folder) == {"a/two.txt", "four.txt"}
    assert RECORD not in (folder / "four.txt").read_bytes()


@pytest.mark.parametrize("end", [b"\n", b"\0"], ids=["lines", "nul"])
def test_lists(folder: Path, end: bytes) -> None:
    names = [b"tree/a/one.log", os.fsencode(folder / "b/three.log")]
    wipe(folder, "--files-from", "-", "--yes", given=end.join(names) + end)
    assert left(folder) == {"a/two.txt", "four.txt"}
    (folder.parent / "list").write_bytes(b"tree/four.txt" + end)
    wipe(folder, "--files-from", "list", "--yes")
    assert left(folder) == {"a/two.txt"}


def test_a_single_file_is_kept_unless_it_is_to_be_removed(folder: Path) -> None:
    wipe(folder, "tree/four.txt", "--yes")
    assert (folder / "four.txt").read_bytes() == bytes(len(RECORD) * 500)
    wipe(folder, "tree/four.txt", "--remove", "--yes")
    assert left(folder) == {"a/one.log", "a/two.txt", "b/three.log"}


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((), 2, b"No target was named"),
        (("tree", "--remove", "--keep"), 2, b"contradict"),
        (("tree/four.txt", "--glob", "*"), 2, b"narrows a directory"),
        (("--files-from", "nothing-here"), 2, b"cannot be read"),
        (("--files-from", "-"), 2, b"names no file"),
        (("tree", "--glob", "*.none", "--dry-run"), 3, b"has no file that is meant"),
        (("missing/*.txt",), 3, b"nothing at"),
        (("/", "--dry-run"), 3, b"/ is a directory"),
        (("/usr/share", "--dry-run"), 3, b"system's /usr"),
        ((".", "--dry-run"), 3, b"own folder"),
        (("tree", "tree"), 2, b"named twice"),
        (("link",), 3, b"symbolic link"),
    ],
    ids=str,
)
def test_mistakes(folder: Path, args: tuple[str, ...], code: int, says: bytes) -> None:
    (folder.parent / "link").symlink_to("tree")
    assert says in wipe(folder, *args, "--yes", code=code).stderr
    assert len(left(folder)) == 4


def test_what_a_list_must_not_name(folder: Path) -> None:
    (folder / "link").symlink_to("four.txt")
    for name, says in (
        (b"tree/link", b"symbolic link"),
        (b"tree/gone", b"nothing at"),
        (b"tree/\xff", b"UTF-8"),
    ):
        assert says in wipe(folder, "--files-from", "-", "--yes", code=3, given=name).stderr
    os.mkfifo(folder / "fifo")
    assert (
        b"a FIFO, not a regular file"
        in wipe(folder, "--files-from", "-", "--yes", code=3, given=b"tree/fifo").stdout
    )
    assert len(left(folder) - {"link"}) == 4


def test_a_list_that_no_order_has_room_for_is_refused_before_anything(folder: Path) -> None:
    names = [folder / f"{number:04d}-{'x' * 240}" for number in range(2000)]
    for name in names:
        name.touch()
    given = "\n".join(str(name) for name in names).encode()
    done = wipe(folder, "--files-from", "-", "--yes", code=2, given=given)
    assert b"too long for one order" in done.stderr
    assert len(left(folder)) == 2004


def test_a_pattern_that_dots_take_away_names_nothing(folder: Path) -> None:
    done = wipe(folder, "tree/no*/..", "--yes", code=3)
    assert b"There is nothing at" in done.stderr
    assert len(left(folder)) == 4
