"""Schedules: what they read, and when they come due across changes of the clocks."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.clock import from_us, to_us
from aico.data.schedules import parse_schedule
from aico.errors import InvalidInput


def due(schedule: str, after: datetime, count: int = 1) -> list[datetime]:
    parsed, found = parse_schedule(schedule), [after]
    for _ in range(count):
        found.append(from_us(parsed.next_after(to_us(found[-1]))))
    return found[1:]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(
    seconds=st.integers(1, 10**9), at=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))
)
def test_an_interval_is_read_back_as_it_is_written_and_counts_from_now(seconds, at):
    schedule = parse_schedule(f"every {seconds}s")
    assert parse_schedule(str(schedule)) == schedule
    assert from_us(schedule.next_after(to_us(at))) == at + timedelta(seconds=seconds)


def test_a_single_instant_comes_once():
    schedule = parse_schedule("once 2026-05-08T19:30+02:00")
    assert from_us(schedule.next_after(to_us(utc("2026-05-08T17:29:59")))) == utc("2026-05-08T17:30")
    assert schedule.next_after(to_us(utc("2026-05-08T17:30"))) is None
    assert parse_schedule(str(schedule)) == schedule


@pytest.mark.usefixtures("cron")
def test_what_falls_into_the_hour_left_out_runs_right_after_it():
    # In Berlin 2026-03-29 has no 02:30: at 02:00 (01:00 UTC) it becomes 03:00.
    assert due("cron 30 2 * * * Europe/Berlin", utc("2026-03-28T12:00"), 2) == [
        utc("2026-03-29T01:00"),
        utc("2026-03-30T00:30"),
    ]


@pytest.mark.usefixtures("cron")
def test_what_falls_into_the_hour_that_comes_twice_runs_once():
    # 2026-10-25, 02:30 comes twice in Berlin.
    assert due("cron 30 2 * * * Europe/Berlin", utc("2026-10-24T12:00"), 2) == [
        utc("2026-10-25T00:30"),
        utc("2026-10-26T01:30"),
    ]


@pytest.mark.usefixtures("cron")
def test_every_hour_goes_by_elapsed_time_across_both_changes():
    for start in ("2026-03-28T22:30", "2026-10-24T22:30"):
        found = due("cron 0 * * * * Europe/Berlin", utc(start), 6)
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=1)}


@pytest.mark.usefixtures("cron")
def test_a_cron_schedule_is_utc_unless_it_says_otherwise():
    assert due("cron 0 3 * * MON", utc("2026-11-23T12:00")) == [utc("2026-11-30T03:00")]


@pytest.mark.parametrize(
    "text",
    ["", "sometimes", "every", "every 0s", "every -1s", "every 5 weeks", "every 99999999d", "once", "once tomorrow",
     "once 2026-05-08T19:30", "cron * * * *", "cron 0 3 * * * Nowhere/At_All", "cron 0 3 * * * ../../etc/passwd", None],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(InvalidInput) as refused:
        parse_schedule(text)
    assert "every 15m" in refused.value.hint


@pytest.mark.usefixtures("cron")
@pytest.mark.parametrize("fields", ["61 * * * *", "0 0 30 2 *", "x * * * *"])
def test_a_cron_expression_that_never_comes_is_refused_when_it_is_asked(fields):
    with pytest.raises(InvalidInput):
        parse_schedule(f"cron {fields}").next_after(to_us(utc("2026-01-01T00:00")))
