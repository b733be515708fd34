"""A drive's answers in the few words that a table has room for."""

from __future__ import annotations

from expunge_agent.core.drive import Drive, NvmeNamespace
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
    """All that it answers, a line each, for people: everything of `Drive` but the raw bytes."""
    found = [f"protocol: {drive.protocol}"] if drive.protocol != "none" else []
    named = ("transport", "bridge", "vendor", "model", "serial", "firmware")
    found += [f"{name}: {text}" for name in named if (text := getattr(drive, name))]
    found += [f"names: {', '.join(drive.names)}"] if drive.names else []
    found += [*_capacity(drive), *_state(drive)]
    for one in drive.abilities:
        nominal = " (nominal timeout)" if one.technique.startswith("scsi-") else ""
        time = f", declares {one.seconds} s{nominal}" if one.seconds >= 0 else ""
        found.append(f"{one.technique.value}: {f'offered{time}' if one.offered else f'no ({one.why})'}")
    if drive.media_verification:
        found.append("media verification: its cells can be read after a block or crypto erase")
    found += [_namespace(space) for space in drive.namespaces]
    if drive.unlisted:
        found.append(f"further namespaces: {drive.unlisted}")
    found += [f"out of its commands' reach: {one}" for one in drive.unreached]
    found += [f"what is written to it goes elsewhere: {drive.astray}"] if drive.astray else []
    return found + [f"doubtful: {doubt}" for doubt in drive.doubtful]


def _capacity(drive: Drive) -> list[str]:
    """Sizes in bytes, and what it keeps from the host."""
    found = []
    if drive.logical_sector > 0 or drive.physical_sector > 0:
        sizes = (("logical", drive.logical_sector), ("physical", drive.physical_sector))
        told = ", ".join(f"{size} bytes {name}" for name, size in sizes if size > 0)
        found.append(f"sectors: {told}")
    if drive.rotation >= 0:
        words = {0: "not told", 1: "does not rotate"}
        found.append(f"rotation: {words.get(drive.rotation, f'{drive.rotation} turns a minute')}")
    if drive.apparent or drive.native:
        native = f"{int(drive.native)} bytes" if drive.native else "not told"
        found.append(f"capacity: {int(drive.apparent)} bytes, native {native}")
    for area in drive.hidden:
        back = "can be given back" if area.restorable else "cannot be given back"
        found.append(f"hidden: {area.kind.upper()} of {int(area.size)} bytes, {back}")
    if drive.total or drive.unallocated:
        found.append(
            f"unallocated: {int(drive.unallocated)} of {int(drive.total)} bytes are in no namespace, as of deleted ones"
        )
    return found


def _state(drive: Drive) -> list[str]:
    """Locks, sanitize and health."""
    found = []
    security, opal, health = drive.security, drive.opal, drive.health
    if security is not None:
        flags = ("supported", "enabled", "locked", "frozen", "expired", "enhanced")
        words = [f"{name} {'yes' if getattr(security, name) else 'no'}" for name in flags]
        times = (("erase", security.minutes), ("enhanced erase", security.enhanced_minutes))
        words += [f"{name} {minutes} min" for name, minutes in times if minutes > 0]
        found.append(f"ATA security: {', '.join(words)}")
    if opal is not None:
        states = ("locking_enabled", "locked", "mbr_enabled", "media_encryption", "block_sid")
        words = [f"{name.replace('_', ' ')} {'yes' if getattr(opal, name) else 'no'}" for name in states]
        found.append(f"TCG {opal.ssc}: {', '.join(words)}")
    if drive.sanitize_state or drive.sanitize_frozen:
        words = [word for word in (drive.sanitize_state, "frozen" if drive.sanitize_frozen else "") if word]
        found.append(f"sanitize: {', '.join(words)}")
    told = [] if health.passed is None else ["good" if health.passed else "FAILING"]
    told += [] if health.celsius is None else [f"{health.celsius} °C"]
    counts = (
        ("hours on", health.power_on_hours),
        ("% worn", health.used_percent),
        ("media errors", health.media_errors),
        ("reallocated sectors", health.reallocated),
    )
    told += [f"{count} {name}" for name, count in counts if count >= 0]
    return found + ([f"health: {', '.join(told)}"] if told else [])


def _namespace(space: NvmeNamespace) -> str:
    where = space.node or ("attached" if space.attached else "not attached")
    if space.node and not space.attached:
        where = f"{where}, of another controller"
    size = f", {int(space.size)} bytes" if space.size else ""
    sectors = f" in sectors of {space.sector}" if space.sector else ""
    return f"namespace {space.nsid}: {where}{size}{sectors}"
