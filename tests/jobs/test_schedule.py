"""When a job is asked for: not before earlier ones were ever done, closely while they usually end, seldom after."""

from __future__ import annotations

from random import Random

import pytest

from x402_audio.jobs.schedule import (
    DURATIONS_KEPT,
    POLL_MIN_S,
    SPACING_S,
    first_poll,
    kept,
    next_poll,
    start_of,
)

SEEN = [float(run) for run in range(50, 70)]


def test_the_first_job_of_a_model_is_asked_for_at_once_to_learn_the_estimate() -> None:
    assert first_poll([], 1) == 2.0


def test_a_known_model_is_not_asked_for_before_most_earlier_jobs_were_done() -> None:
    start = first_poll(SEEN, 1)
    assert 45 <= start < 60
    assert next_poll(40.0, 10.0, 1, 0.5, durations=SEEN) == pytest.approx(start - 10.0), "own runs say more"


def test_it_is_asked_for_closely_while_earlier_jobs_usually_ended_and_seldom_after() -> None:
    assert next_poll(None, 55.0, 1, 0.5, durations=SEEN) == POLL_MIN_S
    assert [next_poll(None, 71.0, 1, jitter, durations=SEEN) for jitter in (0.0, 1.0)] == [3.0, 5.0]


def test_without_earlier_jobs_the_sellers_estimate_is_used() -> None:
    assert next_poll(100.0, 2.0, 1, 0.5) == 48.0
    assert next_poll(100.0, 60.0, 1, 0.5) == POLL_MIN_S
    assert next_poll(100.0, 100.0, 1, 0.0) == 3.0


def test_a_wallet_with_many_jobs_shares_its_rate_among_them() -> None:
    assert first_poll([], 100) == next_poll(None, 55.0, 100, 0.5, durations=SEEN) == 100 * SPACING_S


def test_the_callers_own_pace_is_kept() -> None:
    assert first_poll(SEEN, 100, 7.0) == next_poll(100.0, 2.0, 100, 0.5, 7.0, SEEN) == 7.0


def test_runs_that_were_only_seen_when_asked_for_do_not_push_the_first_question_later_and_later() -> None:
    durations: list[float] = []
    random = Random(4)
    for _ in range(200):
        done, asked = random.gauss(60.0, 6.0), first_poll(durations, 1)
        while asked < done:
            asked += next_poll(None, asked, 1, random.random(), durations=durations)
        durations = kept(durations, asked)
    assert len(durations) == DURATIONS_KEPT
    assert 45 < (start_of(durations) or 0.0) < 60
