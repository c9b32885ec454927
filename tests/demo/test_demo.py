"""The demo's own logic."""

from dataclasses import replace

import pytest

from aico.audit import NEEDLE_MIN_BYTES
from aico.demo import ANSWERED_MIN, NEEDLE_CHARACTERS, NEEDLES_MAX, DemoReport, needles_of, run_demo


@pytest.fixture(scope="module")
def steps() -> list[str]:
    return []


@pytest.fixture(scope="module")
def report(steps: list[str]) -> DemoReport:
    return run_demo(on_step=steps.append)


def test_the_sample_is_answered_and_unreadable(report: DemoReport) -> None:
    assert report.messages == 342
    assert len(report.questions) == 14
    assert report.answered >= ANSWERED_MIN
    assert report.leaks == 0
    assert report.control_hits >= NEEDLES_MAX // 2
    assert report.passed


def test_the_expected_message_is_the_first_hit_where_its_rank_is_1(report: DemoReport) -> None:
    first = [answer for answer in report.questions if answer.rank == 1]
    assert first
    assert all(answer.text == answer.expected_text for answer in first)
    assert all(answer.text != answer.expected_text for answer in report.questions if answer.rank != 1)


def test_each_step_is_told_once(report: DemoReport, steps: list[str]) -> None:
    assert len(steps) == len(set(steps)) >= 4


def test_leaks_a_blind_search_or_wrong_answers_fail_the_demo(report: DemoReport) -> None:
    assert not replace(report, leaks=1).passed
    assert not replace(report, control_hits=0).passed
    assert not replace(report, questions=report.questions[: ANSWERED_MIN - 1]).passed
    forgotten = tuple(replace(answer, rank=4) for answer in report.questions)
    assert not replace(report, questions=forgotten).passed


def test_needles_are_few_long_enough_and_the_same_each_time() -> None:
    texts = [f"message number {number} says something of its own" for number in range(1000)] + ["ok", "short", ""]
    needles = needles_of(texts)
    assert needles == needles_of(texts)
    assert 0 < len(needles) <= NEEDLES_MAX
    assert all(len(needle) <= NEEDLE_CHARACTERS and len(needle.encode()) >= NEEDLE_MIN_BYTES for needle in needles)
    assert all(any(needle in text for text in texts) for needle in needles)


def test_texts_too_short_to_search_for_give_no_needle() -> None:
    assert needles_of(["ok", ""]) == []


def test_no_answer_shows_its_texts_in_a_repr(report: DemoReport) -> None:
    assert not any(answer.expected_text in repr(answer) for answer in report.questions)
