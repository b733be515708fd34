"""Each rule of the guard fires, says what and what to do, and they come in the documented order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.core.guard import DEFAULT_SYSTEM, RULES, SystemPaths, guard, listing, objections, readable
from expunge_agent.core.medium import Kind, Medium, MediumType, Usage
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, FileIdentity, Identity, Target
from expunge_agent.protocol.receipt import Reason

DRIVE = BlockIdentity(bus="ata", model="ACME 1", serial="S1", wwn="naa.5000c50000000001", size=U64(1 << 30))
FILE = FileIdentity(path="/srv/disk.img", device="8:1", inode=U64(12), size=U64(4096))


def medium(identity: Identity) -> Medium:
    path = identity.path if isinstance(identity, FileIdentity) else "/dev/sdb"
    return Medium(path=path, identity=identity, type=MediumType.UNKNOWN)


IDLE_DRIVE = Usage(path="/dev/sdb", kind=Kind.BLOCK)
IDLE_FILE = Usage(path="/srv/disk.img", kind=Kind.FILE)


@pytest.mark.parametrize(("identity", "usage"), [(DRIVE, IDLE_DRIVE), (FILE, IDLE_FILE)])
def test_an_idle_target_with_the_ordered_identity_passes(identity: Identity, usage: Usage) -> None:
    assert guard(Target(identity=identity), medium(identity), usage) is None
    assert guard(None, medium(identity), usage) is None


CASES: list[tuple[Reason, Usage, str]] = [
    (Reason.SYMBOLIC_LINK, replace(IDLE_FILE, symlinks=("/srv",), real_path="/data/disk.img"), "/srv"),
    (Reason.SYSTEM, replace(IDLE_DRIVE, system="it holds the system's /usr"), "/usr"),
    (Reason.SYSTEM, replace(IDLE_DRIVE, mounts=("/mnt", "/boot")), "/boot"),
    (Reason.SYSTEM, replace(IDLE_FILE, path="/usr/share/x.img"), "/usr"),
    (Reason.SWAP, replace(IDLE_DRIVE, swaps=("/dev/sdb2",)), "/dev/sdb2"),
    (Reason.MOUNTED, replace(IDLE_DRIVE, mounts=("/mnt/a b",)), "/mnt/a b"),
    (Reason.HELD, replace(IDLE_DRIVE, holders=("dm-0 (vg-data)",)), "vg-data"),
    (Reason.HELD, replace(IDLE_FILE, loops=("/dev/loop7",)), "/dev/loop7"),
    (Reason.READ_ONLY, replace(IDLE_DRIVE, read_only="the kernel holds it so"), "kernel"),
    (Reason.HARD_LINKED, replace(IDLE_FILE, hard_links=3), "3 names"),
    (Reason.IN_USE, replace(IDLE_FILE, opened_by=("4711 qemu",)), "4711 qemu"),
    (Reason.NOT_PERMITTED, replace(IDLE_FILE, writable=False), "may not"),
]


@pytest.mark.parametrize(("reason", "usage", "named"), CASES)
def test_each_use_is_refused_by_name_with_a_remedy(reason: Reason, usage: Usage, named: str) -> None:
    identity = FILE if usage.kind is Kind.FILE else DRIVE
    refusal = guard(Target(identity=identity), medium(identity), usage)
    assert refusal is not None
    assert refusal.reason is reason
    assert named in refusal.detail
    assert refusal.remedy


def test_a_link_is_answered_with_the_real_path() -> None:
    usage = replace(IDLE_DRIVE, kind=Kind.SYMLINK, symlinks=("/dev/disk/by-id/x",), real_path="/dev/sdb")
    refusal = guard(None, None, usage)
    assert refusal is not None
    assert "/dev/sdb" in refusal.remedy
    dangling = guard(None, None, replace(usage, real_path=""))
    assert dangling is not None
    assert "nowhere" in dangling.remedy


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Kind.MISSING, Reason.TARGET_NOT_FOUND),
        (Kind.HIDDEN, Reason.NOT_PERMITTED),
        (Kind.UNNAMEABLE, Reason.WRONG_KIND),
        (Kind.DIRECTORY, Reason.WRONG_KIND),
        (Kind.FIFO, Reason.WRONG_KIND),
        (Kind.SOCKET, Reason.WRONG_KIND),
        (Kind.CHARACTER, Reason.WRONG_KIND),
        (Kind.SYMLINK, Reason.WRONG_KIND),
        (Kind.BLOCK, Reason.TARGET_NOT_FOUND),
        (Kind.FILE, Reason.TARGET_NOT_FOUND),
    ],
)
def test_what_is_no_medium_never_passes(kind: Kind, reason: Reason) -> None:
    refusal = guard(Target(identity=DRIVE), None, Usage(path="/x", kind=kind))
    assert refusal is not None
    assert refusal.reason is reason


@pytest.mark.parametrize(
    "other",
    [
        BlockIdentity(bus="usb", model="ACME 1", serial="S1", wwn=DRIVE.wwn, size=DRIVE.size),
        BlockIdentity(bus="ata", model="ACME 2", serial="S1", wwn=DRIVE.wwn, size=DRIVE.size),
        BlockIdentity(bus="ata", model="ACME 1", serial="S2", wwn=DRIVE.wwn, size=DRIVE.size),
        BlockIdentity(bus="ata", model="ACME 1", serial="S1", wwn="naa.5", size=DRIVE.size),
        BlockIdentity(bus="ata", model="ACME 1", serial="S1", wwn=DRIVE.wwn, size=U64(1 << 29)),
        BlockIdentity(
            bus="ata", model="ACME 1", serial="S1", wwn=DRIVE.wwn, size=DRIVE.size, instance="part1@512"
        ),
        FILE,
    ],
)
def test_any_difference_in_identity_is_refused_and_shown(other: Identity) -> None:
    refusal = guard(Target(identity=other), medium(DRIVE), IDLE_DRIVE)
    assert refusal is not None
    assert refusal.reason is Reason.IDENTITY_MISMATCH
    assert "ordered" in refusal.detail
    assert "found" in refusal.detail


def test_a_size_of_zero_is_empty() -> None:
    nothing = BlockIdentity(bus="loop", model="", serial="", wwn="", size=U64(0), instance="b/1")
    refusal = guard(Target(identity=nothing), medium(nothing), IDLE_DRIVE)
    assert refusal is not None
    assert refusal.reason is Reason.EMPTY


def test_a_device_that_nothing_identifies_is_refused_though_the_order_agrees() -> None:
    nameless = BlockIdentity(bus="usb", model="STICK", serial=" ", wwn="", size=U64(512))
    for target in (None, Target(identity=nameless)):
        refusal = guard(target, medium(nameless), IDLE_DRIVE)
        assert refusal is not None
        assert refusal.reason is Reason.NO_IDENTITY


def test_the_system_is_an_argument() -> None:
    system = SystemPaths(mounts=("/mnt/root",), trees=("/srv",), scratch=(), own=("/var/lib/expunge",))
    mounted = replace(IDLE_DRIVE, mounts=("/mnt/root",))
    assert _reasons(objections(None, medium(DRIVE), mounted, system))[:2] == [Reason.SYSTEM, Reason.MOUNTED]
    assert _reasons(objections(None, medium(FILE), IDLE_FILE, system)) == [Reason.SYSTEM]
    own = replace(IDLE_FILE, path="/var/lib/expunge/orders/1/journal.jsonl")
    refusal = guard(None, medium(FILE), own, system)
    assert refusal is not None
    assert "expunge's own" in refusal.detail


@pytest.mark.parametrize(
    ("path", "system"),
    [
        ("/etc/passwd", True),
        ("/usr", True),
        ("/usrlocal/x", False),
        ("/lib64/ld.so", True),
        ("/run/systemd/x", True),
        ("/run/user/1/x", False),
        ("/dev/shm/x", False),
        ("/dev/x", True),
        ("/home/x", False),
    ],
)
def test_the_trees_are_matched_by_component(path: str, system: bool) -> None:
    assert bool(DEFAULT_SYSTEM.file_reason(path)) is system


def test_the_state_folder_may_be_in_scratch_and_is_still_kept() -> None:
    assert SystemPaths(own=("/dev/shm/state/",)).file_reason("/dev/shm/state/signing_key")


def test_the_rules_come_in_their_documented_order() -> None:
    worst = Usage(
        path="/usr/x",
        kind=Kind.BLOCK,
        symlinks=("/usr",),
        mounts=("/",),
        swaps=("/dev/sdb2",),
        holders=("md0",),
        loops=("/dev/loop0",),
        opened_by=("1 init",),
        read_only="so",
        writable=False,
        hard_links=2,
    )
    nameless = BlockIdentity(bus="usb", model="", serial="", wwn="", size=U64(0))
    found = _reasons(objections(Target(identity=DRIVE), medium(nameless), worst))
    assert found == [
        Reason.SYMBOLIC_LINK,
        Reason.IDENTITY_MISMATCH,
        Reason.EMPTY,
        Reason.NO_IDENTITY,
        Reason.SYSTEM,
        Reason.SWAP,
        Reason.MOUNTED,
        Reason.HELD,
        Reason.HELD,
        Reason.READ_ONLY,
        Reason.HARD_LINKED,
        Reason.IN_USE,
        Reason.NOT_PERMITTED,
    ]
    assert len(RULES) == 16  # with not-found, wrong-kind and the kind of volume, which exclude the others


TEXTS = st.lists(st.text(max_size=3000), max_size=30).map(tuple)


@given(
    mounts=TEXTS, holders=TEXTS, openers=TEXTS, path=st.text(max_size=5000), read_only=st.text(max_size=3000)
)
def test_whatever_names_there_are_the_refusals_fit_into_a_receipt(
    mounts: tuple[str, ...], holders: tuple[str, ...], openers: tuple[str, ...], path: str, read_only: str
) -> None:
    usage = Usage(
        path=path,
        kind=Kind.BLOCK,
        symlinks=mounts,
        real_path=path,
        mounts=mounts,
        swaps=mounts,
        loops=mounts,
        holders=holders,
        opened_by=openers,
        read_only=read_only,
    )
    found = objections(Target(identity=FILE), medium(DRIVE), usage)
    assert guard(Target(identity=FILE), medium(DRIVE), usage) == found[0]
    for refusal in found:
        assert len(refusal.detail) <= 4000
        assert len(refusal.remedy) <= 4000
        assert refusal.detail.isprintable()
        assert refusal.remedy.isprintable()


def test_long_lists_are_counted_and_control_characters_spelled_out() -> None:
    assert listing([f"m{i}" for i in range(10)]).endswith("m7 and 2 more")
    assert readable("a\nb\x1b[0m") == "a\\nb\\x1b[0m"
    assert len(readable("x" * 10_000)) == 500


def _reasons(refusals: list) -> list[Reason]:  # type: ignore[type-arg]
    return [refusal.reason for refusal in refusals]
