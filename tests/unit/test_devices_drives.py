"""Kernel's account and drive's answers together, with the laboratory's simulated drives behind the recorded machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from expunge_agent.commands.port import CommandTimeout, NvmeCommand, NvmeReply, ScsiReply
from expunge_agent.core import capabilities
from expunge_agent.core.drive import Drive
from expunge_agent.core.medium import MediumType
from expunge_agent.core.technique import Technique
from expunge_agent.devices import describe, drives
from expunge_agent.devices.nodes import Node, all_disks
from expunge_agent.devices.roots import Roots
from expunge_agent.devices.sectors import odd_sector
from lab.drives.ata import AtaDrive
from lab.drives.clock import VirtualClock
from lab.drives.nvme import NvmeDrive
from lab.drives.nvme_port import SimulatedNvmePort
from lab.drives.ports import SimulatedPort
from lab.drives.sat import SatDrive
from lab.drives.scsi import ScsiDrive
from lab.drives.scsi_data import sas_hdd
from lab.drives.store import StateFile, Store
from support.recorded import lay_out

SIZE = 64 << 20


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    return lay_out(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = Store(tmp_path / "image", SIZE)
    yield one
    one.close()


def disk(roots: Roots, name: str) -> Node:
    return next(one for one in all_disks(roots) if one.name == name)


def known(roots: Roots, name: str) -> Drive:
    node = disk(roots, name)
    return drives.as_the_kernel_sees_it(node, describe.medium(node))


def ata_port(store: Store, tmp_path: Path, *faults: str, hidden: int = 0, **sat: object) -> SimulatedPort:
    clock = VirtualClock()
    drive = AtaDrive(store, StateFile(tmp_path / "notes"), clock=clock, faults=faults)
    if hidden:
        drive.hide(accessible=SIZE // 512 - hidden)
    return SimulatedPort(SatDrive(drive, **sat), clock)  # type: ignore[arg-type]


def test_an_ata_drive_behind_usb_is_asked_as_one_and_its_bridge_named(
    roots: Roots, store: Store, tmp_path: Path
) -> None:
    seen = known(roots, "sdf")
    assert seen.protocol == "scsi"
    told = drives.joined(seen, drives.ask_scsi(ata_port(store, tmp_path), seen))
    assert told.protocol == "ata"
    assert seen.bridge in told.bridge
    drive = drives.judged(describe.medium(disk(roots, "sdf")), told)
    assert any("the bridge gives the serial number 'USB-0001'" in doubt for doubt in drive.doubtful)
    assert "sanitize" in capabilities.can(drive)
    assert not any("passes no ATA" in doubt for doubt in drive.doubtful)
    assert any("the bridge gives" in doubt for doubt in drive.doubtful_names)
    assert not any("serial" in doubt for doubt in drive.distrusted)


def test_a_bridge_without_pass_through_is_said(roots: Roots, store: Store, tmp_path: Path) -> None:
    seen = known(roots, "sdf")
    told = drives.joined(seen, drives.ask_scsi(ata_port(store, tmp_path, pass_through=False), seen))
    assert told.protocol == "scsi"
    medium = describe.medium(disk(roots, "sdf"))
    assert medium.type is not MediumType.USB_FLASH
    drive = drives.judged(medium, told)
    assert any("passes no ATA commands" in doubt for doubt in drive.doubtful)
    assert capabilities.can(drive) == ""


def test_hidden_sectors_are_in_the_table(roots: Roots, store: Store, tmp_path: Path) -> None:
    seen = known(roots, "sda")
    drive = drives.ask_scsi(ata_port(store, tmp_path, hidden=2048), seen)
    assert int(drive.native) - int(drive.apparent) == 2048 * 512
    assert str(2048 * 512) in capabilities.hidden(drive)


def test_a_frozen_drive_is_called_frozen(roots: Roots, store: Store, tmp_path: Path) -> None:
    drive = drives.ask_scsi(ata_port(store, tmp_path, "frozen"), known(roots, "sda"))
    assert "frozen" in capabilities.condition(drive)


def test_a_garbled_serial_number_is_doubtful(roots: Roots, store: Store, tmp_path: Path) -> None:
    seen = known(roots, "sda")
    told = drives.joined(seen, drives.ask_scsi(ata_port(store, tmp_path, "garbled-serial"), seen))
    assert any(
        "serial" in doubt for doubt in drives.judged(describe.medium(disk(roots, "sda")), told).doubtful
    )


def test_sectors_of_520_bytes_are_found_though_the_kernel_shows_nothing(store: Store, tmp_path: Path) -> None:
    clock = VirtualClock()
    odd = ScsiDrive(store, StateFile(tmp_path / "notes"), model=sas_hdd(block=520), clock=clock)
    assert odd_sector(SimulatedPort(odd, clock)) == 520
    plain = ScsiDrive(store, StateFile(tmp_path / "plain"), model=sas_hdd(), clock=clock)
    assert odd_sector(SimulatedPort(plain, clock)) == 0


def test_a_namespace_knows_its_neighbours_by_the_kernels_names(roots: Roots, tmp_path: Path) -> None:
    drive = NvmeDrive(tmp_path / "image", tmp_path / "state", namespaces=2, clock=VirtualClock())
    try:
        told = drives.ask_nvme(SimulatedNvmePort(drive), disk(roots, "nvme0n2"))
    finally:
        drive.close()
    assert told.protocol == "nvme"
    assert {space.nsid: space.node for space in told.namespaces} == {1: "nvme0n1", 2: "nvme0n2"}
    assert told.opal is None
    assert not told.ability(Technique.OPAL_REVERT).offered


class Mute:
    """A drive that never answers."""

    def scsi(
        self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> ScsiReply:
        raise CommandTimeout("no answer")

    def admin(
        self, command: NvmeCommand, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> NvmeReply:
        raise CommandTimeout("no answer")


def test_a_mute_drive_raises_nothing_but_the_documented_error(roots: Roots) -> None:
    for name in ("sda", "sdc", "sdf"):
        with pytest.raises(CommandTimeout):
            drives.ask_scsi(Mute(), known(roots, name))
    with pytest.raises(CommandTimeout):
        drives.ask_nvme(Mute(), disk(roots, "nvme0n1"))


def test_a_drive_is_a_plain_document(roots: Roots, store: Store, tmp_path: Path) -> None:
    from expunge_agent.protocol import canonical

    drive = drives.ask_scsi(ata_port(store, tmp_path), known(roots, "sda"))
    plain = msgspec.to_builtins(drive, enc_hook=canonical.encode_hook)
    assert canonical.convert(plain, Drive) == drive
    assert canonical.parse(canonical.dumps(drive)) == plain
