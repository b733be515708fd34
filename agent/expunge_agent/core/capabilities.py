"""A drive's answers in the few words that a table has room for."""

from __future__ import annotations

from expunge_agent.core.drive import Drive
from expunge_agent.core.technique import Technique

_GROUPS = (
    ("sanitize", {
        "crypto": (Technique.NVME_SANITIZE_CRYPTO, Technique.ATA_SANITIZE_CRYPTO, Technique.SCSI_SANITIZE_CRYPTO),
        "block": (
            Technique.NVME_SANITIZE_BLOCK, Technique.ATA_SANITIZE_BLOCK, Technique.SCSI_SANITIZE_BLOCK,
            Technique.MMC_SANITIZE,
        ),
        "overwrite": (
            Technique.NVME_SANITIZE_OVERWRITE, Technique.ATA_SANITIZE_OVERWRITE,
            Technique.SCSI_SANITIZE_OVERWRITE,
        ),
    }),
    ("format", {
        "crypto": (Technique.NVME_FORMAT_CRYPTO,),
        "user data": (Technique.NVME_FORMAT_USER_DATA,),
        "unit": (Technique.SCSI_FORMAT_UNIT,),
    }),
    ("security erase", {
        "enhanced": (Technique.ATA_SECURITY_ERASE_ENHANCED,),
        "normal": (Technique.ATA_SECURITY_ERASE,),
    }),
    ("revert", {"opal": (Technique.OPAL_REVERT,)}),
    ("purge", {"ufs": (Technique.UFS_PURGE,)}),
    ("secure erase", {"mmc": (Technique.MMC_SECURE_ERASE,)}),
)  # fmt: skip


def can(drive: Drive) -> str:
    """What it offers of its own, such as ``sanitize crypto+block, format crypto, media verification``; empty for nothing.

    Discard and zero-out are left out: nearly every drive has them, and they earn nothing.
    """
    offered = {one.technique for one in drive.abilities if one.offered}
    found = []
    for group, kinds in _GROUPS:
        names = [name for name, techniques in kinds.items() if offered & set(techniques)]
        if names:
            found.append(f"{group} {'+'.join(names)}")
    if drive.media_verification:
        found.append("media verification")
    return ", ".join(found)


def hidden(drive: Drive) -> str:
    """The areas it keeps from the host, with their bytes, such as ``hpa 1048576``; empty for none."""
    return ", ".join(f"{area.kind} {int(area.size)}" for area in drive.hidden)


def condition(drive: Drive) -> str:
    """Locks, a sanitize under way, health and temperature; empty where it tells nothing of them."""
    found = []
    security = drive.security
    if security is not None:
        found += [word for word in ("locked", "frozen", "expired") if getattr(security, word)]
    if drive.opal is not None and drive.opal.locked:
        found.append("opal locked")
    if drive.sanitize_frozen:
        found.append("sanitize frozen")
    if drive.sanitize_state in ("running", "failed"):
        found.append(f"sanitize {drive.sanitize_state}")
    health = drive.health
    if health.passed is not None:
        found.append("healthy" if health.passed else "FAILING")
    if health.used_percent >= 0:
        found.append(f"{health.used_percent} % worn")
    if health.celsius is not None:
        found.append(f"{health.celsius} °C")
    if drive.astray:
        found.append("writes go elsewhere")
    if drive.doubtful:
        found.append(f"{len(drive.doubtful)} doubtful")
    return ", ".join(found)


def details(drive: Drive) -> list[str]:
    """All that it answers, a line each, for people."""
    found = [f"{name}: {text}" for name in ("bridge", "firmware") if (text := getattr(drive, name))]
    found += [f"names: {', '.join(drive.names)}"] if drive.names else []
    for one in drive.abilities:
        time = f", about {one.seconds} s" if one.seconds >= 0 else ""
        found.append(f"{one.technique.value}: {f'offered{time}' if one.offered else f'no ({one.why})'}")
    if drive.media_verification:
        found.append("media verification: its cells can be read after a block or crypto erase")
    for space in drive.namespaces:
        found.append(
            f"namespace {space.nsid}: {space.node or ('attached' if space.attached else 'not attached')}"
        )
    if drive.opal is not None:
        found.append(f"TCG {drive.opal.ssc}: {'locking on' if drive.opal.locking_enabled else 'locking off'}")
    found += [f"what is written to it goes elsewhere: {drive.astray}"] if drive.astray else []
    return found + [f"doubtful: {doubt}" for doubt in drive.doubtful]
