"""A drive as its own answers describe it: what selection, plan and receipt work with."""

from __future__ import annotations

from typing import Literal

from expunge_agent.core.technique import Technique
from expunge_agent.protocol.base import Frozen, Name, Text
from expunge_agent.protocol.canonical import U64

Yes = bool | None
"""None: the drive does not say."""
SAID_OF_THE_WHOLE = "the target is a partition: what is said here is said of the whole drive"
"""The one of ``doubtful`` that is no doubt about the drive: it answers for a partition."""


class Answer(Frozen, frozen=True):
    """Bytes as the drive returned them: the name of the command or page, and its data in hexadecimal."""

    name: Name
    hex: str


class HiddenArea(Frozen, frozen=True):
    """Space the drive keeps from the host: host protected area, device configuration overlay, or
    accessible max address (ACS-4 §4.7, §4.3; ACS-2 §4.6, §4.9). ``size`` in bytes."""

    kind: Literal["hpa", "dco", "ama"]
    size: U64
    restorable: bool


class AtaSecurity(Frozen, frozen=True):
    """The security feature set (ACS-3 §4.18; IDENTIFY DEVICE words 82, 89, 90, 128). Minutes, 0: not reported."""

    supported: bool
    enabled: bool
    locked: bool
    frozen: bool
    expired: bool
    enhanced: bool
    minutes: int = 0
    enhanced_minutes: int = 0


class NvmeNamespace(Frozen, frozen=True):
    """One namespace of the subsystem, attached (to this controller or another one) or only allocated. ``size`` in bytes,
    0 when not attached."""

    nsid: int
    attached: bool
    size: U64 = U64(0)
    sector: int = 0
    node: str = ""
    """Name of its block device in /sys/block, empty when it has none."""


class Ability(Frozen, frozen=True):
    """A technique the drive claims or lacks: ``offered`` by its own capability bits, ``why`` in words if not.

    ``seconds``: the time it declares for it; −1 where it declares none. Of a SCSI drive it is the nominal timeout,
    after which it is worth asking how far it is (SPC-5 §6.35.4).
    """

    technique: Technique
    offered: bool
    why: Text = ""
    seconds: int = -1


class Health(Frozen, frozen=True):
    """SMART (ATA, SCSI) or the NVMe health log; −1 or None where the drive does not tell."""

    passed: Yes = None
    celsius: int | None = None
    power_on_hours: int = -1
    used_percent: int = -1
    media_errors: int = -1
    reallocated: int = -1


class Opal(Frozen, frozen=True):
    """TCG level 0 discovery (TCG Storage Architecture Core 2.01 §3.3.6): the security subsystem class and its state."""

    ssc: Name
    locking_enabled: bool
    locked: bool
    mbr_enabled: bool
    media_encryption: bool
    block_sid: bool = False


class Drive(Frozen, frozen=True):
    """Everything a drive answered. ``doubtful``: answers that contradict each other or are garbled, in words."""

    protocol: Literal["nvme", "ata", "scsi", "mmc", "none"]
    transport: Text = ""
    """What its commands travel over, as the kernel shows it: ``pcie``, ``sas``, ``iscsi``, ``usb`` …"""
    bridge: Text = ""
    """Make and model of what stands between (a USB bridge), empty when nothing is known to."""
    vendor: Text = ""
    model: Text = ""
    serial: Text = ""
    firmware: Text = ""
    names: list[Name] = []
    """World wide names: ``naa.…``, ``eui.…``, ``nguid.…``, ``uuid.…``."""
    rotation: int = -1
    """Turns a minute; 1: does not rotate; 0: does not say; −1: was not asked."""
    logical_sector: int = -1
    physical_sector: int = -1
    apparent: U64 = U64(0)
    """Bytes the host can address now."""
    native: U64 = U64(0)
    """Bytes it could address without hidden areas; 0 when the drive does not tell."""
    total: U64 = U64(0)
    """Bytes of the whole NVM subsystem (TNVMCAP); 0 when the drive does not tell."""
    unallocated: U64 = U64(0)
    """Of these, the bytes in no namespace (UNVMCAP): what was deleted may still lie there."""
    hidden: list[HiddenArea] = []
    abilities: list[Ability] = []
    security: AtaSecurity | None = None
    sanitize_frozen: bool = False
    sanitize_state: Literal["", "idle", "running", "failed", "done"] = ""
    """What the drive says of its last sanitize operation, whoever started it."""
    media_verification: bool = False
    """It can show what its cells hold after a block or crypto erase (NVMe VERS, Base 2.1)."""
    nsid: int = 0
    """Which of `namespaces` was asked about; 0: not told, or not NVMe."""
    namespaces: list[NvmeNamespace] = []
    """Every namespace of the subsystem that the controller tells of or the kernel shows, this one too."""
    unlisted: Text = ""
    """Why the subsystem may have namespaces that are not among these, in words; empty when it can have none."""
    health: Health = Health()
    opal: Opal | None = None
    astray: Text = ""
    """Where what is written to it goes instead, in words; empty when it goes where it should."""
    unreached: list[Text] = []
    """What none of its erase commands reaches, in words."""
    doubtful: list[Text] = []
    doubtful_names: list[Text] = []
    """Of ``doubtful``, where a bridge calls itself otherwise than the drive behind it. Its commands reach that drive."""
    doubtful_areas: list[Text] = []
    """Of ``doubtful``, why it is not known what the drive hides. Its commands reach it, and nobody looks there."""
    answers: list[Answer] = []

    @property
    def distrusted(self) -> list[Text]:
        """Of ``doubtful``, what speaks against giving the drive any command."""
        return [one for one in self.doubtful if one not in (*self.doubtful_names, *self.doubtful_areas)]

    def ability(self, technique: Technique) -> Ability:
        """What the drive says of `technique`; not offered when it says nothing."""
        for one in self.abilities:
            if one.technique is technique:
                return one
        return Ability(technique=technique, offered=False, why="the drive does not speak of it")
