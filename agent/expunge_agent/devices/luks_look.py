"""A LUKS volume as the machine shows it: its header, who holds its key, where copies are. Nothing is changed."""

from __future__ import annotations

import errno
import os

from expunge_agent.bounded import NoAnswer, within
from expunge_agent.core import luks
from expunge_agent.core.guard import readable
from expunge_agent.core.luks_case import IN_KEYRING, LuksCase, luks_case
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.devices.crypt_maps import in_keyring
from expunge_agent.devices.crypttab import Sought, from_crypttab
from expunge_agent.devices.encrypted import PATIENCE, encryption_at
from expunge_agent.devices.key_traces import header_copies, lookable
from expunge_agent.devices.process import Result, run_tool
from expunge_agent.protocol.identity import BlockIdentity
from expunge_agent.protocol.order_keys import KeyWish
from expunge_agent.protocol.receipt_keys import KeyCopy

_TOOL_SECONDS = 120


def case_of(medium: Medium, wish: KeyWish | None) -> LuksCase | str:
    """What destroying the key of `medium` would count for, as the order's `wish` has it; or why it is no LUKS volume."""
    wish = wish or KeyWish()
    bearer = wish.header.path if wish.header is not None else medium.path
    try:
        head, size = read_head(bearer)
        header = luks.parse(head, size)
    except OSError as error:
        return f"{readable(bearer)} could not be read for a LUKS header ({error.strerror})"
    except luks.NotLuksError as error:
        seen = "; ".join(encryption_at(bearer))
        what = f"{str(error).rstrip('.')}. It holds {seen}" if seen else str(error).rstrip(".")
        return f"{readable(bearer)} is no LUKS volume: {what}"
    found = [
        *_elsewhere(header, medium, wish),
        *(KeyCopy(where=one, what=IN_KEYRING, fate="remains") for one in in_keyring(header.uuid)),
    ]
    kind = MediumType.FILE if wish.header is not None else medium.type
    searched = lookable(wish.search)
    return luks_case(header, kind, found, searched, wish.statements, wish.header, size=medium.size)


def read_head(path: str) -> tuple[bytes, int]:
    """The first bytes of the file or device, as many as headers may take, and its size. Raises OSError, which a
    device that does not answer for `PATIENCE` seconds is, too."""
    try:
        return within(PATIENCE, lambda: _read_head(path))
    except NoAnswer as error:
        raise TimeoutError(errno.ETIMEDOUT, str(error)) from error


def _read_head(path: str) -> tuple[bytes, int]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(fd, luks.HEAD, 0), os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def erase_slots(fd: int) -> str:
    """Have cryptsetup destroy all keyslots of the header in the open file or device; what came of it, in a sentence.

    It works on what is open, whatever lies under the name by now. It may not lock: this program holds the target. That
    it says success is no evidence. Raises NotFoundError where there is no cryptsetup.
    """
    done = _cryptsetup("erase", fd, "--batch-mode")
    if done.timed_out:
        return f"cryptsetup erase did not end within {_TOOL_SECONDS} seconds."
    said = readable(done.stderr.decode("utf-8", "replace").replace(_place(fd), "it").strip(), 500)
    return f"cryptsetup erase ended with {done.returncode}{': ' + said if said else ''}."


def is_luks(fd: int) -> bool | None:
    """Whether cryptsetup still takes what is open for LUKS; None where it does not tell. Raises NotFoundError where there
    is none."""
    done = _cryptsetup("isLuks", fd)
    return None if done.timed_out else {0: True, 1: False}.get(done.returncode)


def _cryptsetup(action: str, fd: int, *more: str) -> Result:
    return run_tool(["cryptsetup", action, "--disable-locks", *more, _place(fd)], _TOOL_SECONDS, fds=[fd])


def _place(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _elsewhere(header: luks.LuksHeader, medium: Medium, wish: KeyWish) -> list[KeyCopy]:
    own = [path for path in (medium.path, wish.header.path if wish.header else "") if path]
    known = []
    for path in own:
        seen = os.stat(path)  # noqa: PTH116
        known.append((seen.st_dev, seen.st_ino))
    found = header_copies(header.uuid, wish.search, known, header.digests)
    if wish.header is not None and isinstance(medium.identity, BlockIdentity):
        found += _on_the_device(header, medium.path)
    return found + from_crypttab(["/", *wish.roots], Sought(header.uuid, header.label, own))


def _on_the_device(header: luks.LuksHeader, path: str) -> list[KeyCopy]:
    """A header of the same volume at the start of the device, besides the detached one."""
    head, _ = read_head(path)
    if header.uuid not in {luks.uuid_of(head[at : at + 512]) for at in (0, *luks.SECOND_OFFSETS)}:
        return []
    return [
        KeyCopy(
            where=path,
            what="a LUKS header with the same UUID",
            fate="remains",
            detail="At the start of the device.",
        )
    ]
