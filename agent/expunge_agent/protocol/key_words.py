"""A person's word on a condition as it is typed, ``CONDITION=ANSWER``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import get_args

from msgspec import convert

from expunge_agent.errors import UsageError
from expunge_agent.protocol.key_rules import STATED
from expunge_agent.protocol.order_keys import KeyStatement
from expunge_agent.protocol.receipt_keys import Holds


def statements_of(texts: Iterable[str], said_by: str) -> list[KeyStatement]:
    """What `texts` state for an order. Raises UsageError for one that is none, and for a condition stated twice."""
    said = [_statement(one, said_by) for one in texts]
    if len({one.id for one in said}) < len(said):
        raise UsageError("A condition is stated twice.", "State each once.")
    return said


def split_word(text: str, known: Collection[str]) -> tuple[str, Holds] | None:
    """The condition, one of `known`, and the answer; None where `text` is no such word."""
    name, _, answer = text.partition("=")
    if name not in known or answer not in get_args(Holds):
        return None
    return name, convert(answer, Holds)


def _statement(text: str, said_by: str) -> KeyStatement:
    word = split_word(text, STATED)
    if word is None:
        raise UsageError(
            f"{text!r} is no statement.",
            f"Write CONDITION=yes, =no or =unknown; conditions are {', '.join(STATED)}.",
        )
    return KeyStatement(id=word[0], holds=word[1], said_by=said_by)
