"""How messages are ranked: pure functions over NumPy arrays of scores and links.

The steps are numbered as in docs/decisions/0014 (words), 0016 (meaning) and 0049 (probability); what they weigh is in
`weights.json`. Arrays named `scores`, `previous`, `following` and `episode` have one place a document; a `pool` holds
document numbers, and what is computed for it has one place each.
"""

from collections.abc import Iterator

import numpy as np

from aico.ai.memory.candidates import Candidates, Floats, Ints, Mask
from aico.ai.memory.weights import FITTED, Weights

EPISODE_BEST = 3
TURNS_AROUND = 2
"""To either side: who is looked at with a candidate, and lends to it."""

_SATURATION = 0.9
"""BM25's k1, as in `index.bm25`."""
_BLOCK = 64
_NONE = -1
_MOST_BITS = np.int32(0x7FFFFFFF)


def rank(found: Candidates, weights: Weights = FITTED) -> Floats:
    """How likely each candidate is to be what was asked for, 0 to 1: falling with rank, comparable between questions."""
    return probabilities(shares_of_the_best(found, weights), meaning=found.likeness is not None, weights=weights)


def shares_of_the_best(found: Candidates, weights: Weights = FITTED) -> Floats:
    """The share of the best possible match that each candidate is (steps 2 to 6; when is meant: docs/decisions/0050)."""
    replies = np.where(found.after_question, np.float32(1 + weights.reply), np.float32(1))
    lending = np.concatenate([found.lending[:1] * replies, found.lending[1:]])
    lent_by_word = (found.near_by_word * lending).sum(axis=1)
    total: Floats = word_worth(found.by_word + lent_by_word, idf=found.idf[:, None]).sum(axis=0)
    total += episode_shares(found.bm25, found.episode, weights)
    total /= np.float32(found.idf.sum(dtype=np.float64) or 1)
    if found.likeness is not None and found.near_likeness is not None:
        lent = (meaning_shares(found.near_likeness, weights) * lending).sum(axis=0)
        total += meaning_worth(meaning_shares(found.likeness, weights), lent, weights)
    total *= turn_factors(
        lengths=found.lengths, asks=found.asks, about=found.about, is_fact=found.is_fact, weights=weights
    )
    if found.tells is not None:
        total *= np.where(found.tells, np.float32(1 + weights.tells), np.float32(1))
    in_time = found.in_time is not None and bool(found.in_time.any())
    if found.in_time is not None and in_time:
        total *= 1 + np.float32(weights.in_time) * found.in_time
    return total / np.float32(
        best_possible(
            words=bool(len(found.idf)),
            meaning=found.likeness is not None,
            about_someone=bool(found.about.any()),
            told=found.tells is not None,
            in_time=in_time,
            weights=weights,
        )
    )


def probabilities(shares: Floats, *, meaning: bool, weights: Weights = FITTED) -> Floats:
    """`1 / (1 + exp(-(slope · ln share + offset)))` (step 7): Platt's scaling, over the logarithm of the share.

    Platt, "Probabilistic outputs for support vector machines", 1999. A share of 0 stays 0.
    """
    slope, offset = weights.by_meaning if meaning else weights.by_words
    odds = np.power(shares.astype(np.float64), slope) * np.exp(offset)
    return np.asarray(odds / (1 + odds), np.float32)


def best(scores: Floats, count: int) -> Ints:
    """The numbers of the `count` highest scores above zero and of every document tied with the last of them.

    A bound from the block maxima spares sorting: at least `count` scores reach the `count`-th highest maximum.
    """
    blocks = len(scores) // _BLOCK  # a block is every `blocks`-th score: the maxima of all are then taken side by side
    peaks = scores[: blocks * _BLOCK].reshape(_BLOCK, blocks).max(axis=0)
    bound = np.partition(peaks, -count)[-count] if len(peaks) > count else np.float32(0)
    candidates = np.flatnonzero(scores >= bound) if bound > 0 else np.flatnonzero(scores > 0)
    if len(candidates) > count:
        values = scores[candidates]
        candidates = candidates[values >= np.partition(values, -count)[-count]]
    return np.asarray(candidates, np.int32)


def neighbours(pool: Ints, links: Ints) -> Iterator[Ints]:
    """The message one turn along `links` from each of the pool, then that two turns away: -1 where the episode ends before."""
    reached = pool
    for _ in range(TURNS_AROUND):
        further = links[reached]
        further[reached == _NONE] = _NONE
        yield further
        reached = further


def widen(seeds: Ints, previous: Ints, following: Ints, allowed: Mask) -> Ints:
    """The seeds with every allowed message up to two turns to either side in the same episode (step 1)."""
    reached = np.zeros(len(allowed), np.bool_)
    reached[seeds] = True
    for links in (previous, following):
        for who in neighbours(seeds, links):
            reached[who[who != _NONE]] = True
    pool = np.flatnonzero(reached).astype(np.int32)
    return pool[allowed[pool]]


def neighbourhood(
    pool: Ints, previous: Ints, following: Ints, allowed: Mask, weights: Weights = FITTED
) -> tuple[Ints, Floats]:
    """Who stands one and two turns around each of the pool, a row a place, and the weight of what they lend (step 3).

    Where nobody stands, or nobody who is allowed, the weight is 0 and the number means nothing.
    """
    who = np.empty((2 * TURNS_AROUND, len(pool)), np.int32)
    for side, links in enumerate((previous, following)):
        for away, reached in enumerate(neighbours(pool, links)):
            who[2 * away + side] = reached
    lent = np.array([weights.nearest_lends] * 2 + [weights.next_lends] * 2, np.float32)
    lending = ((who != _NONE) & allowed[who]) * lent[:, None]
    return who, lending


def word_worth(score: Floats, *, idf: float | Floats) -> Floats:
    """What one word adds to a message, given its score there with what neighbours lend.

    `idf·s / (idf + s)` saturates as BM25 does within one message: a turn where each of two words occurs
    beats one whose neighbours repeat a single word. Worth +.02 of any@10 over adding up.
    """
    rarity = np.asarray(idf, np.float32)
    return np.asarray(score * rarity / (score + rarity))


def beyond_chance(cosines: Floats, *, chance: float, spread: float) -> Floats:
    """How much more alike than any two texts, 1 for the same: `(cos - chance) / spread`, below 0 for less.

    Models differ in what cosine unrelated texts have, e5 about .77 and others near 0; corrected for that, as Cohen's
    kappa corrects agreement, likeness means the same for every model and question.
    """
    return (cosines - np.float32(chance)) / np.float32(spread)


def meaning_shares(likeness: Floats, weights: Weights = FITTED) -> Floats:
    """What likeness beyond chance is worth, 0 to 1."""
    return np.clip(likeness, 0, np.float32(weights.same_from)) / np.float32(weights.same_from)


def meaning_worth(own: Floats, lent: Floats, weights: Weights = FITTED) -> Floats:
    """What meaning adds to a message, given its share and what its neighbours lend it."""
    return np.float32(weights.meaning) * (own + np.float32(weights.meaning_lent) * lent)


def episode_shares(own: Floats, episode: Ints, weights: Weights = FITTED) -> Floats:
    """What each message gains from its episode: a share of the mean of the episode's three best scores (step 5)."""
    # One number tells episode and score, since floats from 0 on compare as their bits do: sorting numbers is several
    # times faster than `lexsort`.
    bits = np.maximum(own, 0).astype(np.float32).view(np.int32)
    keys = np.sort((episode.astype(np.int64) << 32) | (_MOST_BITS - bits))
    ranked, begins = (_MOST_BITS - keys.astype(np.int32)).view(np.float32), np.diff(keys >> 32, prepend=_NONE) != 0
    starts = np.flatnonzero(begins)
    sizes = np.diff(starts, append=len(own))
    total = np.zeros(len(starts), np.float32)
    for place in range(EPISODE_BEST):
        inside = sizes > place
        total[inside] += ranked[starts[inside] + place]
    mean = total / np.minimum(sizes, EPISODE_BEST).astype(np.float32)
    shares = np.float32(weights.episode) * mean
    return np.asarray(shares[np.searchsorted(keys[starts] >> 32, episode)])


def turn_factors(*, lengths: Ints, asks: Mask, about: Mask, is_fact: Mask, weights: Weights = FITTED) -> Floats:
    """How much each of the pool counts for what kind of turn it is (steps 4 and 6).

    A fact was distilled from turns and is nobody's turn: it counts as the best kind, so that no turn
    passes it only for who spoke.
    """
    long = np.minimum(lengths, weights.telling_length).astype(np.float32) / np.float32(weights.telling_length)
    telling = 1 + np.float32(weights.length) * np.where(is_fact, np.float32(1), long)
    telling *= np.where(asks & ~is_fact, np.float32(1 - weights.question), np.float32(1))
    if about.any():
        telling *= np.where(about | is_fact, np.float32(1 + weights.speaker), np.float32(1))
    return telling


def best_possible(
    *,
    words: bool,
    meaning: bool,
    about_someone: bool,
    told: bool = False,
    in_time: bool = False,
    weights: Weights = FITTED,
) -> float:
    """A bound no total reaches: every word in the message and all around it, in an episode full of such messages, and
    each of them saying what the question means.

    With it a score means the same for every question; a word that nobody said weighs most and lowers it.
    """
    lent = (2 + weights.reply) * weights.nearest_lends + 2 * weights.next_lends
    words_and_episode = 1 + weights.episode * (_SATURATION + 1) if words else 0.0
    meant = weights.meaning * (1 + weights.meaning_lent * lent) if meaning else 0.0
    who = 1 + weights.speaker if about_someone else 1.0
    when = (1 + weights.tells if told else 1) * (1 + weights.in_time if in_time else 1)
    return (words_and_episode + meant) * (1 + weights.length) * who * when
