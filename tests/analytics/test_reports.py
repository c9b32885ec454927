"""Each report against a small life whose answers can be counted by hand."""

from datetime import date, datetime, timedelta, timezone

import pytest

from aico.analytics.plot import plot
from aico.data.conversations import Message
from aico.errors import InvalidInput, NotFound
from tests.analytics.conftest import DAY, HOUR, NOON

pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")

LISBON = timezone(timedelta(hours=1))


@pytest.fixture
def life(vault):
    """Two Fridays and a Saturday in two conversations, a fact, marks and feedback."""
    minute = timedelta(minutes=1)
    at = NOON.astimezone(LISBON)
    messages = [
        Message("Where are the figs?", conversation="c1", speaker="Mia", at=at),
        Message("In the garden.", role="assistant", conversation="c1", at=at + minute),
        Message("Thanks!", conversation="c1", at=at + 3 * minute),
        Message("Are they ripe?", conversation="c1", at=at + 7 * DAY),
        Message("Hello", conversation="c2", at=at + DAY + 11 * HOUR + 30 * minute),
    ]
    ids = vault.memory.record_many("mia", messages)
    vault.conversations.set_title("mia", "c1", "Figs")
    fact = vault.memory.remember("mia", "Mia likes figs", category="food")
    vault.album.tone("mia", ids[0], "warm")
    vault.album.tone("mia", fact, "warm")
    for value in (2, 5):
        vault.feedback.record("mia", "rating", "message_quality", message=ids[1], value=value)
    return vault


def rows(vault, name, **options):
    return vault.analytics.report(name, "mia", **options).answer.rows


def test_activity_counts_by_the_authors_day(life):
    assert rows(life, "activity") == [
        (date(2026, 5, 8), 3, 2, 1),
        (date(2026, 5, 10), 1, 1, 0),  # half past midnight in Lisbon, still the day before in UTC
        (date(2026, 5, 15), 1, 1, 0),
    ]
    assert rows(life, "activity", by="week")[0] == (date(2026, 5, 4), 4, 3, 1)
    assert rows(life, "activity", by="month") == [(date(2026, 5, 1), 5, 4, 1)]


def test_rhythm_has_a_row_a_weekday_and_a_column_an_hour(life):
    assert [(row[0], row[1 + 13], row[1 + 0]) for row in rows(life, "rhythm")] == [("Friday", 4, 0), ("Sunday", 0, 1)]


def test_conversations_have_lengths_episodes_and_pauses(life):
    assert rows(life, "conversations") == [("Figs", 4, 2, 7, 90.0), ("c2", 1, 1, 0, None)]


def test_days_of_a_conversation_are_those_of_the_authors_clock(vault):
    new_york = timezone(timedelta(hours=-4))

    def said(conversation, *at):
        return [Message("hi", conversation=conversation, at=datetime(2026, 5, *when, tzinfo=new_york)) for when in at]

    evening = said("evening", (8, 19, 0), (8, 20, 30))  # over midnight in UTC alone
    night = said("night", (9, 23, 30), (10, 0, 30), (10, 0, 40))  # over midnight in New York alone
    vault.memory.record_many("mia", evening + night)
    assert [(row[0], row[3]) for row in rows(vault, "conversations")] == [("night", 1), ("evening", 0)]


def test_gaps_say_how_long_the_person_stayed_away(life):
    assert rows(life, "gaps") == [("to 3 days", 1), ("to a week", 1)]


def test_tones_and_satisfaction_and_growth(life):
    assert rows(life, "tones") == [(date(2026, 5, 1), "warm", 2)]
    assert rows(life, "satisfaction", by="month") == [(date(2026, 5, 1), 2, 3.5, 0, 0)]
    assert [row[:3] for row in rows(life, "growth")] == [(date(2026, 5, 1), 5, 1)]


def test_what_was_rated_helpful_or_not_is_counted_as_rating_writes_it(life):
    [hit, *_] = life.memory.recall("mia", "figs")
    life.memory.rate("mia", hit.id, helpful=False)
    life.memory.rate("mia", hit.id, helpful=False)
    life.memory.rate("mia", hit.id, helpful=True)
    life.feedback.record("mia", "signal", "helpful", hit=hit.id)
    [(_, events, _, helpful, not_helpful)] = rows(life, "satisfaction", by="month")
    assert (events, helpful, not_helpful) == (6, 1, 2)


def test_retention_says_nothing_of_months_that_have_not_gone_by(life):
    assert rows(life, "retention") == [(date(2026, 5, 1), 2, None, None, None, None, None)]
    life.memory.record("mia", "Again", conversation="c1", at=NOON + 40 * DAY)
    assert rows(life, "retention") == [(date(2026, 5, 1), 2, 0.5, None, None, None, None)]


def test_storage_counts_rows_and_bytes(life):
    found = {kind: (count, size) for kind, count, size in rows(life, "storage")}
    assert found["messages"] == (
        5,
        sum(map(len, ("Where are the figs?", "In the garden.", "Thanks!", "Are they ripe?", "Hello"))),
    )
    assert found["facts"][0] == 1


def test_recalls_are_counted_and_what_was_not_found_is_kept_in_its_words(life):
    life.memory.recall("mia", "where are the figs?")
    for _ in range(2):
        life.memory.recall("mia", "zyzzyva")
    [(day, recalls, p50, p95, _, unanswered)] = rows(life, "recall")
    assert (day, recalls, unanswered) == (NOON.date(), 3, 2)
    assert 0 < p50 <= p95
    assert [row[:2] for row in rows(life, "unanswered")] == [("zyzzyva", 2)]
    life.memory.record("mia", "a zyzzyva is a weevil", conversation="c3")
    life.memory.forget("mia", about="zyzzyva")
    assert rows(life, "unanswered") == []


def test_topics_are_named_by_their_own_words(life):
    talk = [f"the garden has {fruit} trees and garden beds" for fruit in ("fig", "apple", "pear")] * 5
    talk += [f"the ship sails to {place} with a full sail" for place in ("Porto", "Rome", "Oslo")] * 5
    life.memory.record_many(
        "mia", [Message(text, conversation="talk", at=NOON + n * HOUR) for n, text in enumerate(talk)]
    )
    with pytest.raises(NotFound):
        life.analytics.topics("nobody")
    life.views.wait()
    found = life.analytics.topics("mia").answer
    names = {topic for _, topic, _ in found.rows}
    assert sum(count for _, _, count in found.rows) == len(talk) + 5
    assert any("garden" in name for name in names) and any("sail" in name or "ship" in name for name in names)
    assert found.rows == life.analytics.topics("mia").answer.rows


def test_a_report_that_is_not_there_or_cut_wrongly_is_refused(life):
    for name, options in (("nonsense", {}), ("activity", {"by": "minute"}), ("rhythm", {"by": "day"})):
        with pytest.raises(InvalidInput):
            life.analytics.report(name, "mia", **options)
    with pytest.raises(NotFound):
        life.analytics.report("activity", "nobody")


@pytest.mark.parametrize("name", ["activity", "rhythm", "conversations", "tones", "recall"])
@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_report_is_drawn_into_a_private_file_of_its_own(life, tmp_path, name, suffix, begins):
    life.memory.recall("mia", "figs")
    report = life.analytics.report(name, "mia")
    file = tmp_path / f"picture{suffix}"
    plot(report, file)
    assert file.read_bytes().startswith(begins)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidInput):
        plot(report, file)
    with pytest.raises(InvalidInput):
        plot(report, tmp_path / "picture.pdf")
