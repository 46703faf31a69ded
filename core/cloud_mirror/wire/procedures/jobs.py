"""The queue's part in the procedures: sending, receiving and settling jobs, and what becomes of dead letters."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cloud_mirror import keys
from cloud_mirror.actions import Draft
from cloud_mirror.copy_events import JobSettled
from cloud_mirror.entry import Entry, Status
from cloud_mirror.events import EntryRefused, EntryWritten, JobFailed, JobSent, ProbeFailed
from cloud_mirror.lease import QueueFailed, VisibilityExtended
from cloud_mirror.message import Job, MessageError, from_body, to_body
from cloud_mirror.reason import Reason
from cloud_mirror.redirect import MARGIN_OF_LIFE_S
from cloud_mirror.source import SourceError, parse_source
from cloud_mirror.wire.asking import Answered, Failed, ask
from cloud_mirror.wire.calls import Backoff, Procedure, RedisCommand, RedisReply
from cloud_mirror.wire.checksums import crc64nvme
from cloud_mirror.wire.desk import Roles
from cloud_mirror.wire.metrics import Metrics
from cloud_mirror.wire.procedures.cache import record_error
from cloud_mirror.wire.procedures.store import WRITE_TIMEOUT_S, read_epoch
from cloud_mirror.wire.queue import Delivery
from cloud_mirror.wire.services import PoolServices, find_queues
from cloud_mirror.wire.storage import ObjectAttributes

QUEUE_TIMEOUT_S: Final = 5.0
LONG_POLL_S: Final = 20
OUTAGE_BACKOFF_S: Final = 5.0
FIND_AGAIN_S: Final = 4.0
"""The longest that a queue which is missing goes unlooked for."""

MAX_VISIBILITY_S: Final = 43_200
"""SQS: a message can be hidden for 12 hours in all."""

MAX_DELAY_S: Final = 900
"""SQS: the most that a message's first delivery can be delayed."""

HEALTH_URL: Final = "https://cloud-mirror.invalid/health"
"""No such URL can be asked for; its epoch is what a worker reads to see whether the store answers."""


def await_queues(
    services: dict[str, PoolServices], roles: Roles, metrics: Metrics, take_jobs: Callable[[str], None]
) -> Procedure[None]:
    """Find the queues of all pools, however long that takes; why one is missing is said once.

    What is found is in `services` from then on. `take_jobs` is told each pool that the process copies for, as soon as
    that pool's own queues are found.
    """
    missing = sorted(services)
    said: dict[str, str] = {}
    while missing:
        for pool in tuple(missing):
            found = yield from find_queues(services[pool])
            if isinstance(found, PoolServices):
                services[pool] = found
                missing.remove(pool)
                if roles.copies_for(pool):
                    take_jobs(pool)
            elif said.get(pool) != found:
                said[pool] = found
                metrics.queue_missing(pool, found)
        if missing:
            yield Backoff(FIND_AGAIN_S)


def send_job(services: PoolServices, url: str, epoch: str) -> Procedure[JobSent | JobFailed]:
    """Put a job in the pool's queue."""
    if not services.queue_url:
        return JobFailed("the pool's queue has not been found yet")
    body = to_body(Job(services.pool.name, url, epoch))
    request = services.queue.send_request(services.queue_url, body)
    outcome = yield from ask(services.queue, request, services.queue.read_send, timeout_s=QUEUE_TIMEOUT_S, attempts=2)
    return JobFailed(f"{outcome.code}: {outcome.detail}") if isinstance(outcome, Failed) else JobSent()


@dataclass(frozen=True, slots=True)
class Received:
    """What a turn of waiting for jobs gave; `trouble` says why nothing could be asked for."""

    deliveries: tuple[Delivery, ...] = ()
    trouble: str = ""


def receive_jobs(services: PoolServices, at_most: int) -> Procedure[Received]:
    """Wait for jobs, but only while cache and store can be reached: a job taken then would only be given back."""
    pong = yield RedisCommand(("PING",))
    if not isinstance(pong, RedisReply):
        return (yield from _rest("the cache cannot be reached"))
    epoch = yield from read_epoch(services, HEALTH_URL)
    if isinstance(epoch, ProbeFailed):
        return (yield from _rest(f"the store cannot be reached: {epoch.detail}"))
    visibility_s = services.policy.queue.visibility_timeout_s
    return (yield from _receive(services, services.queue_url, at_most, visibility_s))


def receive_dead_letters(services: PoolServices) -> Procedure[Received]:
    """Wait for jobs that the queue gave up."""
    return (yield from _receive(services, services.dead_url, 10, services.policy.queue.visibility_timeout_s))


def _receive(services: PoolServices, queue_url: str, at_most: int, visibility_s: int) -> Procedure[Received]:
    queue = services.queue
    request = queue.receive_request(queue_url, min(10, at_most), LONG_POLL_S, visibility_s)
    outcome = yield from ask(queue, request, queue.read_receive, timeout_s=LONG_POLL_S + QUEUE_TIMEOUT_S, attempts=1)
    if isinstance(outcome, Failed):
        return (yield from _rest(f"the queue cannot be asked: {outcome.code}: {outcome.detail}"))
    return Received(outcome.value)


def _rest(trouble: str) -> Procedure[Received]:
    yield Backoff(OUTAGE_BACKOFF_S)
    return Received(trouble=trouble)


def acknowledge(services: PoolServices, receipt: str) -> Procedure[JobSettled]:
    """Delete a job; where the queue cannot be asked, the job comes back and is found to be done."""
    request = services.queue.delete_request(services.queue_url, receipt)
    yield from ask(services.queue, request, services.queue.read_delete, timeout_s=QUEUE_TIMEOUT_S)
    return JobSettled()


def defer(services: PoolServices, receipt: str, for_s: float) -> Procedure[JobSettled]:
    """Give a job back after a failure, to be delivered again in a while."""
    yield from _hide(services, receipt, for_s, attempts=3)
    return JobSettled()


def give_back(services: PoolServices, receipt: str, body: str, for_s: float) -> Procedure[JobSettled]:
    """Give a job back with nothing held against it: send it afresh, then delete this delivery.

    In this order the job can come twice, and never not at all. Where it cannot be sent, it is deferred.
    """
    queue = services.queue
    delay_s = min(MAX_DELAY_S, max(0, math.ceil(for_s)))
    request = queue.send_request(services.queue_url, body, delay_s=delay_s)
    sent = yield from ask(queue, request, queue.read_send, timeout_s=QUEUE_TIMEOUT_S, attempts=2)
    if isinstance(sent, Failed):
        return (yield from defer(services, receipt, for_s))
    return (yield from acknowledge(services, receipt))


def extend_visibility(
    services: PoolServices, receipt: str, for_s: float
) -> Procedure[VisibilityExtended | QueueFailed]:
    """Keep a job hidden while it is worked on. A queue that hangs holds the lease up for no more than a third of it."""
    timeout_s = min(QUEUE_TIMEOUT_S, services.policy.worker.lease_s / 3)
    done = yield from _hide(services, receipt, for_s, attempts=1, timeout_s=timeout_s)
    return VisibilityExtended() if done else QueueFailed()


def _hide(
    services: PoolServices, receipt: str, for_s: float, attempts: int, timeout_s: float = QUEUE_TIMEOUT_S
) -> Procedure[bool]:
    hidden_s = min(MAX_VISIBILITY_S, max(0, math.ceil(for_s)))
    request = services.queue.change_visibility_request(services.queue_url, receipt, hidden_s)
    outcome = yield from ask(
        services.queue,
        request,
        services.queue.read_change_visibility,
        timeout_s=timeout_s,
        attempts=attempts,
    )
    return isinstance(outcome, Answered)


def read_job(services: PoolServices, delivery: Delivery) -> Job | MessageError:
    """The job in a delivery, if it is one for this pool."""
    try:
        job = from_body(delivery.body)
        canonical = parse_source(job.url, services.policy.source.max_url_bytes).text
    except MessageError as error:
        return error
    except SourceError as error:
        return MessageError(f"the message's URL is refused: {error.detail}")
    if job.pool != services.pool.name:
        return MessageError(f"the message is for another pool, in the queue of {services.pool.name}")
    if canonical != job.url:
        return MessageError("the message's URL is not in canonical form")
    return job


def open_job(services: PoolServices, delivery: Delivery, metrics: Metrics) -> Procedure[Job | None]:
    """The job in a delivery; None where it is none for this pool, which is then out of the way."""
    job = read_job(services, delivery)
    if isinstance(job, Job):
        return job
    why = str(job)
    buried = yield from bury(services, delivery, why)
    metrics.buried(services.pool.name, why, buried)
    return None


def bury(services: PoolServices, delivery: Delivery, why: str) -> Procedure[bool]:
    """Put what no version understands into the dead-letter queue, and delete it here only then."""
    queue = services.queue
    attributes = (("Reason", Reason.JOB_MALFORMED.code), ("Detail", why[:200]))
    request = queue.send_request(services.dead_url, delivery.body, attributes)
    sent = yield from ask(queue, request, queue.read_send, timeout_s=QUEUE_TIMEOUT_S)
    if isinstance(sent, Failed):
        return False
    yield from acknowledge(services, delivery.receipt)
    return True


def attend_dead_letter(services: PoolServices, delivery: Delivery, token: str) -> Procedure[bool]:
    """Keep a dead letter in the store, say in the entry that the copy was given up, then delete the message.

    False where one of these did not work: the letter then stays in its queue, and comes again.
    """
    job = read_job(services, delivery)
    kept = yield from _keep_letter(services, delivery, job)
    if not kept:
        return False
    if isinstance(job, Job):
        error = Entry(Status.ERROR, token, job.url, reason=Reason.COPY_FAILED, attempt=delivery.receive_count)
        retry_in_s = services.policy.server.negative_s
        recorded = yield from record_error(
            services, job.url, Draft(error, retry_in_s + MARGIN_OF_LIFE_S, None, retry_in_s)
        )
        if not isinstance(recorded, EntryWritten | EntryRefused):
            return False
    request = services.queue.delete_request(services.dead_url, delivery.receipt)
    deleted = yield from ask(services.queue, request, services.queue.read_delete, timeout_s=QUEUE_TIMEOUT_S)
    return isinstance(deleted, Answered)


def _keep_letter(services: PoolServices, delivery: Delivery, job: Job | MessageError) -> Procedure[bool]:
    named = dict(delivery.attributes)
    reason = named.get("Reason", Reason.COPY_FAILED.code if isinstance(job, Job) else Reason.JOB_MALFORMED.code)
    letter = {
        "v": 1,
        "message_id": delivery.message_id,
        "receive_count": delivery.receive_count,
        "reason": reason,
        "detail": named.get("Detail", str(job) if isinstance(job, MessageError) else ""),
        "body": delivery.body,
    }
    body = json.dumps(letter, ensure_ascii=True).encode("ascii")
    key = keys.letter_key(hashlib.sha256(delivery.body.encode("utf-8", "surrogatepass")).hexdigest())
    provider = services.provider
    attributes = ObjectAttributes(content_type="application/json")
    request = provider.put_request(key, body, attributes, crc64nvme(body))
    outcome = yield from ask(provider, request, provider.read_put, timeout_s=WRITE_TIMEOUT_S)
    return isinstance(outcome, Answered)
