"""One function for each question that a memory as a whole can answer. Each gives a table; none needs a language model.

Days, weeks and hours are those of the person's own clock: the author's for messages, that of the profile for the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from aico.ai.memory.recall_log import WEAK
from aico.analytics.view import ColumnView
from aico.data.duckdb import Answer
from aico.errors import InvalidInput

Span = Literal["day", "week", "month"]
Drawing = Literal["lines", "bars", "heat"]

EPISODE_GAP = "INTERVAL 3 HOURS"
"""A longer pause begins a new episode, as in recall."""


@dataclass(frozen=True, slots=True)
class Report:
    """A question's answer. The first column names the rows; `drawing` says how the rest is best looked at."""

    name: str
    title: str
    answer: Answer
    drawing: Drawing = "bars"


def activity(view: ColumnView, user: str, *, by: Span = "day") -> Report:
    """How many messages there were in each day, week or month, by role."""
    found = _ask(
        view,
        user,
        "messages",
        """SELECT CAST(date_trunc($1, said_local) AS DATE) AS "from", count(*) AS messages,
            count(*) FILTER (role = 'user') AS by_user, count(*) FILTER (role = 'assistant') AS by_companion
            FROM messages GROUP BY 1 ORDER BY 1""",
        checked_span(by),
    )
    return Report("activity", f"Messages by {by}", found, "lines")


def rhythm(view: ColumnView, user: str) -> Report:
    """How many messages there were in each hour of each day of the week, Monday first."""
    hours = ", ".join(f"count(*) FILTER (hour(said_local) = {hour}) AS h{hour:02}" for hour in range(24))
    found = _ask(
        view,
        user,
        "messages",
        f"""SELECT ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'][isodow(said_local)] AS day,
            {hours} FROM messages GROUP BY isodow(said_local), 1 ORDER BY isodow(said_local)""",
    )
    return Report("rhythm", "Messages by hour of the week", found, "heat")


def conversations(view: ColumnView, user: str, *, limit: int = 50) -> Report:
    """The longest conversations: messages, episodes, days from first to last, and the mean pause within an episode."""
    found = _ask(
        view,
        user,
        "messages conversations",
        f"""WITH paced AS (
            SELECT conversation, said_at, said_local, said_at - lag(said_at) OVER (PARTITION BY conversation ORDER BY said_at, position) AS pause
            FROM messages)
        SELECT coalesce(any_value(c.title), any_value(c.name)) AS conversation, count(*) AS messages,
            1 + count(*) FILTER (pause > {EPISODE_GAP}) AS episodes,
            date_diff('day', min(said_local), max(said_local)) AS days,
            round(avg(epoch(pause)) FILTER (pause <= {EPISODE_GAP}), 1) AS mean_pause_s
        FROM paced LEFT JOIN conversations c USING (conversation)
        GROUP BY paced.conversation ORDER BY messages DESC, 1 LIMIT $1""",
        limit,
    )
    return Report("conversations", "The longest conversations", found)


def gaps(view: ColumnView, user: str) -> Report:
    """How long the pauses between episodes are: how many of each length."""
    found = _ask(
        view,
        user,
        "messages",
        f"""WITH paced AS (SELECT said_at - lag(said_at) OVER (ORDER BY said_at) AS pause FROM messages),
        sorted AS (SELECT CASE WHEN pause < INTERVAL 12 HOURS THEN 1 WHEN pause < INTERVAL 1 DAY THEN 2
            WHEN pause < INTERVAL 3 DAYS THEN 3 WHEN pause < INTERVAL 7 DAYS THEN 4
            WHEN pause < INTERVAL 30 DAYS THEN 5 ELSE 6 END AS place FROM paced WHERE pause > {EPISODE_GAP})
        SELECT ['3 to 12 hours', 'to a day', 'to 3 days', 'to a week', 'to a month', 'longer'][place] AS pause,
            count(*) AS times FROM sorted GROUP BY place ORDER BY place""",
    )
    return Report("gaps", "Pauses between episodes", found)


def tones(view: ColumnView, user: str, *, by: Span = "month") -> Report:
    """The tones that the person gave to memories, in each day, week or month of what they belong to."""
    found = _ask(
        view,
        user,
        "marks messages facts",
        """WITH felt AS (SELECT coalesce(m.said_local, f.recorded_local) AS felt_at, tone FROM marks
            LEFT JOIN messages m ON m.id = owner LEFT JOIN facts f ON f.id = owner WHERE tone IS NOT NULL)
        SELECT CAST(date_trunc($1, felt_at) AS DATE) AS "from", tone, count(*) AS memories
        FROM felt WHERE felt_at IS NOT NULL GROUP BY ALL ORDER BY 1, 3 DESC, 2""",
        checked_span(by),
    )
    return Report("tones", f"Tones by {by}", found)


def satisfaction(view: ColumnView, user: str, *, by: Span = "week") -> Report:
    """Feedback in each day, week or month: events, mean rating, and how many found a hit helpful or not."""
    found = _ask(
        view,
        user,
        "feedback",
        """SELECT CAST(date_trunc($1, given_local) AS DATE) AS "from", count(*) AS events,
            round(avg(value) FILTER (kind = 'rating'), 3) AS mean_rating,
            count(*) FILTER (kind = 'rating' AND category = 'helpful' AND value > 0) AS helpful,
            count(*) FILTER (kind = 'rating' AND category = 'helpful' AND value < 0) AS not_helpful
            FROM feedback GROUP BY 1 ORDER BY 1""",
        checked_span(by),
    )
    return Report("satisfaction", f"Feedback by {by}", found, "lines")


def growth(view: ColumnView, user: str, *, by: Span = "month") -> Report:
    """How the memory grows: messages, facts and bytes of text, each added up to the end of the day, week or month."""
    found = _ask(
        view,
        user,
        "messages facts",
        """WITH added AS (
            SELECT date_trunc($1, said_local) AS span, count(*) AS messages, 0 AS facts, sum(size_bytes) AS size
            FROM messages GROUP BY 1
            UNION ALL SELECT date_trunc($1, recorded_local), 0, count(*), sum(size_bytes)
            FROM facts WHERE status = 'accepted' GROUP BY 1)
        SELECT CAST(span AS DATE) AS "from", CAST(sum(sum(messages)) OVER past AS BIGINT) AS messages,
            CAST(sum(sum(facts)) OVER past AS BIGINT) AS facts, CAST(sum(sum(size)) OVER past AS BIGINT) AS text_bytes
        FROM added GROUP BY span WINDOW past AS (ORDER BY span) ORDER BY span""",
        checked_span(by),
    )
    return Report("growth", f"Growth by {by}", found, "lines")


def recall_quality(view: ColumnView, user: str, *, by: Span = "day") -> Report:
    """Recalls in each day, week or month: how many, how long they took, how good the best hit was, how many found
    nothing."""
    found = _ask(
        view,
        user,
        "recalls",
        f"""SELECT CAST(date_trunc($1, asked_local) AS DATE) AS "from", count(*) AS recalls,
            round(quantile_cont(took_ms, .5), 2) AS p50_ms, round(quantile_cont(took_ms, .95), 2) AS p95_ms,
            round(avg(best_score), 3) AS mean_best_score,
            count(*) FILTER (hits = 0 OR best_score < {WEAK}) AS unanswered
            FROM recalls GROUP BY 1 ORDER BY 1""",
        checked_span(by),
    )
    return Report("recall", f"Recall by {by}", found, "lines")


def retention(view: ColumnView, user: str) -> Report:
    """Of the conversations that began in a month, the share still spoken in one, two, three, six and twelve months on.

    Empty where so many months have not gone by since, as of the newest message.
    """
    shares = ", ".join(
        f"round(avg(CASE WHEN began + INTERVAL {months} MONTHS <= newest "
        f"THEN (last >= began + INTERVAL {months} MONTHS)::INT END), 3) AS after_{months}"
        for months in (1, 2, 3, 6, 12)
    )
    found = _ask(
        view,
        user,
        "messages",
        f"""WITH spans AS (SELECT min(said_local) AS began, max(said_local) AS last FROM messages GROUP BY conversation),
        dated AS (SELECT *, (SELECT max(said_local) FROM messages) AS newest FROM spans)
        SELECT CAST(date_trunc('month', began) AS DATE) AS began, count(*) AS conversations, {shares}
        FROM dated GROUP BY date_trunc('month', began) ORDER BY 1""",
    )
    return Report("retention", "Conversations that go on, by the month they began", found, "lines")


def storage(view: ColumnView, user: str) -> Report:
    """How many rows of each kind there are, and the bytes of their texts."""
    found = _ask(
        view,
        user,
        "messages facts feedback logs",
        """SELECT 'messages' AS kind, count(*) AS "rows", coalesce(sum(size_bytes), 0)::BIGINT AS text_bytes FROM messages
        UNION ALL SELECT 'facts', count(*), coalesce(sum(size_bytes), 0)::BIGINT FROM facts
        UNION ALL SELECT 'logs', count(*), coalesce(sum(size_bytes), 0)::BIGINT FROM logs
        UNION ALL SELECT 'feedback', count(*), NULL FROM feedback ORDER BY 3 DESC NULLS LAST""",
    )
    return Report("storage", "What is kept, by kind", found)


REPORTS: dict[str, Callable[..., Report]] = {
    "activity": activity,
    "rhythm": rhythm,
    "conversations": conversations,
    "gaps": gaps,
    "tones": tones,
    "satisfaction": satisfaction,
    "growth": growth,
    "recall": recall_quality,
    "retention": retention,
    "storage": storage,
}
"""Those that need the columns alone, by name; `topics` and `unanswered` also read the truth."""


def _ask(view: ColumnView, user: str, tables: str, sql: str, *parameters: Any) -> Answer:
    return view.ask(view.user_id(user), sql, parameters, tables=tables.split())


def checked_span(by: str) -> str:
    """What a report is cut into. Raises InvalidInput."""
    if by not in get_args(Span):
        raise InvalidInput("a report is by day, week or month", field="by")
    return by
