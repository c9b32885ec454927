"""The Memory Album: what was said by day and month, and marks on messages."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from aico.audit import sampled_content
from aico.data.facts import Proposal
from aico.errors import InvalidInput, NotFound
from aico.testing import FixedClock, temporary_vault

NOON = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def vault():
    with temporary_vault(clock=FixedClock(NOON)) as vault:
        yield vault


def say(vault, text, at=NOON, **more):
    return vault.memory.record("nell", text, conversation=more.pop("conversation", "c"), at=at, **more)


def test_the_timeline_counts_messages_by_their_authors_day_and_facts_by_the_users(vault):
    late_in_lisbon = datetime(2026, 4, 30, 23, 30, tzinfo=timezone(timedelta(hours=1)))  # still 30 April there
    say(vault, "one", at=late_in_lisbon)
    say(vault, "two", at=datetime(2026, 5, 1, 0, 30, tzinfo=UTC))
    say(vault, "three", at=NOON, conversation="d")
    say(vault, "long ago", at=datetime(1969, 12, 31, 23, 0, tzinfo=UTC))
    vault.memory.remember("nell", "Nell counts")
    vault.memory.record("otto", "another's", conversation="c", at=NOON)
    days = vault.album.timeline("nell")
    assert [(span.start, span.messages, span.facts) for span in days] == [
        (date(2026, 5, 8), 1, 1),
        (date(2026, 5, 1), 1, 0),
        (date(2026, 4, 30), 1, 0),
        (date(1969, 12, 31), 1, 0),
    ]
    months = vault.album.timeline("nell", by="month", since=datetime(2026, 1, 1, tzinfo=UTC))
    assert [(span.start, span.messages, span.facts) for span in months] == [
        (date(2026, 5, 1), 2, 1),
        (date(2026, 4, 1), 1, 0),
    ]
    vault.connection.execute("UPDATE users SET time_zone = 'Pacific/Kiritimati' WHERE name = 'nell'")  # UTC+14
    assert vault.album.timeline("nell")[0].start == date(2026, 5, 9)
    assert vault.album.timeline("a stranger") == []
    with pytest.raises(InvalidInput):
        vault.album.timeline("nell", by="year")


def test_messages_are_marked_and_found_by_their_marks(vault):
    first, second, third = (say(vault, text, at=NOON + n * DAY) for n, text in enumerate(["one", "two", "three"]))
    vault.album.favourite("nell", first)
    vault.album.note("nell", second, "the day it snowed")
    vault.album.tone("nell", second, "joyful")
    vault.album.tag("nell", second, "snow", "snow", "Otto")
    vault.album.visit("nell", second)
    vault.album.visit("nell", second)
    kept = vault.album.get("nell", second)
    assert (kept.text, kept.marks.note, kept.marks.tone, kept.marks.tags) == (
        "two",
        "the day it snowed",
        "joyful",
        ("Otto", "snow"),
    )
    assert (kept.marks.visits, kept.marks.last_visit_at) == (2, NOON)

    def found(**filters):
        return [moment.id for moment in vault.album.messages("nell", **filters)]

    assert found() == [third, second, first]
    assert found(limit=1, offset=1) == [second]
    assert found(favourite=True) == [first]
    assert found(favourite=False) == [third, second]
    assert found(noted=True) == found(tag="snow") == [second]
    assert found(tag="snow", favourite=True) == found(conversation="elsewhere") == []
    assert found(since=NOON + DAY, until=NOON + 2 * DAY) == [second]
    assert vault.album.messages("a stranger") == []
    vault.album.note("nell", second, None)
    vault.album.untag("nell", second, "snow")
    assert vault.album.get("nell", second).marks.tags == ("Otto",)
    assert found(noted=True) == []


def test_a_message_shows_the_believed_facts_that_were_drawn_from_it(vault):
    message = say(vault, "I play the viola and the piano.")
    fact = vault.memory.remember("nell", "Nell plays the viola", source=message)
    wrong = vault.memory.remember("nell", "Nell plays the cello", source=message)
    vault.facts.retract("nell", wrong)
    vault.facts.propose("nell", "Nell plays the piano", message=message, model="tiny")
    [kept] = vault.album.list_of("nell", [message, "0" * 32, fact])
    assert kept.facts == (fact,)
    assert vault.album.list_of("otto", [message]) == []


def test_marks_of_what_is_not_there_or_not_readable_are_refused(vault):
    message = say(vault, "one")
    fact = vault.memory.remember("nell", "Nell counts")
    vault.album.tag("nell", fact, "numbers")
    assert [(one.name, one.count) for one in vault.album.tags("nell")] == [("numbers", 1)]
    with pytest.raises(NotFound):
        vault.album.get("nell", fact)
    with pytest.raises(NotFound):
        vault.album.visit("nell", "0" * 32)
    for wrong in (
        lambda: vault.album.note("nell", message, " "),
        lambda: vault.album.tag("nell", message, "two\nlines"),
        lambda: vault.album.tone("nell", message, ""),
    ):
        with pytest.raises(InvalidInput):
            wrong()


def test_no_mark_shows_in_a_repr(vault):
    message = say(vault, "a secret word")
    vault.album.note("nell", message, "a secret note")
    vault.album.tag("nell", message, "secret")
    fact = vault.memory.remember("nell", "a secret fact", source=message, category="secrets")
    shown = repr(vault.album.get("nell", message)) + repr(vault.facts.history("nell", fact))
    shown += repr(Proposal("a secret fact", message, "model", category="secrets"))
    assert "secret" not in shown


def test_notes_are_among_what_a_leak_audit_searches_for(vault):
    message = say(vault, "x")
    vault.album.note("nell", message, "nobody else may read this")
    assert any(piece in "nobody else may read this" for piece in sampled_content(vault.connection, 10))
