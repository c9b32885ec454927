"""The numbers that the ranking goes by, in one file: `weights.json`, written by `python -m bench fit_ranker --write`.

docs/decisions/0049 tells how they were chosen, and what else was tried.
"""

from importlib.resources import files

import msgspec


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One choice of them. The steps are those of docs/decisions/0014 (words) and 0016 (meaning)."""

    made_by: str
    """The program, its data and its cross-validated figures."""
    nearest_lends: float
    """How much of its score a neighbour lends, one turn away (step 3)."""
    next_lends: float
    """And two turns away."""
    reply: float
    """How much more of it a turn that asks lends to the next one, which replies (step 3)."""
    speaker: float
    """How much more a turn counts when it was said by whom the question is about (step 4)."""
    episode: float
    """How much of its episode's best a message gains (step 5)."""
    length: float
    """How much more a turn counts that is long enough to state something: "Wow, cool!" seldom is the memory (step 6)."""
    telling_length: int
    """Words from which a turn counts as long."""
    question: float
    """How much less a turn counts that asks: the memory is in the reply (step 6)."""
    tells: float
    """How much more a turn counts that names a time where the question asks when, or a number where it asks how many."""
    in_time: float
    """How much more a turn counts that is of the time the question names (docs/decisions/0050)."""
    like_from: float
    """From here on a text is taken to mean something like the question, and is found without a word in common.

    A question in another language is less like its answer than one in the same: .2 would lose a third of the Chinese
    paragraphs that answer English questions, .1 still three in a hundred. The price is that a question which nothing
    answers mostly finds something too: `score_min` leaves that out.
    """
    common: float
    """How much of what all texts have in common is taken out of a question before its likeness is told: what is like
    everything is no answer in particular."""
    same_from: float
    """More alike than this counts as no more: texts that say the same."""
    meaning: float
    """What a text that says the same counts, beside one that holds every word of the question (step 2)."""
    meaning_lent: float
    """How much of what words borrow from neighbours meaning borrows: a vector knows the turn before it already (step 3)."""
    favourite: float
    """What the odds of a favourite are multiplied with. Chosen, not fitted: no data set knows what people mark."""
    helpful: float
    """The same of what was rated helpful; what was not is divided by it."""
    by_words: tuple[float, float]
    """Slope and offset that make a share of the best possible match a probability (step 7), where words alone decide."""
    by_meaning: tuple[float, float]
    """The same where the question has a vector."""


def read_weights() -> Weights:
    """Those of this release."""
    return msgspec.json.decode(files(__package__).joinpath("weights.json").read_bytes(), type=Weights)


FITTED = read_weights()
