"""Questions that found nothing are kept for their person, and never outlive what they asked about."""

import aico
from aico.testing import PASSPHRASE, cheap_settings


def questions(vault):
    vault.memory._recall_log.flush()
    return [row["question"] for row in vault.analytics.unanswered("mia").answer.records()]


def opened(folder):
    return aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings())


def test_a_question_without_an_answer_is_kept_in_its_words_and_others_are_not(tmp_path):
    with opened(tmp_path / "vault") as vault:
        said = [
            "The café by the canal is called Zwirn.",
            *(f"On day {number} we planted beans." for number in range(60)),
        ]
        vault.memory.record_many("mia", [aico.Message(text, conversation="c") for text in said])
        vault.memory.recall("mia", "what was the name of the café by the canal?")
        vault.memory.recall("mia", "who mends bicycles?")
        assert questions(vault) == ["who mends bicycles?"]


def test_what_waits_to_be_written_is_not_once_something_was_forgotten_by_another_process_too(tmp_path):
    with opened(tmp_path / "vault") as vault, opened(tmp_path / "vault") as other:
        vault.memory.record("mia", "I will ask Ottilie for the parrot.", conversation="c")
        vault.memory.recall("mia", "Ottilie parrot allergy", kinds=("fact",))
        other.memory.forget("mia", about="parrot")
        assert questions(vault) == []
        vault.memory.recall("mia", "who mends bicycles?")
        assert questions(vault) == ["who mends bicycles?"]


def test_a_question_is_not_written_when_it_was_forgotten_about_in_the_middle_of_its_recall(tmp_path):
    with opened(tmp_path / "vault") as vault, opened(tmp_path / "vault") as other:
        vault.memory.record("mia", "I will ask Ottilie for the parrot.", conversation="c")
        search = vault.memory._semantic.search

        def slow_search(*given, **named):
            hits = search(*given, **named)
            other.memory.forget("mia", about="parrot")
            return hits

        vault.memory._semantic.search = slow_search
        vault.memory.recall("mia", "Ottilie parrot allergy", kinds=("fact",))
        assert questions(vault) == []
