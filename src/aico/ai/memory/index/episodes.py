"""Which message follows which, and which belong to one episode.

An episode is a run of messages in a conversation without a pause longer than a set gap. A conversation's
order is (at, position, id), whenever a message arrived: appending at the end links one message; anything
else marks the conversation, and it is linked anew before the next search.
"""

import numpy as np

from aico.ai.memory.index.documents import DocumentTable
from aico.ai.memory.index.parts import Parts
from aico.ai.memory.index.postings import Ints

NOBODY = -1
_MANY = 64
"""From so many conversations on, all are linked anew at once: a sort of everything costs less than looking for each."""


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
        self._last: dict[int, int] = {}
        """The last message of conversations that something was appended to; of others it is looked for."""
        self._out_of_order: set[int] = set()

    def add(self, first: int, count: int) -> None:
        """Take in the table's next rows, `count` of them from `first` on."""
        end = first + count
        self._ensure_room(end)
        self._previous[first:end] = self._following[first:end] = NOBODY
        self._episode[first:end] = np.arange(self._episode_count, self._episode_count + count)
        self._episode_count += count
        self._linked = end
        conversations = self._table.column("conversation")[first:end]
        if count == 1 and conversations[0] != NOBODY:
            self._append(first, int(conversations[0]))
        elif count > 1:
            touched = set(np.unique(conversations).tolist()) - {NOBODY}
            self._out_of_order |= touched
            for conversation in touched & self._last.keys():
                del self._last[conversation]

    def _append(self, number: int, conversation: int) -> None:
        if conversation in self._out_of_order:
            return
        last = self._last.get(conversation)
        if last is None:
            *others, newest = self._in_order(conversation).tolist()
            last = NOBODY if newest != number else others[-1] if others else number
        if last == number or (last != NOBODY and self._follows(last, number)):
            if last != number:
                self._link(last, number)
            self._last[conversation] = number
        else:
            self._last.pop(conversation, None)
            self._out_of_order.add(conversation)

    def remove(self, number: int) -> None:
        """The row `number` has died."""
        conversation = int(self._table.column("conversation")[number])
        if conversation != NOBODY:
            self._out_of_order.add(conversation)
            self._last.pop(conversation, None)

    def links(self) -> tuple[Ints, Ints, Ints]:
        """The previous and the following message of each row within its episode (-1: none), and its episode."""
        if len(self._out_of_order) >= _MANY:
            self._link_all()
        for conversation in self._out_of_order:
            self._link_in_order(self._in_order(conversation))
        self._out_of_order.clear()
        return self._previous[: self._linked], self._following[: self._linked], self._episode[: self._linked]

    def rebuild(self) -> None:
        """Link every row of the table anew."""
        self._linked = self._table.size
        self._ensure_room(self._linked)
        self._link_all()

    def copy_for_parts(self) -> "Episodes":
        """A copy of all that `parts` reads: what comes later does not change it."""
        copied = Episodes(self._table, gap_us=self._gap_us)
        copied._previous, copied._following, copied._episode = (links.copy() for links in self.links())
        copied._linked = self._linked
        return copied

    def parts(self, renumbered: Ints) -> Parts:
        """The links between rows that stay, as they are numbered then; those that get no number (-1) have none."""
        kept = np.flatnonzero(renumbered >= 0)
        previous, following, episode = (links[kept] for links in self.links())
        anew = np.append(renumbered, NOBODY).astype(np.int32)  # so that -1 stays what it is
        numbers, episodes = np.unique(episode, return_inverse=True)
        return {
            "previous": anew[previous],
            "following": anew[following],
            "episode": episodes.astype(np.int32),
            "count": np.array([len(numbers)], np.int32),
        }

    @classmethod
    def of_parts(cls, table: DocumentTable, parts: Parts, *, gap_us: int) -> "Episodes":
        """What `parts` gave."""
        made = cls(table, gap_us=gap_us)
        made._previous, made._following, made._episode = (parts[name] for name in ("previous", "following", "episode"))
        made._episode_count, made._linked = int(parts["count"][0]), len(made._previous)
        return made

    def _in_order(self, conversation: int) -> Ints:
        """The living messages of a conversation in their order."""
        column = self._table.column
        numbers = np.flatnonzero((column("conversation") == conversation) & self._table.alive)
        keys = tuple(column(name)[numbers] for name in ("id_low", "id_high", "position", "at"))
        return numbers[np.lexsort(keys)].astype(np.int32)

    def _link_all(self) -> None:
        column, size = self._table.column, self._linked
        self._previous[:size] = self._following[:size] = NOBODY
        self._episode[:size] = np.arange(size)
        self._episode_count = size
        self._last, self._out_of_order = {}, set()
        numbers = np.flatnonzero((column("conversation") != NOBODY) & self._table.alive)
        keys = tuple(column(name)[numbers] for name in ("id_low", "id_high", "position", "at", "conversation"))
        self._link_in_order(numbers[np.lexsort(keys)].astype(np.int32))

    def _link_in_order(self, numbers: Ints) -> None:
        """Link messages, in order, of one conversation after the other."""
        if not len(numbers):
            return
        at, conversation = self._table.column("at")[numbers], self._table.column("conversation")[numbers]
        joined = (np.diff(at) <= self._gap_us) & (np.diff(conversation) == 0)
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
            more = np.empty(max(1024, size - room, room // 8), np.int32)
            self._previous = np.concatenate([self._previous, more])
            self._following = np.concatenate([self._following, more])
            self._episode = np.concatenate([self._episode, more])
