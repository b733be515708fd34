"""Names go only with the files that were listed: other files, mounts and changes come between, with and without a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from expunge_agent.engine.file_pieces import write_direct
from expunge_agent.errors import NoSpaceError
from expunge_agent.protocol.base import Outcome
from expunge_agent.techniques import files_batch
from expunge_agent.wipe import run_order
from support.agents import Bench, Crash, finished, surroundings
from support.trees import before, files_of, fill, left, named, shred, tree

MIB = 1 << 20
SIZES = {f"d/sub/f{number:03d}": 2000 for number in range(30)}


@pytest.fixture
def ground(lab) -> tuple[Path, Path]:
    """(image, folder with files) on ext4, which gives an inode number again at once."""
    image, mount = lab.formatted("ext4", "-F", size=64 * MIB)
    fill(mount / "t", SIZES)
    return image, mount / "t"


def broken_off(bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: object) -> str:
    """An order killed when all was durable and no name gone; its digest."""

    def killed(_: files_batch.Batch) -> None:
        raise Crash

    order = bench.order(policy="random-verified", targets=[tree(folder)], **fields)
    digest = bench.hand_in(*bench.sign(order))
    with monkeypatch.context() as patched:
        patched.setattr(files_batch.Batch, "_end", killed)
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings())
    return digest


@pytest.mark.parametrize("data", [b"NEW\n", b""], ids=["data", "empty"])
def test_a_new_file_with_the_old_inode_number_stays(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    _, folder = ground
    digest = broken_off(bench, folder, monkeypatch)
    path = folder / "d/sub/f020"
    number = path.stat().st_ino
    path.unlink()
    path.write_bytes(data)
    if path.stat().st_ino != number:
        pytest.skip("the file system gave another inode number")
    receipt = finished(bench, digest)
    assert path.read_bytes() == data
    assert receipt.outcome is Outcome.EXCEPTIONS
    assert list(named(receipt.targets[0], "sanitized-with-exceptions")) == ["d/sub/f020"]
    assert [one.name for one in path.parent.iterdir()] == ["f020"]


def test_another_file_system_mounted_meanwhile_is_not_touched(
    lab, ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, folder = ground
    os.sync()
    copy = lab.name("copy")
    shutil.copyfile(image, copy)
    digest = broken_off(bench, folder, monkeypatch)
    other = lab.mount(lab.loop(copy))
    lab.mount(other / "t/d/sub", "--bind", at=folder / "d/sub")
    receipt = finished(bench, digest)
    assert receipt.level_achieved == "none"
    assert len(list((other / "t/d/sub").iterdir())) == 30
    assert (other / "t/d/sub/f001").read_bytes().startswith(b"RECORD")


def test_a_link_replaced_by_a_file_meanwhile_stays(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = ground
    link = folder / "link"
    link.symlink_to("d")

    def replace() -> None:
        number = link.lstat().st_ino
        link.unlink()
        link.write_bytes(b"NEW")
        assert link.lstat().st_ino == number, "the same inode number is what this is about"

    before(monkeypatch, "_open", replace)
    result = shred(bench, tree(folder))
    assert link.read_bytes() == b"NEW"
    assert "another file" in named(result, "sanitized-with-exceptions")["link"]


def test_folders_of_a_bind_mount_and_new_ones_stay(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = ground
    outside = folder.parent / "outside"
    (outside / "empty").mkdir(parents=True)
    (folder / "b").mkdir()
    subprocess.run(["mount", "--bind", str(outside), str(folder / "b")], check=True)
    before(monkeypatch, "_end", (folder / "new").mkdir)
    try:
        result = shred(bench, tree(folder), allow_exceptions=True)
    finally:
        subprocess.run(["umount", str(folder / "b")], check=True)
    assert (outside / "empty").is_dir()
    assert (folder / "new").is_dir()
    assert files_of(result).folders_removed == 2


def test_an_empty_subvolume_stays(lab, bench: Bench) -> None:
    _, mount = lab.formatted("btrfs", size=320 * MIB)
    folder = mount / "t"
    folder.mkdir()
    subprocess.run(["chattr", "+C", str(folder)], check=True)
    fill(folder, {"a": 5000})
    subprocess.run(["btrfs", "subvolume", "create", str(folder / "inner")], check=True, capture_output=True)
    result = shred(bench, tree(folder), allow_exceptions=True)
    assert (folder / "inner").is_dir()
    assert "inner" in named(result, "refused")


def test_a_folder_moved_out_meanwhile_is_not_followed(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = ground
    out = folder.parent / "out"

    def move() -> None:
        (folder / "d/sub").rename(out)
        (folder / "d/sub").mkdir()
        (folder / "d/sub/f001").write_bytes(b"NEW")

    before(monkeypatch, "run", move)
    result = shred(bench, tree(folder))
    assert result.outcome is not Outcome.SANITIZED
    assert (out / "f002").read_bytes().startswith(b"RECORD")
    assert (folder / "d/sub/f001").read_bytes() == b"NEW"


def test_a_folder_moved_out_after_the_pass_keeps_its_names(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = ground
    out = folder.parent / "out"
    before(monkeypatch, "_end", lambda: (folder / "d/sub").rename(out))
    shred(bench, tree(folder))
    assert len(list(out.iterdir())) == 30


def test_a_change_after_the_read_back_fails_the_file(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written and its time set back, through a descriptor that the lease does not tell of (a broken lease)."""
    _, folder = ground
    original = files_batch.Batch._end

    def written(self: files_batch.Batch) -> None:
        held = next(one for one in self._held if one.item.path.endswith(b"f007"))
        times = os.fstat(held.fd)
        write_direct(held.fd, False)
        os.pwrite(held.fd, b"NEW", 0)
        os.utime(held.fd, ns=(times.st_atime_ns, times.st_mtime_ns))
        original(self)

    monkeypatch.setattr(files_batch.Batch, "_end", written)
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.FAILED
    assert named(result, "failed") == {"d/sub/f007": "it was changed after it had been overwritten"}
    assert (folder / "d/sub/f007").read_bytes().startswith(b"NEW")


def test_a_program_that_waits_to_write_fails_the_file(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = ground

    def knock() -> None:
        with pytest.raises(BlockingIOError):
            os.open(folder / "d/sub/f007", os.O_WRONLY | os.O_NONBLOCK)

    before(monkeypatch, "_end", knock)
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.FAILED
    assert "another program opened it" in named(result, "failed")["d/sub/f007"]
    assert (folder / "d/sub/f007").exists()


def test_a_kept_file_rewritten_after_a_kill_has_failed(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = ground
    digest = broken_off(bench, folder, monkeypatch, keep=True)
    with (folder / "d/sub/f003").open("r+b") as file:
        file.write(b"NEW")
    (folder / "d/sub/f004").write_bytes(b"")
    receipt = finished(bench, digest)
    assert receipt.outcome is Outcome.FAILED
    assert set(named(receipt.targets[0], "failed")) == {"d/sub/f003", "d/sub/f004"}


def test_a_link_in_place_of_a_file_is_said_so(ground, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = ground

    def replace() -> None:
        (folder / "d/sub/f000").unlink()
        (folder / "d/sub/f000").symlink_to("f001")

    before(monkeypatch, "_open", replace)
    why = named(shred(bench, tree(folder)), "refused")["d/sub/f000"]
    assert "a symbolic link" in why


ATTRIBUTE = b"VALUE-OF-AN-ATTRIBUTE-"


def with_attributes(lab, kind: str, length: int, *options: str) -> tuple[Path, Path, Path]:
    image, mount = lab.formatted(kind, *options, size=64 * MIB if kind == "ext4" else 320 * MIB)
    fill(mount / "t", {f"{number}": 3000 for number in range(8)})
    for number in range(8):
        value = (ATTRIBUTE + b"%d;" % (number // 2)) * 300
        os.setxattr(mount / f"t/{number}", "user.note", value[:length])
    os.sync()
    return image, mount, mount / "t"


def found(image: Path) -> int:
    return image.read_bytes().count(ATTRIBUTE)


@pytest.mark.parametrize("length", [60, 2500])
def test_attributes_on_ext4_are_overwritten_where_they_lie(lab, bench: Bench, length: int) -> None:
    """Without a journal, whose copies are named as not covered. Pairs of files share a value, and so a block."""
    image, mount, folder = with_attributes(
        lab, "ext4", length, "-F", "-b", "4096", "-I", "256", "-O", "^has_journal"
    )
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.SANITIZED
    lab.unmount(mount)
    assert found(image) == 0
    assert left(image) == 0


def test_attributes_elsewhere_are_an_exception(lab, bench: Bench) -> None:
    image, mount, folder = with_attributes(lab, "xfs", 4500)
    refused = shred(bench, tree(folder))
    assert refused.outcome is Outcome.REFUSED
    assert refused.refusal is not None
    assert "extended attributes (4500 bytes)" in refused.refusal.detail
    result = shred(bench, tree(folder), allow_exceptions=True)
    assert result.outcome is Outcome.EXCEPTIONS
    assert files_of(result).exceptions.files == 8
    lab.unmount(mount)
    assert found(image) > 0, "the reason for it"


@pytest.mark.parametrize("room", ["700k", "1400k"], ids=["list", "manifest"])
def test_a_full_state_folder_is_a_sentence_and_the_order_goes_on(lab, ground, room: str) -> None:
    _, folder = ground
    fill(folder, {f"more/{number:05d}-{'x' * 180}": 1 for number in range(2500)})
    state = lab.mount("tmpfs", "-t", "tmpfs", "-o", f"size={room}")
    bench = Bench.make(state / "state")
    digest = bench.hand_in(*bench.sign(bench.order(policy="random-verified", targets=[tree(folder)])))
    with pytest.raises(NoSpaceError, match="is full"):
        run_order(bench.state, digest, surroundings())
    subprocess.run(["mount", "-o", "remount,size=64m", str(state)], check=True)
    receipt = finished(bench, digest)
    assert receipt.outcome is Outcome.SANITIZED
    assert list(folder.iterdir()) == []
