"""When is meant: phrases of five languages, and what they do to a recall."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec

import pytest

import aico
from aico.ai.memory.index.when import DAY_US, Beside, beside_meant, window_meant
from aico.clock import to_us
from aico.testing import FixedClock, cheap_settings, temporary_vault

NOW = datetime(2024, 6, 12, 10, tzinfo=UTC)  # a Wednesday
needs_dates = pytest.mark.skipif(find_spec("dateparser") is None, reason="needs the extra aico[dates]")
SEASONS = [
    ("en", "what did we talk about last spring?", "March–May 2024"),
    ("en", "last winter", "December 2023–February 2024"),
    ("en", "the summer of 2022", "June–August 2022"),
    ("de", "was war letzten sommer?", "June–August 2023"),
    ("fr", "où étais-je l'été dernier ?", "June–August 2023"),
    ("es", "el verano pasado", "June–August 2023"),
    ("zh", "去年夏天我们聊了什么", "June–August 2023"),
]
PHRASES = [
    ("en", "what did i say in may 2023?", "May 2023"),
    ("en", "what did i say yesterday?", "11 June 2024"),
    ("en", "two weeks ago", "27 May–2 June 2024"),
    ("en", "on 2023-05-08", "8 May 2023"),
    ("en", "in may", "May 2024"),
    ("en", "in july", "July 2023"),
    ("en", "what happened in 2023?", "2023"),
    ("de", "gestern", "11 June 2024"),
    ("de", "im mai 2023", "May 2023"),
    ("de", "vor zwei wochen", "27 May–2 June 2024"),
    ("fr", "la semaine dernière", "3–9 June 2024"),
    ("fr", "il y a trois jours", "9 June 2024"),
    ("es", "en mayo de 2023", "May 2023"),
    ("es", "hace dos semanas", "27 May–2 June 2024"),
    ("zh", "上个月", "May 2024"),
    ("zh", "三天前", "9 June 2024"),
    ("zh", "2023年5月", "May 2023"),
]
NONE = [
    ("en", "when did i move?"),
    ("en", "what did may say about the march?"),
    ("en", "who won 2023 points?"),
    ("en", "flat 12"),
    ("de", "was steht hier?"),
    ("fr", "quand ai-je déménagé ?"),
    ("zh", "我什么时候搬家"),
    ("", "yesterday"),
]


@pytest.mark.parametrize(("code", "text", "window"), SEASONS)
def test_a_season_is_a_window(code: str, text: str, window: str) -> None:
    assert str(window_meant(text, code, to_us(NOW))) == window


@needs_dates
@pytest.mark.parametrize(("code", "text", "window"), PHRASES)
def test_a_phrase_is_a_window_each_time(code: str, text: str, window: str) -> None:
    assert {str(window_meant(text, code, to_us(NOW))) for _ in range(3)} == {window}


@pytest.mark.parametrize(("code", "text"), NONE)
def test_no_time_is_named(code: str, text: str) -> None:
    assert window_meant(text, code, to_us(NOW)) is None


AT_THE_ENDS = (
    *("this winter", "last winter", "last spring", "12 years ago", "yesterday", "today", "this week", "last week"),
    *("tomorrow", "this month", "last month", "this year", "last year", "last monday", "in december"),
)


@pytest.mark.parametrize("at", [datetime.min, datetime(1, 1, 3), datetime(9999, 12, 30), datetime.max])
@pytest.mark.parametrize("text", AT_THE_ENDS)
def test_the_first_and_the_last_year_of_all_are_no_trouble(at: datetime, text: str) -> None:
    window = window_meant(text, "en", to_us(at.replace(tzinfo=UTC)))
    assert window is None or (window.since_us < window.until_us and str(window))


def test_a_time_outside_the_calendar_is_no_time_that_is_meant() -> None:
    last = to_us(datetime.max.replace(tzinfo=UTC))
    assert window_meant("this winter", "en", last) is None
    assert str(window_meant("last winter", "en", last)) == "December 9998–February 9999"
    assert Beside("the wedding", 14, 7).window(last // DAY_US) is None
    assert Beside("the wedding", -14, 7).window(to_us(datetime.min.replace(tzinfo=UTC)) // DAY_US) is None
    with temporary_vault() as vault:
        for at in (datetime.min, datetime.max):
            vault.memory.record("mia", "It snowed at the wedding.", conversation="c", at=at.replace(tzinfo=UTC))
        for asked in ("this winter", "what was two weeks after the wedding?", "what was two weeks before the wedding?"):
            for as_of in (datetime.min, datetime.max):
                vault.memory.recall("mia", asked, as_of=as_of.replace(tzinfo=UTC))


def test_recall_prefers_what_is_of_the_time_asked_about(tmp_path) -> None:
    with aico.open(tmp_path / "vault", passphrase="spring comes", settings=cheap_settings()) as vault:
        for month in (9, 4, 12):
            at = datetime(2023 if month != 4 else 2024, month, 10, tzinfo=UTC)
            vault.memory.record("mia", "I walked along the river with my sister.", conversation=f"c{month}", at=at)
        asked = vault.memory.recall("mia", "Where did I walk last spring with my sister?", as_of=NOW)
        assert asked[0].at.month == 4
        assert "from the time asked about: March–May 2024" in asked[0].why
        assert not any("time asked about" in hit.why for hit in asked[1:])
        plain = vault.memory.recall("mia", "Where did I walk with my sister?", as_of=NOW)
        assert not any("time asked about" in hit.why for hit in plain)


@pytest.mark.parametrize(
    ("code", "text", "event", "window"),
    [
        ("en", "what did i buy two weeks before the wedding?", "the wedding", "26 May–1 June 2024"),
        ("en", "who came the day after the wedding", "the wedding", "13 June 2024"),
        ("en", "3 months after the move, or so?", "the move", "27 August–25 September 2024"),
        ("de", "was kaufte ich zwei wochen vor der hochzeit?", "der hochzeit", "26 May–1 June 2024"),
        ("de", "am tag nach der hochzeit", "", ""),
        ("de", "was war drei tage nach dem umzug?", "dem umzug", "15 June 2024"),
        ("fr", "qu'ai-je acheté deux semaines avant le mariage ?", "le mariage ", "26 May–1 June 2024"),
        ("es", "¿qué compré dos semanas antes de la boda?", "de la boda", "26 May–1 June 2024"),
        ("zh", "婚礼前两周我买了什么", "婚礼", "26 May–1 June 2024"),
        ("en", "two weeks ago", "", ""),
        ("en", "the day before", "", ""),
        ("en", "the day after tomorrow", "", ""),
        ("", "two weeks before the wedding", "", ""),
    ],
)
def test_a_time_may_be_told_by_what_happened(code: str, text: str, event: str, window: str) -> None:
    beside = beside_meant(text, code)
    assert (beside.event if beside else "") == event
    assert (str(beside.window(to_us(NOW) // DAY_US)) if beside else "") == window


def test_recall_finds_what_was_two_weeks_before_something(tmp_path) -> None:
    """It is counted from the day on which most was said of it, not from when it was planned or remembered."""
    wedding = datetime(2024, 6, 1, 12, tzinfo=UTC)
    said = [
        (-90, "We plan the wedding for June."),
        (0, "The wedding was today!"),
        (0, "Everybody danced at the wedding."),
    ]
    said += [
        (30, "I miss the wedding."),
        (-60, "I bought shoes."),
        (-14, "I bought shoes in Porto."),
        (20, "I bought shoes."),
    ]
    with aico.open(tmp_path / "vault", passphrase="they danced", settings=cheap_settings()) as vault:
        for days, text in said:
            vault.memory.record("mia", text, conversation=f"{days}", at=wedding + timedelta(days=days))
        asked = vault.memory.recall(
            "mia", "Which shoes had I bought two weeks before the wedding in Paris?", as_of=NOW + timedelta(days=60)
        )
        shoes = [hit for hit in asked if "shoes" in hit.text]
        assert shoes[0].text == "I bought shoes in Porto."
        assert "from the time asked about: 15–21 May 2024" in shoes[0].why
        never = vault.memory.recall("mia", "Which shoes had I bought two weeks before the flood?", as_of=NOW)
        assert not any("time asked about" in hit.why for hit in never)


@needs_dates
def test_a_kept_context_of_yesterday_is_not_shown_today(tmp_path) -> None:
    clock = FixedClock(NOW)
    with aico.open(
        tmp_path / "vault", passphrase="days pass", settings=replace(cheap_settings(), clock=clock)
    ) as vault:
        days = [NOW - timedelta(days=1), NOW]
        for at in days:
            vault.memory.record("mia", "I walked along the river.", conversation=at.isoformat(), speaker="Mia", at=at)

        def day_shown() -> date:
            [item] = vault.memory.context("mia", "Where did I walk yesterday?", token_budget=24).items
            return item.at.date()

        assert day_shown() == days[0].date()
        clock.move(timedelta(hours=20))
        assert day_shown() == days[1].date()
