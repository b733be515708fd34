"""NVMe admin commands put together, and the words for what they ask (NVM Express Base 2.0, NVM Command Set 1.0).

The data that comes back is taken apart by `nvme_identify` and `nvme_logs`.
"""

from __future__ import annotations

from enum import IntEnum

from expunge_agent.commands.nvme_bytes import BadAnswer, enough
from expunge_agent.commands.nvme_identify import Namespace
from expunge_agent.commands.nvme_logs import LOG_BYTES, Action
from expunge_agent.commands.nvme_status import words
from expunge_agent.commands.port import NvmeCommand, NvmeReply
from expunge_agent.core.drive import Answer

ALL_NAMESPACES = 0xFFFFFFFF
_READ = 0x02  # of the NVM command set
_GET_LOG_PAGE, _IDENTIFY, _FORMAT_NVM, _SANITIZE = 0x02, 0x06, 0x80, 0x84


class Cns(IntEnum):
    """What an Identify command asks for (Base figure 273)."""

    NAMESPACE = 0x00
    CONTROLLER = 0x01
    ACTIVE_NAMESPACES = 0x02
    DESCRIPTORS = 0x03
    INDEPENDENT_NAMESPACE = 0x08
    ALLOCATED_NAMESPACES = 0x10


class Log(IntEnum):
    """Log page identifiers (Base figure 202)."""

    HEALTH = 0x02
    SANITIZE = 0x81


def identify(cns: Cns, nsid: int = 0) -> NvmeCommand:
    """Identify (Base §5.17); for the namespace lists `nsid` is the number after which they begin."""
    return NvmeCommand(opcode=_IDENTIFY, nsid=nsid, cdw10=cns)


def log_page(log: Log, size: int = LOG_BYTES, *, retain: bool = False) -> NvmeCommand:
    """Get Log Page (Base §5.16), `size` in bytes (a multiple of 4), of the whole subsystem.

    `retain`: leave the asynchronous event for whoever waits for it (RAE).
    """
    dwords = size // 4 - 1
    cdw10 = log | (0x8000 if retain else 0) | (dwords & 0xFFFF) << 16
    return NvmeCommand(opcode=_GET_LOG_PAGE, nsid=ALL_NAMESPACES, cdw10=cdw10, cdw11=dwords >> 16)


def sanitize(
    action: Action,
    *,
    ause: bool = False,
    no_deallocate: bool = False,
    verify: bool = False,
    passes: int = 1,
    invert: bool = False,
    pattern: int = 0,
) -> NvmeCommand:
    """Sanitize (Base §5.24, figures 304 and 305). It is the whole subsystem's: NSID is 0.

    `ause`: allow unrestricted sanitize exit, so that a failure can be left with `Action.EXIT_FAILURE`.
    `verify`: enter the media verification state after success (EMVS, Base 2.1 §5.1.22; block and crypto erase,
    without `no_deallocate`: a controller refuses the rest, and so does this with ValueError).
    `passes` (1 to 16), `invert` (between passes) and the 32-bit `pattern` count for overwrite only.
    Raises ValueError for a number of passes or a pattern that does not exist.
    """
    if not 1 <= passes <= 16 or not 0 <= pattern <= 0xFFFFFFFF:
        raise ValueError("an overwrite has 1 to 16 passes and a pattern of 32 bits")
    if verify and (no_deallocate or action not in (Action.BLOCK_ERASE, Action.CRYPTO_ERASE)):
        raise ValueError("media verification follows a block or crypto erase that deallocates")
    cdw10 = int(action) | (0x400 if verify else 0)
    if action in (Action.BLOCK_ERASE, Action.OVERWRITE, Action.CRYPTO_ERASE):
        cdw10 |= (0x008 if ause else 0) | (0x200 if no_deallocate else 0)
    if action is not Action.OVERWRITE:
        return NvmeCommand(opcode=_SANITIZE, cdw10=cdw10)
    cdw10 |= (passes & 0xF) << 4 | (0x100 if invert else 0)  # OWPASS 0 means 16
    return NvmeCommand(opcode=_SANITIZE, cdw10=cdw10, cdw11=pattern)


def read_blocks(nsid: int, block: int, count: int) -> NvmeCommand:
    """Read (NVM §3.2.4) of `count` (1 to 65536) logical blocks from `block`, without protection checks (PRCHK and
    STC 0: a media verification read must ask for none, NVM 1.1 §5.10.1)."""
    return NvmeCommand(
        opcode=_READ, nsid=nsid, cdw10=block & 0xFFFFFFFF, cdw11=block >> 32, cdw12=count - 1 & 0xFFFF
    )


def format_nvm(nsid: int, namespace: Namespace, erase: int) -> NvmeCommand:
    """Format NVM (Base §5.14 figure 189, NVM §4.1.2) that keeps the block format as it is.

    `erase` is SES: 1 user data erase, 2 cryptographic erase. Raises ValueError for anything else:
    with SES 0 nothing is erased.
    """
    if erase not in (1, 2):
        raise ValueError("a Format NVM without secure erase erases nothing")
    index = namespace.format_index
    cdw10 = index & 0xF | (index >> 4 & 3) << 12 | erase << 9
    cdw10 |= (0x10 if namespace.extended else 0) | (namespace.protection & 7) << 5
    cdw10 |= 0x100 if namespace.protection & 8 else 0
    return NvmeCommand(opcode=_FORMAT_NVM, nsid=nsid, cdw10=cdw10)


def read(reply: NvmeReply, size: int, what: str) -> bytes:
    """The data of a successful `reply`, at least `size` bytes. Raises BadAnswer with the status in words."""
    if reply.status:
        raise BadAnswer(f"{what}: {words(reply.status)}")
    return enough(reply.data, size, what)


def completion(title: str, command: NvmeCommand, reply: NvmeReply) -> Answer:
    """What a command without data ended with: its dword 10 and status in the name; dword 0 and status as bytes."""
    name = f"{title}, CDW10 {command.cdw10:08X}h: {words(reply.status)}"
    raw = (reply.result & 0xFFFFFFFF).to_bytes(4, "little") + (reply.status & 0xFFFF).to_bytes(2, "little")
    return Answer(name=name[:200], hex=raw.hex())
