"""What udev's database knows, where udev runs; the kernel's account goes first (see `describe`)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from expunge_agent.devices.nodes import Node
from expunge_agent.devices.roots import clean, read_bytes


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


def array_name(node: Node) -> str:
    """The name in an md array's superblock (``MD_NAME``): only udev's rules, which ask mdadm, know it."""
    return next((plain(value) for key, value in kept(node) if key == "MD_NAME"), "")[:100]


def kept(node: Node) -> list[tuple[str, str]]:
    """The properties that udev's database (/run/udev/data) keeps of `node`, as they are written there."""
    lines = read_bytes(node.roots.run / "udev/data" / f"b{node.number}").split(b"\n")
    told = (line[2:].decode("utf-8", "replace").partition("=") for line in lines if line.startswith(b"E:"))
    return [(key, value) for key, _, value in told]


def plain(text: str) -> str:
    r"""`text` with udev's ``\x20`` and the like turned back into what they stand for."""
    raw = re.sub(rb"\\x([0-9a-fA-F]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    return clean(raw)
