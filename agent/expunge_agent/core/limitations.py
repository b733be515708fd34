"""What no receipt of ours proves, said in every receipt."""

from __future__ import annotations

ALWAYS = (
    "The signature proves that this agent says this; it does not prove that the medium obeyed.",
    "Times are those of the machine's own clock.",
)

OVERWRITE = (
    "An overwrite reaches only what the medium lets the host address: remapped sectors, "
    "over-provisioned flash and hidden areas are not covered.",
)

DRIVE_COMMAND = (
    "A command of the drive reaches what the host cannot address, by the drive's own account: canaries, samples "
    "and the read-back cover only what the host can address.",
    "What a drive reads as zeros after an erase may be deallocated and still be in its cells; that keys were "
    "really discarded cannot be seen from outside.",
)

KEY = (
    "Only keys were destroyed: the encrypted data stay, and whoever gets a copy of the key from elsewhere reads them. "
    "What is stated about keys was not checked, and no agent can see a copy that nobody told it of.",
)

FILE = (
    "An overwrite of a file reaches the blocks it has and no others: copies, snapshots, backups, journals of "
    "the file system and earlier places of its data are not covered.",
)

FREE_SPACE = (
    "Filling free space reaches the blocks that were free while it ran: files that exist, snapshots, the file "
    "system's own records and what others deleted meanwhile are not covered.",
)

VIRTUAL = ("A virtual device: what its host or storage system keeps of earlier contents is not covered.",)
