"""What is counted, and how it reads."""

import logging
from dataclasses import replace

import pytest

from cloud_mirror import copy_table, redirect_table
from cloud_mirror.actions import Refuse, Response, ToCopy, ToOrigin
from cloud_mirror.http_api import Outcome
from cloud_mirror.policy import SourcePolicy
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.reason import NOT_ASKED, Reason
from cloud_mirror.wire.calls import EnterHost
from cloud_mirror.wire.hosts import HostBook
from cloud_mirror.wire.metrics import CopyEnded, Metrics, copy_ended
from tests.wire.pools import SERVICES, URL

POOL = SERVICES.pool.name


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"pool": POOL, **labels})


@pytest.mark.parametrize(
    ("response", "outcome", "reason"),
    [
        (ToCopy("0", Outcome.HIT, Reason.PRESENT), "hit", "present"),
        (ToCopy("0", Outcome.BACKFILL, Reason.FOUND_IN_STORE), "backfill", "found-in-store"),
        (Refuse(Reason.ORIGIN_GONE, 410), "refused", "origin-gone"),
        (ToOrigin(Reason.DEADLINE), "origin", "deadline"),
    ],
)
def test_an_answer_is_counted_by_outcome_and_reason(response: Response, outcome: str, reason: str) -> None:
    metrics = Metrics()
    metrics.answered(POOL, response, 0.25)
    metrics.answered(POOL, response, 0.5)
    assert value(metrics, "cloud_mirror_requests_total", outcome=outcome, reason=reason) == 2
    assert value(metrics, "cloud_mirror_request_seconds_sum", outcome=outcome) == 0.75


def test_a_purge_is_counted_and_a_failed_one_logged(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.purged(POOL, PurgeState())
    assert caplog.records == []
    metrics.purged(POOL, PurgeState(reason=Reason.STORE_DENIED, detail="who knows"))
    assert value(metrics, "cloud_mirror_purges_total", result="done") == 1
    assert value(metrics, "cloud_mirror_purges_total", result="store-denied") == 1
    (record,) = caplog.records
    assert (record.levelno, record.__dict__["detail"]) == (logging.ERROR, "who knows")


def test_a_copy_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    metrics.copied(POOL, CopyEnded(URL, "done", "", "", 1_000, 2.0, 1))
    metrics.copied(POOL, CopyEnded(URL, "failed", "origin-timeout", "slow", 500, 1.0, 2))
    assert value(metrics, "cloud_mirror_copies_total", result="done", reason="") == 1
    assert value(metrics, "cloud_mirror_copies_total", result="failed", reason="origin-timeout") == 1
    assert value(metrics, "cloud_mirror_copy_bytes_total") == 1_500
    assert value(metrics, "cloud_mirror_copy_seconds_sum") == 3.0
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.WARNING]


@pytest.mark.parametrize(
    ("fault", "acknowledged", "result", "code"),
    [
        (None, True, "done", ""),
        (None, False, "left", ""),
        (Reason.ORIGIN_GONE, True, "failed", "origin-gone"),
        (Reason.ORIGIN_TIMEOUT, False, "failed", "origin-timeout"),
    ],
)
def test_the_end_of_a_copy_is_told_from_its_last_state(
    fault: Reason | None, acknowledged: bool, result: str, code: str
) -> None:
    state = replace(SERVICES.manager.copy("token", "copy-id"), url=URL, fault=fault, detail="why", attempt=3)
    assert copy_ended(state, acknowledged, 7, 1.23456) == CopyEnded(URL, result, code, "why", 7, 1.235, 3)


def test_the_end_of_a_copy_does_not_tell_the_query() -> None:
    state = replace(SERVICES.manager.copy("token", "copy-id"), url=f"{URL}?name='x'&token=secret")
    assert copy_ended(state, True, 7, 1.0).url == URL


def test_a_job_is_given_up_once_its_dead_letter_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.attended(POOL, "m-1", done=False)
    assert value(metrics, "cloud_mirror_jobs_total", event="given-up") is None
    metrics.attended(POOL, "m-1", done=True)
    assert value(metrics, "cloud_mirror_jobs_total", event="given-up") == 1
    assert [(record.levelno, record.__dict__["message_id"]) for record in caplog.records] == [
        (logging.WARNING, "m-1"),
        (logging.ERROR, "m-1"),
    ]


def test_what_the_queue_gave_is_counted_and_its_trouble_logged(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.received(POOL, 3, "")
    assert caplog.records == []
    metrics.received(POOL, 0, "the cache cannot be reached")
    metrics.queue_missing(POOL, "there is none")
    assert value(metrics, "cloud_mirror_jobs_total", event="received") == 3
    assert [(record.levelno, record.__dict__["trouble"]) for record in caplog.records] == [
        (logging.WARNING, "the cache cannot be reached"),
        (logging.ERROR, "there is none"),
    ]


def test_a_copy_that_broke_off_is_counted_and_told_whole(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.broke_off(POOL, LookupError("on purpose"))
    assert value(metrics, "cloud_mirror_copies_total", result="broken", reason="internal-error") == 1
    assert "LookupError: on purpose" in caplog.text


def test_the_text_is_what_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.waiters.inc()
    metrics.jobs.labels(POOL, "received").inc(3)
    lines = metrics.text().decode().splitlines()
    assert "cloud_mirror_waiters 1.0" in lines
    assert f'cloud_mirror_jobs_total{{event="received",pool="{POOL}"}} 3.0' in lines


def test_each_row_of_the_tables_is_counted_under_its_machine() -> None:
    metrics = Metrics()
    for row in (redirect_table.Row.READ_PRESENT, copy_table.Row.READ_PRESENT, copy_table.Row.READ_PRESENT):
        metrics.took(row)
    counted = metrics.registry.get_sample_value
    for machine, times in (("redirect", 1), ("copy", 2)):
        assert counted("cloud_mirror_transitions_total", {"machine": machine, "row": "read-present"}) == times
    assert counted("cloud_mirror_transitions_total", {"machine": "copy", "row": "lease-lost"}) == 0


def test_what_is_done_to_be_fair_to_origins_is_shown() -> None:
    metrics, book = Metrics(), HostBook(SourcePolicy(per_host_connections=1), lambda: 0.0)
    metrics.watch_origins(book)
    book.join(EnterHost("a.example:443", 10.0), 0.0)
    book.join(EnterHost("a.example:443", 10.0), 0.0)
    book.join(EnterHost("a.example:443", 0.0), 0.0)
    book.throttled, book.opened = 2, 1
    counted = metrics.registry.get_sample_value
    assert counted("cloud_mirror_origin_requests") == 1
    assert counted("cloud_mirror_origin_waiting") == 1
    assert counted("cloud_mirror_origin_throttled_total") == 2
    assert counted("cloud_mirror_origin_circuits_opened_total") == 1
    refusals = {reason: counted("cloud_mirror_origin_refusals_total", {"reason": reason.code}) for reason in NOT_ASKED}
    assert refusals == {reason: float(reason is Reason.ORIGIN_SATURATED) for reason in NOT_ASKED}


def test_what_is_refused_as_it_comes_in_has_no_pool() -> None:
    metrics = Metrics()
    metrics.refused(Reason.URL_NOT_ALLOWED)
    labels = {"pool": "", "outcome": "refused", "reason": "url-not-allowed"}
    assert metrics.registry.get_sample_value("cloud_mirror_requests_total", labels) == 1
