"""Whatever happened to an index, it answers like one built afresh from the documents it holds."""

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from aico.ai.memory.index import Document, Filter, RecallIndex, recall_index
from aico.ai.memory.index import postings as postings_module

WORDS = [
    "lisbon",
    "porto",
    "moved",
    "moving",
    "bicycle",
    "red",
    "tennis",
    "sister",
    "Katzen",
    "Katze",
    "läuft",
    "the",
    "is",
    "I",
    "Ana",
    "was",
    "May",
    "8",
    "2023",
    "кошка",
    "кошки",
    "北京天气",
    "天气很好",
    "café",
    "cafe",
    "서울에서",
    "garden",
    "gardens",
    "ok",
]
SENTENCES = (
    "Ich gehe heute mit meiner Schwester im Garten spazieren", "Мы вчера переехали в новый дом с кошкой",
    "we are moving to another town with our two bicycles", "今天北京的天气非常好", "Hoy vamos a la playa con mis hermanas",
)  # fmt: skip

texts = st.one_of(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), st.sampled_from(SENTENCES))
queries = st.lists(st.sampled_from(WORDS + list(SENTENCES)), min_size=1, max_size=4).map(" ".join)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    is_fact = draw(st.booleans())
    at_minutes = draw(st.integers(0, 40)) * 20
    until = draw(st.sampled_from([None, None, 5_000]))
    return Document(
        row=draw(st.integers(0, 9)),
        id=draw(st.integers(0, 24)).to_bytes(16, "big"),
        kind="fact" if is_fact else "message",
        text=draw(texts),
        at_us=1_683_547_200_000_000 + at_minutes * 60_000_000,
        utc_offset_min=draw(st.sampled_from([0, 720])),
        conversation=None if is_fact else draw(st.sampled_from([b"c" * 16, b"d" * 16])),
        position=draw(st.integers(0, 2)),
        role=draw(st.sampled_from(["user", "assistant"])),
        speaker=None if is_fact else draw(st.sampled_from([None, "Ana", "Rui Costa"])),
        believed_until_us=until if is_fact else None,
    )


Step = tuple[str, list[Document]]
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "remove", "search"]), st.lists(documents(), min_size=1, max_size=8)
    ),
    max_size=12,
)
filters = st.sampled_from([
    Filter(), Filter(conversation=b"c" * 16), Filter(kinds=frozenset({"message"})), Filter(as_of_us=4_000), Filter(speaker="Ana"),
    Filter(since_us=1_683_547_200_000_000 + 3_600_000_000),
])  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    history=steps,
    asked=st.lists(queries, min_size=1, max_size=4),
    where=filters,
    many=st.sampled_from([1, 3, 500]),
    recent=st.sampled_from([2, 10_000]),
)
def test_after_any_history_an_index_answers_like_one_built_afresh(
    history: list[Step], asked: list[str], where: Filter, many: int, recent: int
) -> None:
    with sizes(many=many, recent=recent, compact_from=3):
        index, alive = RecallIndex(), {}
        for step, given_documents in history:
            if step == "add":
                index.add(given_documents)
                alive.update((entry.id, entry) for entry in given_documents)
            elif step == "remove":
                index.remove(entry.id for entry in given_documents)
                for entry in given_documents:
                    alive.pop(entry.id, None)
            else:
                index.search(given_documents[0].text)
        afresh = RecallIndex()
        afresh.add(alive.values())
        assert len(index) == len(afresh) == len(alive)
        for query in asked:
            assert index.search(query, where=where) == afresh.search(query, where=where)
            assert index.containing_all(query, where) == afresh.containing_all(query, where)


@settings(max_examples=100, deadline=None)
@given(
    given_documents=st.lists(documents(), unique_by=lambda entry: entry.id, max_size=20),
    order=st.randoms(use_true_random=False),
    query=queries,
)
def test_the_order_of_arrival_does_not_matter(given_documents: list[Document], order: object, query: str) -> None:
    shuffled = list(given_documents)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    at_once, one_by_one = RecallIndex(), RecallIndex()
    at_once.add(given_documents)
    for entry in shuffled:
        one_by_one.add([entry])
    assert at_once.search(query) == one_by_one.search(query)


@settings(max_examples=100, deadline=None)
@given(given_documents=st.lists(documents(), max_size=20), query=st.one_of(queries, st.text(max_size=40)))
def test_every_hit_is_a_document_with_a_score_above_zero_and_words_of_the_question(
    given_documents: list[Document], query: str
) -> None:
    index = RecallIndex()
    index.add(given_documents)
    for hit in index.search(query):
        assert hit.id in index
        assert 0 < hit.score < 1
        assert len(hit.neighbours) <= 2


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60), query=st.text(max_size=20))
def test_any_text_can_be_held_and_asked_for(text: str, query: str) -> None:
    index = RecallIndex()
    entry = Document(row=1, id=b"i" * 16, kind="fact", text=text, at_us=0)
    index.add([entry, replace(entry, id=b"j" * 16, text=query)])
    index.search(query)
    if index.content_words(text):
        assert b"i" * 16 in index.containing_all(text)


class sizes:
    """Small limits, so that segments, merges and compaction happen in small histories."""

    def __init__(self, *, many: int, recent: int, compact_from: int) -> None:
        self._wanted = [
            (recall_index, "_MANY", many),
            (recall_index, "_COMPACT_FROM", compact_from),
            (postings_module, "_RECENT_LIMIT", recent),
        ]

    def __enter__(self) -> None:
        self._before: list[tuple[object, str, Callable[..., object] | int]] = [
            (owner, name, getattr(owner, name)) for owner, name, _ in self._wanted
        ]
        for owner, name, value in self._wanted:
            setattr(owner, name, value)

    def __exit__(self, *_: object) -> None:
        for owner, name, value in self._before:
            setattr(owner, name, value)
