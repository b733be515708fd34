"""Files as targets: looked at without following anything, opened only as what was ordered. No root needed."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.core.guard import SystemPaths, guard
from expunge_agent.core.medium import Kind, Medium, MediumType
from expunge_agent.devices import host, opening
from expunge_agent.devices.inventory import inventory
from expunge_agent.devices.look import find, look
from expunge_agent.devices.opening import TargetRefused, open_target
from expunge_agent.devices.paths import walk
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import FileIdentity, Identity, Target, TreeIdentity
from expunge_agent.protocol.receipt import Reason, Refusal

SIZE = 3 * 4096 + 5


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "disk.img"
    path.write_bytes(b"x" * SIZE)
    return path


def medium_at(path: Path) -> Medium:
    medium = look(path).medium
    assert medium is not None
    return medium


def refusal_at(path: str | Path) -> Refusal:
    found = look(path)
    refusal = guard(None, found.medium, found.usage)
    assert refusal is not None
    return refusal


def refused(path: Path, ordered: Identity) -> Refusal:
    """The refusal that opening ends in; a success would be closed and reported."""
    with pytest.raises(TargetRefused) as caught:
        open_target(path, ordered, write=True).close()
    assert caught.value.remedy == caught.value.refusal.remedy
    return caught.value.refusal


def test_a_file_is_known_by_path_and_inode(image: Path) -> None:
    found = look(image)
    stat = image.stat()
    assert found.medium is not None
    assert found.medium.identity == FileIdentity(
        path=str(image),
        device=f"{os.major(stat.st_dev)}:{os.minor(stat.st_dev)}",
        inode=U64(stat.st_ino),
        size=U64(SIZE),
        host=host.machine_id(),
    )
    assert found.medium.type is MediumType.FILE
    assert guard(Target(identity=found.medium.identity), found.medium, found.usage) is None
    assert find(found.medium.identity, "") == str(image)
    assert inventory([image])[-1].medium == found.medium


def test_holes_are_noted(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "sparse.img"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    assert any("sparse" in note for note in medium_at(path).notes)


@pytest.mark.parametrize("spelling", ["{}/", "{}/.", "{}//", "{dir}/./disk.img", "{dir}/../{name}/disk.img"])
def test_other_spellings_of_a_path_come_out_plain(image: Path, spelling: str) -> None:
    path = spelling.format(image, dir=image.parent, name=image.parent.name)
    assert look(path).usage.path == str(image)


def test_relative_paths_are_made_absolute(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image.parent)
    assert look("disk.img").usage.path == str(image)
    assert look(".//disk.img").medium == medium_at(image)


def test_a_link_anywhere_in_the_path_is_refused_with_the_real_path(image: Path) -> None:
    folder = image.parent / "here"
    folder.symlink_to(image.parent, target_is_directory=True)
    file = image.parent / "link.img"
    file.symlink_to(image)
    dotted = image.parent / "here" / ".." / image.parent.name / "disk.img"
    for path in (folder / "disk.img", file, f"{file}/", f"{file}/.", dotted):
        refusal = refusal_at(path)
        assert refusal.reason is Reason.SYMBOLIC_LINK, path
    for path in (folder / "disk.img", file):
        assert str(image) in refusal_at(path).remedy
        assert refused(path, medium_at(image).identity).reason is Reason.SYMBOLIC_LINK


def test_a_dangling_link_and_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("nowhere", "circle"):
        refusal = refusal_at(tmp_path.resolve() / name)
        assert refusal.reason is Reason.SYMBOLIC_LINK
        assert "nowhere" in refusal.remedy


@pytest.fixture
def oddities(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path.resolve()
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket"))
        yield folder


@pytest.mark.parametrize(("name", "kind"), [("fifo", Kind.FIFO), ("socket", Kind.SOCKET)])
def test_only_files_and_block_devices_are_media(oddities: Path, name: str, kind: Kind) -> None:
    found = look(oddities / name)
    assert found.medium is None
    assert found.usage.kind is kind
    assert refusal_at(oddities / name).reason is Reason.WRONG_KIND
    ordered = FileIdentity(path=str(oddities / name), device="1:1", inode=U64(1), size=U64(1))
    assert refused(oddities / name, ordered).reason is Reason.WRONG_KIND  # and does not hang on the FIFO


def test_a_directory_is_no_medium_but_its_files_may_be_a_target(oddities: Path) -> None:
    found = look(oddities)
    assert found.medium is not None
    assert isinstance(found.medium.identity, TreeIdentity)
    ordered = FileIdentity(path=str(oddities), device="1:1", inode=U64(1), size=U64(1))
    assert refused(oddities, ordered).reason is Reason.IDENTITY_MISMATCH


def test_a_character_device_is_none(image: Path) -> None:
    found = look("/dev/null")
    assert (found.medium, found.usage.kind) == (None, Kind.CHARACTER)
    assert refused(Path("/dev/null"), medium_at(image).identity).reason is Reason.WRONG_KIND


@pytest.mark.parametrize("path", ["", "/nowhere/at/all", "/etc/passwd/x", "a\0b", "/" + "x" * 5000])
def test_nothing_there_is_said_so(path: str) -> None:
    assert refusal_at(path).reason is Reason.TARGET_NOT_FOUND


def test_newlines_and_control_characters_in_a_name(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "a\nb\x1b[31m c.img"
    path.write_bytes(b"x")
    medium = medium_at(path)
    assert medium.path == str(path)
    with open_target(path, medium.identity, write=True) as opened:
        assert opened.identity == medium.identity
    path.write_bytes(b"")
    assert refusal_at(path).detail.isprintable()


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path.resolve()) + b"/\xff.img"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    refusal = refusal_at(os.fsdecode(raw))
    assert refusal.reason is Reason.WRONG_KIND
    refusal.detail.encode()


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "empty"
    path.touch()
    assert refusal_at(path).reason is Reason.EMPTY


def test_a_second_name_is_refused(image: Path) -> None:
    os.link(image, image.parent / "other")
    refusal = refusal_at(image)
    assert refusal.reason is Reason.HARD_LINKED
    assert "2 names" in refusal.detail


def test_a_file_of_the_system_or_of_expunge_itself(image: Path) -> None:
    assert refusal_at("/etc/passwd").reason is Reason.SYSTEM
    found = look(image, system=SystemPaths(own=(str(image.parent),)))
    assert "expunge's own folder" in found.usage.system


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_without_permission_it_is_refused_before_and_on_opening(image: Path) -> None:
    identity = medium_at(image).identity
    image.chmod(0o400)
    assert refusal_at(image).reason is Reason.NOT_PERMITTED
    assert refused(image, identity).reason is Reason.NOT_PERMITTED
    image.parent.chmod(0)
    try:
        assert refusal_at(image).reason is Reason.NOT_PERMITTED
    finally:
        image.parent.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root sees every process")
def test_a_normal_user_is_told_what_could_not_be_seen(image: Path) -> None:
    assert any("without more rights" in note for note in look(image).usage.notes)


# Opening.


def test_the_target_is_opened_locked_and_identified(image: Path) -> None:
    identity = medium_at(image).identity
    with open_target(image, identity, write=True) as opened:
        assert opened.identity == opened.identity_now() == identity
        assert opened.size == SIZE
        assert not os.get_inheritable(opened.fd)
        os.pwrite(opened.fd, b"y", 0)
        opened.recheck()
        fd = opened.fd
    assert image.read_bytes()[:2] == b"yx"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    opened.close()  # twice does no harm


def test_opened_for_reading_it_cannot_be_written(image: Path) -> None:
    with (
        open_target(image, medium_at(image).identity, write=False) as opened,
        pytest.raises(OSError, match="Bad file descriptor"),
    ):
        os.pwrite(opened.fd, b"y", 0)


def test_a_second_order_on_the_same_target_is_refused(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_LOCK_PATIENCE", 0.1)
    identity = medium_at(image).identity
    with open_target(image, identity, write=True):
        assert refused(image, identity).reason is Reason.IN_USE
    open_target(image, identity, write=True).close()


def test_a_short_lock_such_as_udevs_is_waited_for(image: Path) -> None:
    identity = medium_at(image).identity
    fd = os.open(image, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    from threading import Timer

    timer = Timer(0.3, os.close, [fd])
    timer.start()
    try:
        open_target(image, identity, write=True).close()
    finally:
        timer.join()


def test_the_lock_goes_with_the_last_descriptor(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_LOCK_PATIENCE", 0.1)
    identity = medium_at(image).identity
    opened = open_target(image, identity, write=True)
    other = opened.duplicate()
    opened.close()
    assert refused(image, identity).reason is Reason.IN_USE
    os.close(other)
    open_target(image, identity, write=True).close()


def test_another_file_at_the_path_is_refused(image: Path) -> None:
    identity = medium_at(image).identity
    other = image.with_name("other")
    other.write_bytes(b"z" * SIZE)
    other.replace(image)
    assert refused(image, identity).reason is Reason.IDENTITY_MISMATCH
    assert image.read_bytes() == b"z" * SIZE
    found = look(image)
    refusal = guard(Target(identity=identity), found.medium, found.usage)
    assert refusal is not None
    assert refusal.reason is Reason.IDENTITY_MISMATCH


def test_a_file_that_shrank_before_opening_is_refused(image: Path) -> None:
    identity = medium_at(image).identity
    os.truncate(image, SIZE - 1)
    refusal = refused(image, identity)
    assert refusal.reason is Reason.IDENTITY_MISMATCH
    assert f"size: ordered {SIZE}, found {SIZE - 1}" in refusal.detail


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: os.truncate(path, 1), Reason.IDENTITY_MISMATCH),
        (lambda path: path.unlink(), Reason.TARGET_NOT_FOUND),
        (lambda path: path.rename(path.with_name("moved")), Reason.TARGET_NOT_FOUND),
        (lambda path: (path.unlink(), path.write_bytes(b"x" * SIZE)), Reason.TARGET_NOT_FOUND),
    ],
)
def test_a_change_while_it_is_open_is_noticed(image: Path, change, reason: Reason) -> None:  # type: ignore[no-untyped-def]
    with open_target(image, medium_at(image).identity, write=True) as opened:
        change(image)
        with pytest.raises(TargetRefused) as caught:
            opened.recheck()
        assert caught.value.refusal.reason is reason


def test_a_file_that_vanished_is_not_found(image: Path) -> None:
    identity = medium_at(image).identity
    image.unlink()
    assert find(identity, "") is None
    assert refused(image, identity).reason is Reason.TARGET_NOT_FOUND


def test_walking_does_not_take_dots_away_before_it_has_looked(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    (folder / "deep/er").mkdir(parents=True)
    (folder / "link").symlink_to(folder / "deep/er")
    (folder / "x").write_bytes(b"right")
    (folder / "deep/x").write_bytes(b"wrong")
    walked = walk(f"{folder}/link/../x")  # the kernel would open deep/x
    assert walked.symlinks == (f"{folder}/link",)
