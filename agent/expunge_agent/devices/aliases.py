"""What a person may call a device by: a tag such as ``UUID=…``, or a name that udev, LVM or mdadm links to it.

Only these links are followed, and only here, before there is an order: the guard refuses every symbolic link.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from expunge_agent.core.guard import listing, readable
from expunge_agent.core.volume import is_lvm, lvm_name
from expunge_agent.devices import udev
from expunge_agent.devices.nodes import Node, all_disks, by_number
from expunge_agent.devices.process import run_tool
from expunge_agent.devices.roots import LIVE, Roots, read_text
from expunge_agent.errors import ExpungeError, NotFoundError, RefusedError

TAGS = {
    "UUID": "ID_FS_UUID",
    "LABEL": "ID_FS_LABEL_ENC",
    "PARTUUID": "ID_PART_ENTRY_UUID",
    "PARTLABEL": "ID_PART_ENTRY_NAME",
}
"""Tags as in fstab(5), and the property in which udev keeps them (blkid(8))."""
_BY = re.compile(r"^disk/by-[a-z0-9-]+/[^/]+$")
_SECONDS = 10.0


def resolve(text: str, roots: Roots = LIVE) -> str:
    """The path of the device that `text` names; `text` itself where it is no such name.

    Raises NotFoundError when no device has the tag, RefusedError when several have.
    """
    tag, equals, value = text.partition("=")
    if equals and tag in TAGS:
        return _tagged(text, tag, value.strip("\"'"), roots)
    dev = f"{roots.dev}/"
    if not text.startswith(dev) or os.path.normpath(text) != text or not os.path.islink(text):  # noqa: PTH114
        return text
    node = _leads_to(text, roots)
    return str(node.path) if node is not None and _is_its_name(text.removeprefix(dev), node) else text


def _tagged(text: str, tag: str, value: str, roots: Roots) -> str:
    found = _by_udev(tag, value, roots) if value else []
    if not found and value and roots.live:
        found = _by_blkid(tag, value)
    if not found:
        raise NotFoundError(
            f"No device of this machine has {readable(text, 200)}.", "See: lsblk -o NAME,UUID,PARTUUID,LABEL"
        )
    if len(found) > 1:
        raise RefusedError(
            f"{listing(found)} all have {readable(text, 200)}, as a copy or a snapshot has.",
            "Name the one that is meant by its path.",
        )
    return found[0]


def _by_udev(tag: str, value: str, roots: Roots) -> list[str]:
    """Every device for which udev's database has the tag."""
    every = (node for disk in all_disks(roots) for node in (disk, *disk.partitions))
    return [
        str(node.path)
        for node in every
        if any(key == TAGS[tag] and _same(tag, udev.plain(told), value) for key, told in udev.kept(node))
    ]


def _by_blkid(tag: str, value: str) -> list[str]:
    """The same where udev does not run: blkid looks into the devices."""
    try:
        done = run_tool(["blkid", "-c", "/dev/null", "-o", "device", "-t", f"{tag}={value}"], _SECONDS)
    except ExpungeError:
        return []
    return [resolve(line) for line in done.stdout.decode("utf-8", "replace").splitlines() if line]


def _same(tag: str, told: str, value: str) -> bool:
    return told.lower() == value.lower() if tag.endswith("UUID") else told == value


def _leads_to(text: str, roots: Roots) -> Node | None:
    """The device at the end of the link, if it lies in /dev itself and no folder on the way is a link."""
    if os.path.realpath(Path(text).parent) != str(Path(text).parent):
        return None
    try:
        seen = os.stat(text)  # noqa: PTH116 - the link is followed on purpose
    except (OSError, ValueError):
        return None
    if not stat.S_ISBLK(seen.st_mode):
        return None
    return by_number(f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}", roots)


def _is_its_name(name: str, node: Node) -> bool:
    """Whether `name` (below /dev) is one that the device's own makers give it, by what the kernel calls it."""
    mapped = read_text(node.folder / "dm/name")
    folder, _, last = name.partition("/")
    if _BY.match(name):
        return True
    if folder == "mapper":
        return bool(mapped) and last == mapped
    if folder == "md":
        return (node.disk.folder / "md").is_dir() and "/" not in last
    parsed = lvm_name(mapped) if is_lvm(read_text(node.folder / "dm/uuid")) else None
    return parsed is not None and not parsed.layer and name == parsed.title
