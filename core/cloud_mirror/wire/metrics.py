"""What a process counts, and how Prometheus reads it. One registry a process, the same names in every shell."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cloud_mirror.actions import Refuse, Response, ToCopy
from cloud_mirror.copy_table import Row as CopyRow
from cloud_mirror.copy_table import State as CopyState
from cloud_mirror.purge import State as PurgeState
from cloud_mirror.reason import NOT_ASKED, Reason
from cloud_mirror.redirect_table import Row as RedirectRow
from cloud_mirror.wire.hosts import HostBook

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
log = logging.getLogger("cloud_mirror.events")

SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COPY_SECONDS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)


@dataclass(frozen=True, slots=True)
class CopyEnded:
    """How one delivery of a job ended: `result` is done, failed, or left to another delivery or worker.

    `bytes` are those that were read from the origin: of a copy that was taken over, or made by the store, not all.
    `url` has no query, which may be a secret: a log line shows it.
    """

    url: str
    result: str
    reason: str
    detail: str
    bytes: int
    seconds: float
    attempt: int


def copy_ended(state: CopyState, acknowledged: bool, fetched_bytes: int, seconds: float) -> CopyEnded:
    """The end of a copy, from its machine's last state."""
    result = "failed" if state.fault else "done" if acknowledged else "left"
    reason = state.fault.code if state.fault else ""
    url = state.url.partition("?")[0]
    return CopyEnded(url, result, reason, state.detail, fetched_bytes, round(seconds, 3), state.attempt)


class _Origins(Collector):
    """What the book of the origins' hosts says when it is asked. Hosts are no labels: there may be any number."""

    def __init__(self, book: HostBook) -> None:
        self._book = book

    def collect(self) -> Iterator[Metric]:
        book = self._book
        under_way = "Requests and bodies of origins under way now."
        yield GaugeMetricFamily("cloud_mirror_origin_requests", under_way, book.under_way)
        waiting = "Requests that wait until their origin's host may be asked."
        yield GaugeMetricFamily("cloud_mirror_origin_waiting", waiting, book.waiting)
        not_sent = "Requests that were not sent, to be fair to an origin."
        refusals = CounterMetricFamily("cloud_mirror_origin_refusals", not_sent, labels=("reason",))
        for reason in sorted(NOT_ASKED, key=lambda each: each.code):
            refusals.add_metric((reason.code,), book.refused[reason])
        yield refusals
        throttled = "Answers of origins that asked for fewer requests."
        yield CounterMetricFamily("cloud_mirror_origin_throttled", throttled, book.throttled)
        opened = "How often an origin was left alone because it failed time after time."
        yield CounterMetricFamily("cloud_mirror_origin_circuits_opened", opened, book.opened)


class Metrics:
    """The counters. Labels are few and bounded: pools, outcomes and reason codes, never URLs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "cloud_mirror_requests",
            "Requests, by how they were answered; one that was refused as it came in has no pool.",
            ("pool", "outcome", "reason"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "cloud_mirror_request_seconds",
            "From a request's head to its answer.",
            ("pool", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )
        self.waiters = Gauge("cloud_mirror_waiters", "Requests being held now.", registry=registry)
        self.copies = Counter(
            "cloud_mirror_copies", "Copies that ended.", ("pool", "result", "reason"), registry=registry
        )
        self.copy_bytes = Counter("cloud_mirror_copy_bytes", "Bytes read from origins.", ("pool",), registry=registry)
        self.copy_seconds = Histogram(
            "cloud_mirror_copy_seconds",
            "From a job's receipt to its end.",
            ("pool",),
            buckets=COPY_SECONDS,
            registry=registry,
        )
        self.copying = Gauge("cloud_mirror_copying", "Copies under way now.", ("pool",), registry=registry)
        self.memory_reserved = Gauge(
            "cloud_mirror_memory_reserved_bytes",
            "What copies under way hold of the memory budget now.",
            registry=registry,
        )
        self.jobs = Counter(
            "cloud_mirror_jobs", "Queue messages, by what was done with them.", ("pool", "event"), registry=registry
        )
        self.purges = Counter("cloud_mirror_purges", "Purges, by result.", ("pool", "result"), registry=registry)
        transitions = Counter(
            "cloud_mirror_transitions",
            "Lines of the machines' tables that were taken.",
            ("machine", "row"),
            registry=registry,
        )
        self._rows: dict[RedirectRow | CopyRow, Counter] = {
            **{row: transitions.labels("redirect", row.id) for row in RedirectRow},
            **{row: transitions.labels("copy", row.id) for row in CopyRow},
        }

    def watch_origins(self, book: HostBook) -> None:
        """Show what this book says; once a process."""
        self.registry.register(_Origins(book))

    def took(self, row: RedirectRow | CopyRow) -> None:
        """A machine took a line of its table."""
        self._rows[row].inc()

    def answered(self, pool: str, response: Response, seconds: float) -> None:
        """A request was answered."""
        match response:
            case ToCopy(_, outcome, reason):
                word = outcome.value
            case Refuse(reason):
                word = "refused"
            case _:
                word, reason = "origin", response.reason
        self.requests.labels(pool, word, reason.code).inc()
        self.request_seconds.labels(pool, word).observe(seconds)

    def refused(self, reason: Reason) -> None:
        """A request was refused for what it asks, or by whom: before it counts as one for a pool's URL."""
        self.requests.labels("", "refused", reason.code).inc()

    def purged(self, pool: str, state: PurgeState) -> None:
        """A purge came to its end."""
        self.purges.labels(pool, state.reason.code if state.reason else "done").inc()
        if state.reason is not None:
            extra = {"pool": pool, "reason": state.reason.code, "detail": state.detail}
            log.error("a purge failed", extra=extra)

    def copied(self, pool: str, ended: CopyEnded) -> None:
        """A copy came to its end."""
        self.copies.labels(pool, ended.result, ended.reason).inc()
        self.copy_bytes.labels(pool).inc(ended.bytes)
        self.copy_seconds.labels(pool).observe(ended.seconds)
        log.log(
            logging.INFO if not ended.reason else logging.WARNING, "a copy ended", extra={"pool": pool, **asdict(ended)}
        )

    def queue_missing(self, pool: str, trouble: str) -> None:
        """A pool's queues were not found: it neither sends jobs nor takes them."""
        log.error("a queue is missing", extra={"pool": pool, "trouble": trouble})

    def received(self, pool: str, jobs: int, trouble: str) -> None:
        """A turn of waiting for messages gave so many; `trouble` says why it could give none."""
        if trouble:
            log.warning("no jobs are taken", extra={"pool": pool, "trouble": trouble})
        self.jobs.labels(pool, "received").inc(jobs)

    def buried(self, pool: str, why: str, done: bool) -> None:
        """A message was no job. It lies in the dead-letter queue once that is done; else it comes again."""
        log.error("a message is no job", extra={"pool": pool, "why": why, "buried": done})
        self.jobs.labels(pool, "buried").inc()

    def broke_off(self, pool: str, error: BaseException) -> None:
        """A copy ended by a fault in the mirror itself."""
        log.error("a copy broke off; its job comes back by itself", extra={"pool": pool}, exc_info=error)
        self.copies.labels(pool, "broken", Reason.INTERNAL.code).inc()

    def attended(self, pool: str, message_id: str, done: bool) -> None:
        """A dead letter was attended to. Its job is given up once that is done; else the letter comes again."""
        extra = {"pool": pool, "message_id": message_id}
        if done:
            self.jobs.labels(pool, "given-up").inc()
            log.error("a job was given up", extra=extra)
        else:
            log.warning("a dead letter could not be kept yet; it comes again", extra=extra)

    def text(self) -> bytes:
        """The exposition, in the text format."""
        return generate_latest(self.registry)
