"""The languages' files are whole and hold what they should."""

import pytest
import Stemmer

from aico.ai.memory.index.languages import DEFAULT_OF_SCRIPT, KNOWN_LANGUAGES, NO_LANGUAGE, known_code, language

SPACED = sorted(KNOWN_LANGUAGES - {"zh", "ja", "ko"})


@pytest.mark.parametrize("code", SPACED)
def test_a_language_has_a_stemmer_function_words_and_twelve_months(code: str) -> None:
    entry = language(code)
    assert entry.code == code
    assert entry.stemmer in Stemmer.algorithms()
    assert len(entry.stop_words) > 60
    assert set(entry.months.values()) == set(range(1, 13))


@pytest.mark.parametrize("code", SPACED)
def test_words_for_i_and_you_are_function_words_and_months_are_not(code: str) -> None:
    entry = language(code)
    assert entry.first_person | entry.second_person <= entry.stop_words
    assert entry.first_person.isdisjoint(entry.second_person)
    assert entry.stop_words.isdisjoint(entry.months)


@pytest.mark.parametrize("code", sorted(KNOWN_LANGUAGES))
def test_every_listed_word_is_a_single_case_folded_word(code: str) -> None:
    entry = language(code)
    for word in entry.stop_words | entry.first_person | entry.second_person | set(entry.months) | entry.ordinals:
        assert word == word.casefold()
        assert word


def test_content_words_are_not_taken_for_function_words() -> None:
    content = {
        "en": "world work room like love want need year time people home last first new good know think go get make ill",
        "de": "welt arbeit zimmer zeit jahr leute haus neu gut heute morgen arm macht",
        "fr": "monde travail chambre temps an gens maison été avions or nouveau",
        "es": "mundo trabajo casa tiempo año gente nuevo vino",
    }
    for code, words in content.items():
        assert language(code).stop_words.isdisjoint(words.split()), code


def test_the_default_language_of_every_script_is_known() -> None:
    assert set(DEFAULT_OF_SCRIPT.values()) <= KNOWN_LANGUAGES
    assert all(language(code).script == script for script, code in DEFAULT_OF_SCRIPT.items())


def test_a_detectors_codes_lead_to_ours() -> None:
    assert known_code("zh-Hant") == "zh"
    assert known_code("no") == known_code("nn") == "nb"
    assert known_code("de") == "de"
    assert known_code("xx-Qaai") is None


def test_an_unknown_language_is_nothing_rather_than_an_error() -> None:
    assert language("tlh") is NO_LANGUAGE
