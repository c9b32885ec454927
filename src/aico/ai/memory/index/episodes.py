"""Which message follows which, and which belong to one episode.

An episode is a run of messages in a conversation without a pause longer than a set gap. A conversation's
order is (at, position, id), whenever a message arrived: appending at the end links one message; anything
else marks the conversation, and it is linked anew before the next search.
"""

from array import array

import numpy as np

from aico.ai.memory.index.documents import DocumentTable
from aico.ai.memory.index.postings import Ints

NOBODY = -1


class Episodes:
    """Links between neighbours within an episode, as arrays in step with the table. Thread rule: one thread at a time."""

    def __init__(self, table: DocumentTable, *, gap_us: int) -> None:
        self._table = table
        self._gap_us = gap_us
        self._previous = np.empty(0, np.int32)
        self._following = np.empty(0, np.int32)
        self._episode = np.empty(0, np.int32)
        self._episode_count = 0
        self._linked = 0
        self._members: dict[int, array[int]] = {}
        self._out_of_order: set[int] = set()

    def add(self, first: int, count: int) -> None:
        """Take in the table's next rows, `count` of them from `first` on."""
        end = first + count
        self._ensure_room(end)
        self._previous[first:end] = self._following[first:end] = NOBODY
        self._episode[first:end] = np.arange(self._episode_count, self._episode_count + count)
        self._episode_count += count
        self._linked = end
        conversations = self._table.column("conversation")[first:end].tolist()
        for number, conversation in enumerate(conversations, first):
            if conversation != NOBODY:
                self._append(number, conversation, at_once=count == 1)

    def _append(self, number: int, conversation: int, *, at_once: bool) -> None:
        members = self._members.get(conversation)
        if members is None:
            members = self._members[conversation] = array("i")
        elif conversation not in self._out_of_order:
            if at_once and self._follows(members[-1], number):
                self._link(members[-1], number)
            else:
                self._out_of_order.add(conversation)
        members.append(number)

    def remove(self, number: int) -> None:
        """The row `number` has died."""
        conversation = int(self._table.column("conversation")[number])
        if conversation != NOBODY:
            self._out_of_order.add(conversation)

    def links(self) -> tuple[Ints, Ints, Ints]:
        """The previous and the following message of each row within its episode (-1: none), and its episode."""
        for conversation in self._out_of_order:
            self._relink(conversation)
        self._out_of_order.clear()
        return self._previous[: self._linked], self._following[: self._linked], self._episode[: self._linked]

    def rebuild(self) -> None:
        """Link every row of the table anew."""
        size = self._table.size
        self._previous = self._following = self._episode = np.empty(0, np.int32)
        self._ensure_room(size)
        self._previous[:size] = self._following[:size] = NOBODY
        self._episode[:size] = np.arange(size)
        self._episode_count, self._linked = size, size
        conversations = self._table.column("conversation")
        order = np.argsort(conversations, kind="stable").astype(np.int32)
        starts = np.flatnonzero(np.diff(conversations[order], prepend=-2))
        groups = np.split(order, starts[1:]) if size else []
        self._members = {int(conversations[group[0]]): array("i", group.tobytes()) for group in groups}
        self._members.pop(NOBODY, None)
        self._out_of_order = set(self._members)

    def _relink(self, conversation: int) -> None:
        numbers = np.frombuffer(self._members[conversation], np.int32)
        numbers = numbers[self._table.alive[numbers]]
        at, position, high, low = (
            self._table.column(name)[numbers] for name in ("at", "position", "id_high", "id_low")
        )
        order = np.lexsort((low, high, position, at))
        numbers, at = numbers[order], at[order]
        if not len(numbers):
            del self._members[conversation]
            return
        self._members[conversation] = array("i", numbers.tobytes())
        joined = np.diff(at) <= self._gap_us
        self._previous[numbers] = np.concatenate([[NOBODY], np.where(joined, numbers[:-1], NOBODY)])
        self._following[numbers] = np.concatenate([np.where(joined, numbers[1:], NOBODY), [NOBODY]])
        episode = self._episode_count + np.concatenate([[0], np.cumsum(~joined)])
        self._episode[numbers] = episode
        self._episode_count = int(episode[-1]) + 1

    def _link(self, last: int, number: int) -> None:
        at = self._table.column("at")
        if at[number] - at[last] <= self._gap_us:
            self._previous[number], self._following[last] = last, number
            self._episode[number] = self._episode[last]

    def _follows(self, last: int, number: int) -> bool:
        at, position = self._table.column("at"), self._table.column("position")
        if at[last] != at[number]:
            return bool(at[last] < at[number])
        if position[last] != position[number]:
            return bool(position[last] < position[number])
        return self._table.id_of(last) < self._table.id_of(number)

    def _ensure_room(self, size: int) -> None:
        room = len(self._previous)
        if size > room:
            more = np.empty(max(1024, size - room, room // 2), np.int32)
            self._previous = np.concatenate([self._previous, more])
            self._following = np.concatenate([self._following, more])
            self._episode = np.concatenate([self._episode, more])
