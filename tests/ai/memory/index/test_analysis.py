"""Words, scripts, languages and stems."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.ai.memory.index.analysis import Analyzer, date_terms, default_language, detect_language
from aico.ai.memory.index.languages import LANGUAGE_FILES, language
from aico.ai.memory.index.scripts import fold_accents, fold_case, normalise, pieces, script_of, words_with_places


def words(text: str) -> list[str]:
    return [word for word, _ in words_with_places(normalise(text))]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("cafe\u0301 noir", ["café", "noir"]),
        ("كِتَابٌ جديد", ["كِتَابٌ", "جديد"]),
        ("ภาษาไทย test", ["ภาษาไทย", "test"]),
        ("iPhone手机3月", ["iPhone", "手机", "3", "月"]),
        ("3월에 iPhone을", ["3", "월에", "iPhone", "을"]),
        ("ｆｕｌｌ　ｗｉｄｔｈ", ["full", "width"]),
        ("so\u00adft می\u200cخواهم", ["soft", "میخواهم"]),
        ("snake_case don't", ["snake", "case", "don", "t"]),
        ("❤️ 👩‍👩‍👧 ok", ["ok"]),
    ],
)
def test_words_keep_their_marks_and_scripts_are_kept_apart(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(max_size=80))
def test_a_word_stands_where_it_is_said_to(text: str) -> None:
    normalised = normalise(text)
    for word, place in words_with_places(normalised):
        assert normalised[place : place + len(word)] == word


@pytest.mark.parametrize(
    "word, folded",
    [
        ("café", "cafe"),
        ("Αθήνα".casefold(), "αθηνα"),
        ("й", "й"),
        ("ё", "ё"),
        ("smørrebrød", "smorrebrod"),
        ("ışık", "isik"),
        ("हिन्दी", "हिन्दी"),
    ],
)
def test_accents_fold_where_writers_leave_them_out_and_nowhere_else(word: str, folded: str) -> None:
    assert fold_accents(word) == folded


def test_a_turkish_capital_i_becomes_an_i() -> None:
    assert fold_case("İstanbul") == "istanbul"


@pytest.mark.parametrize(
    "word, script",
    [("word", "latin"), ("ärger", "latin"), ("слово", "cyrillic"), ("λέξη", "greek"), ("كلمة", "arabic"), ("शब्द", "devanagari"),
     ("单词", "han"), ("ことば", "kana"), ("단어", "hangul"), ("42", ""), ("שלום", "hebrew")],
)  # fmt: skip
def test_the_script_of_a_word_is_that_of_its_letters(word: str, script: str) -> None:
    assert script_of(word) == script


def test_a_run_without_spaces_is_asked_for_in_pairs_and_kept_with_single_characters() -> None:
    assert [piece for piece, _ in pieces("北京天气", asked=True)] == ["北京", "京天", "天气"]
    assert [piece for piece, _ in pieces("北京", asked=False)] == ["北京", "北", "京"]
    assert [piece for piece, _ in pieces("猫", asked=True)] == ["猫"]
    assert [piece for piece, _ in pieces("서울에", asked=True)] == ["서울에", "서울", "울에"]


@given(
    st.text("北京天气很好", min_size=1, max_size=8)
    | st.text("กขคงจ", min_size=1, max_size=8)
    | st.text("서울에서집", min_size=1, max_size=6)
)
def test_every_piece_asked_for_is_a_piece_that_a_text_keeps(run: str) -> None:
    kept = {piece for piece, _ in pieces(run, asked=False)}
    assert {piece for piece, _ in pieces(run, asked=True)} <= kept
    assert all(run[place : place + len(piece)] == piece for piece, place in pieces(run, asked=True))


def test_the_language_of_a_sentence_is_found_and_a_short_one_is_left_open() -> None:
    assert detect_language("Ich gehe heute mit meiner Schwester in den Garten.") == "de"
    assert detect_language("Мы переехали в новый дом с нашими кошками.") == "ru"
    assert detect_language("ok") is None


def test_a_text_of_no_certain_language_takes_the_default_of_its_script() -> None:
    assert [default_language(text) for text in ("ok", "да", "私は猫", "北京", "12 да", "12", "집")] == [
        "en",
        "ru",
        "ja",
        "zh",
        "ru",
        "en",
        "ko",
    ]


@pytest.mark.parametrize("text", ["", "\x00", "a\x01b", "\ud800", "\uffff", "\x7f" * 50, "\U0001f600" * 50])
def test_no_text_upsets_language_detection(text: str) -> None:
    detect_language(text)


@given(st.text(max_size=200))
def test_reading_a_text_depends_on_nothing_read_before(text: str) -> None:
    used = Analyzer()
    used.read("Ich gehe heute mit meiner Schwester in den Garten.")
    used.read(text[::-1])
    assert used.read(text) == Analyzer().read(text)


def test_inflected_forms_share_a_term_in_their_language() -> None:
    analyzer = Analyzer()
    assert analyzer.term("katzen", "de") == analyzer.term("katze", "de")
    assert analyzer.term("moving", "en") == analyzer.term("moved", "en")
    assert analyzer.term("кошки", "ru") == analyzer.term("кошка", "ru")


def test_a_foreign_word_in_a_text_is_stemmed_by_its_own_script() -> None:
    assert Analyzer().term("meetings", "ru") == Analyzer().term("meeting", "ru")


def test_a_word_too_long_for_a_language_becomes_a_short_term_of_its_own() -> None:
    analyzer = Analyzer()
    first, second = analyzer.term("a" * 5_000, "en"), analyzer.term("a" * 5_001, "en")
    assert first != second
    assert len(first) < 100


def test_a_date_is_told_on_its_authors_clock() -> None:
    assert date_terms(0, 0) == ("day:1", "month:1", "year:1970")
    assert date_terms(0, -60) == ("day:31", "month:12", "year:1969")
    assert date_terms(2**62, 0) == ()


@pytest.mark.parametrize(
    "code, one, other",
    [("en", "went", "going"), ("en", "children", "child"), ("de", "gegangen", "gehen"), ("fr", "venue", "venir"),
     ("es", "hicieron", "hacer"), ("es", "vuelvo", "volver")],
)  # fmt: skip
def test_irregular_forms_are_found_by_their_word(code: str, one: str, other: str) -> None:
    analyzer = Analyzer()
    assert analyzer.term(one, code) == analyzer.term(other, code)


def test_no_irregular_form_is_of_two_words_or_left_out_of_questions() -> None:
    for file in LANGUAGE_FILES:
        lines = tomllib.loads(file.read_text(encoding="utf-8")).get("irregular", "").replace("\n", ";").split(";")
        forms = [form for line in lines for form in line.split()[1:]]
        assert len(forms) == len(set(forms)), file
        assert not language(file.stem).stop_words.intersection(forms), file


@pytest.mark.parametrize(
    "text, tells_time, tells_amount",
    [("I moved last week, at the end of it", True, False), ("We met in 2019", True, True), ("My sister has three cats", False, True),
     ("I have a cat and we went for a walk", False, False), ("Gestern war ich mit dem Hund im Wald", True, False), ("昨天我去看牙医了", True, False)],
)  # fmt: skip
def test_a_text_that_names_a_time_or_an_amount_says_so(text: str, tells_time: bool, tells_amount: bool) -> None:
    reading = Analyzer().read(text)
    assert (reading.tells_time, reading.tells_amount) == (tells_time, tells_amount)
