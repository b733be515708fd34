"""What an NVMe controller offers of the table of techniques, by its own capability bits."""

from __future__ import annotations

from expunge_agent.commands.nvme_identify import Controller, Namespace
from expunge_agent.commands.nvme_logs import Action
from expunge_agent.core.technique import Technique

SANITIZES = {
    Technique.NVME_SANITIZE_CRYPTO: Action.CRYPTO_ERASE,
    Technique.NVME_SANITIZE_BLOCK: Action.BLOCK_ERASE,
    Technique.NVME_SANITIZE_OVERWRITE: Action.OVERWRITE,
}
FORMATS = {Technique.NVME_FORMAT_CRYPTO: 2, Technique.NVME_FORMAT_USER_DATA: 1}
"""SES by technique."""


def lacks(controller: Controller, technique: Technique) -> str:
    """Why the controller does not offer `technique`, in words; empty when it does.

    Raises KeyError for a technique that is none of NVMe's.
    """
    if technique not in FORMATS:
        action = SANITIZES[technique]
        if controller.sanitizes(action):
            return ""
        return f"SANICAP {controller.sanicap:08X}h: Sanitize has no {action.title} here"
    if not controller.formats:
        return f"OACS {controller.oacs:04X}h: the drive has no Format NVM"
    if FORMATS[technique] == 2 and not controller.format_crypto:
        return f"FNA {controller.fna:02X}h: Format NVM has no cryptographic erase here"
    return ""


def keeps_blocks(controller: Controller, action: Action) -> bool:
    """Whether to ask a sanitize operation for no-deallocate, so that a read afterwards shows the medium
    and not a mapping.

    Not where the drive says that it does not honour it (NDI). Not for a block erase whose medium stays
    as erased (NODMMAS 1): such blocks can be unreadable until they are written (Base 2.0 §8.21).
    """
    if controller.no_deallocate_inhibited:
        return False
    return not (action is Action.BLOCK_ERASE and controller.media_modified == 1)


def shows_cells(controller: Controller, action: Action, space: Namespace) -> bool:
    """Whether to ask that a media verification state follow, in which reads give what the cells hold.

    A controller that has it (VERS) has it after block and crypto erase (Base 2.1 §5.1.22). Blocks with metadata
    are left alone: what comes with them in that state is not known here.
    """
    erases = action in (Action.BLOCK_ERASE, Action.CRYPTO_ERASE)
    return controller.media_verification and erases and space.sector > 0 and not space.metadata
