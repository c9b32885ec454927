"""Questions in many languages, and the messages they find."""

import pytest

from aico.ai.memory.index import Document, RecallIndex

A_GERMAN_SENTENCE = "Ich gehe heute mit meiner Schwester in den Garten und wir reden über das Wetter."


def index_of(*texts: str) -> RecallIndex:
    """Facts, which stand alone, numbered in order."""
    index = RecallIndex()
    index.add(
        Document(row=number, id=number.to_bytes(16, "big"), kind="fact", text=text, at_us=number)
        for number, text in enumerate(texts)
    )
    return index


def found(index: RecallIndex, query: str) -> list[int]:
    return [hit.row for hit in index.search(query)]


def test_a_short_german_message_is_found_by_its_inflected_form() -> None:
    index = index_of(A_GERMAN_SENTENCE, "Katzen!", "tennis")
    assert found(index, "Katze") == [1]


def test_a_short_german_message_is_no_longer_found_by_its_inflected_form_when_it_is_removed() -> None:
    index = index_of(A_GERMAN_SENTENCE, "Katzen!", "tennis")
    assert found(index, "Katze") == [1]
    index.remove([(1).to_bytes(16, "big")])
    assert found(index, "Katze") == []
    index.add([Document(row=5, id=b"5" * 16, kind="fact", text="Katzen?", at_us=0)])
    assert found(index, "Katze") == [5]


@pytest.mark.parametrize(
    "text, query",
    [
        ("Мы переехали в новый дом с нашими кошками и собакой", "где кошка"),
        ("Ayer compramos dos bicicletas rojas en la tienda del centro", "¿Dónde está la bicicleta roja?"),
        ("Nous avons visité les musées de la ville pendant trois jours", "le musée"),
        ("Hier habe ich mit meinen Freunden lange Spaziergänge gemacht", "Spaziergang"),
        ("Χθες πήγαμε στην Αθήνα με τους φίλους μας και φάγαμε ψάρι", "Αθηνα"),
        ("मैंने कल बाज़ार से नई किताबें खरीदीं और घर आ गया", "किताबें"),
        ("ذهبت أمس إلى المدرسة مع أصدقائي وقرأنا كتابا جديدا", "المدرسة"),
        ("昨天我和姐姐一起去了北京看天气预报", "北京天气"),
        ("私は昨日東京で友達に会いました", "東京の友達"),
        ("เมื่อวานฉันไปกรุงเทพกับเพื่อน", "กรุงเทพ"),
        ("어제 친구와 서울에서 영화를 보았습니다", "서울"),
        ("Dün arkadaşlarımla İstanbul'da güzel bir akşam geçirdik", "istanbul"),
        ("The café on the corner is closed", "cafe"),
        ("our résumés are ready", "resume"),
        ("한강 근처에 집을 샀어요", "집"),
    ],
)
def test_a_text_is_found_in_its_language(text: str, query: str) -> None:
    index = index_of("something else entirely about music", text, "nothing to see here, move along please")
    assert found(index, query)[:1] == [1]


def test_an_accent_is_not_a_different_letter_but_a_cyrillic_short_i_is() -> None:
    index = index_of("йод", "иод")
    assert found(index, "йод") == [0]


@pytest.mark.parametrize(
    "query, month",
    [
        ("in May", 5),
        ("im Mai", 5),
        ("в мае", 5),
        ("en mayo", 5),
        ("toukokuussa", 5),
        ("5月", 5),
        ("5월", 5),
        ("2023-05-02", 5),
        ("on the 2nd of June", 6),
    ],
)
def test_a_month_is_understood_in_the_languages_in_use(query: str, month: int) -> None:
    june_2023 = 1_685_707_200_000_000
    sentences = [
        A_GERMAN_SENTENCE,
        "Мы вчера переехали в новый дом с кошкой и собакой",
        "Ayer fuimos a la playa con mis hermanas y comimos pescado",
        "Eilen kävimme ystävien kanssa saunassa ja uimassa järvessä",
    ]
    index = index_of(*sentences)
    index.add(
        Document(
            row=month_number,
            id=bytes([month_number]) * 16,
            kind="fact",
            text="zebra",
            at_us=june_2023 + (month_number - 6) * 31 * 86_400_000_000,
        )
        for month_number in (5, 6)
    )
    assert found(index, f"zebra {query}")[0] == month


def test_pieces_of_a_run_are_shown_joined_as_the_question_wrote_them() -> None:
    index = index_of("北京的天气很好")
    assert index.search("北京天气怎么样")[0].words == ("北京", "天气")
    assert index.search("天气很好吗")[0].words == ("天气很好",)


def test_the_words_of_a_hit_keep_the_questions_spelling_and_order_without_repeats() -> None:
    index = index_of("I moved to Lisbon with my sisters")
    assert index.search("Sister, sister! MOVING Lisbon")[0].words == ("Sister", "MOVING", "Lisbon")


def test_function_words_of_the_questions_language_find_nothing() -> None:
    index = index_of("the die is cast", A_GERMAN_SENTENCE)
    assert found(index, "Wo ist die Schwester?") == [1]


@pytest.mark.parametrize(
    ("you", "i", "text"),
    [
        ("what did you say of the boiler", "what did I say of the boiler", "the boiler hums"),
        ("was hast du zum Boiler gesagt", "was habe ich zum Boiler gesagt", "der Boiler brummt"),
        ("你怎么说锅炉的", "我怎么说锅炉的", "锅炉整晚响"),
    ],
)
def test_a_question_that_says_you_holds_nothing_against_what_the_companion_said(you: str, i: str, text: str) -> None:
    index = index_of(A_GERMAN_SENTENCE, "我昨天搬到了里斯本")
    index.add(
        Document(row=row, id=bytes([row]) * 16, kind="message", text=text, at_us=row, role=role)
        for row, role in ((8, "user"), (9, "assistant"))
    )

    def lifted(question: str) -> dict[int, bool]:
        return {hit.row: hit.same_speaker for hit in index.search(question) if hit.row >= 8}

    assert lifted(you) == {8: False, 9: False}
    assert lifted(i) == {8: True, 9: False}
