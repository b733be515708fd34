"""The closed table: which hand carries out which drive command."""

from __future__ import annotations

from collections.abc import Callable

from expunge_agent.core.drive import Answer
from expunge_agent.core.plan import TargetPlan
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Hand, Rejected
from expunge_agent.techniques.patient import GatedMmc, GatedNvme, GatedReader, GatedScsi, GatedUfs

Gate = Callable[[], None]


def hand_for(plan: TargetPlan, fd: int, gate: Gate) -> Hand:
    """The hand that carries out `plan` on the drive open at `fd` (a block device); `gate` is asked before each
    command, and what it raises keeps the command from being sent.

    It asks the drive a little. Raises CommandError where that does not answer, Rejected where the drive
    cannot take the command at all.
    """
    family = plan.technique.partition("-")[0]
    return _FAMILIES[family](plan, fd, gate)


def _nvme(plan: TargetPlan, fd: int, gate: Gate) -> Hand:
    from expunge_agent.commands.kernel_nvme import KernelNvme, nsid_of
    from expunge_agent.techniques.nvme_format import NvmeFormat
    from expunge_agent.techniques.nvme_sanitize import Eye, NvmeSanitize

    if plan.technique in (Technique.NVME_FORMAT_CRYPTO, Technique.NVME_FORMAT_USER_DATA):
        return NvmeFormat(GatedNvme(KernelNvme(fd), gate), plan.technique, nsid_of(fd))
    eye = Eye(GatedReader(KernelNvme(fd), gate), nsid_of(fd))
    return NvmeSanitize(GatedNvme(KernelNvme(fd), gate), plan.technique, eye=eye)


def _ata(plan: TargetPlan, fd: int, gate: Gate) -> Hand:
    from expunge_agent.commands.kernel_sg import SgPort
    from expunge_agent.techniques.ata_sanitize import AtaSanitize
    from expunge_agent.techniques.ata_security import AtaSecurityErase

    if plan.technique in (Technique.ATA_SECURITY_ERASE, Technique.ATA_SECURITY_ERASE_ENHANCED):
        return AtaSecurityErase(GatedScsi(SgPort(fd), gate), plan.technique, plan.secret.encode())
    return AtaSanitize(GatedScsi(SgPort(fd), gate), plan.technique)


def _scsi(plan: TargetPlan, fd: int, gate: Gate) -> Hand:
    from expunge_agent.commands.kernel_sg import SgPort
    from expunge_agent.techniques.scsi_format import ScsiFormat
    from expunge_agent.techniques.scsi_sanitize import ScsiSanitize

    size = int(plan.drive.apparent) if plan.drive is not None else 0
    if plan.technique is Technique.SCSI_FORMAT_UNIT:
        return ScsiFormat(GatedScsi(SgPort(fd), gate), size=size)
    return ScsiSanitize(GatedScsi(SgPort(fd), gate), plan.technique, size=size)


def _mmc(plan: TargetPlan, fd: int, gate: Gate) -> Hand:
    from expunge_agent.commands.kernel_mmc import MmcIoctlPort
    from expunge_agent.techniques.mmc_sanitize import MmcErase

    return MmcErase(GatedMmc(MmcIoctlPort(fd), gate), plan.technique, _MMC_ADDRESS)


def _ufs(plan: TargetPlan, fd: int, gate: Gate) -> Hand:
    from expunge_agent.commands.kernel_ufs import UfsBsg
    from expunge_agent.devices.ufs import query_node_of
    from expunge_agent.techniques.discard import RangeHand
    from expunge_agent.techniques.ufs_purge import UfsPurge

    node, drive = query_node_of(fd), plan.drive
    if node is None or drive is None:
        raise Rejected("the kernel shows no ufs-bsg node to ask the device through")
    size, sector = int(drive.apparent), max(drive.logical_sector, 1)

    def unmap() -> list[Answer]:
        return RangeHand(Technique.DISCARD, fd, size, sector, stop=lambda: bool(gate())).start()  # type: ignore[func-returns-value]

    return UfsPurge(GatedUfs(UfsBsg(str(node)), gate), unmap)


def _opal(plan: TargetPlan, fd: int, gate: Gate) -> Hand:
    from expunge_agent.commands import opal
    from expunge_agent.techniques.opal_revert import KernelOpal, OpalRevert, first_of

    if plan.drive is not None and plan.drive.protocol == "nvme":
        from expunge_agent.commands.kernel_nvme import KernelNvme

        admin = GatedNvme(KernelNvme(fd), gate)
        return OpalRevert(KernelOpal(fd, gate), lambda: opal.discover_nvme(admin), plan.secret)
    from expunge_agent.commands.kernel_sg import SgPort

    port = GatedScsi(SgPort(fd), gate)
    discover = first_of(lambda: opal.discover_scsi(port), lambda: opal.discover_ata(port))
    return OpalRevert(KernelOpal(fd, gate), discover, plan.secret)


_MMC_ADDRESS = 1
"""The relative card address that Linux gives every eMMC (drivers/mmc/core/mmc.c, mmc_init_card)."""
_FAMILIES: dict[str, Callable[[TargetPlan, int, Gate], Hand]] = {
    "nvme": _nvme,
    "ata": _ata,
    "scsi": _scsi,
    "mmc": _mmc,
    "ufs": _ufs,
    "opal": _opal,
}
