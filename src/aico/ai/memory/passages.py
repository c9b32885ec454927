"""What an embedding model reads of a memory: who said it and what, in parts that fit its window."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from aico.ai.embedding import Embedder, Vectors
from aico.data.embeddings import Content, Passage
from aico.errors import ModelUnavailable

BATCH = 16
"""Texts of about one length given to a model at once; more is slower and takes more memory (measured with e5-small)."""
BYTES_PER_TOKEN = 3
"""So many UTF-8 bytes a token fit the window in any language; English prose has four and a half."""
BEFORE_CHARACTERS = 300
"""So much of the end of the turn before goes into a vector: a long answer must not outweigh the "yes" that follows."""
MOST_PASSAGES = 256
"""What comes later in a longer text is found by its words."""


def embedded(embedder: Embedder, contents: Sequence[Content], go_on: Callable[[], bool]) -> list[list[Passage]] | None:
    """The passages of each memory with their vectors; None if it was not to go on. Raises ModelUnavailable.

    `go_on` is asked before each batch. Texts are sorted by length, because a batch costs what its longest text costs.
    """
    spans = [(number, *span) for number, content in enumerate(contents) for span in spans_of(content, embedder.window)]
    texts = [_text(embedder, contents[number], start, length) for number, start, length in spans]
    by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    passages: list[list[Passage]] = [[] for _ in contents]
    for first in range(0, len(texts), BATCH):
        if not go_on():
            return None
        places = by_length[first : first + BATCH]
        vectors = checked_vectors(embedder, [texts[place] for place in places])
        for place, vector in zip(places, vectors, strict=True):
            number, start, length = spans[place]
            passages[number].append(Passage(start, length, vector))
    return passages


def checked_vectors(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """The model's vectors, if they are what it promised. Raises ModelUnavailable."""
    vectors = np.asarray(embedder.embed(texts), np.float32)
    if vectors.shape != (len(texts), embedder.dimension) or not np.isfinite(vectors).all():
        raise ModelUnavailable(
            f"the model {embedder.id} answered with something that is not {len(texts)} vectors of {embedder.dimension}",
            hint="choose another model, or check what runs it",
        )
    return vectors


def spans_of(content: Content, window: int) -> Iterator[tuple[int, int]]:
    """Where each passage of a memory begins, and its length, in characters; cut between words where there are any."""
    text, start, room = content.text, 0, window * BYTES_PER_TOKEN
    for _ in range(MOST_PASSAGES):
        around = _around(content, start)
        fits = text[start : start + room].encode("utf-8", "surrogatepass")[: max(room - len(around.encode()), window)]
        length = len(fits.decode("utf-8", "ignore"))
        if start + length < len(text):
            cut = max(text.rfind(mark, start + length // 2, start + length) for mark in " \n")
            length = cut + 1 - start if cut >= 0 else length
        yield start, length
        start += length
        if start >= len(text):
            return


def _text(embedder: Embedder, content: Content, start: int, length: int) -> str:
    return embedder.passage_prefix + _around(content, start) + content.text[start : start + length]


def _around(content: Content, start: int) -> str:
    """What stands before the words of a passage: the turn before, for a message's first, and who spoke."""
    said_by = "" if content.speaker is None else f"{content.speaker}: "
    if content.before_text is None or start:
        return said_by
    return f"{content.before_speaker}: {content.before_text[-BEFORE_CHARACTERS:]}\n{said_by}"
