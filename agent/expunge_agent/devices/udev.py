"""What udev's database knows, where udev runs; the kernel's account goes first (see `describe`)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from expunge_agent.devices.nodes import Node
from expunge_agent.devices.roots import clean


@dataclass(frozen=True)
class Told:
    """Names as udev's rules found them; empty where they did not."""

    model: str = ""
    serial: str = ""
    wwn: str = ""


def properties(node: Node) -> Told:
    """udev's names for `node`; nothing on a machine without udev's database or libudev."""
    if not node.roots.live or not (node.roots.run / "udev/data").is_dir() or not node.number:
        return Told()
    import pyudev

    try:
        major, _, minor = node.number.partition(":")
        device = pyudev.Devices.from_device_number(
            pyudev.Context(), "block", os.makedev(int(major), int(minor))
        )
        told = {key: str(device.properties.get(key, "")) for key in _KEYS}
    except (ImportError, OSError, pyudev.DeviceNotFoundError):
        return Told()
    wwn = told["ID_WWN_WITH_EXTENSION"] or told["ID_WWN"]
    return Told(
        model=clean(_unescape(told["ID_MODEL_ENC"]) or told["ID_MODEL"].encode()),
        serial=clean(told["ID_SERIAL_SHORT"].encode()),
        wwn=clean(wwn.replace("0x", "naa.", 1).encode() if wwn.startswith("0x") else wwn.encode()),
    )


_KEYS = ("ID_MODEL_ENC", "ID_MODEL", "ID_SERIAL_SHORT", "ID_WWN_WITH_EXTENSION", "ID_WWN")


def _unescape(text: str) -> bytes:
    r"""udev's ``\x20`` for what it does not put into a property."""
    return text.encode("ascii", "replace").decode("unicode_escape").encode("latin-1", "replace")
