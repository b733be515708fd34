"""From what a person types to identities: a registered medium, or what the machine says of a path or serial."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from expunge_agent.errors import NotFoundError, RefusedError, UsageError
from expunge_agent.protocol import wire
from expunge_agent.protocol.identity import SpaceIdentity, SpaceWish, Target, TreeIdentity
from expunge_controller.cli.reach import ask_inventory
from expunge_controller.context import Controller
from expunge_controller.ledger import find_medium, identity_of
from expunge_controller.records.paper import PaperIdentity
from expunge_controller.store.rows import MachineRow

FREE_SPACE = "free-space:"


def resolve(
    controller: Controller,
    machine: MachineRow,
    texts: tuple[str, ...],
    psids: Mapping[str, str] | None = None,
    space: SpaceWish | None = None,
    globs: tuple[str, ...] = (),
) -> tuple[list[Target], list[str]]:
    """The targets that `texts` name on `machine`, with their `psids`, and what the agent says against wiping them.

    A text is a path, a serial number or WWN that the machine reports, or the digest, property
    number or label of a registered medium; ``free-space:MOUNTPOINT`` the free space of a file system, to be
    filled as `space` says. `globs` narrow directories. Raises UsageError for an empty text, NotFoundError,
    RefusedError, TransportError.
    """
    if not all(text.strip() for text in texts):
        raise UsageError(
            "A target is empty.", "Give a path or serial number; see `expunge inventory MACHINE`."
        )
    targets: dict[str, Target] = {}
    for text in texts:
        registered = _registered(controller, machine, text)
        if registered is not None:
            targets[text] = registered
    warnings: list[str] = []
    if len(targets) < len(set(texts)):
        unknown = [text for text in texts if text not in targets]
        answer = ask_inventory(controller, machine, [text for text in unknown if _is_asked(text)])
        for text in unknown:
            item = _item(answer, text)
            targets[text] = _narrowed(target_of(item, space), globs)
            warnings += [f"{item.path}: {why}" for why in item.blocked]
    if globs and not any(isinstance(target.identity, TreeIdentity) for target in targets.values()):
        raise UsageError("--glob narrows a directory, and none was named.", "Name the directory.")
    return [replace(targets[text], psid=(psids or {}).get(text, "")) for text in texts], warnings


def _narrowed(target: Target, globs: tuple[str, ...]) -> Target:
    """Of a directory only the files that match."""
    if not globs or not isinstance(target.identity, TreeIdentity):
        return target
    return replace(target, identity=replace(target.identity, include=list(globs)))


def target_of(item: wire.InventoryItem, space: SpaceWish | None = None) -> Target:
    """An inventory item as a target; `space` is for free space."""
    if isinstance(item.identity, SpaceIdentity):
        return Target(identity=item.identity, hint=item.identity.path, space=space or SpaceWish())
    return Target(identity=item.identity, hint=item.path)


_TAGS = ("UUID=", "PARTUUID=", "LABEL=", "PARTLABEL=")


def _is_asked(text: str) -> bool:
    """Whether the machine has to look itself for what `text` names."""
    return text.startswith(("/", FREE_SPACE, *_TAGS))


def _registered(controller: Controller, machine: MachineRow, text: str) -> Target | None:
    if _is_asked(text):
        return None  # what lies at a path now is for the machine to say
    with controller.store.read() as unit:
        try:
            medium = find_medium(unit, text)
        except NotFoundError:
            return None
    identity = identity_of(medium)
    if medium.machine_id != machine.machine_id or isinstance(identity, PaperIdentity):
        return None
    return Target(identity=identity, hint=medium.hint)


def _item(answer: wire.Inventory, text: str) -> wire.InventoryItem:
    found = list({item.path: item for item in answer.items if text in _names(item)}.values())
    if len(found) == 1:
        return found[0]
    if found:
        raise RefusedError(f"{len(found)} media answer to {text!r}.", "Name it by its path.")
    if _is_asked(text) and answer.problems:  # only the paths asked for have problems
        said = [problem for problem in answer.problems if text in problem] or answer.problems
        raise RefusedError(
            f"The agent says: {' '.join(said)}", "Name a block device, a directory or a regular file."
        )
    raise NotFoundError(f"The machine has no medium {text!r}.", "See `expunge inventory MACHINE`.")


def _names(item: wire.InventoryItem) -> tuple[str, ...]:
    if isinstance(item.identity, SpaceIdentity):
        return (item.path,)  # its mount point alone would be the folder
    names = (
        item.path,
        *item.asked,
        *(getattr(item.identity, field, "") for field in ("path", "serial", "wwn")),
    )
    return tuple(name for name in names if name.strip())  # a drive may have no serial number
