"""What a caller of `RecallIndex` may rely on."""

import threading
from dataclasses import replace

import pytest

from aico.ai.memory.index import FACT, Document, Filter, RecallIndex

HOUR_US = 3_600_000_000
NOON = 1_683_547_200_000_000  # 8 May 2023, 12:00 UTC


def a_message(number: int, text: str, **more: object) -> Document:
    """A message of one conversation, a minute after the one numbered before it."""
    told: dict[str, object] = {"at_us": NOON + number * 60_000_000, "conversation": b"c" * 16, **more}
    return Document(row=number, id=number.to_bytes(16, "big"), kind="message", text=text, **told)  # type: ignore[arg-type]


def a_fact(number: int, text: str, **more: object) -> Document:
    told: dict[str, object] = {"at_us": NOON, **more}
    return Document(row=number, id=number.to_bytes(16, "big"), kind=FACT, text=text, **told)  # type: ignore[arg-type]


def index_of(*texts: str | Document) -> RecallIndex:
    index = RecallIndex()
    index.add(a_message(number, text) if isinstance(text, str) else text for number, text in enumerate(texts))
    return index


def rows(index: RecallIndex, query: str, **more: object) -> list[int]:
    return [hit.row for hit in index.search(query, **more)]  # type: ignore[arg-type]


def apart(*texts: str) -> list[Document]:
    """Messages that stand alone, each a day after the last."""
    return [a_message(number, text, at_us=NOON + number * 24 * HOUR_US) for number, text in enumerate(texts)]


def test_a_message_is_found_by_an_inflected_word() -> None:
    index = index_of(*apart("I moved to Lisbon in spring.", "The weather is nice today."))
    assert rows(index, "When are you moving?") == [0]


def test_an_empty_index_finds_nothing() -> None:
    assert RecallIndex().search("anything") == []
    assert len(RecallIndex()) == 0


def test_a_question_none_of_whose_words_is_there_finds_nothing() -> None:
    assert index_of("I moved to Lisbon.").search("zebra crossing") == []


@pytest.mark.parametrize("query", ["", "   ", "\x00", "😀🎉", "?!", "\ud800", "❤️"])
def test_a_question_without_words_finds_nothing(query: str) -> None:
    assert index_of("I moved to Lisbon.", "😀🎉", "\x00").search(query) == []


def test_a_question_of_function_words_only_is_answered_by_them() -> None:
    index = index_of(*apart("To be or not to be.", "Lisbon, next spring."))
    assert rows(index, "to be or not to be") == [0]


def test_a_question_of_one_letter_finds_it() -> None:
    index = index_of(*apart("Vitamin K is low.", "Vitamin D is fine."))
    assert rows(index, "K") == [0]


@pytest.mark.parametrize("strange", ["a\x00b \x01 Lisbon", "\ud800 Lisbon", "😀 Lisbon 😀", "Lisbon " + "\u0301" * 500])
def test_strange_characters_do_not_hide_the_words_beside_them(strange: str) -> None:
    assert rows(index_of(strange), "Lisbon \udfff\x02") == [0]


def test_a_text_of_ten_megabytes_is_found() -> None:
    index = index_of("needle " + "hay stack " * 1_000_000)
    assert rows(index, "needle") == [0]


def test_a_replaced_message_is_found_by_its_new_words_only() -> None:
    index = index_of("I live in Lisbon.")
    index.add([a_message(0, "I live in Porto.")])
    assert rows(index, "Lisbon") == []
    assert rows(index, "Porto") == [0]
    assert len(index) == 1


def test_of_two_messages_with_one_id_in_one_call_the_later_counts() -> None:
    index = RecallIndex()
    index.add([a_message(0, "Lisbon"), a_message(0, "Porto")])
    assert (rows(index, "Lisbon"), rows(index, "Porto"), len(index)) == ([], [0], 1)


def test_a_removed_message_is_gone_at_once_and_unknown_ids_are_ignored() -> None:
    index = index_of("Lisbon once", "Lisbon twice")
    index.remove([(0).to_bytes(16, "big"), b"?" * 16])
    assert rows(index, "Lisbon") == [1]
    assert len(index) == 1
    assert (0).to_bytes(16, "big") not in index
    assert (1).to_bytes(16, "big") in index


def test_many_removed_messages_leave_no_trace_of_their_words_in_memory() -> None:
    index = RecallIndex()
    index.add(a_message(number, f"secret{number} lisbon") for number in range(2_000))
    index.remove(number.to_bytes(16, "big") for number in range(1, 2_000))
    assert rows(index, "Lisbon") == [0]
    assert "secret1999" not in repr(list(index._inverted._numbering))


def test_a_document_that_cannot_be_held_changes_nothing() -> None:
    index = index_of("Lisbon once")
    with pytest.raises(OverflowError):
        index.add([a_message(0, "Porto"), a_message(1, "Porto", at_us=2**70)])
    assert (rows(index, "Lisbon"), rows(index, "Porto"), len(index)) == ([0], [], 1)
    index.add([a_message(1, "Porto")])
    assert rows(index, "Porto") == [1, 0]


def test_a_whole_text_can_be_put_as_a_question() -> None:
    index = index_of(*apart("Lisbon once", "nothing"))
    assert rows(index, "lisbon " + " ".join(f"word{number}" for number in range(3_000))) == [0]


def test_no_more_hits_come_than_asked_for_and_more_are_a_longer_list_of_the_same() -> None:
    index = index_of(*apart(*(f"lisbon number{number}" for number in range(30))))
    assert index.search("lisbon", limit=5) == index.search("lisbon", limit=20)[:5]
    assert index.search("lisbon", limit=0) == []


def test_scores_fall_with_rank_and_stay_between_zero_and_one() -> None:
    index = index_of("Lisbon is sunny", "my sister moved to Lisbon", "what did she pack?", "Lisbon Lisbon moved sister")
    scores = [hit.score for hit in index.search("When did my sister move to Lisbon?")]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)


def test_a_question_with_words_nobody_said_scores_lower() -> None:
    index = index_of(*apart("my sister moved to Lisbon", "nothing else here"))
    known = index.search("sister Lisbon")[0].score
    assert index.search("sister Lisbon zebra crossing")[0].score < known


def test_a_hit_names_the_words_it_holds_as_the_question_wrote_them() -> None:
    index = index_of(*apart("My sister moved to Lisbon."))
    assert index.search("LISBON: who moves there? sisters!")[0].words == ("LISBON", "moves", "sisters")


def test_an_answer_is_lifted_by_the_question_before_it() -> None:
    index = index_of("What colour is your bicycle?", "Red, with a little bell.", "Nice.")
    hits = {hit.row: hit for hit in index.search("bicycle colour")}
    assert hits[1].words == ()
    assert hits[1].neighbours == (((0).to_bytes(16, "big"), ("bicycle", "colour")),)


def test_a_message_after_a_long_pause_is_not_lifted() -> None:
    later = a_message(1, "Red, with a little bell.", at_us=NOON + 4 * HOUR_US)
    assert rows(index_of(a_message(0, "What colour is your bicycle?"), later), "bicycle colour") == [0]


def test_a_message_of_another_conversation_is_not_lifted() -> None:
    other = a_message(1, "Red, with a little bell.", conversation=b"d" * 16)
    assert rows(index_of(a_message(0, "What colour is your bicycle?"), other), "bicycle colour") == [0]


def test_removing_the_message_between_two_makes_them_neighbours() -> None:
    index = index_of("bicycle", "x", "y", "z")
    assert rows(index, "bicycle") == [0, 1, 2]
    index.remove([(1).to_bytes(16, "big")])
    assert rows(index, "bicycle") == [0, 2, 3]


def test_removing_the_only_bridge_over_a_pause_parts_the_episode() -> None:
    index = index_of(
        a_message(0, "bicycle"),
        a_message(1, "x", at_us=NOON + 2 * HOUR_US),
        a_message(2, "y", at_us=NOON + 4 * HOUR_US),
    )
    assert rows(index, "bicycle") == [0, 1, 2]
    index.remove([(1).to_bytes(16, "big")])
    assert rows(index, "bicycle") == [0]


def test_a_message_that_arrives_late_takes_its_place_in_the_conversation() -> None:
    index = index_of("bicycle", "b", "c")
    index.add([replace(a_message(9, "late"), at_us=NOON + 1)])
    assert rows(index, "bicycle") == [0, 9, 1]


def test_what_the_asker_said_comes_first_when_they_ask_about_themselves() -> None:
    index = index_of(
        a_message(0, "I like tennis", role="user", at_us=NOON),
        a_message(1, "I like tennis", role="assistant", at_us=NOON + 24 * HOUR_US),
    )
    first, second = index.search("What do I like?")
    assert (first.row, first.same_speaker, second.same_speaker) == (0, True, False)


def test_what_a_person_said_comes_first_when_the_question_names_them() -> None:
    index = index_of(
        a_message(0, "I like tennis", role="x", speaker="Ana Costa", at_us=NOON),
        a_message(1, "I like tennis", role="x", speaker="Rui", at_us=NOON + 24 * HOUR_US),
    )
    first, second = index.search("Does ana like tennis?")
    assert (first.row, first.same_speaker, second.same_speaker) == (0, True, False)


def test_a_message_is_found_by_its_day_month_and_year_on_its_authors_clock() -> None:
    index = index_of(
        a_message(0, "We met.", at_us=NOON + 11 * HOUR_US, utc_offset_min=120),
        a_message(1, "We met.", at_us=NOON + 11 * HOUR_US, utc_offset_min=-120, conversation=b"d" * 16),
    )
    for query in ("9 May 2023", "on May 9th", "2023-05-09", "2023年5月9日", "9. Mai 2023"):
        assert rows(index, query)[0] == 0, query
    for query in ("8 May 2023", "on May 8th", "2023-05-08"):
        assert rows(index, query)[0] == 1, query


def test_an_instant_no_calendar_has_is_searchable_by_words() -> None:
    assert rows(index_of(a_message(0, "far away", at_us=2**62)), "far") == [0]
    assert rows(index_of(a_message(0, "long ago", at_us=-(2**62))), "long") == [0]


def test_the_filter_keeps_to_a_conversation_a_kind_and_a_time() -> None:
    index = index_of(
        a_message(0, "Lisbon"),
        a_message(1, "Lisbon", conversation=b"d" * 16),
        a_fact(2, "Lisbon", at_us=NOON + HOUR_US),
    )
    assert rows(index, "Lisbon", where=Filter(conversation=b"d" * 16)) == [1]
    assert rows(index, "Lisbon", where=Filter(conversation=b"?" * 16)) == []
    assert rows(index, "Lisbon", where=Filter(kinds=frozenset({"fact"}))) == [2]
    assert rows(index, "Lisbon", where=Filter(since_us=NOON + HOUR_US)) == [2]
    assert rows(index, "Lisbon", where=Filter(until_us=NOON + 60_000_000)) == [0]


def test_the_filter_keeps_to_a_speaker_and_to_an_episode() -> None:
    bo, mia = a_message(0, "Lisbon", speaker="Bo"), a_message(1, "Lisbon", speaker="Mia")
    later = a_message(2, "Lisbon again", speaker="Bo", at_us=NOON + 24 * HOUR_US)
    index = index_of(bo, mia, later, a_fact(3, "Lisbon"))
    assert sorted(rows(index, "Lisbon", where=Filter(speaker="Bo"))) == [0, 2]
    assert rows(index, "Lisbon", where=Filter(speaker="Nobody")) == []
    assert sorted(rows(index, "Lisbon", where=Filter(episode_of=mia.id))) == [0, 1]
    assert rows(index, "Lisbon", where=Filter(episode_of=later.id)) == [2]
    assert rows(index, "Lisbon", where=Filter(episode_of=b"?" * 16)) == []
    assert rows(index, "Lisbon", where=Filter(episode_of=mia.id, speaker="Bo")) == [0]


def test_a_message_outside_the_filter_lifts_no_neighbour() -> None:
    index = index_of("bicycle colour", "Red.")
    assert index.search("bicycle", where=Filter(since_us=NOON + 1)) == []


def test_a_superseded_fact_is_only_recalled_as_of_its_time() -> None:
    index = index_of(
        a_fact(0, "lives in Porto", believed_from_us=100, believed_until_us=200),
        a_fact(1, "lives in Lisbon", believed_from_us=200),
    )
    assert rows(index, "lives") == [1]
    assert rows(index, "lives", where=Filter(as_of_us=199)) == [0]
    assert rows(index, "lives", where=Filter(as_of_us=200)) == [1]
    assert rows(index, "lives", where=Filter(as_of_us=99)) == []


def test_messages_said_after_an_instant_are_not_recalled_as_of_it() -> None:
    index = index_of("Lisbon first", "Lisbon second")
    assert rows(index, "Lisbon", where=Filter(as_of_us=NOON)) == [0]


def test_containing_all_finds_every_document_with_all_words_without_limit() -> None:
    index = index_of(*apart(*["We moved to Lisbon"] * 300, "Lisbon", "moving on"))
    assert len(index.containing_all("moving to Lisbon")) == 300
    assert len(index.containing_all("Lisbon", Filter(until_us=NOON + 1))) == 1
    assert index.containing_all("Lisbon Porto") == []


def test_containing_all_does_not_take_a_date_or_speaker_for_a_word_of_the_text() -> None:
    index = index_of(a_message(0, "We met.", speaker="May"), a_message(1, "May is lovely"), a_message(2, "2023 it was"))
    assert index.containing_all("May") == [(1).to_bytes(16, "big")]
    assert index.containing_all("2023") == [(2).to_bytes(16, "big")]


def test_containing_all_finds_facts_no_longer_believed() -> None:
    index = index_of(a_fact(0, "lives in Porto", believed_until_us=200))
    assert index.containing_all("Porto") == [(0).to_bytes(16, "big")]


@pytest.mark.parametrize("text", ["", "  ", "what is it", "?!"])
def test_a_text_without_content_words_is_contained_nowhere_and_says_so(text: str) -> None:
    index = index_of("what is it", "this is what it is")
    assert index.content_words(text) == ()
    assert index.containing_all(text) == []


def test_content_words_are_shown_as_they_were_written() -> None:
    assert index_of("hello there my friend").content_words("the Trip to LISBON") == ("Trip", "LISBON")


def test_no_text_shows_in_the_repr_of_a_document_or_a_hit() -> None:
    document = a_message(0, "canary", speaker="Canary")
    assert "anary" not in repr(document)
    assert "anary" not in repr(index_of(document).search("canary"))


def test_searching_adding_and_removing_from_several_threads_keeps_the_index_whole() -> None:
    index = index_of("lisbon")

    def work(worker: int) -> None:
        for number in range(worker * 1000 + 1, worker * 1000 + 60):
            index.add([a_message(number, f"lisbon word{number}")])
            assert index.search("lisbon")
            if number % 2:
                index.remove([number.to_bytes(16, "big")])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index) == 1 + 4 * 29
    assert len(index.containing_all("lisbon")) == len(index)


@pytest.mark.parametrize("question", ["When did we paint the kitchen?", "How often did we paint the kitchen?"])
def test_what_names_the_kind_of_thing_asked_for_comes_first(question: str) -> None:
    index = RecallIndex()
    index.add(
        apart(
            "we had to paint the kitchen once more",
            "we had to paint the kitchen in 2019",
            "we had to paint the kitchen once again",
        )
    )
    assert index.search(question)[0].row == 1


def test_a_reply_to_a_turn_that_asks_comes_before_what_follows_a_remark() -> None:
    asked, told = RecallIndex(), RecallIndex()
    for index, mark in ((asked, "?"), (told, ".")):
        index.add([a_message(0, f"the bicycle of your uncle{mark}"), a_message(1, "it is red and rather old")])
    scores = [{hit.row: hit.score for hit in index.search("bicycle")}[1] for index in (asked, told)]
    assert scores[0] > scores[1]
