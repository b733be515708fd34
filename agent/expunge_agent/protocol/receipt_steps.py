"""What a receipt says of a volume beyond its passes: what it lies on, and what was taken down to reach it."""

from __future__ import annotations

from typing import Literal

from expunge_agent.protocol.base import Frozen, Name, PathText, Text
from expunge_agent.protocol.identity import Identity

MAX_MEMBERS = 256
"""Members that a receipt lists."""
MAX_STEPS = 1000
"""Steps that a receipt lists; what stands on a target in more is refused."""

End = Literal["begun", "done", "gone", "failed", "interrupted"]


class Member(Frozen, frozen=True):
    """A device that a volume lies on. ``depth`` 1: directly; 2: below one of those, and so on.

    ``kind``: disk, partition, lvm, crypt, md raid1, loop …; ``type`` of medium as for a target.
    """

    path: PathText
    kind: Name
    type: Name
    identity: Identity
    depth: int


class DeactivationStep(Frozen, frozen=True):
    """One thing that stood on the target and was to be taken down before the first byte was written.

    ``what``: the kind of step (``unmount``, ``swapoff``, ``close-crypt``, ``deactivate-lv``, ``stop-md``,
    ``detach-loop``, ``remove-map``, ``flush-multipath``, ``stop-bcache``, ``stop-bcache-set``); ``on``: mount
    point, swap area, volume or device; ``device``: the kernel's name of the device. ``beside``: devices off the
    target that it stands on too. ``ended``: ``done`` (taken down, and seen to be gone), ``gone`` (it was no
    longer there when its turn came, or after an interruption), ``failed`` (still there; ``said`` tells why),
    ``interrupted`` (the run broke off in it, and it was still there afterwards), ``begun`` (no end is known).
    """

    what: Name
    on: Text
    device: Name
    ended: End
    said: Text = ""
    beside: list[Text] = []
