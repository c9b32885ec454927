"""What a person thinks of a memory: a favourite, rated helpful or not. It lifts or lowers a hit, and never hides one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aico.ai.memory.weights import FITTED
from aico.data.libsql import LibSQLConnection, Row
from aico.data.row_ids import rows_by_id

RATING, HELPFUL = "rating", "helpful"
"""Kind and category of the feedback event that rates a memory; its value is 1 for helpful, -1 for not helpful. One that
is sensitive does not count: the order of hits would tell of it on this device alone."""

_ANY = """SELECT EXISTS (SELECT 1 FROM feedback_events WHERE user_id = ?),
    EXISTS (SELECT 1 FROM memory_marks WHERE user_id = ? AND favourite = 1)"""
_RATED = (
    "SELECT subject_id AS id, value FROM feedback_events WHERE subject_id IN ({ids}) AND +user_id = ? "
    f"AND kind = '{RATING}' AND category = '{HELPFUL}' AND value IS NOT NULL ORDER BY row_id"
)
_FAVOURITES = "SELECT owner_id AS id FROM memory_marks WHERE owner_id IN ({ids}) AND +user_id = ? AND favourite = 1"


@dataclass(frozen=True, slots=True)
class Liking:
    """Of one memory."""

    favourite: bool = False
    rating: float = 0.0
    """The last one: above 0 helpful, below 0 not helpful."""

    @property
    def factor(self) -> float:
        """What the odds that the memory is meant are multiplied with."""
        factor = FITTED.favourite if self.favourite else 1.0
        if self.rating:
            factor *= FITTED.helpful if self.rating > 0 else 1 / FITTED.helpful
        return factor

    @property
    def reasons(self) -> Sequence[str]:
        """In words, for `Hit.why`."""
        rated = ["rated helpful" if self.rating > 0 else "rated not helpful"] if self.rating else []
        return [*(["a favourite"] if self.favourite else []), *rated]


class Importance:
    """Looks up what a person thinks of some of their memories, in the truth: it is never out of step."""

    def __init__(self, connection: LibSQLConnection) -> None:
        self._connection = connection

    def of(self, user_id: bytes, ids: Sequence[bytes]) -> Mapping[bytes, Liking]:
        """Those of the memories that the person thinks anything of. Costs little for who never said so of any."""
        [(any_feedback, any_favourite)] = self._connection.fetch_all(_ANY, (user_id, user_id))
        ratings: dict[bytes, float] = dict(self._rows(_RATED, ids, user_id)) if any_feedback else {}  # the last stays
        favourites = {id_ for (id_,) in self._rows(_FAVOURITES, ids, user_id)} if any_favourite else set()
        return {
            id_: Liking(id_ in favourites, ratings.get(id_, 0.0)) for id_ in ids if id_ in favourites or id_ in ratings
        }

    def _rows(self, sql: str, ids: Sequence[bytes], user_id: bytes) -> Iterator[Row]:
        return rows_by_id(self._connection, sql, ids, user_id)


def lifted(likely: npt.NDArray[np.float32], factors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities, their odds multiplied: between 0 and 1 again."""
    raised = likely * factors
    return np.asarray(raised / (1 - likely + raised), np.float32)
