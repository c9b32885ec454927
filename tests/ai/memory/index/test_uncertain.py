"""Words of uncertain language are found as long as a living document holds them."""

from hypothesis import given
from hypothesis import strategies as st

from aico.ai.memory.index.analysis import Analyzer
from aico.ai.memory.index.uncertain import UncertainWords

WORDS = ("katze", "katzen", "haus", "häuser", "run", "running", "runs")
steps = st.lists(
    st.one_of(
        st.sets(st.sampled_from(WORDS), max_size=4).map(lambda words: ("add", tuple(sorted(words)))),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("ask"), st.sampled_from(WORDS)),
    ),
    max_size=40,
)


@given(steps)
def test_after_any_history_akin_names_the_words_of_the_living(history: list) -> None:
    analyzer, living, count = Analyzer(), dict[int, tuple[str, ...]](), 0
    words = UncertainWords(analyzer)

    def check(word: str) -> None:
        for code in ("de", "en"):
            stem = analyzer.term(word, code)
            held = {one for some in living.values() for one in some if analyzer.term(one, code) == stem}
            assert set(words.akin(stem, code)) == {analyzer.term(one, "en") for one in held}

    for step, what in history:
        if step == "add":
            words.add(what)
            living[count], count = what, count + 1
        elif step == "remove" and living.pop(what, None) is not None:
            words.remove(what)
        elif step == "ask":
            check(what)
    for word in WORDS:
        check(word)
