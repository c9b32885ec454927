"""Neighbours and episodes against a slow and obvious model."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aico.ai.memory.index.analysis import Analyzer
from aico.ai.memory.index.documents import Document, DocumentTable
from aico.ai.memory.index.episodes import Episodes

GAP = 10
moments = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 2), st.sampled_from([b"c" * 16, b"d" * 16, None])), max_size=20
)


@given(said=moments, removed=st.sets(st.integers(0, 19)), batches=st.lists(st.integers(1, 4), max_size=20))
def test_neighbours_and_episodes_follow_time_whatever_the_order_of_arrival(
    said: list[tuple[int, int, bytes | None]], removed: set[int], batches: list[int]
) -> None:
    documents = [
        Document(
            row=number,
            id=number.to_bytes(16, "big"),
            kind="message",
            text="",
            at_us=at,
            position=position,
            conversation=conversation,
        )
        for number, (at, position, conversation) in enumerate(said)
    ]
    table = DocumentTable()
    episodes = Episodes(table, gap_us=GAP)
    waiting = list(documents)
    while waiting:
        size = batches.pop() if batches else 1
        first, batch, waiting = table.size, waiting[:size], waiting[size:]
        table.append(batch, [Analyzer().read("")] * len(batch))
        episodes.add(first, len(batch))
    for number in removed & set(range(len(documents))):
        episodes.remove(number)
        table.kill(number)
    living = [entry for entry in documents if entry.row not in removed]
    check(episodes, living)
    episodes.rebuild()
    check(episodes, living)


def check(episodes: Episodes, living: list[Document]) -> None:
    previous, following, episode = episodes.links()
    expected: list[list[int]] = [[entry.row] for entry in living if entry.conversation is None]
    for conversation in (b"c" * 16, b"d" * 16):
        last = None
        for entry in sorted(
            (e for e in living if e.conversation == conversation), key=lambda e: (e.at_us, e.position, e.id)
        ):
            if last is None or entry.at_us - last > GAP:
                expected.append([])
            expected[-1].append(entry.row)
            last = entry.at_us
    for run in expected:
        assert len(set(episode[run].tolist())) == 1
        assert previous[run].tolist() == [-1, *run[:-1]]
        assert following[run].tolist() == [*run[1:], -1]
    assert len(np.unique(episode[[entry.row for entry in living]])) == len(expected)
