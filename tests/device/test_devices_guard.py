"""Every rule of the guard fires on real kernel state: what is looked at exists, and is called what it is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.core.guard import SystemPaths, guard, objections
from expunge_agent.core.medium import MediumType
from expunge_agent.devices.inventory import inventory
from expunge_agent.devices.look import find, look
from expunge_agent.devices.opening import TargetRefused, open_target
from expunge_agent.devices.roots import Roots
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.receipt import Reason, Refusal

MIB = 1 << 20


def reasons(path: str | Path, system: SystemPaths | None = None) -> list[Reason]:
    found = look(path, system=system)
    return [r.reason for r in objections(None, found.medium, found.usage, system or SystemPaths())]


def refusal(path: str | Path) -> Refusal:
    found = look(path)
    answer = guard(None, found.medium, found.usage)
    assert answer is not None
    return answer


def kernel_refuses(path: str | Path) -> Reason:
    """The reason with which opening for writing is refused, the identity being right."""
    medium = look(path).medium
    assert medium is not None
    with pytest.raises(TargetRefused) as caught:
        open_target(path, medium.identity, write=True).close()
    return caught.value.refusal.reason


def test_an_idle_loop_device_passes_and_is_called_virtual(lab) -> None:
    device = lab.loop()
    found = look(device)
    assert found.medium is not None
    assert guard(Target(identity=found.medium.identity), found.medium, found.usage) is None
    assert found.medium.type is MediumType.VIRTUAL
    assert (found.medium.size, found.medium.logical_sector) == (16 * MIB, 512)
    assert isinstance(found.medium.identity, BlockIdentity)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    sequence = Path(f"/sys/block/{Path(device).name}/diskseq").read_text().strip()
    assert found.medium.identity.instance == f"{boot}/{sequence}"
    assert device in [item.usage.path for item in inventory()]


def test_large_sectors_are_seen(lab) -> None:
    medium = look(lab.loop(None, "--sector-size", "4096")).medium
    assert medium is not None
    assert medium.logical_sector == 4096


def test_zram_is_memory(lab) -> None:
    device = lab.zram()
    found = look(device)
    assert found.medium is not None
    assert found.medium.type is MediumType.MEMORY
    assert guard(None, found.medium, found.usage) is None


def test_an_unattached_loop_device_is_empty_and_not_in_the_inventory(lab) -> None:
    device = lab.loop()
    lab.detach(device)
    assert reasons(device)[0] is Reason.EMPTY
    assert device not in [item.usage.path for item in inventory()]


def test_mounted(lab) -> None:
    device = lab.ext4(lab.loop())
    point = lab.mount(device)
    answer = refusal(device)
    assert answer.reason is Reason.MOUNTED
    assert str(point) in answer.detail
    assert kernel_refuses(device) is Reason.MOUNTED
    lab.unmount(point)
    assert reasons(device) == []


def test_mounted_on_a_folder_with_blank_newline_and_backslash(lab) -> None:
    point = lab.folder / "a b\n\\c\t#"
    point.mkdir()
    device = lab.ext4(lab.loop())
    lab.mount(device, at=point)
    assert look(device).usage.mounts == (str(point),)


def test_a_mounted_partition_binds_the_disk_and_not_its_sibling(lab) -> None:
    device = lab.loop(size=32 * MIB)
    one = lab.partition(device, 1, MIB, 8 * MIB)
    two = lab.partition(device, 2, 16 * MIB, 8 * MIB)
    point = lab.mount(lab.ext4(one))
    assert look(device).usage.partitions == (Path(one).name, Path(two).name)
    for path in (device, one):
        answer = refusal(path)
        assert answer.reason is Reason.MOUNTED
        assert str(point) in answer.detail
        assert kernel_refuses(path) is Reason.MOUNTED
    assert reasons(two) == []
    medium = look(two).medium
    assert medium is not None
    assert medium.partition
    assert medium.size == 8 * MIB
    with open_target(two, medium.identity, write=True) as opened:
        assert opened.identity == medium.identity
        # While a partition is open exclusively, so is its disk.
        assert kernel_refuses(device) is Reason.MOUNTED


def test_partitions_of_one_size_are_told_apart(lab) -> None:
    device = lab.loop(size=32 * MIB)
    one = look(lab.partition(device, 1, MIB, 8 * MIB)).medium
    two = look(lab.partition(device, 2, 16 * MIB, 8 * MIB)).medium
    assert one is not None
    assert two is not None
    assert one.identity != two.identity
    assert find(two.identity, one.path) == two.path
    with pytest.raises(TargetRefused) as caught:
        open_target(one.path, two.identity, write=True).close()
    assert caught.value.refusal.reason is Reason.IDENTITY_MISMATCH


def test_a_disk_mounted_whole_binds_its_partition(lab) -> None:
    device = lab.loop(size=32 * MIB)
    part = lab.partition(device, 1, 16 * MIB, 8 * MIB)
    lab.mount(lab.ext4(device))
    assert reasons(part) == [Reason.MOUNTED]
    assert kernel_refuses(part) is Reason.MOUNTED


def test_mounted_in_another_namespace(lab) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    device = lab.ext4(lab.loop())
    point = lab.name("away")
    point.mkdir()
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"mount {device} {point} && echo ready && read x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert str(point) not in Path("/proc/self/mountinfo").read_text()
        answer = refusal(device)
        assert answer.reason is Reason.MOUNTED
        assert "namespace of process" in answer.detail
        assert kernel_refuses(device) is Reason.MOUNTED
    finally:
        process.communicate("\n")


def test_what_no_table_shows_the_kernel_still_refuses(lab, tmp_path: Path) -> None:
    """The last guard: the tables are looked for in an empty place, and the claim is still respected."""
    device = lab.ext4(lab.loop())
    medium = look(device).medium
    assert medium is not None
    lab.mount(device)
    proc = tmp_path / "proc"
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "sys/kernel/random/boot_id").write_text(Path("/proc/sys/kernel/random/boot_id").read_text())
    (proc / "devices").write_text(Path("/proc/devices").read_text())
    blind = Roots(proc=proc)
    assert guard(None, *look(device, blind)) is None
    with pytest.raises(TargetRefused) as caught:
        open_target(device, medium.identity, write=True, roots=blind).close()
    assert caught.value.refusal.reason is Reason.IN_USE


def test_an_external_journal_is_in_no_table_and_refused_on_opening(lab) -> None:
    journal, device = lab.loop(), lab.loop()
    if subprocess.run(["mke2fs", "-q", "-F", "-O", "journal_dev", journal], check=False).returncode:
        pytest.skip("needs mke2fs with journal_dev")
    lab.ext4(device, "-J", f"device={journal}")
    lab.mount(device)
    assert kernel_refuses(journal) in (Reason.IN_USE, Reason.MOUNTED)


def test_every_device_of_a_mounted_btrfs(lab) -> None:
    if shutil.which("mkfs.btrfs") is None or "btrfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("needs btrfs and mkfs.btrfs")
    devices = [lab.loop(size=128 * MIB) for _ in range(2)]
    subprocess.run(["mkfs.btrfs", "-q", "-f", *devices], check=True, capture_output=True)
    point = lab.mount(devices[0], "-t", "btrfs", "-o", f"device={devices[1]}")
    for device in devices:
        answer = refusal(device)
        assert answer.reason is Reason.MOUNTED
        assert str(point) in answer.detail
        assert kernel_refuses(device) is Reason.MOUNTED
    image = point / "disk.img"
    image.write_bytes(b"x" * MIB)
    medium = look(image).medium
    assert medium is not None
    assert any("elsewhere" in note for note in medium.notes)
    with open_target(image, medium.identity, write=True) as opened:
        opened.recheck()


def test_swap_on_a_device(lab) -> None:
    device = lab.loop(size=32 * MIB)
    part = lab.partition(device, 1, MIB, 16 * MIB)
    lab.swap(part)
    for path in (device, part):
        answer = refusal(path)
        assert answer.reason is Reason.SWAP
        assert part in answer.detail
        assert kernel_refuses(path) is Reason.SWAP


def test_swap_in_a_file(lab) -> None:
    point = lab.mount(lab.ext4(lab.loop(size=64 * MIB)))
    file = point / "swap file"
    file.write_bytes(b"\0" * 8 * MIB)
    file.chmod(0o600)
    lab.swap(file)
    assert refusal(file).reason is Reason.SWAP
    assert kernel_refuses(file) is Reason.SWAP


def test_held_by_device_mapper(lab) -> None:
    device = lab.loop()
    mapped = os.path.realpath(lab.mapped(f"0 16384 linear {device} 0", uuid="expunge-test"))
    answer = refusal(device)
    assert answer.reason is Reason.HELD
    assert Path(mapped).name in answer.detail
    assert kernel_refuses(device) is Reason.HELD
    assert reasons(mapped) == []


def test_a_file_behind_a_loop_device(lab) -> None:
    image = lab.image()
    device = lab.loop(image)
    answer = refusal(image)
    assert answer.reason is Reason.HELD
    assert device in answer.detail
    assert reasons(device) == []
    lab.detach(device)
    assert reasons(image) == []


def test_a_file_behind_a_loop_device_after_it_was_moved(lab) -> None:
    image = lab.image()
    device = lab.loop(image)
    moved = image.rename(image.with_name("moved"))
    assert device in refusal(moved).detail
    # and a new file of the old name is not taken for it
    image.write_bytes(b"x" * MIB)
    assert reasons(image) == []


def test_a_deleted_file_behind_a_loop_device(lab) -> None:
    image = lab.image()
    device = lab.loop(image)
    image.unlink()
    assert refusal(image).reason is Reason.TARGET_NOT_FOUND
    assert reasons(device) == []


def test_two_loop_devices_over_one_file_bind_each_other(lab) -> None:
    image = lab.image()
    one, two = lab.loop(image), lab.loop(image)
    assert reasons(one) == reasons(two) == [Reason.HELD]
    assert look(one).usage.loops == (two,)
    lab.detach(two)
    assert reasons(one) == []


def test_a_loop_device_over_a_mounted_device_is_mounted(lab) -> None:
    device = lab.ext4(lab.loop())
    over = lab.loop(device)
    assert reasons(over) == []
    assert refusal(device).reason is Reason.HELD
    point = lab.mount(over)
    assert refusal(device).reason is Reason.MOUNTED
    assert str(point) in refusal(device).detail
    lab.unmount(point)
    lab.mount(device)
    assert refusal(over).reason is Reason.MOUNTED
    assert kernel_refuses(over) is Reason.MOUNTED  # the kernel alone would let it be written


def test_a_file_mounted_over_another(lab) -> None:
    image = lab.image(MIB)
    other = lab.folder / "other"
    other.touch()
    lab.mount(image, "--bind", at=other)
    assert reasons(image) == [Reason.MOUNTED]


def test_read_only_device(lab) -> None:
    device = lab.loop(None, "--read-only")
    assert refusal(device).reason is Reason.READ_ONLY
    assert kernel_refuses(device) is Reason.READ_ONLY
    medium = look(device).medium
    assert medium is not None
    open_target(device, medium.identity, write=False).close()


def test_file_on_a_read_only_file_system(lab) -> None:
    point = lab.mount(lab.ext4(lab.loop()))
    file = point / "disk.img"
    file.write_bytes(b"x" * MIB)
    subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
    assert refusal(file).reason is Reason.READ_ONLY
    assert kernel_refuses(file) is Reason.READ_ONLY


@pytest.fixture(params=["+i", "+a"])
def protected(lab, request: pytest.FixtureRequest) -> Iterator[Path]:
    if shutil.which("chattr") is None:
        pytest.skip("needs chattr")
    point = lab.mount(lab.ext4(lab.loop()))
    file = point / "disk.img"
    file.write_bytes(b"x" * MIB)
    subprocess.run(["chattr", request.param, str(file)], check=True)
    yield file
    subprocess.run(["chattr", request.param.replace("+", "-"), str(file)], check=True)


def test_immutable_and_append_only_files(protected: Path) -> None:
    assert Reason.READ_ONLY in reasons(protected)
    assert kernel_refuses(protected) is Reason.READ_ONLY


def test_a_device_that_holds_the_system(lab) -> None:
    device = lab.loop(size=32 * MIB)
    part = lab.partition(device, 1, MIB, 16 * MIB)
    root = lab.mount(lab.ext4(part))
    system = SystemPaths(mounts=(str(root),), trees=(f"{root}/usr",))
    assert reasons(device, system) == reasons(part, system) == [Reason.SYSTEM, Reason.MOUNTED]
    (root / "usr").mkdir()
    (root / "usr/x.img").write_bytes(b"x")
    assert reasons(root / "usr/x.img", system) == [Reason.SYSTEM]


def test_a_loop_device_over_a_system_file(lab) -> None:
    image = lab.image()
    device = lab.loop(image)
    system = SystemPaths(trees=(str(lab.folder),))
    assert reasons(device, system) == [Reason.SYSTEM]


def test_a_device_that_holds_expunges_own_folder(lab) -> None:
    point = lab.mount(lab.ext4(lab.loop()))
    state = point / "state"
    state.mkdir()
    device = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE", str(point)], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert reasons(device, SystemPaths(own=(str(state),)))[0] is Reason.SYSTEM


def test_the_disk_that_this_very_system_runs_from_is_refused() -> None:
    """Only looked at: never opened."""
    number = os.stat("/").st_dev
    link = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not link.exists():
        pytest.skip("the root file system is on no block device of its own")
    path = Path("/dev") / link.resolve().name
    assert reasons(path)[0] is Reason.SYSTEM


HOLD = "import os,sys; fd=os.open(sys.argv[1], os.O_RDONLY); print(flush=True); sys.stdin.read()"
MAP = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    view = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
import os
for name in os.listdir("/proc/self/fd"):
    if int(name) > 2:
        try: os.close(int(name))
        except OSError: pass
print(flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_has_open(lab) -> None:
    image = lab.image(MIB)
    process = lab.helper(HOLD, str(image))
    answer = refusal(image)
    assert answer.reason is Reason.IN_USE
    assert str(process.pid) in answer.detail
    process.kill()
    process.wait()
    assert reasons(image) == []


def test_a_loop_device_whose_file_another_process_has_open(lab) -> None:
    image = lab.image()
    device = lab.loop(image)
    process = lab.helper(HOLD, str(image))
    answer = refusal(device)
    assert answer.reason is Reason.IN_USE
    assert str(process.pid) in answer.detail


def test_a_file_that_another_process_has_mapped_only(lab) -> None:
    image = lab.image(MIB)
    process = lab.helper(MAP, str(image))
    links = [os.readlink(f"/proc/{process.pid}/fd/{n}") for n in os.listdir(f"/proc/{process.pid}/fd")]
    assert str(image) not in links
    assert str(process.pid) in refusal(image).detail


def test_a_device_that_another_process_has_open(lab) -> None:
    device = lab.loop(size=32 * MIB)
    part = lab.partition(device, 1, MIB, 16 * MIB)
    process = lab.helper(HOLD, part)
    for path in (device, part):
        answer = refusal(path)
        assert answer.reason is Reason.IN_USE
        assert str(process.pid) in answer.detail


def test_a_link_to_a_device_is_refused_with_the_node(lab) -> None:
    device = lab.loop()
    link = lab.folder / "by-id"
    link.symlink_to(device)
    answer = refusal(link)
    assert answer.reason is Reason.SYMBOLIC_LINK
    assert device in answer.remedy


def test_a_second_node_for_the_same_device_is_the_same_device(lab) -> None:
    device = lab.loop()
    node = lab.folder / "node"
    os.mknod(node, 0o600 | 0o060000, os.stat(device).st_rdev)
    one, two = look(device).medium, look(node).medium
    assert one is not None
    assert two is not None
    assert one.identity == two.identity
    with open_target(device, one.identity, write=True):
        assert kernel_refuses(node) is Reason.IN_USE


def test_a_device_reattached_is_not_the_one_ordered(lab) -> None:
    image, other = lab.image(), lab.image()
    device = lab.loop(image)
    before = look(device).medium
    assert before is not None
    lab.detach(device)
    subprocess.run(["losetup", device, str(other)], check=True)
    found = look(device)
    assert find(before.identity, device) == device  # what stands there now, for the guard to refuse
    answer = guard(Target(identity=before.identity), found.medium, found.usage)
    assert answer is not None
    assert answer.reason is Reason.IDENTITY_MISMATCH
    with pytest.raises(TargetRefused) as caught:
        open_target(device, before.identity, write=True).close()
    assert caught.value.refusal.reason is Reason.IDENTITY_MISMATCH


def test_a_device_is_found_where_it_is(lab) -> None:
    one, two = lab.loop(), lab.loop()
    medium = look(two).medium
    assert medium is not None
    assert find(medium.identity, one) == two
    assert find(medium.identity, "") == two
