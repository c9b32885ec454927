"""What was talked about, and when: clusters of message vectors, each named by the words that set it apart."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import log, sqrt

import numpy as np
import numpy.typing as npt

from aico.ai.embedding import Vectors
from aico.errors import MissingExtra

TOPICS_MAX = 12
MESSAGES_MAX = 50_000
"""Messages that are clustered; of more, as many are taken evenly over time."""
TEXTS_A_TOPIC = 200
"""Texts whose words name a topic: those nearest its middle."""
WORDS_SHOWN = 3

Labels = npt.NDArray[np.int32]


def clusters(vectors: Vectors, *, seed: int = 0) -> tuple[Labels, Vectors]:
    """The topic of each vector (int[n]) and the middles of the topics (float32[k, d]), by k-means on unit vectors.

    k = √(n/8), from 2 to 12: a person reads a dozen. The same vectors always give the same topics.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError as exc:
        raise MissingExtra("topics need scikit-learn; nothing was read", hint="pip install 'aico[analytics]'") from exc
    count = min(max(2, round(sqrt(len(vectors) / 8))), TOPICS_MAX, len(vectors))
    model = MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=1024).fit(vectors)
    return np.asarray(model.labels_, np.int32), np.asarray(model.cluster_centers_, np.float32)


def nearest(vectors: Vectors, labels: Labels, middles: Vectors, topic: int) -> npt.NDArray[np.intp]:
    """The places of a topic's most typical vectors, most typical first."""
    members = np.flatnonzero(labels == topic)
    likeness = vectors[members] @ middles[topic]
    return members[np.argsort(-likeness)[:TEXTS_A_TOPIC]]


def names(texts: Sequence[Iterable[str]], content_words: Callable[[str], Iterable[str]]) -> list[str]:
    """A name for each topic from the texts that are typical of it: the words that are frequent in it and rare in others.

    `tf · log(1 + A/f)` with A the mean number of words in a topic and f a word's number in all: c-TF-IDF (Grootendorst,
    2022).
    """
    counts = [Counter(word for text in some for word in set(content_words(text))) for some in texts]
    everywhere = sum(counts, Counter[str]())
    mean = sum(everywhere.values()) / max(len(counts), 1)
    named = []
    for number, words in enumerate(counts, start=1):
        weights = {word: count * log(1 + mean / everywhere[word]) for word, count in words.items() if len(word) > 1}
        best = sorted(weights, key=lambda word: (-weights[word], word))[:WORDS_SHOWN]
        named.append(", ".join(best) or f"topic {number}")
    return named
