"""Free space: who may fill it, what is left, what a receipt may claim of it, and the parts that need no mount."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from expunge_agent.cli.space import Reserve
from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.medium import MediumType
from expunge_agent.core.plan import NOTHING_DRAWN, TargetPlan
from expunge_agent.core.progress import RunProgress, apply
from expunge_agent.core.space import MIB, SYSTEM_RESERVE, Space, reserve_of, space_refusal
from expunge_agent.core.space_limits import doubts, not_reached
from expunge_agent.core.space_plan import plan_space
from expunge_agent.core.space_progress import Folder
from expunge_agent.engine.direct_writes import DirectWrites
from expunge_agent.engine.joined import Joined
from expunge_agent.engine.own_folder import NotOurs, OwnFolder
from expunge_agent.engine.sources import KeyedStream
from expunge_agent.engine.target import Target as OpenTarget
from expunge_agent.engine.verifier import verify
from expunge_agent.engine.writer import write_pass
from expunge_agent.journal import Record
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import SpaceIdentity, SpaceWish, Target
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Reason, Refusal, TargetResult
from expunge_agent.protocol.receipt_parts import ByteRange
from expunge_agent.protocol.receipt_space import FreeSpace, Left, Rest, Taken
from expunge_agent.techniques.space_fill import Room, make_names, take_space
from expunge_controller.records import space_checks
from expunge_controller.records.extent import size_of
from expunge_profiles.load import builtin
from support.agents import Bench

WHO = SpaceIdentity(path="/srv/data", device="8:1", filesystem="ext4", uuid="u-u-i-d", host="h")
SEEN = Space(
    path="/srv/data",
    identity=WHO,
    type=MediumType.HDD,
    points=("/srv/data",),
    size=10 << 30,
    free=4 << 30,
    available=3 << 30,
    inodes_free=1000,
)
SYSTEM = SystemPaths()


def reason(seen: Space, ordered: SpaceIdentity | None = WHO, **wish: object) -> Reason | None:
    refusal = space_refusal(ordered, seen, SpaceWish(**wish), SYSTEM)
    return refusal.reason if refusal is not None else None


def test_a_file_system_that_may_be_filled_is_not_refused() -> None:
    assert reason(SEEN) is None and reason(SEEN, None) is None


@pytest.mark.parametrize(
    ("change", "due"),
    [
        ({"symlinks": ("/srv",)}, Reason.SYMBOLIC_LINK),
        ({"belongs_to": "/srv"}, Reason.WRONG_KIND),
        ({"identity": msgspec.structs.replace(WHO, filesystem="nfs4")}, Reason.UNSUPPORTED),
        ({"identity": msgspec.structs.replace(WHO, filesystem="fuse.sshfs")}, Reason.UNSUPPORTED),
        ({"identity": msgspec.structs.replace(WHO, uuid="")}, Reason.NO_IDENTITY),
        ({"identity": msgspec.structs.replace(WHO, uuid="other")}, Reason.IDENTITY_MISMATCH),
        ({"points": ("/srv/data", "/var")}, Reason.SYSTEM),
        ({"read_only": True}, Reason.READ_ONLY),
        ({"writable": False}, Reason.NOT_PERMITTED),
        ({"leftovers": ("/srv/data/.expunge-free-space-00",)}, Reason.IN_USE),
        ({"available": 64 * MIB}, Reason.EMPTY),
    ],
)
def test_each_rule_fires(change: dict[str, object], due: Reason) -> None:
    assert reason(replace(SEEN, **change)) is due  # type: ignore[arg-type]


def test_what_would_work_is_said_for_each_type() -> None:
    for kind, word in (
        ("nfs", "server"),
        ("tmpfs", "swap"),
        ("overlay", "upper"),
        ("fuse.x", "program"),
        ("zfs", "key"),
    ):
        seen = replace(SEEN, identity=msgspec.structs.replace(WHO, filesystem=kind))
        refusal = space_refusal(None, seen, SpaceWish(), SYSTEM)
        assert refusal is not None and word in refusal.remedy, kind


def test_the_system_is_filled_only_when_meant_and_with_room() -> None:
    seen = replace(SEEN, points=("/",), size=4 << 30)
    assert reason(seen, system=True, reserve=U64(SYSTEM_RESERVE)) is None
    assert reason(seen, system=True, reserve=U64(SYSTEM_RESERVE - 1)) is Reason.SYSTEM
    assert reason(seen, reserve=U64(SYSTEM_RESERVE)) is Reason.SYSTEM
    large = replace(seen, size=100 << 30, available=90 << 30)
    assert reason(large, system=True, reserve=U64(SYSTEM_RESERVE)) is Reason.SYSTEM, "5 % are more"


def test_the_reserve() -> None:
    assert reserve_of(SEEN, SpaceWish()).bytes == (10 << 30) // 100
    assert reserve_of(replace(SEEN, size=MIB), SpaceWish()).bytes == 64 * MIB
    assert reserve_of(SEEN, SpaceWish(reserve=U64(0))).bytes == 0
    own = replace(SEEN, holds_state=True)
    assert reserve_of(own, SpaceWish(reserve=U64(0))).bytes == 16 * MIB
    assert "journal" in reserve_of(own, SpaceWish(reserve=U64(5))).why
    assert reserve_of(own, SpaceWish(reserve=U64(1 << 30))).bytes == 1 << 30


def test_the_plan_earns_clear_at_most() -> None:
    profile = builtin()["random-verified"]
    plan = plan_space(SEEN, profile, Level.CLEAR, False, NOTHING_DRAWN)
    assert isinstance(plan, TargetPlan) and plan.earns is Level.CLEAR and not plan.seal
    refused = plan_space(SEEN, profile, Level.PURGE, False, NOTHING_DRAWN)
    assert isinstance(refused, Refusal) and refused.reason is Reason.LEVEL_NOT_ACHIEVABLE
    weaker = plan_space(SEEN, profile, Level.PURGE, True, NOTHING_DRAWN)
    assert isinstance(weaker, TargetPlan) and "purge was asked" in weaker.downgrade
    drive = plan_space(SEEN, builtin()["nist-purge"], Level.PURGE, True, NOTHING_DRAWN)
    assert isinstance(drive, Refusal) and drive.reason is Reason.PROFILE_NOT_APPLICABLE


def test_the_truth_about_each_file_system() -> None:
    for kind, word in (("ext4", "journal"), ("xfs", "allocation group"), ("btrfs", "snapshot")):
        seen = replace(SEEN, identity=msgspec.structs.replace(WHO, filesystem=kind))
        assert any(word in line for line in not_reached(seen)), kind
    assert doubts(SEEN) == []
    assert "data=journal" in doubts(replace(SEEN, features=frozenset(["data=journal"])))[0]
    assert any("flash" in line for line in not_reached(replace(SEEN, type=MediumType.SSD)))
    assert any("discarded" in line for line in not_reached(replace(SEEN, features=frozenset(["discard"]))))


def space(**changes: object) -> FreeSpace:
    fields: dict[str, object] = {
        "filesystem": "ext4",
        "options": "rw",
        "size": U64(1000),
        "free_before": U64(900),
        "reserve": U64(0),
        "reserve_why": "as ordered",
        "ended": "full",
        "filled": U64(800),
        "taken": Taken(
            bytes=U64(800), count=U64(1), digest="0" * 64, ranges=[ByteRange(start=U64(5), length=U64(800))]
        ),
        "rest": Rest(bytes=U64(100), pieces=2, checked=U64(100), verified=U64(100)),
        "left": Left(by="map", bytes=U64(0), count=U64(0), ranges=[]),
        "names": U64(3),
        "inodes_left": 0,
        "moved": False,
        "cleaned_up": True,
        "cleaning": "",
        "trimmed": None,
        "trim": "",
        "not_reached": ["the journal"],
    }
    return FreeSpace(**{**fields, **changes})  # type: ignore[arg-type]


def result(told: FreeSpace | None) -> TargetResult:
    return TargetResult(
        target=Target(identity=WHO, hint="/srv/data", space=SpaceWish()),
        outcome=Outcome.SANITIZED,
        refusal=None,
        identity_before=WHO,
        identity_opened=WHO,
        identity_after=WHO,
        medium=None,
        technique="overwrite",
        level_achieved=Level.CLEAR,
        passes=[],
        verifications=[],
        exceptions=[],
        not_covered=[],
        finished_at="2026-11-22T12:00:00Z",
        space=told,
    )


def problems(told: FreeSpace | None, clean: bool = True) -> str:
    one = result(told)
    return "; ".join([*space_checks.figure_problems(one), *space_checks.success_problems(one, clean)])


def test_a_whole_block_is_accepted() -> None:
    assert problems(space()) == ""
    assert size_of(result(space())) == 800


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"left": Left(by="count", bytes=U64(1), count=U64(0), ranges=[])}, "stayed free"),
        ({"left": None}, "not filled and measured"),
        ({"filled": None}, "not filled and measured"),
        ({"filled": U64(801)}, "lie on"),
        ({"ended": "reserve"}, "ended by reserve"),
        ({"ended": "quota"}, "ended by quota"),
        ({"ended": "broken-off"}, "broken off"),
        ({"moved": True}, "moved"),
        ({"cleaned_up": False}, "still there"),
        ({"filesystem": "btrfs"}, "btrfs"),
        ({"inodes_left": 65}, "65 free inodes were not made anew"),
        ({"not_reached": []}, "cannot reach"),
        ({"free_before": U64(1001)}, "were free on"),
        ({"rest": Rest(bytes=U64(9), pieces=1, checked=U64(0), verified=U64(0))}, "not read back"),
        ({"rest": Rest(bytes=U64(9), pieces=1, checked=U64(9), verified=U64(8))}, "did not come back"),
        ({"rest": Rest(bytes=U64(9), pieces=1, checked=U64(10), verified=U64(9))}, "small pieces have"),
        (
            {
                "left": Left(
                    by="map", bytes=U64(0), count=U64(0), ranges=[ByteRange(start=U64(1), length=U64(2))]
                )
            },
            "more ranges left",
        ),
    ],
)
def test_a_block_that_does_not_add_up_is_found(change: dict[str, object], word: str) -> None:
    assert word in problems(space(**change))


def test_free_space_without_its_block_is_found() -> None:
    assert "nothing is told" in problems(None)


def test_an_order_says_the_reserve_and_a_plain_target_has_none(tmp_path: Path) -> None:
    bench = Bench.make(tmp_path / "state")
    wished = Target(identity=WHO, hint="/srv/data", space=SpaceWish(reserve=U64(5), trim=True))
    order = bench.order(targets=[wished])
    assert canonical.loads(canonical.dumps(order), Order).targets == [wished]
    assert b'"reserve":"5"' in canonical.dumps(order)


def record(kind: str, **data: object) -> Record:
    plain = canonical.parse(canonical.dumps({"target": 0, **data}))
    return Record(n=0, kind=kind, at="2026-11-22T12:00:00Z", boot="b", data=plain)


def test_the_journal_tells_what_has_to_be_removed() -> None:
    progress = RunProgress()
    folder = Folder(path="/srv/data", name="x")
    apply(progress, record("space-folder", folder=folder))
    told = progress.target(0).space
    assert told.folder == folder and told.begun and not told.cleaned_up
    made = Folder(path="/srv/data", name="x", device=U64(1), inode=U64(2))
    apply(progress, record("space-made", folder=made))
    apply(progress, record("space-spare", spare=77))
    apply(progress, record("pass-started", **{"pass": 0}))
    assert told.folder == made and told.spare == 77 and progress.target(0).touched
    apply(progress, record("space-kept", why="busy"))
    assert not told.cleaned_up and told.cleaning == "busy"
    apply(progress, record("space-removed"))
    apply(progress, record("space-anew"))
    assert told.cleaned_up and told.folder is None and told.spare is None and told.begun
    assert not progress.target(0).passes


def test_a_folder_is_recognised_by_its_inode_and_owner(tmp_path: Path) -> None:
    made = OwnFolder.make(Folder(path=str(tmp_path), name="own"))
    known = made.folder
    assert known.inode and (tmp_path / "own").stat().st_mode & 0o777 == 0o700
    (tmp_path / "own" / "fill00000000").write_bytes(b"x")
    made.close()
    again = OwnFolder.find(known)
    assert again is not None and again.in_place()
    again.remove()
    again.close()
    assert not (tmp_path / "own").exists() and OwnFolder.find(known) is None
    (tmp_path / "keeps its inode").mkdir()
    (tmp_path / "own").mkdir(mode=0o700)
    if (tmp_path / "own").stat().st_ino != known.inode:
        with pytest.raises(NotOurs, match="not the folder that was made"):
            OwnFolder.find(known)


def test_a_folder_that_holds_what_was_not_made_there_is_left_alone(tmp_path: Path) -> None:
    made = OwnFolder.make(Folder(path=str(tmp_path), name="own"))
    made.close()
    (tmp_path / "own" / "letter").write_text("x")
    with pytest.raises(NotOurs, match="letter"):
        OwnFolder.find(made.folder)
    with pytest.raises(NotOurs, match="never ours"):
        OwnFolder.find(Folder(path=str(tmp_path), name="own"))
    (tmp_path / "own").chmod(0o755)
    with pytest.raises(NotOurs, match="somebody else"):
        OwnFolder.find(made.folder)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    with pytest.raises(NotOurs, match="no folder"):
        OwnFolder.find(Folder(path=str(tmp_path), name="link"))


def test_several_files_are_one_target(tmp_path: Path) -> None:
    sizes = (64 * 1024, 128 * 1024, 20 * 1024 + 512)
    parts = []
    for number, size in enumerate(sizes):
        path = tmp_path / str(number)
        path.write_bytes(b"\xa5" * size)
        parts.append(OpenTarget(os.open(path, os.O_RDWR), size))
    target = Joined(parts)
    source = KeyedStream("aes-256-ctr", bytes(32))
    assert target.size == sum(sizes)
    assert write_pass(target, source).complete
    report = verify(target, source)
    assert report.complete and report.bytes_read == sum(sizes) and report.mismatched_bytes == 0
    due = bytearray(sum(sizes))
    source.fill(memoryview(due), 0)
    assert b"".join((tmp_path / str(number)).read_bytes() for number in range(3)) == due
    (tmp_path / "1").write_bytes(b"\0" * sizes[1])
    assert verify(target, source).mismatched_bytes > 0
    target.close()
    with pytest.raises(ValueError, match="at least one"):
        Joined([])


def test_direct_writes_are_read_from_the_medium(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xa5" * 65536)
    fd = os.open(path, os.O_RDWR)
    try:
        target = DirectWrites(fd, 65536, 4096)
    except OSError:
        os.close(fd)
        pytest.skip("needs a file system with direct I/O")
    source = KeyedStream("aes-256-ctr", bytes(32))
    assert not target.direct
    assert write_pass(target, source).complete
    os.fsync(fd)
    report = verify(target, source)
    assert report.complete and report.mismatched_bytes == 0
    if report.reads_medium:
        assert "dropped before each read" in report.io_mode and "stayed" not in report.io_mode
    else:
        assert "stayed" in report.io_mode, "what may have come from the cache is said"
    target.close()
    target.close()


def test_nothing_is_taken_below_the_reserve(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        room = Room(fd, 1 << 62)
        assert take_space(fd, room, threading.Event()) == ([], "reserve")
        assert make_names(fd, 0, 10, room, threading.Event()) == 0
        assert make_names(fd, 5, 10, Room(fd, 0), threading.Event(), content=7) == 10
    finally:
        os.close(fd)
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "n00000005"
    assert all(path.stat().st_size == 7 for path in tmp_path.iterdir())


@pytest.mark.parametrize(("text", "due"), [("0", 0), ("64M", 64 * MIB), ("1GiB", 1 << 30), ("7KB", 7 << 10)])
def test_sizes(text: str, due: int) -> None:
    assert Reserve().convert(text, None, None) == due


def test_a_size_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    from expunge_agent.cli.wipe import command

    ran = CliRunner().invoke(
        command, ["free-space:/x", "--profile", "zero", "--reserve", "much"], obj={"state": str(tmp_path)}
    )
    assert ran.exit_code == 2 and "not a size" in ran.output
