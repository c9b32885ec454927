"""How messages are ranked: pure functions over NumPy arrays of scores and links.

The steps are numbered as in docs/decisions/0014 (words) and 0016 (meaning). Constants were chosen on
six development conversations of LoCoMo (Maharana et al., 2024); each improved at least five of the six.
Arrays named `scores`, `previous`, `following` and `episode` have one place a document; a `pool` holds
document numbers, and what is computed for it has one place each.
"""

import numpy as np

from aico.ai.memory.candidates import Candidates, Floats, Ints, Mask

NEIGHBOUR_WEIGHTS = (0.5, 0.25)
"""How much of a neighbour's score a message borrows, one turn and two turns away (step 3)."""
SPEAKER_WEIGHT = 0.5
"""How much more a turn counts when it was said by whom the question is about (step 4)."""
EPISODE_WEIGHT = 0.4
"""How much of its episode's best a message gains (step 5)."""
EPISODE_BEST = 3
LENGTH_WEIGHT = 0.3
"""How much more a turn counts that is long enough to state something: "Wow, cool!" seldom is the memory (step 6)."""
TELLING_LENGTH = 25
"""Words from which a turn counts as long."""
QUESTION_WEIGHT = 0.15
"""How much less a turn counts that asks: the memory is in the reply (step 6)."""

LIKE_FROM = 0.05
"""From here on a text is taken to mean something like the question, and is found without a word in common.

A question in another language is less like its answer than one in the same: .2 would lose a third of the Chinese
paragraphs that answer English questions, .1 still three in a hundred. The price is that a question which nothing answers mostly finds something too.
"""
SAME_FROM = 0.6
"""More alike than this counts as no more: texts that say the same."""
MEANING_WEIGHT = 0.42
"""What a text that says the same counts, beside one that holds every word of the question (step 2)."""
MEANING_LENT = 0.5
"""How much of what words borrow from neighbours meaning borrows: a vector knows the turn before it already (step 3)."""

_SATURATION = 0.9
"""BM25's k1, as in `index.postings`."""
_BLOCK = 64
_NONE = -1


def rank(found: Candidates) -> Floats:
    """The score of each candidate, 0 to 1: falling with rank, comparable between questions (steps 2 to 6)."""
    total = np.zeros(len(found), np.float32)
    for word, idf in enumerate(found.idf.tolist()):
        lent = (found.near_by_word[word] * found.lending).sum(axis=0)
        total += word_worth(found.by_word[word] + lent, idf=idf)
    total += episode_shares(found.bm25, found.episode)
    total /= np.float32(found.idf.sum(dtype=np.float64) or 1)
    if found.likeness is not None and found.near_likeness is not None:
        lent = (meaning_shares(found.near_likeness) * found.lending).sum(axis=0)
        total += meaning_worth(meaning_shares(found.likeness), lent)
    total *= turn_factors(lengths=found.lengths, asks=found.asks, about=found.about, is_fact=found.is_fact)
    return total / np.float32(
        best_possible(
            words=bool(len(found.idf)), meaning=found.likeness is not None, saturation=_SATURATION,
            about_someone=bool(found.about.any()),
        )
    )  # fmt: skip


def best(scores: Floats, count: int) -> Ints:
    """The numbers of the `count` highest scores above zero and of every document tied with the last of them.

    A bound from the block maxima spares sorting: at least `count` scores reach the `count`-th highest maximum.
    """
    whole = len(scores) // _BLOCK * _BLOCK
    peaks = scores[:whole].reshape(-1, _BLOCK).max(axis=1)
    bound = np.partition(peaks, -count)[-count] if len(peaks) > count else np.float32(0)
    candidates = np.flatnonzero(scores >= bound) if bound > 0 else np.flatnonzero(scores > 0)
    if len(candidates) > count:
        values = scores[candidates]
        candidates = candidates[values >= np.partition(values, -count)[-count]]
    return np.asarray(candidates, np.int32)


def neighbours(pool: Ints, links: Ints, *, away: int) -> Ints:
    """The message so many turns along `links` from each of the pool, -1 where the episode ends before."""
    reached = pool
    for _ in range(away):
        reached = np.where(reached == _NONE, reached, links[reached])
    return reached


def widen(seeds: Ints, previous: Ints, following: Ints, allowed: Mask) -> Ints:
    """The seeds with every allowed message up to two turns to either side in the same episode (step 1)."""
    reached = np.zeros(len(allowed), np.bool_)
    reached[seeds] = True
    for links in (previous, following):
        for away in range(1, len(NEIGHBOUR_WEIGHTS) + 1):
            who = neighbours(seeds, links, away=away)
            reached[who[who != _NONE]] = True
    pool = np.flatnonzero(reached).astype(np.int32)
    return pool[allowed[pool]]


def neighbourhood(pool: Ints, previous: Ints, following: Ints, allowed: Mask) -> tuple[Ints, Floats]:
    """Who stands one and two turns around each of the pool, a row a place, and the weight of what they lend (step 3).

    Where nobody stands, or nobody who is allowed, the weight is 0 and the number means nothing.
    """
    rows, weights = [], []
    for away, weight in enumerate(NEIGHBOUR_WEIGHTS, start=1):
        for links in (previous, following):
            who = neighbours(pool, links, away=away)
            rows.append(who)
            weights.append(np.where((who != _NONE) & allowed[who], np.float32(weight), np.float32(0)))
    return np.stack(rows), np.stack(weights)


def word_worth(score: Floats, *, idf: float) -> Floats:
    """What one word adds to a message, given its score there with what neighbours lend.

    `idf·s / (idf + s)` saturates as BM25 does within one message: a turn where each of two words occurs
    beats one whose neighbours repeat a single word. Worth +.02 of any@10 over adding up.
    """
    return score * np.float32(idf) / (score + np.float32(idf))


def beyond_chance(cosines: Floats, *, chance: float) -> Floats:
    """How much more alike than any two texts, 1 for the same: `(cos - chance) / (1 - chance)`, below 0 for less.

    Models differ in what cosine unrelated texts have, e5 about .77 and others near 0; corrected for that, as Cohen's
    kappa corrects agreement, likeness means the same for every model and question.
    """
    return (cosines - np.float32(chance)) / np.float32(max(1 - chance, 1e-6))


def meaning_shares(likeness: Floats) -> Floats:
    """What likeness beyond chance is worth, 0 to 1."""
    return np.clip(likeness, 0, np.float32(SAME_FROM)) / np.float32(SAME_FROM)


def meaning_worth(own: Floats, lent: Floats) -> Floats:
    """What meaning adds to a message, given its share and what its neighbours lend it."""
    return np.float32(MEANING_WEIGHT) * (own + np.float32(MEANING_LENT) * lent)


def episode_shares(own: Floats, episode: Ints) -> Floats:
    """What each message gains from its episode: a share of the mean of the episode's three best scores (step 5)."""
    order = np.lexsort((-own, episode))
    _, starts, inverse, sizes = np.unique(episode[order], return_index=True, return_inverse=True, return_counts=True)
    ranked = own[order]
    total = np.zeros(len(starts), np.float32)
    for place in range(EPISODE_BEST):
        inside = sizes > place
        total[inside] += ranked[starts[inside] + place]
    mean = total / np.minimum(sizes, EPISODE_BEST).astype(np.float32)
    shares = np.empty(len(own), np.float32)
    shares[order] = np.float32(EPISODE_WEIGHT) * mean[inverse]
    return shares


def turn_factors(*, lengths: Ints, asks: Mask, about: Mask, is_fact: Mask) -> Floats:
    """How much each of the pool counts for what kind of turn it is (steps 4 and 6).

    A fact was distilled from turns and is nobody's turn: it counts as the best kind, so that no turn
    passes it only for who spoke.
    """
    long = np.minimum(lengths, TELLING_LENGTH).astype(np.float32) / np.float32(TELLING_LENGTH)
    telling = 1 + np.float32(LENGTH_WEIGHT) * np.where(is_fact, np.float32(1), long)
    telling *= np.where(asks & ~is_fact, np.float32(1 - QUESTION_WEIGHT), np.float32(1))
    if about.any():
        telling *= np.where(about | is_fact, np.float32(1 + SPEAKER_WEIGHT), np.float32(1))
    return telling


def best_possible(*, words: bool, meaning: bool, saturation: float, about_someone: bool) -> float:
    """A bound no total reaches: every word in the message and all around it, in an episode full of such messages, and
    each of them saying what the question means.

    With it a score means the same for every question; a word that nobody said weighs most and lowers it.
    """
    words_and_episode = 1 + EPISODE_WEIGHT * (saturation + 1) if words else 0.0
    meant = MEANING_WEIGHT * (1 + MEANING_LENT * 2 * sum(NEIGHBOUR_WEIGHTS)) if meaning else 0.0
    return (words_and_episode + meant) * (1 + LENGTH_WEIGHT) * (1 + SPEAKER_WEIGHT if about_someone else 1)
