"""From a vault's story to what the receipt says of a shredded key. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.key_rules import most
from expunge_agent.protocol.receipt_keys import Condition, KeyCopy, KeyDestruction, KeyEvidence
from expunge_agent.vault.conditions import OF_ROOTS, conditions, lacking
from expunge_agent.vault.keystore import Entry
from expunge_agent.vault.story import STDOUT, UNSAID, Change, Export, Gone, Story

Verdict = tuple[Outcome, Level, list[str], str]
"""Outcome, level, exceptions, failure."""
MOST_LISTED = 500
"""Copies and exports listed in one receipt."""


def destruction(
    story: Story,
    change: Change,
    gone: Gone,
    *,
    made_in: int,
    where: str,
    folder: str,
    is_there: Callable[[str], bool | None],
) -> KeyDestruction:
    """What is known after a shredding of a key made in generation `made_in`. `where` the root keys are kept,
    `folder` the vault's; `is_there` tells whether something lies at a path now."""
    earlier = [one for one in story.roots_of(made_in, change.generation) if one[0] != change]
    roots = [*earlier, (change, gone)]
    found = conditions(
        story,
        change.shred,
        change.from_root,
        beyond=all(end.beyond for _, end in roots),
        doubts=[*gone.doubts, *_doubts(earlier)],
    )
    return KeyDestruction(
        scheme="vault",
        key=change.shred,
        generation=change.generation,
        conditions=found,
        copies=_copies(story, roots, where, folder),
        readable=_all_readable(story, change, found, is_there)[:MOST_LISTED],
        evidence=[
            KeyEvidence(name="keystore before (SHA-256)", hex=gone.digest_before),
            KeyEvidence(name="keystore after (SHA-256)", hex=gone.digest_after),
            *gone.evidence,
        ],
    )


def doubts_before(story: Story, made_in: int, until: int) -> list[str]:
    """Why a root key that went before, and wrapped a key made in generation `made_in`, may still be there;
    those that generation `until` and earlier ones replaced."""
    return _doubts(story.roots_of(made_in, until))


def verdict(gone: Gone, key: KeyDestruction, wanted: Level, earlier: Sequence[str] = ()) -> Verdict:
    """What the evidence earns, `wanted` at least; one old keystore that still opens refutes it all. `earlier`:
    doubts about root keys that went before (`doubts_before`)."""
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
    exceptions += [f"An older root key may still be there: {one}."[:4000] for one in earlier]
    if not earned.reaches(wanted) or earned is Level.NONE:
        least = Level.CLEAR if earned is Level.NONE else wanted
        exceptions.append(f"{least} is not earned: {lacking(key.conditions, least)}."[:4000])
    if not exceptions:
        return Outcome.SANITIZED, earned, [], ""
    exceptions += [f"Still readable: {one}"[:4000] for one in key.readable[:20]]
    return Outcome.EXCEPTIONS, Level.NONE, exceptions, ""


Roots = list[tuple[Change, Gone]]


def _doubts(roots: Roots) -> list[str]:
    return [
        f"root key {change.from_root}: {one}"
        for change, gone in roots
        for one in (*gone.doubts, *(f"{store} still opened" for store in gone.opens))
    ]


def _copies(story: Story, roots: Roots, where: str, folder: str) -> list[KeyCopy]:
    """`roots`: every change that ended a root key of this key, the shredding last."""
    change, gone = roots[-1]
    found = [_root_copy(where, *one) for one in reversed(roots)]
    found.append(
        KeyCopy(
            where=f"{folder}, generation {change.generation}",
            what="wrapped data key",
            fate="destroyed",
            detail=f"left out of the keystore; {gone.kept} other keys were wrapped anew and seen to open",
        )
    )
    found += [
        KeyCopy(
            where=f"{folder}, generation {number}",
            what="wrapped data key",
            fate="destroyed",
            detail=f"unlinked; {_worth(change.from_root, roots)}",
        )
        for number in gone.dropped
    ]
    found += [
        KeyCopy(
            where=one.where,
            what=f"backup of the keystore, generation {one.generation}, recorded {one.at} by {one.by}",
            fate="remains",
            detail=_worth(one.root, roots),
        )
        for one in story.copies
        if one.generation < change.generation
    ]
    found.append(
        KeyCopy(
            where="anywhere else",
            what=f"copies of root key {change.from_root} and of those before it",
            fate="unknown",
            detail="one would open old keystores and, with them, old copies of the data: see no-header-backup",
        )
    )
    return found[:MOST_LISTED]


def _root_copy(where: str, change: Change, gone: Gone) -> KeyCopy:
    return KeyCopy(
        where=where[:4000],
        what=f"root key {change.from_root}",
        fate="unknown" if gone.doubts or gone.opens else "destroyed",
        detail="; ".join([gone.how, *gone.doubts])[:4000],
    )


def _worth(root: str, roots: Roots) -> str:
    """What a keystore under `root` is worth."""
    ended = {change.from_root: gone for change, gone in roots}
    if root not in ended:
        return f"wrapped under root key {root}, which went before this key was made: does not hold it"
    if ended[root].doubts or ended[root].opens:
        return f"wrapped under root key {root}, which may still be there: see its fate"
    return f"wrapped under root key {root}, which is destroyed: opens nothing"


def _all_readable(
    story: Story, change: Change, found: list[Condition], is_there: Callable[[str], bool | None]
) -> list[str]:
    """What may still be read, and how."""
    told = [_readable(one, one.id in story.partly, is_there) for one in story.plaintexts(change.shred)]
    missing = [one.id for one in found if one.id in OF_ROOTS and one.holds != "yes"]
    if missing:
        told.append(
            f"by whoever has a copy of root key {change.from_root} or one before it, its passphrase, an old keystore and "
            f"old copies of the objects: all of them ({' and '.join(missing)} not stated)"
        )
    return told


def _readable(one: Export, partly: bool, is_there: Callable[[str], bool | None]) -> str:
    how = "given out in part (it broke off)" if partly else "given out"
    given = f"object {one.object}, {how} at {one.at} by {one.by} (export {one.id})"
    if one.where in (STDOUT, UNSAID):
        place = "on standard output" if one.where == STDOUT else "where it was not to be recorded"
        return f"{place}: {given}"
    there = is_there(one.where)
    if partly and there is False:
        return f"free space of the medium of {one.where}: {given}"
    return f"{one.where} {_STATES[there]}: {given}"


_STATES = {
    True: "is still there",
    False: "is not there any more; nobody said how it went",
    None: "cannot be looked at now",
}


def expected(story: Story, entry: Entry, root: str, *, beyond: bool) -> tuple[Level, str]:
    """The most that shredding the key of `entry` can earn now, under the root key `root`, and what stands against
    Purge, in words."""
    earlier = doubts_before(story, entry.made_in, entry.generation)
    found = conditions(story, entry.key, root, beyond=beyond, doubts=earlier)
    if earlier:
        return Level.NONE, f"An older root key may still be there: {'; '.join(earlier)}"
    return most(found), lacking(found, Level.PURGE)
