"""Disks of a guest: sparse files on the host, and how QEMU shows them.

The file is the ground truth: markers are planted in it while no guest runs and looked for in it afterwards;
what the guest says about its disk decides nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
SECTOR = 512


@dataclass(frozen=True)
class Backing:
    """A file of `size` bytes behind one disk or namespace; `bad` are 512-byte sectors that cannot be read or written."""

    path: Path
    size: int
    bad: tuple[int, ...] = ()

    @classmethod
    def make(cls, folder: Path, name: str, size: int = 16 * MIB, bad: tuple[int, ...] = ()) -> Backing:
        """A new sparse file in `folder`."""
        backing = cls(folder / f"{name}.img", size, bad)
        with backing.path.open("xb") as file:
            file.truncate(size)
        return backing

    def plant(self, every: int = MIB // 4) -> list[int]:
        """Write a marker of 512 bytes at every `every`-th byte, and at the end; returns the offsets."""
        offsets = [*range(0, self.size, every), self.size - SECTOR]
        with self.path.open("r+b") as file:
            for offset in offsets:
                file.seek(offset)
                file.write(marker(self.path.name, offset))
            file.flush()
            os.fsync(file.fileno())
        return offsets

    def fill(self) -> None:
        """Write a marker into each sector."""
        with self.path.open("r+b") as file:
            for offset in range(0, self.size, SECTOR):
                file.write(marker(self.path.name, offset))

    def remains(self) -> list[int]:
        """Offsets of sectors that still hold a marker of this file (wherever it was moved), from the host."""
        start = _start(self.path.name)
        found = []
        with self.path.open("rb") as file:
            position = 0
            while block := file.read(4 * MIB):
                at = block.find(start)
                while at >= 0:
                    found.append(position + at)
                    at = block.find(start, at + 1)
                position += len(block)
        return found

    def nonzero(self) -> int:
        """How many bytes are not zero."""
        with self.path.open("rb") as file:
            return sum(len(block) - block.count(0) for block in iter(lambda: file.read(4 * MIB), b""))

    def digest(self) -> str:
        """SHA-256 of all bytes."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def blockdev(self, node: str) -> list[str]:
        """QEMU's arguments for a block node of this name."""
        layer: dict[str, object] = {
            "driver": "file",
            "filename": str(self.path),
            "discard": "unmap",
            "locking": "off",
        }
        if self.bad:
            faults = [
                {"event": event, "iotype": kind, "errno": 5, "sector": sector}
                for sector in self.bad
                for event, kind in (("none", "read"), ("none", "write"))
            ]
            layer = {"driver": "blkdebug", "image": layer, "inject-error": faults, "discard": "unmap"}
        whole = {"driver": "raw", "node-name": node, "file": layer, "discard": "unmap"}
        return ["-blockdev", json.dumps(whole)]


def _start(name: str) -> bytes:
    return b"expunge-lab-marker:" + hashlib.sha256(name.encode()).hexdigest()[:24].encode()


def marker(name: str, offset: int) -> bytes:
    """512 bytes that no other disk and no other place has."""
    text = _start(name) + b":%016x:" % offset
    return text + hashlib.shake_256(text).digest(SECTOR - len(text))


@dataclass(frozen=True)
class Disk:
    """One device of the guest; `name` is its id in QEMU, which `Guest.unplug` takes."""

    name: str
    backing: Backing
    serial: str = ""
    block: int = 512
    model: str = ""
    wwn: int = 0

    def arguments(self, slot: int) -> list[str]:
        """QEMU's arguments; `slot` is a number that no other disk of the guest has."""
        raise NotImplementedError

    def _device(self, driver: str, **options: object) -> list[str]:
        shown = {
            "driver": driver,
            "id": self.name,
            "serial": self.serial or f"LAB-{self.name.upper()}",
            **options,
        }
        return ["-device", json.dumps(shown)]

    def _blocks(self) -> dict[str, object]:
        return {"logical_block_size": self.block, "physical_block_size": self.block}


@dataclass(frozen=True)
class Sata(Disk):
    """A disk on the AHCI controller of the machine (six ports; only 512-byte sectors)."""

    def arguments(self, slot: int) -> list[str]:
        more = {"model": self.model} if self.model else {}
        wwn = {"wwn": self.wwn} if self.wwn else {}
        node = f"b-{self.name}"
        return [
            *self.backing.blockdev(node),
            *self._device("ide-hd", drive=node, bus=f"ide.{slot}", **more, **wwn),
        ]


@dataclass(frozen=True)
class Scsi(Disk):
    """A SCSI disk behind virtio-scsi."""

    def arguments(self, slot: int) -> list[str]:
        node = f"b-{self.name}"
        more: dict[str, object] = {"wwn": self.wwn} if self.wwn else {}
        if self.model:
            more["product"] = self.model
        shown = self._device(
            "scsi-hd", drive=node, bus="scsi0.0", **{"scsi-id": slot}, **self._blocks(), **more
        )
        return [*self.backing.blockdev(node), *shown]


@dataclass(frozen=True)
class Usb(Disk):
    """A USB stick or bridge of the older kind (bulk-only transport)."""

    def arguments(self, slot: int) -> list[str]:
        node = f"b-{self.name}"
        shown = self._device("usb-storage", drive=node, bus="xhci.0", removable=False, **self._blocks())
        return [*self.backing.blockdev(node), *shown]


@dataclass(frozen=True)
class Uas(Disk):
    """A disk behind a USB bridge that speaks UAS."""

    def arguments(self, slot: int) -> list[str]:
        node = f"b-{self.name}"
        bridge = json.dumps({"driver": "usb-uas", "id": f"bridge-{self.name}", "bus": "xhci.0"})
        shown = self._device("scsi-hd", drive=node, bus=f"bridge-{self.name}.0", **self._blocks())
        return [*self.backing.blockdev(node), "-device", bridge, *shown]


@dataclass(frozen=True)
class Namespace:
    """One NVMe namespace."""

    nsid: int
    backing: Backing
    block: int = 512
    detached: bool = False


@dataclass(frozen=True)
class Nvme:
    """An NVMe controller with its namespaces, behind a root port of its own so that it can be unplugged."""

    name: str
    namespaces: tuple[Namespace, ...]
    serial: str = ""
    options: dict[str, object] = field(default_factory=dict)

    def arguments(self, slot: int) -> list[str]:
        port = {"driver": "pcie-root-port", "id": f"port-{self.name}", "chassis": slot + 1, "slot": slot + 1}
        subsystem = {"driver": "nvme-subsys", "id": f"sub-{self.name}", "nqn": f"lab-{self.name}"}
        shown = {
            "driver": "nvme",
            "id": self.name,
            "serial": self.serial or f"LAB-{self.name.upper()}",
            "bus": f"port-{self.name}",
            "subsys": f"sub-{self.name}",
            **self.options,
        }
        result = [part for each in (port, subsystem, shown) for part in ("-device", json.dumps(each))]
        for space in self.namespaces:
            node = f"b-{self.name}-{space.nsid}"
            result += space.backing.blockdev(node)
            one = {
                "driver": "nvme-ns",
                "drive": node,
                "bus": self.name,
                "nsid": space.nsid,
                "detached": space.detached,
                "logical_block_size": space.block,
                "physical_block_size": space.block,
            }
            result += ["-device", json.dumps(one)]
        return result


@dataclass(frozen=True)
class Emmc:
    """An eMMC on an SD host controller of its own. Its file holds boot partition 1, boot partition 2, RPMB, and the
    user area, in this order; ``boot`` and ``rpmb`` are bytes, each a multiple of 128 KiB. Up to 2 GiB the user area
    is a power of two."""

    name: str
    backing: Backing
    boot: int = MIB
    rpmb: int = 128 * 1024

    @property
    def user(self) -> int:
        """Where the user area begins in the file."""
        return 2 * self.boot + self.rpmb

    @property
    def nodes(self) -> int:
        """How many disks Linux makes of it: user area and boot partitions."""
        return 3 if self.boot else 1

    def arguments(self, slot: int) -> list[str]:
        """QEMU's arguments."""
        node, host = f"b-{self.name}", f"host-{self.name}"
        shown = {
            "driver": "emmc",
            "id": self.name,
            "drive": node,
            "bus": f"pcie.0/{host}/sd-bus",
            "boot-partition-size": self.boot,
            "rpmb-partition-size": self.rpmb,
        }
        controller = json.dumps({"driver": "sdhci-pci", "id": host})
        return [*self.backing.blockdev(node), "-device", controller, "-device", json.dumps(shown)]


@dataclass(frozen=True)
class Ufs:
    """A UFS device with its host controller; each of ``units`` is a logical unit of 4096-byte blocks."""

    name: str
    units: tuple[Backing, ...]

    @property
    def nodes(self) -> int:
        """How many disks Linux makes of it."""
        return len(self.units)

    def arguments(self, slot: int) -> list[str]:
        """QEMU's arguments."""
        result = ["-device", json.dumps({"driver": "ufs", "id": self.name})]
        for lun, backing in enumerate(self.units):
            node = f"b-{self.name}-{lun}"
            unit = {"driver": "ufs-lu", "bus": self.name, "drive": node, "lun": lun}
            result += [*backing.blockdev(node), "-device", json.dumps(unit)]
        return result
