"""What an eMMC device or SD card says of itself."""

from __future__ import annotations

from expunge_agent.commands import mmc
from expunge_agent.core.drive import Ability, Answer, Drive
from expunge_agent.core.technique import Technique
from expunge_agent.protocol.canonical import U64


def examine_mmc(port: mmc.MmcPort) -> Drive:
    """Read EXT_CSD of an eMMC device through `port`. Raises CommandError."""
    raw = port.read(mmc.MmcCommand(mmc.SEND_EXT_CSD, 0), mmc.EXT_CSD_BYTES)
    answers = [Answer(name="EXT_CSD", hex=raw.hex())]
    try:
        csd = mmc.parse_ext_csd(raw)
    except mmc.NotExtCsd as error:
        return Drive(protocol="mmc", doubtful=[f"EXT_CSD cannot be read: {error}"], answers=answers)
    doubtful: list[str] = []
    unreached: list[str] = []
    if csd.sanitize and csd.revision < 6:
        doubtful.append(
            f"it offers sanitize, which EXT_CSD revision {csd.revision} does not have (eMMC 4.5: 6)"
        )
    if outside := csd.outside():
        unreached.append(f"not reached by any erase of the user area: {', '.join(outside)}")
    return Drive(
        protocol="mmc",
        firmware=csd.firmware.hex(),
        rotation=1,
        logical_sector=csd.sector,
        apparent=U64(csd.size),
        abilities=csd.abilities(),
        health=csd.health(),
        astray=csd.astray(),
        unreached=unreached,
        doubtful=doubtful,
        answers=answers,
    )


def sd_card() -> Drive:
    """An SD card: it has no command that erases what the host cannot address (SD Physical Layer 6.00 §4.3.5)."""
    return _without_commands("an SD card has no such command")


def area_of(user_area: str) -> Drive:
    """A boot or general purpose partition of the eMMC whose user area is at `user_area`: a sanitize and the erase
    given here are for that."""
    return _without_commands(f"it is a command for the user area, {user_area}, and reaches no other")


def _without_commands(why: str) -> Drive:
    return Drive(
        protocol="mmc",
        rotation=1,
        abilities=[
            Ability(technique=technique, offered=False, why=why)
            for technique in (Technique.MMC_SANITIZE, Technique.MMC_SECURE_ERASE)
        ],
    )
