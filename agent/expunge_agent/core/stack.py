"""What stands on a medium, as a tree: partitions, device mapper, md, loop devices, with their mounts."""

from __future__ import annotations

from expunge_agent.protocol.base import Frozen, Name, PathText, Text
from expunge_agent.protocol.canonical import U64


class Layer(Frozen, frozen=True):
    """One block device of the stack. ``kind``: disk, partition, lvm, crypt, multipath, md raid1, loop …

    ``label`` is the name it was given (of a mapped device), ``opened_by`` are ``<pid> <name>`` of
    processes; ``size`` in bytes. ``layers`` stand on this one.
    """

    name: Name
    kind: Name
    path: PathText
    size: U64
    label: Text = ""
    mounts: list[PathText] = []
    swap: bool = False
    pool: Text = ""
    """The ZFS pool it belongs to."""
    opened_by: list[Text] = []
    layers: list[Layer] = []

    def lines(self, depth: int = 0) -> list[str]:
        """The tree for people, one line a layer."""
        use = [f"on {mount}" for mount in self.mounts]
        use += ["swap"] if self.swap else []
        use += [f"in the ZFS pool {self.pool}"] if self.pool else []
        use += [f"open in {who}" for who in self.opened_by]
        name = f"{self.name} ({self.label})" if self.label else self.name
        line = "  " * depth + f"{name}  {self.kind}  {self.size} bytes"
        found = [f"{line}  {', '.join(use)}".rstrip()]
        for layer in self.layers:
            found += layer.lines(depth + 1)
        return found
