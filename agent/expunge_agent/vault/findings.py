"""From a vault's story to what the receipt says of a shredded key. Pure."""

from __future__ import annotations

from collections.abc import Callable

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.key_rules import most
from expunge_agent.protocol.receipt_keys import KeyCopy, KeyDestruction, KeyEvidence
from expunge_agent.vault.conditions import conditions, lacking
from expunge_agent.vault.story import STDOUT, Change, Export, Gone, Story

Verdict = tuple[Outcome, Level, list[str], str]
"""Outcome, level, exceptions, failure."""
MOST_LISTED = 500
"""Copies and exports listed in one receipt."""


def destruction(
    story: Story,
    change: Change,
    gone: Gone,
    *,
    where: str,
    folder: str,
    lets_no_copy_out: bool,
    is_there: Callable[[str], bool],
) -> KeyDestruction:
    """What is known after a shredding. `where` the root keys are kept, `folder` the vault's; `is_there`
    tells whether something lies at a path now."""
    plaintexts = story.plaintexts(change.shred)
    return KeyDestruction(
        scheme="vault",
        key=change.shred,
        generation=change.generation,
        conditions=conditions(
            lets_no_copy_out=lets_no_copy_out,
            beyond=gone.beyond,
            gone=gone,
            plaintexts=plaintexts,
            said=story.statements,
        ),
        copies=_copies(story, change, gone, where, folder, lets_no_copy_out),
        readable=_all_readable(change, plaintexts, is_there, lets_no_copy_out=lets_no_copy_out, said=story)[
            :MOST_LISTED
        ],
        evidence=[
            KeyEvidence(name="keystore before (SHA-256)", hex=gone.digest_before),
            KeyEvidence(name="keystore after (SHA-256)", hex=gone.digest_after),
            *gone.evidence,
        ],
    )


def verdict(gone: Gone, key: KeyDestruction, wanted: Level) -> Verdict:
    """What the evidence earns, `wanted` at least; one old keystore that still opens refutes it all."""
    if gone.opens:
        told = "; ".join(gone.opens)
        return (
            Outcome.FAILED,
            Level.NONE,
            [],
            f"An old keystore still opens after the shredding: {told}."[:4000],
        )
    earned = most(key.conditions)
    exceptions = [f"The old root key may still be there: {one}."[:4000] for one in gone.doubts]
    if not earned.reaches(wanted) or earned is Level.NONE:
        least = Level.CLEAR if earned is Level.NONE else wanted
        exceptions.append(f"{least} is not earned: {lacking(key.conditions, least)}."[:4000])
    if not exceptions:
        return Outcome.SANITIZED, earned, [], ""
    exceptions += [f"Still readable: {one}"[:4000] for one in key.readable[:20]]
    return Outcome.EXCEPTIONS, Level.NONE, exceptions, ""


def _copies(
    story: Story, change: Change, gone: Gone, where: str, folder: str, lets_no_copy_out: bool
) -> list[KeyCopy]:
    useless = f"wrapped under root key {change.from_root} or an older one, which are destroyed: opens nothing"
    found = [
        KeyCopy(
            where=where[:4000],
            what=f"root key {change.from_root}",
            fate="unknown" if gone.doubts else "destroyed",
            detail="; ".join([gone.how, *gone.doubts])[:4000],
        ),
        KeyCopy(
            where=f"{folder}, generation {change.generation}",
            what="wrapped data key",
            fate="destroyed",
            detail=f"left out of the keystore; {gone.kept} other keys were wrapped anew and seen to open",
        ),
    ]
    found += [
        KeyCopy(
            where=f"{folder}, generation {number}",
            what="wrapped data key",
            fate="destroyed",
            detail=f"unlinked; {useless}",
        )
        for number in gone.dropped
    ]
    found += [
        KeyCopy(
            where=one.where,
            what=f"backup of the keystore, generation {one.generation}, recorded {one.at} by {one.by}",
            fate="remains",
            detail=useless,
        )
        for one in story.copies
        if one.generation < change.generation
    ]
    if not lets_no_copy_out:
        found.append(
            KeyCopy(
                where="anywhere else",
                what=f"copies of root key {change.from_root}",
                fate="unknown",
                detail="one would open old keystores and, with them, old copies of the data: see no-header-backup",
            )
        )
    return found[:MOST_LISTED]


def _all_readable(
    change: Change,
    plaintexts: list[Export],
    is_there: Callable[[str], bool],
    *,
    lets_no_copy_out: bool,
    said: Story,
) -> list[str]:
    """What may still be read, and how."""
    found = [_readable(one, is_there) for one in plaintexts]
    missing = [name for name in ("no-header-backup", "no-escrow") if said.holds(name) != "yes"]
    if missing and not lets_no_copy_out:
        found.append(
            f"by whoever has a copy of root key {change.from_root} and its passphrase, an old keystore and old copies "
            f"of the objects: all of them ({' and '.join(missing)} not stated)"
        )
    return found


def _readable(one: Export, is_there: Callable[[str], bool]) -> str:
    given = f"object {one.object}, given out at {one.at} by {one.by}"
    if one.where == STDOUT:
        return f"on standard output: {given}"
    state = "is still there" if is_there(one.where) else "is not there any more; nobody said how it went"
    return f"{one.where} {state}: {given}"


def expected(story: Story, key: str, *, lets_no_copy_out: bool, beyond: bool) -> tuple[Level, str]:
    """The most that shredding `key` can earn now, and what stands against Purge, in words."""
    found = conditions(
        lets_no_copy_out=lets_no_copy_out,
        beyond=beyond,
        gone=None,
        plaintexts=story.plaintexts(key),
        said=story.statements,
    )
    return most(found), lacking(found, Level.PURGE)
