"""Whole orders for files of a directory: what goes, what stays, what the receipt says, and what a crash costs."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import msgspec
import pytest

from expunge_agent import tree_run
from expunge_agent.devices.file_facts import ground_of
from expunge_agent.devices.usage import Eyes
from expunge_agent.journal import Journal
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.order import parse_order
from expunge_agent.protocol.receipt import Reason, Receipt
from expunge_agent.protocol.receipt_files import FileTally, ManifestLine
from expunge_agent.surroundings import Surroundings
from expunge_agent.techniques import files_batch, files_passes
from expunge_agent.techniques.files_list import Item
from expunge_agent.wipe import run_order
from expunge_controller.records.consistency import evidence_problems
from expunge_profiles.load import builtin
from support.agents import Bench, Crash, surroundings
from support.trees import MARK, before, files_of, named, record, shred, shredded, tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with records, where a file system writes in place."""
    path = tmp_path / "tree"
    path.mkdir()
    kind = ground_of(str(path), Eyes.open()).filesystem
    if kind not in ("ext4", "xfs"):
        pytest.skip(f"needs temporary files on ext4 or xfs, not {kind}")
    for number in range(20):
        file = path / f"{number % 3}" / f"{number:02d}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(record(file.name, 1 + number * 700))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_of_a_directory_goes_and_the_directory_stays(bench: Bench, folder: Path) -> None:
    (folder / "empty").touch()
    receipt = shredded(bench, tree(folder), "random-verified")
    result = receipt.targets[0]
    assert receipt.outcome is Outcome.SANITIZED, result.failure
    assert receipt.level_achieved is Level.CLEAR
    assert list(folder.iterdir()) == []
    files = files_of(result)
    assert (files.found.files, files.sanitized.files, files.names_removed) == (21, 21, 21)
    assert files.folders_removed == 3
    assert evidence_problems(receipt, builtin()["random-verified"]) == []
    assert result.identity_before == result.identity_after == result.target.identity


def test_keep_overwrites_only(bench: Bench, folder: Path) -> None:
    before = contents(folder)
    result = shred(bench, tree(folder), keep=True)
    assert result.outcome is Outcome.SANITIZED
    assert {name: bytes(len(data)) for name, data in before.items()} == contents(folder)
    assert files_of(result).keep
    assert files_of(result).names_removed == 0


def test_patterns_and_names_narrow(bench: Bench, folder: Path) -> None:
    shred(bench, tree(folder, include=["*/1*.txt"]))
    assert {path.name for path in folder.rglob("*.txt")} == {f"{number:02d}.txt" for number in range(10)}
    result = shred(
        bench, tree(folder, names=["0/00.txt", "gone", "../../etc/passwd", "1"]), allow_exceptions=True
    )
    assert not (folder / "0/00.txt").exists()
    assert set(named(result, "refused")) == {"gone", "../../etc/passwd", "1"}
    assert len(contents(folder)) == 9


def test_a_level_that_files_cannot_earn_is_refused(bench: Bench, folder: Path) -> None:
    result = shred(bench, tree(folder), level=Level.PURGE)
    assert result.outcome is Outcome.REFUSED
    assert len(contents(folder)) == 20


def test_no_read_back_no_level(bench: Bench, folder: Path) -> None:
    receipt = shredded(bench, tree(folder), "random")
    assert receipt.outcome is Outcome.EXCEPTIONS
    assert receipt.level_achieved is Level.NONE
    assert evidence_problems(receipt, builtin()["random"]) == []
    assert contents(folder) == {}


def test_links_and_special_files_are_unlinked_and_never_opened(
    bench: Bench, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep me")
    (folder / "link").symlink_to(outside)
    (folder / "dangling").symlink_to("nowhere")
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)
        server.bind("socket")
        os.chdir(here)
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.SANITIZED
    assert files_of(result).other_removed == 5
    assert list(folder.iterdir()) == []
    assert outside.read_bytes() == b"keep me"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_in_a_list_is_refused(bench: Bench, folder: Path, kind: str) -> None:
    path = folder / "odd"
    {"link": lambda: path.symlink_to("0/00.txt"), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}[
        kind
    ]()
    result = shred(bench, tree(folder, names=["odd", "0/00.txt"]))
    assert result.outcome is Outcome.FAILED
    assert "not a regular file" in named(result, "refused")["odd"]
    assert os.path.lexists(path)
    assert not (folder / "0/00.txt").exists()


def test_hard_links_inside_go_together_and_outside_are_refused(
    bench: Bench, folder: Path, tmp_path: Path
) -> None:
    os.link(folder / "0/00.txt", folder / "again")
    os.link(folder / "1/01.txt", tmp_path / "outside")
    result = shred(bench, tree(folder), allow_exceptions=True)
    assert "2 names, 1 of them outside" in named(result, "refused")["1/01.txt"]
    assert contents(folder) == {"1/01.txt": record("01.txt", 701)}
    assert files_of(result).names_removed == 20


def test_a_file_that_grows_before_its_turn_is_left(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grow() -> None:
        with (folder / "0/03.txt").open("ab") as file:
            file.write(b"more")

    before(monkeypatch, "_open", grow)
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.FAILED
    assert "its size changed from 2101 to 2105 bytes" in named(result, "refused")["0/03.txt"]
    assert (folder / "0/03.txt").read_bytes().startswith(MARK)


def test_a_file_that_grows_during_the_pass_has_failed(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = files_passes.settle

    def grown(held: files_passes.Held) -> None:
        if held.item.path == b"0/03.txt":
            os.ftruncate(held.fd, 9000)
        original(held)

    monkeypatch.setattr(files_passes, "settle", grown)
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.FAILED
    assert "changed during the pass" in named(result, "failed")["0/03.txt"]
    assert set(contents(folder)) == {"0/03.txt"}


def test_a_file_that_is_replaced_before_its_turn_is_left(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace() -> None:
        (folder / "new").write_bytes(record("new", 2101))
        (folder / "new").rename(folder / "0/03.txt")

    before(monkeypatch, "_open", replace)
    result = shred(bench, tree(folder))
    assert "another file has its name now" in named(result, "refused")["0/03.txt"]
    assert contents(folder) == {"0/03.txt": record("new", 2101)}


def test_a_file_that_is_replaced_after_the_pass_is_not_unlinked(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace() -> None:
        (folder / "new").write_bytes(b"another")
        (folder / "new").rename(folder / "0/03.txt")

    before(monkeypatch, "_end", replace)
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.EXCEPTIONS
    assert "its name leads to another file now" in named(result, "sanitized-with-exceptions")["0/03.txt"]
    assert contents(folder) == {"0/03.txt": b"another"}


def test_a_file_that_vanishes_has_failed(bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before(monkeypatch, "_open", (folder / "0/03.txt").unlink)
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.FAILED
    assert "gone before it was overwritten" in named(result, "failed")["0/03.txt"]


def test_an_empty_directory_and_another_one_at_its_path_are_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    result = shred(bench, tree(tmp_path / "void"))
    assert result.outcome is Outcome.REFUSED
    assert result.refusal is not None
    assert result.refusal.reason is Reason.EMPTY
    target = tree(tmp_path / "void")
    (tmp_path / "void").rename(tmp_path / "moved")
    (tmp_path / "void").mkdir()
    refused = shred(bench, target)
    assert refused.refusal is not None
    assert refused.refusal.reason is Reason.IDENTITY_MISMATCH


def test_names_that_are_no_text(bench: Bench, folder: Path) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe\n"))).write_bytes(MARK)
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.SANITIZED
    assert list(folder.iterdir()) == []
    lines = next((bench.state.root / "orders").glob("*/files-1.jsonl")).read_bytes().splitlines()
    assert any(b"\\\\xff\\\\xfe\\\\n" in line for line in lines)


def test_the_manifest_is_what_the_receipt_names(bench: Bench, folder: Path) -> None:
    (folder / 'with "quotes" and ünïcode').write_bytes(MARK)
    result = shred(bench, tree(folder))
    path = bench.state.root / "receipts/000000000001/files-1.jsonl"
    data = path.read_bytes()
    assert canonical.sha256_hex(data) == files_of(result).manifest
    lines = [canonical.loads(line, ManifestLine) for line in data.splitlines()]
    assert [canonical.dumps(line) for line in lines] == data.splitlines()
    assert len(lines) == 21


@pytest.mark.parametrize("keep", [False, True], ids=["remove", "keep"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_record_loses_nothing(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, after: bool, keep: bool
) -> None:
    """Several batches; a crash at record 1, 2, 3, … until a run gets through. The restart finishes each."""
    monkeypatch.setattr(tree_run, "BATCH_FILES", 7)
    original = Journal.append
    for step in range(1, 60):
        bench = Bench.make(tmp_path / f"state{step}")
        here = tmp_path / f"tree{step}"
        here.mkdir()
        for number in range(16):
            (here / f"{number:02d}").write_bytes(record("x", 500 * number))
        order = bench.order(policy="random-verified", targets=[tree(here)], keep=keep)
        digest = bench.hand_in(*bench.sign(order))
        count = 0

        def append(self: Journal, kind: str, at: str, data: dict[str, object], step: int = step) -> object:
            nonlocal count
            count += 1
            if count == step and not after:
                raise Crash
            made = original(self, kind, at, data)
            if count == step:
                raise Crash
            return made

        monkeypatch.setattr(Journal, "append", append)
        crashed = False
        try:
            run_order(bench.state, digest, surroundings())
        except Crash:
            crashed = True
        monkeypatch.setattr(Journal, "append", original)
        sealed = run_order(bench.state, digest, surroundings())
        assert sealed is not None
        receipt = bench.checked(sealed)
        files = files_of(receipt.targets[0])
        assert receipt.outcome is Outcome.SANITIZED, (step, receipt.targets[0].failure, files.listed)
        assert (files.sanitized.files, files.batches) == (16, 3)
        assert evidence_problems(receipt, builtin()["random-verified"]) == [], step
        if keep:
            assert [path.stat().st_size for path in sorted(here.iterdir())] == [500 * n for n in range(16)]
            assert not any(MARK in path.read_bytes() for path in here.iterdir())
        else:
            assert list(here.iterdir()) == []
        if not crashed:
            assert step > 8, "the crash was hardly ever injected"
            return
    raise AssertionError("no run got through")


def test_a_crash_between_new_name_and_unlink(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.unlink
    calls = 0

    def unlink(name: str, *, dir_fd: int | None = None) -> None:
        nonlocal calls
        calls += dir_fd is not None
        if calls == 5:
            raise Crash
        original(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    digest = bench.hand_in(*bench.sign(bench.order(policy="nist-clear", targets=[tree(folder)])))
    with pytest.raises(Crash):
        run_order(bench.state, digest, surroundings())
    monkeypatch.setattr(os, "unlink", original)
    assert 16 <= len(contents(folder)) < 20
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    assert bench.checked(sealed).outcome is Outcome.SANITIZED
    assert list(folder.iterdir()) == []


def test_a_new_file_under_an_old_name_survives_the_restart(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when all was durable and no name gone; then somebody writes new data into one of the files."""

    def killed(_: files_batch.Batch) -> None:
        raise Crash

    digest = bench.hand_in(*bench.sign(bench.order(policy="random-verified", targets=[tree(folder)])))
    with monkeypatch.context() as patched:
        patched.setattr(files_batch.Batch, "_end", killed)
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings())
    with (folder / "0/09.txt").open("r+b") as file:
        file.write(b"NEW")
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    assert receipt.outcome is Outcome.FAILED
    assert named(receipt.targets[0], "failed") == {"0/09.txt": "it was changed after it had been overwritten"}
    assert set(contents(folder)) == {"0/09.txt"}
    assert (folder / "0/09.txt").read_bytes().startswith(b"NEW")


def test_a_list_of_work_that_was_altered_is_noticed(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tree_run.list_files

    def altered(work: tree_run.FilesWork) -> None:
        original(work)
        with work.list_path.open("ab") as file:
            file.write(b"\n")

    monkeypatch.setattr(tree_run, "list_files", altered)
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.FAILED
    assert "altered" in result.failure
    assert len(contents(folder)) == 20


@pytest.fixture
def receipt(bench: Bench, folder: Path) -> Receipt:
    return shredded(bench, tree(folder))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("sanitized", FileTally(files=U64(19), bytes=U64(1)), "do not add up"),
        ("failed", FileTally(files=U64(1), bytes=U64(0)), "do not add up"),
        ("manifest", "", "without the digest"),
        ("passes", [], "without a single pass"),
        ("verification", None, "were not read back"),
        ("keep", True, "yet names were removed"),
        ("listed_of", U64(3), "files to list"),
    ],
)
def test_a_receipt_whose_figures_do_not_fit_is_found(
    receipt: Receipt, field: str, value: object, says: str
) -> None:
    assert evidence_problems(receipt) == []
    result = receipt.targets[0]
    files = msgspec.structs.replace(files_of(result), **{field: value})
    wrong = msgspec.structs.replace(receipt, targets=[msgspec.structs.replace(result, files=files)])
    assert any(says in problem for problem in evidence_problems(wrong)), evidence_problems(wrong)


def test_success_without_files_is_found(receipt: Receipt) -> None:
    result = msgspec.structs.replace(receipt.targets[0], files=None)
    wrong = msgspec.structs.replace(receipt, targets=[result])
    assert any("no files are counted" in problem for problem in evidence_problems(wrong))


def test_orders_without_the_new_fields_keep_their_bytes(bench: Bench, folder: Path) -> None:
    order = bench.order(targets=[tree(folder)])
    body = canonical.dumps(order)
    assert b"keep" not in body
    assert b"allow_exceptions" not in body
    assert canonical.dumps(parse_order(body)) == body
    more = msgspec.structs.replace(order, keep=True, allow_exceptions=True)
    assert canonical.dumps(parse_order(canonical.dumps(more))) == canonical.dumps(more)


def test_ranges_leave_holes_out() -> None:
    item = Item(0, b"x", 1, 10_000, room=12_288, parts=[(0, 5, 4096, 0), (8192, 9, 65_536, 0)])  # type: ignore[list-item]
    decoded = msgspec.json.decode(msgspec.json.encode(item), type=Item)
    assert decoded.ranges() == [(0, 4096), (8192, 12_288)]


def test_files_in_memory_are_their_pages(bench: Bench) -> None:
    """tmpfs gives no extents; where swap is active it says so instead of sanitized."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or ground_of(str(shm), Eyes.open()).filesystem != "tmpfs":
        pytest.skip("needs a tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shm) as scratch:
        folder = Path(scratch)
        (folder / "one").write_bytes(record("one", 10_000))
        result = shred(bench, tree(folder), keep=True)
        swaps = len(Path("/proc/swaps").read_text().splitlines()) > 1
        assert result.outcome is (Outcome.REFUSED if swaps else Outcome.SANITIZED)
        assert swaps or (folder / "one").read_bytes() == bytes(10_000)


def test_a_stop_ends_with_a_truthful_receipt_and_a_pause_goes_on(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_run, "BATCH_FILES", 7)
    original = files_batch.Batch._end
    for pause in (True, False):
        around = surroundings()

        def ended(self: files_batch.Batch, pause: bool = pause, around: Surroundings = around) -> None:
            original(self)
            around.stop.set()
            if pause:
                around.pause.set()

        monkeypatch.setattr(files_batch.Batch, "_end", ended)
        digest = bench.hand_in(*bench.sign(bench.order(policy="nist-clear", targets=[tree(folder)])))
        sealed = run_order(bench.state, digest, around)
        if pause:
            assert sealed is None
            monkeypatch.setattr(files_batch.Batch, "_end", original)
            again = run_order(bench.state, digest, surroundings())
            assert again is not None
            assert bench.checked(again).outcome is Outcome.SANITIZED
            for number in range(16):
                (folder / f"{number:02d}").write_bytes(record("x", 3000))
            continue
        assert sealed is not None
        receipt = bench.checked(sealed)
        assert receipt.outcome is Outcome.INTERRUPTED
        files = files_of(receipt.targets[0])
        assert (files.sanitized.files, files.unfinished.files) == (7, 9)
        assert len(contents(folder)) == 9
        assert evidence_problems(receipt, builtin()["nist-clear"]) == []
