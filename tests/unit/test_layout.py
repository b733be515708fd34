"""Which of a file's old places no write to it reaches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.core.layout import Layout, left_behind
from expunge_agent.protocol.canonical import U64

EXTENTS = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 40)), max_size=12)


def layout(extents: list[tuple[int, int]]) -> Layout:
    return Layout(extents=[(U64(start), U64(length)) for start, length in extents])


@given(before=EXTENTS, after=EXTENTS)
def test_it_is_what_a_set_of_bytes_says(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    def places(extents: list[tuple[int, int]]) -> set[int]:
        return {byte for start, length in extents for byte in range(start, start + length)}

    assert left_behind(layout(before), layout(after)) == len(places(before) - places(after))
