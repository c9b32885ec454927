"""What a search hands to the ranking: the documents it looks at closer, and all that is known of each for this question.

The seam between the two: the index chooses candidates and gathers signals, `ranking.rank` turns these into scores.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Candidates:
    """One place a candidate in every array; the arrays of neighbours have a row for each place around it besides.

    The rows of neighbours are: the turn before, the turn after, two before, two after, as `ranking.neighbourhood` orders them.
    """

    documents: Ints
    """Their numbers in the index, ascending."""
    around: Ints
    """(neighbour, candidate): who stands around each; where `lending` is 0 the number means nothing."""
    lending: Floats
    """(neighbour, candidate): how much of its score a neighbour lends by its distance, 0 for nobody or nobody allowed."""
    idf: Floats
    """(word): how rare each word of the question is."""
    by_word: Floats
    """(word, candidate): BM25 of each word."""
    near_by_word: Floats
    """(word, neighbour, candidate): the same of the neighbours."""
    likeness: Floats | None
    """How like the question beyond chance, 1 for the same; None where the question has no vector."""
    near_likeness: Floats | None
    """(neighbour, candidate): the same of the neighbours."""
    bm25: Floats
    """BM25 of all words together."""
    episode: Ints
    """The episode each belongs to."""
    about: Mask
    """Said by whom the question is about."""
    is_fact: Mask
    asks: Mask
    """Holds a question."""
    after_question: Mask
    """The turn before holds one."""
    from_user: Mask
    lengths: Ints
    """In words."""
    at_us: npt.NDArray[np.integer[Any]]
    """When it was said; of a fact, since when it holds."""
    tells: Mask | None = None
    """Names a time, or an amount, where the question asks for one; None where it does not."""
    in_time: Floats | None = None
    """How well that fits the time the question names, 0 to 1; None where it names none."""

    def __len__(self) -> int:
        return len(self.documents)
