"""Sector sizes that Linux cannot address: drives of storage systems with 520 or 528 bytes a sector."""

from __future__ import annotations

import os
from dataclasses import replace

from expunge_agent.commands.port import CommandError, ScsiPort
from expunge_agent.core.medium import Medium
from expunge_agent.devices.nodes import Node
from expunge_agent.devices.roots import read_int

_READ_CAPACITY_10 = bytes([0x25]) + bytes(9)
_SECONDS = 3.0


def odd_sector(port: ScsiPort) -> int:
    """Bytes of a sector as READ CAPACITY (10) says (SBC-4 §5.20.2), if Linux cannot address it; else 0.

    Raises CommandError.
    """
    reply = port.scsi(_READ_CAPACITY_10, data_in=8, timeout=_SECONDS)
    if reply.status:  # the first command after power on ends with UNIT ATTENTION (SAM-5 §5.14)
        reply = port.scsi(_READ_CAPACITY_10, data_in=8, timeout=_SECONDS)
    length = int.from_bytes(reply.data[4:8], "big") if len(reply.data) >= 8 and not reply.status else 0
    return length if length and not addressable(length) else 0


def addressable(length: int) -> bool:
    """Whether sd.c accepts this sector size: a power of two from 512 to 4096 bytes."""
    return 512 <= length <= 4096 and length & (length - 1) == 0


def with_true_sector(medium: Medium, node: Node) -> Medium:
    """`medium`, with the sector size that the drive itself gives where sysfs shows an empty disk."""
    if (
        node.size > 0
        or node.driver != "sd"
        or read_int(node.disk.folder / "removable", 1)
        or not node.roots.live
    ):
        return medium
    from expunge_agent.devices.drives import node_open, scsi_port

    try:
        fd = node_open(node.disk)
    except OSError:
        return medium
    try:
        length = odd_sector(scsi_port(fd))
    except CommandError:
        return medium
    finally:
        os.close(fd)
    if not length:
        return medium
    note = f"sectors of {length} bytes, which Linux cannot address"
    return replace(medium, logical_sector=length, notes=(*medium.notes, note))
