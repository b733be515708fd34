"""Free space of real file systems: what was deleted is gone from the raw device, or the receipt names what is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.space import FOLDER_PREFIX, SYSTEM_RESERVE, Space
from expunge_agent.devices.space import look_at_space
from expunge_agent.engine.pace import Pace
from expunge_agent.errors import RefusedError
from expunge_agent.inventory_report import report
from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import SpaceWish, Target
from expunge_agent.protocol.receipt import Reason, Receipt, TargetResult
from expunge_agent.protocol.receipt_space import SPARE_INODES
from expunge_agent.techniques import space_fill
from expunge_agent.wipe import run_order
from expunge_controller.cli.targets import _item, target_of
from expunge_controller.records.certificate import MediumRecord
from expunge_controller.records.certificate_check import certificate_problems
from expunge_controller.records.certify import certificate_from
from expunge_controller.records.consistency import evidence_problems
from expunge_controller.render.certificate_html import certificate_html
from expunge_profiles.load import builtin
from support.agents import Bench, surroundings

pytestmark = pytest.mark.usefixtures("prompt_xfs")

MIB = 1 << 20
RECORD = b"RECORD-OF-A-CUSTOMER-%08d;"
MARK = b"RECORD-OF-A-CUSTOMER-"
SIZES = {"ext4": 96, "xfs": 320, "btrfs": 160}
ALL = U64(0)


def plant(mount: Path) -> None:
    """Large and small files full of records, then deleted plainly."""
    big = b"".join(RECORD % number for number in range(8 * MIB // len(RECORD % 0)))
    for number in range(3):
        (mount / f"big{number}").write_bytes(big)
    for number in range(200):
        (mount / f"small{number}").write_bytes((RECORD % number) * 20)
    os.sync()
    for path in [*mount.glob("big*"), *mount.glob("small*")]:
        path.unlink()
    os.sync()


def seen_at(mount: Path, system: SystemPaths | None = None) -> Space:
    seen = look_at_space(str(mount), system or SystemPaths())
    assert isinstance(seen, Space), seen
    return seen


def target_at(mount: Path, **wish: object) -> Target:
    return Target(identity=seen_at(mount).identity, hint=str(mount), space=SpaceWish(**wish))


def run(bench: Bench, mount: Path, policy: str = "random-verified", **how: object) -> TargetResult:
    around = {name: how.pop(name) for name in ("stop", "pause", "pace", "system") if name in how}
    level = how.pop("level", Level.CLEAR)
    order = bench.order(policy=policy, level=level, targets=[target_at(mount, **how)])
    return checked(bench.run(order, **around), policy)


def checked(receipt: Receipt, policy: str) -> TargetResult:
    """The one target's result, of a receipt that claims no more than its evidence."""
    assert evidence_problems(receipt, builtin()[policy]) == []
    (result,) = receipt.targets
    return result


def tool(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def marks(image: Path) -> list[int]:
    """Where a record begins in the raw image."""
    data, found, at = image.read_bytes(), [], -1
    while (at := data.find(MARK, at + 1)) >= 0:
        found.append(at)
    return found


def hidden(mount: Path) -> list[str]:
    return [path.name for path in mount.iterdir() if path.name.startswith(FOLDER_PREFIX)]


def file_system(lab, kind: str, size: int = 0, *options: str) -> tuple[Path, Path]:
    force = ["-F"] if kind == "ext4" else ["-f"]
    return lab.formatted(kind, *force, *options, size=(size or SIZES[kind]) * MIB)


@pytest.mark.parametrize("kind", SIZES)
def test_what_was_deleted_is_gone_from_the_device(lab, bench: Bench, kind: str) -> None:
    image, mount = file_system(lab, kind)
    plant(mount)
    (mount / "keep").write_bytes(b"stays" * 1000)
    os.sync()
    free = seen_at(mount).free
    assert len(marks(image)) > 100_000
    result = run(bench, mount, reserve=ALL)
    assert (mount / "keep").read_bytes() == b"stays" * 1000
    assert hidden(mount) == []
    assert abs(seen_at(mount).free - free) < MIB, "the space was given back"
    lab.unmount(mount)
    space = result.space
    assert space is not None and space.left is not None and space.taken is not None
    assert result.failure == "" and space.cleaned_up and not space.moved and space.ended == "full"
    left = marks(image)
    if kind == "ext4":
        assert result.outcome is Outcome.SANITIZED and result.level_achieved is Level.CLEAR
        assert left == [] and space.left.bytes == 0
        return
    assert result.outcome is Outcome.EXCEPTIONS and result.level_achieved is Level.NONE
    if kind == "xfs":
        assert space.left.by == "map" and 0 < space.left.bytes < 4 * MIB
        spans = [(one.start, one.start + one.length) for one in space.left.ranges]
        # A record may reach over the first byte of a free range: its end lies in it.
        unexplained = [at for at in left if not any(a - len(RECORD % 0) < at < b for a, b in spans)]
        assert unexplained == []
    else:
        assert left == []
        assert any("metadata" in line for line in result.exceptions)
    assert any("stayed free" in line for line in result.exceptions)


def test_the_files_are_where_the_kernel_says_and_the_certificate_tells_of_them(lab, bench: Bench) -> None:
    image, mount = file_system(lab, "ext4", 64)
    order = bench.order(targets=[target_at(mount, reserve=ALL)], policy="random-verified")
    digest = bench.hand_in(*bench.sign(order))
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    (result,) = bench.checked(sealed).targets
    space = result.space
    assert space is not None and space.taken is not None and space.filled == space.taken.bytes
    assert sum(one.length for one in space.taken.ranges) == space.taken.bytes
    data = image.read_bytes()
    for one in space.taken.ranges[:50]:
        piece = data[one.start : one.start + min(one.length, 4096)]
        assert len(set(piece)) > 100, "what lies there is random, as the pass left it"
    certificate = certificate_from(
        sealed.body,
        sealed.signature,
        0,
        order=order,
        facts=MediumRecord(),
        number="2026-0001",
        issued_at=datetime.now(UTC),
        issuer="controller:test",
    )
    assert (
        certificate_problems(certificate, bench.checked(sealed), sealed.body, sealed.signature, order) == []
    )
    told = certificate.sanitization.space
    assert told is not None
    wrong = msgspec.structs.replace(told, left=U64(1), trim="done")
    altered = msgspec.structs.replace(
        certificate, sanitization=msgspec.structs.replace(certificate.sanitization, space=wrong)
    )
    (problem,) = certificate_problems(altered, bench.checked(sealed), sealed.body, sealed.signature, order)
    assert "left, trim" in problem
    page = certificate_html(certificate)
    assert "Free space of a file system" in page and "文件系统空闲空间" in page
    assert certificate.sanitization.verifications[0].coverage_ppm == 1_000_000


def test_several_passes_rewrite_in_place_and_the_reserve_stays(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "ext4", 64)
    lowest: list[int] = []

    class Watched(Pace):
        def wait(self, length: int, stopping: object) -> None:
            lowest.append(os.statvfs(mount).f_bavail * os.statvfs(mount).f_frsize)
            super().wait(length, stopping)  # type: ignore[arg-type]

    result = run(bench, mount, "dod-5220.22-m", reserve=U64(16 * MIB), pace=Watched(), trim=True)
    assert result.outcome is Outcome.EXCEPTIONS and len(result.passes) == 3
    space = result.space
    assert space is not None and space.left is not None
    assert not space.moved and space.ended == "reserve" and space.reserve == 16 * MIB
    assert min(lowest) >= 15 * MIB, "others can still write"
    assert space.left.bytes >= 15 * MIB and any("were to be left" in line for line in result.exceptions)
    assert space.trimmed and "FITRIM" in space.trim


def test_a_quota_ends_it_and_is_named(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "btrfs")
    if shutil.which("btrfs") is None:
        pytest.skip("needs btrfs")
    tool("btrfs", "quota", "enable", str(mount))
    tool("btrfs", "qgroup", "limit", "24M", str(mount))
    result = run(bench, mount, reserve=ALL)
    assert result.outcome is Outcome.EXCEPTIONS, result.failure
    assert result.space is not None and result.space.ended == "quota"
    assert result.space.filled is not None and result.space.filled < 24 * MIB
    assert any("quota" in line for line in result.exceptions)
    assert hidden(mount) == []


def test_the_journal_can_be_written_on_the_very_file_system(lab) -> None:
    image, mount = file_system(lab, "ext4", 64)
    plant(mount)
    bench = Bench.make(mount / "state")
    system = SystemPaths(own=(str(mount / "state"),))
    result = run(bench, mount, reserve=ALL, system=system)
    assert result.outcome is Outcome.EXCEPTIONS
    assert result.space is not None and result.space.reserve == 16 * MIB
    assert "journal" in result.space.reserve_why
    assert Outbox(bench.state.root).pending() and hidden(mount) == []
    assert len(marks(image)) < 16 * MIB // 30


def test_it_is_refused_where_it_makes_no_sense(lab, bench: Bench, tmp_path: Path) -> None:
    _, mount = file_system(lab, "ext4", 64)
    (mount / "inner").mkdir()
    link = tmp_path / "link"
    link.symlink_to(mount)
    shm = lab.mount("none", "-t", "tmpfs")
    own = target_at(mount)

    def refused(path: Path, **wish: object) -> tuple[Reason, str]:
        identity = own.identity.__class__(
            **{
                **{name: getattr(own.identity, name) for name in own.identity.__struct_fields__},
                "path": str(path),
            }
        )
        target = Target(identity=identity, hint=str(path), space=SpaceWish(**wish))
        system = SystemPaths(mounts=("/", *([str(mount)] if wish.get("system") is not None else [])))
        receipt = bench.run(bench.order(targets=[target]), system=system)
        result = checked(receipt, "random-verified")
        assert result.outcome is Outcome.REFUSED and result.refusal is not None and result.passes == []
        return result.refusal.reason, f"{result.refusal.detail} {result.refusal.remedy}"

    reason, told = refused(mount / "inner", reserve=ALL)
    assert reason is Reason.WRONG_KIND and f"free-space:{mount}" in told
    assert refused(link, reserve=ALL)[0] is Reason.SYMBOLIC_LINK
    assert refused(tmp_path / "nothing", reserve=ALL)[0] is Reason.TARGET_NOT_FOUND
    reason, told = refused(shm, reserve=ALL)
    assert reason is Reason.UNSUPPORTED and "swap" in told
    reason, told = refused(mount, reserve=ALL, system=True)
    assert reason is Reason.SYSTEM and str(SYSTEM_RESERVE) in told
    assert refused(mount, reserve=U64(SYSTEM_RESERVE), system=False)[0] is Reason.SYSTEM
    assert refused(mount, reserve=U64(60 * MIB))[0] is Reason.EMPTY
    tool("mount", "-o", "remount,ro", str(mount))
    assert refused(mount, reserve=ALL)[0] is Reason.READ_ONLY
    assert hidden(mount) == []


def test_a_file_system_the_system_stands_on_is_filled_when_it_is_meant(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "ext4", 640)
    system = SystemPaths(mounts=("/", str(mount)))
    result = run(bench, mount, reserve=U64(SYSTEM_RESERVE), system=system)
    assert result.outcome is Outcome.REFUSED
    order = bench.order(targets=[target_at(mount, reserve=U64(SYSTEM_RESERVE), system=True)])
    (done,) = bench.run(order, system=system).targets
    assert done.outcome is Outcome.EXCEPTIONS and done.space is not None and done.space.ended == "reserve"


HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_two_do_not_fill_one_file_system(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "ext4", 64)
    other = lab.name("bound")
    other.mkdir()
    lab.mount(mount, "--bind", at=other)
    lab.helper(HOLD, str(other))
    result = run(bench, mount, reserve=ALL)
    assert result.outcome is Outcome.REFUSED and result.refusal is not None
    assert result.refusal.reason is Reason.IN_USE and "already fills" in result.refusal.detail


def test_what_another_order_left_is_named_and_left_alone(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "ext4", 64)
    theirs = mount / f"{FOLDER_PREFIX}{'0' * 32}"
    theirs.mkdir(mode=0o700)
    result = run(bench, mount, reserve=ALL)
    assert result.refusal is not None and result.refusal.reason is Reason.IN_USE
    assert "leftovers --remove" in result.refusal.remedy and theirs.is_dir()


class Braked(Pace):
    """Calls `then` once, after some pieces were let through."""

    def __init__(self, pieces: int, then: object) -> None:
        super().__init__()
        self._left, self._then = pieces, then

    def wait(self, length: int, stopping: object) -> None:
        self._left -= 1
        if self._left == 0:
            self._then()  # type: ignore[operator]
        super().wait(length, stopping)  # type: ignore[arg-type]


def test_a_stopped_run_gives_the_space_back_and_says_so(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "ext4", 64)
    stop = threading.Event()
    result = run(bench, mount, reserve=ALL, stop=stop, pace=Braked(200, stop.set))
    assert result.outcome is Outcome.INTERRUPTED and result.level_achieved is Level.NONE
    assert result.space is not None and result.space.cleaned_up and result.space.left is None
    assert hidden(mount) == [] and "stopped" in result.failure


def test_a_paused_order_goes_on_where_it_was(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "ext4", 64)
    order = bench.order(targets=[target_at(mount, reserve=ALL)])
    digest = bench.hand_in(*bench.sign(order))
    stop, pause = threading.Event(), threading.Event()

    def both() -> None:
        pause.set()
        stop.set()

    assert (
        run_order(bench.state, digest, surroundings(stop=stop, pause=pause, pace=Braked(400, both))) is None
    )
    assert len(hidden(mount)) == 1, "it stays, to go on"
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    result = checked(receipt, "random-verified")
    assert result.outcome is Outcome.SANITIZED and result.passes[0].resumed_at
    assert receipt.interruptions and hidden(mount) == []


def test_a_folder_that_was_put_in_place_of_ours_is_not_touched(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "ext4", 64)
    order = bench.order(targets=[target_at(mount, reserve=U64(16 * MIB))])
    digest = bench.hand_in(*bench.sign(order))
    stop, pause = threading.Event(), threading.Event()

    def both() -> None:
        pause.set()
        stop.set()

    run_order(bench.state, digest, surroundings(stop=stop, pause=pause, pace=Braked(400, both)))
    (name,) = hidden(mount)
    (mount / name).rename(mount / "moved away")
    (mount / name).mkdir(mode=0o700)
    (mount / name / "precious").write_text("theirs")
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    (result,) = bench.checked(sealed).targets
    assert result.outcome is Outcome.INTERRUPTED
    assert (mount / name / "precious").read_text() == "theirs"
    assert result.space is not None and not result.space.cleaned_up and "left alone" in result.space.cleaning


def test_what_is_on_a_file_system_that_is_not_mounted_is_not_called_removed(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "ext4", 64)
    order = bench.order(targets=[target_at(mount, reserve=U64(16 * MIB))])
    digest = bench.hand_in(*bench.sign(order))
    stop, pause = threading.Event(), threading.Event()

    def both() -> None:
        pause.set()
        stop.set()

    run_order(bench.state, digest, surroundings(stop=stop, pause=pause, pace=Braked(300, both)))
    assert hidden(mount)
    lab.unmount(mount)
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    result = checked(bench.checked(sealed), "random-verified")
    assert result.outcome is Outcome.INTERRUPTED and result.space is not None
    assert not result.space.cleaned_up and "not mounted" in result.space.cleaning


def test_the_controller_names_it_by_the_agents_inventory(lab, bench: Bench) -> None:
    _, mount = file_system(lab, "ext4", 64)
    text = f"free-space:{mount}"
    answer = report([text, f"free-space:{mount}/lost+found", "free-space:/nowhere"], bench.state.root)
    (item,) = [one for one in answer.items if one.path == text]
    assert "bytes free" in item.notes[0]
    assert sum("lost+found" in line and str(mount) in line for line in answer.problems) == 1
    assert any("nowhere" in line for line in answer.problems)
    target = target_of(_item(answer, text), SpaceWish(reserve=U64(8 * MIB)))
    (result,) = bench.run(bench.order(targets=[target])).targets
    assert result.target == target and result.outcome is Outcome.EXCEPTIONS
    with pytest.raises(RefusedError, match="not a mount point"):
        _item(answer, f"free-space:{mount}/lost+found")


def with_attributes(mount: Path, count: int) -> None:
    """Files with a record in an extended attribute, which ext4 keeps in the inode; then deleted plainly."""
    for number in range(count):
        path = mount / f"file{number}"
        path.touch()
        os.setxattr(path, "user.note", RECORD % number)
    os.sync()
    for path in mount.glob("file*"):
        path.unlink()
    os.sync()


@pytest.mark.parametrize("most", [0, 1000], ids=["all", "too many"])
def test_what_deleted_inodes_hold_goes_or_is_named(
    lab, bench: Bench, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """More free inodes than a quarter of a million, with records in deleted extended attributes; no journal, which
    holds copies of inodes and is never reached."""
    if most:
        monkeypatch.setattr(space_fill, "MOST_FILES", most)
    options = ("-O", "^has_journal", "-N", "300000", "-I", "256")
    image, mount = file_system(lab, "ext4", 192, *options)
    with_attributes(mount, 2000)
    assert len(marks(image)) >= 2000
    result = run(bench, mount, reserve=ALL)
    assert result.space is not None
    lab.unmount(mount)
    if most:
        assert (result.outcome, result.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
        assert result.space.inodes_left > 290_000
        assert any("free inodes were not made anew" in one for one in result.exceptions)
        assert marks(image), "the reason for it"
    else:
        assert result.outcome is Outcome.SANITIZED, result.exceptions
        assert result.space.inodes_left <= SPARE_INODES
        assert marks(image) == []


def test_the_rest_of_clusters_is_an_exception(lab, bench: Bench) -> None:
    """bigalloc: what a file lost when it was cut stays in its last cluster, which is not free."""
    image, mount = file_system(lab, "ext4", 96, "-b", "4096", "-O", "bigalloc", "-C", "65536")
    (mount / "cut").write_bytes((RECORD % 1) * 2000)
    os.sync()
    os.truncate(mount / "cut", 10)
    result = run(bench, mount, reserve=ALL)
    assert result.outcome is Outcome.EXCEPTIONS
    assert result.level_achieved is Level.NONE
    assert any("bigalloc" in one for one in result.exceptions)
    lab.unmount(mount)
    assert marks(image), "the reason for it"
