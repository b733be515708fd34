"""From what a person types to identities: a registered medium, or what the machine says of a path or serial."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from expunge_agent.errors import NotFoundError, RefusedError, UsageError
from expunge_agent.protocol import wire
from expunge_agent.protocol.identity import KeyIdentity, SpaceIdentity, SpaceWish, Target
from expunge_controller.cli import file_targets
from expunge_controller.cli.file_targets import Files
from expunge_controller.cli.key_targets import FSCRYPT, VAULT, check_subject
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
    files: Files | None = None,
) -> tuple[list[Target], list[str]]:
    """The targets that `texts` name on `machine`, with their `psids`, and what the agent says against wiping them.

    A text is a path, a serial number or WWN that the machine reports, or the digest, property
    number or label of a registered medium; ``free-space:MOUNTPOINT`` the free space of a file system, to be
    filled as `space` says; ``fscrypt:FOLDER`` a folder's key, ``vault:FOLDER#SUBJECT`` that of a subject. `files` narrows
    directories. Raises UsageError for an empty text, NotFoundError, RefusedError, TransportError.
    """
    if not all(text.strip() for text in texts):
        raise UsageError(
            "A target is empty.", "Give a path or serial number; see `expunge inventory MACHINE`."
        )
    files = files or Files()
    targets: dict[str, Target] = {}
    for text in texts:
        registered = _registered(controller, machine, text)
        if registered is not None:
            targets[text] = registered
    warnings: list[str] = []
    if len(targets) < len(set(texts)):
        unknown = [text for text in dict.fromkeys(texts) if text not in targets]
        asked = [text for text in unknown if _is_asked(text)]
        beside = file_targets.folders_beside(asked, files)
        answer = ask_inventory(controller, machine, list(dict.fromkeys([*asked, *beside])))
        for text in unknown:
            below = file_targets.meant(answer, text, files) if text in asked else None
            if below is not None:
                targets[text] = below
                continue
            item = _item(answer, text)
            targets[text] = target_of(item, space)
            warnings += [f"{item.path}: {why}" for why in item.blocked]
    found = [replace(targets[text], psid=(psids or {}).get(text, "")) for text in texts]
    return file_targets.narrowed(found, files), warnings


def target_of(item: wire.InventoryItem, space: SpaceWish | None = None) -> Target:
    """An inventory item as a target; `space` is for free space."""
    if isinstance(item.identity, SpaceIdentity):
        return Target(identity=item.identity, hint=item.identity.path, space=space or SpaceWish())
    return Target(identity=item.identity, hint=item.path)


_PREFIXES = (FREE_SPACE, FSCRYPT, VAULT)
_TAGS = ("UUID=", "PARTUUID=", "LABEL=", "PARTLABEL=")


def _is_asked(text: str) -> bool:
    """Whether the machine has to look itself for what `text` names."""
    return text.startswith(("/", *_PREFIXES, *_TAGS))


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
    check_subject(answer, text)
    found = list({item.path: item for item in answer.items if text in _names(item)}.values())
    if len(found) == 1:
        return found[0]
    if found:
        raise RefusedError(f"{len(found)} media answer to {text!r}.", "Name it by its path.")
    if _is_asked(text) and answer.problems:  # only the paths asked for have problems
        said = [problem for problem in answer.problems if text in problem] or answer.problems
        raise RefusedError(f"The agent says: {' '.join(said)}", _remedy(text))
    raise NotFoundError(f"The machine has no medium {text!r}.", "See `expunge inventory MACHINE`.")


def _remedy(text: str) -> str:
    return {
        FREE_SPACE: "Name the mount point of a file system that can be filled.",
        FSCRYPT: "Name a folder that fscrypt encrypts.",
        VAULT: "Name a vault and a subject in it: vault:/path/of/the/vault#SUBJECT",
    }.get(f"{text.partition(':')[0]}:", "Name a block device, a directory or a regular file.")


def _names(item: wire.InventoryItem) -> tuple[str, ...]:
    if isinstance(item.identity, SpaceIdentity):
        return (item.path,)  # its mount point alone would be the folder
    if isinstance(item.identity, KeyIdentity):
        return (item.path, *item.asked)
    names = (
        item.path,
        *item.asked,
        *(getattr(item.identity, field, "") for field in ("path", "serial", "wwn")),
    )
    return tuple(name for name in names if name.strip())  # a drive may have no serial number
